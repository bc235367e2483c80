"""The errors callers can catch; every message names the value, the constraint and the way out."""


class CaeCodecError(Exception):
    """Base of every error that caecodec raises on purpose."""


class ParameterError(CaeCodecError, ValueError):
    """An argument, a setting or an array that caecodec does not accept."""


class FormatVersionError(CaeCodecError):
    """A payload, configuration or weights file of a format that this version of caecodec does not know."""


class CorruptionError(CaeCodecError):
    """Bytes that are damaged, cut short, or disagree with the array they are read for."""


class WeightsError(CaeCodecError):
    """Network weights that are missing, damaged, or other than those that a payload was written with."""
