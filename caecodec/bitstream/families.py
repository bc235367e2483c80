"""A payload of any family (FORMAT.md, 3: Header)."""

from typing import TypeAlias

from ..errors import FormatVersionError
from . import autoencoder, overfitted
from .framing import unseal
from .prefix import DIRECTORY_VERSION, OVERFITTED_VERSION

Payload: TypeAlias = autoencoder.AutoencoderPayload | overfitted.OverfittedPayload


def parse(data: bytes | bytearray | memoryview) -> Payload:
    """The payload in data, which must hold that and nothing else; raises the errors of `autoencoder.parse`."""
    version = bytes(memoryview(data).cast("B")[2:3])
    if version == bytes((DIRECTORY_VERSION,)):
        family = unseal(data)[3]
        raise FormatVersionError(
            f"family {family} of format version {DIRECTORY_VERSION} is not known to this caecodec; upgrade caecodec"
        )
    return overfitted.parse(data) if version == bytes((OVERFITTED_VERSION,)) else autoencoder.parse(data)
