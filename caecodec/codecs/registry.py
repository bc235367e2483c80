"""The registry of codecs, by name and by the payloads that they own."""

from typing import Any

from ..bitstream import padded
from ..bitstream.framing import unseal
from ..bitstream.prefix import PADDED_VERSION, VERSIONS, check_magic
from ..errors import CorruptionError, FormatVersionError
from .autoencoder.interface import AUTOENCODER
from .base import Codec
from .overfitted.interface import OVERFITTED
from .scalable.interface import SCALABLE

_PREFIX = 4  # bytes: magic, format version, family
_codecs: dict[str, Codec[Any, Any]] = {codec.name: codec for codec in (AUTOENCODER, OVERFITTED, SCALABLE)}


def register(codec: Codec[Any, Any]) -> None:
    """Make a codec known to decoding, inspection, conversion and evaluation; ValueError if its name is taken.

    numcodecs and zarr find its classes through their own registries (step 3 in base.py).
    """
    if codec.name in _codecs:
        raise ValueError(f"codec {codec.name!r} is registered already; unregister it first, or choose another name")
    _codecs[codec.name] = codec


def unregister(name: str) -> None:
    """Remove a codec from the registry; KeyError if none has this name."""
    del _codecs[name]


def codecs() -> dict[str, Codec[Any, Any]]:
    """All codecs by name, in the order in which they were registered."""
    return dict(_codecs)


def owner(data: bytes | bytearray | memoryview) -> Codec[Any, Any]:
    """The codec that owns a payload, found by the format version and the family byte at its start, or at that of its content.

    Raises
    ------
    CorruptionError
        The data are not a payload, or a payload of an unknown kind is damaged.
    FormatVersionError
        The payload is whole but has a version or a family that no codec owns.
    """
    view = memoryview(data).cast("B")
    check_magic(view)
    if len(view) < _PREFIX:
        raise CorruptionError(f"payload has {len(view)} bytes but must have {_PREFIX} or more: it is cut short")
    version, family = padded.kind(view) if view[2] == PADDED_VERSION else (view[2], view[3])
    for codec in _codecs.values():
        if codec.owns(version, family):
            return codec
    unseal(view)  # so that a damaged byte is not mistaken for a newer version
    VERSIONS.name(version)
    raise FormatVersionError(f"family {family} of format version {version} is not known to this caecodec; upgrade caecodec")
