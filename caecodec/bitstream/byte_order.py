"""A payload -> the same payload, of an array whose bytes were in big-endian order (FORMAT.md, 3: Header)."""

from dataclasses import replace

from . import autoencoder, directory, overfitted, padded
from .prefix import DIRECTORY_VERSION, OVERFITTED_VERSION, PADDED_VERSION


def as_big_endian(payload: bytes) -> bytes:
    """A payload of any format version, with the note that its array was big-endian; its dtype must not be uint8."""
    version = payload[2]
    if version == PADDED_VERSION:
        around = padded.parse(payload)
        return padded.pack(as_big_endian(around.content), around.padding)
    if version == DIRECTORY_VERSION:
        listed = directory.parse(payload, range(directory.MAX_ID + 1))
        return directory.pack(replace(listed.header, big_endian=True), listed.sections)
    if version == OVERFITTED_VERSION:
        fitted = overfitted.parse(payload)
        return overfitted.pack(replace(fitted, header=replace(fitted.header, big_endian=True)))
    coded = autoencoder.parse(payload)
    return autoencoder.pack(replace(coded, header=replace(coded.header, big_endian=True)))
