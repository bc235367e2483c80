"""A payload of any family (FORMAT.md, 3: Header)."""

from typing import TypeAlias

from . import autoencoder, overfitted
from .prefix import OVERFITTED_VERSION

Payload: TypeAlias = autoencoder.AutoencoderPayload | overfitted.OverfittedPayload


def parse(data: bytes | bytearray | memoryview) -> Payload:
    """The payload in data, which must hold that and nothing else; errors as of `autoencoder.parse`."""
    newer = bytes(memoryview(data).cast("B")[2:3]) == bytes([OVERFITTED_VERSION])
    return overfitted.parse(data) if newer else autoencoder.parse(data)
