"""Codecs that take padding off a chunk before they encode it (chunks/padding.py), and write format version 5 for such chunks.

chunk ── trim ──▶ content ── codec ──▶ payload of the content ── wrap ──▶ payload        and back
"""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

import numpy as np

from ..bitstream import padded
from ..bitstream.padded import PaddedHeader
from ..bitstream.prefix import PADDED_VERSION
from ..chunks.padding import Padding
from .base import Codec, Decoding, Dependencies, Description, Gpu, P, Payload

C = TypeVar("C", bound=Payload)


@dataclass(frozen=True)
class PaddedPayload(Generic[C]):
    """A parsed payload of format version 5.

    header : that of the whole chunk
    content : the parsed payload of the content
    padding : what surrounds the content
    overhead : how many bytes the payload has more than that of its content
    """

    header: PaddedHeader
    content: C
    padding: Padding
    overhead: int


class TrimmingCodec(Codec[P, C | PaddedPayload[C]], Generic[P, C]):
    """A codec whose `encode` trims chunks and wraps the payloads of their content.

    Derived classes define the methods named for the content in place of those of `Codec` that they are called by here.
    """

    def parse_payload(self, data: bytes | bytearray | memoryview) -> C | PaddedPayload[C]:
        """See `Codec.parse_payload`."""
        view = memoryview(data).cast("B")
        if bytes(view[2:3]) != bytes((PADDED_VERSION,)):
            return self.parse_content(view)
        parts = padded.parse(view)
        content = self.parse_content(parts.content)
        header, value = padded.parse_padding(parts.padding, content.header)
        little = np.frombuffer(value, header.numpy_dtype.newbyteorder("<"))
        padding = Padding(header.shape, little.astype(header.dtype).reshape(()))
        return PaddedPayload(header, content, padding, parts.overhead)

    def start_decode(
        self, payload: C | PaddedPayload[C], dependencies: Dependencies, gpu: Gpu = None, keep: bool = False
    ) -> Decoding:
        """See `Codec.start_decode`; the thread that asks for the result puts the padding back."""
        content, around = apart(payload)
        decoding = self.start_decode_content(content, dependencies, gpu, keep)
        return decoding if around is None else replace(decoding, pending=decoding.pending.then(around.padding.restore))

    def describe(self, payload: C | PaddedPayload[C]) -> Description:
        """See `Codec.describe`; the padding counts as header."""
        content, around = apart(payload)
        found = self.describe_content(content)
        if around is None:
            return found
        parts = {**found.parts, "header_bytes": found.parts.get("header_bytes", 0) + around.overhead}
        return replace(found, version=around.header.version, constant=False, parts=parts)

    def payload_summary(self, payload: C | PaddedPayload[C]) -> dict[str, Any]:
        """See `Codec.payload_summary`."""
        return self.content_summary(apart(payload)[0])

    @abstractmethod
    def parse_content(self, data: bytes | memoryview) -> C:
        """`Codec.parse_payload` of a payload without padding."""

    @abstractmethod
    def start_decode_content(self, payload: C, dependencies: Dependencies, gpu: Gpu, keep: bool) -> Decoding:
        """`Codec.start_decode` of a payload without padding."""

    @abstractmethod
    def describe_content(self, payload: C) -> Description:
        """`Codec.describe` of a payload without padding."""

    @abstractmethod
    def content_summary(self, payload: C) -> dict[str, Any]:
        """`Codec.payload_summary` of a payload without padding."""


def wrap(payload: bytes, content: tuple[int, ...], padding: Padding | None) -> bytes:
    """The payload of a chunk whose content, of this shape, has this payload; the same if it has no padding."""
    if padding is None:
        return payload
    value = padding.value.astype(padding.value.dtype.newbyteorder("<")).tobytes()
    return padded.pack(payload, padded.pack_padding(padding.shape, content, value))


def apart(payload: C | PaddedPayload[C]) -> tuple[C, PaddedPayload[C] | None]:
    """The payload of the content, and what is around it, if anything."""
    if getattr(payload.header, "version", None) != PADDED_VERSION:
        return cast(C, payload), None
    around = cast(PaddedPayload[C], payload)
    return around.content, around
