"""A payload of the scalable autoencoder: format version 4, a section for each layer, base first (FORMAT.md, 25: Layers)."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from ..errors import CorruptionError
from . import directory, varint
from .autoencoder import FAMILIES, METRICS
from .directory import Section
from .framing import WORD
from .prefix import Prefix

FAMILY = 6  # wire id
HEAD, PADDING, COLOUR = 1, 2, 3  # section ids
FIRST_LAYER = 16  # the id of layer 1
MAX_LAYERS = 8
_LAYERS = range(FIRST_LAYER, FIRST_LAYER + MAX_LAYERS)
_KNOWN = frozenset((HEAD, PADDING, COLOUR, *_LAYERS))
_DIGEST = 4  # bytes


class BaseLayer(NamedTuple):
    """What layer 1 holds: streams of whole 32-bit words, and the escape list."""

    streams: tuple[bytes, ...]
    escapes: bytes

    def pack(self) -> bytes:
        """The bytes of the section."""
        lengths = [varint.pack(len(stream) // WORD) for stream in self.streams]
        return b"".join([varint.pack(len(self.streams)), *lengths, *self.streams, self.escapes])

    @classmethod
    def parse(cls, section: bytes) -> "BaseLayer":
        """Invert `pack`; CorruptionError if the section is too short for its streams."""
        count, position = varint.unpack(section, 0)
        ends = [0]
        for _ in range(min(count, len(section) + 1)):
            words, position = varint.unpack(section, position)
            ends.append(ends[-1] + WORD * words)
        if position + ends[-1] > len(section):
            raise CorruptionError(
                f"layer 1 has {len(section) - position} bytes of streams and escapes but should have {ends[-1]} or more: "
                "the payload is damaged; restore it from a copy"
            )
        body = section[position:]
        return cls(tuple(body[a:b] for a, b in pairwise(ends)), body[ends[-1] :])


@dataclass(frozen=True)
class ScalablePayload:
    """A parsed payload, or the beginning of one.

    metric, family : of the weights; those of `bitstream.autoencoder`
    digest : the first 4 bytes of the SHA-256 of the weights
    planes : how planes become images: one byte, and ranges
    layers : the bytes of the layers that are there, base first; none of a chunk of one colour
    missing : how many further layers the whole payload has
    padding : the margins and the value of a padded chunk, as in format version 5; empty for others
    colour : the values of a content of one colour, one for each channel; empty for others
    """

    header: Prefix
    metric: str
    family: str
    digest: bytes
    planes: bytes = b""
    layers: tuple[bytes, ...] = ()
    missing: int = 0
    padding: bytes = b""
    colour: bytes = b""

    @property
    def overhead(self) -> int:
        """The bytes that are no layer's."""
        return len(pack(self)) - sum(map(len, self.layers))


def pack(payload: ScalablePayload) -> bytes:
    """The payload's bytes; one that lacks layers becomes a whole one with fewer."""
    point = bytes((METRICS.number(payload.metric), FAMILIES.number(payload.family)))
    sections = [Section(HEAD, point + payload.digest + payload.planes)]
    if payload.padding:
        sections.append(Section(PADDING, payload.padding))
    if payload.colour:
        sections.append(Section(COLOUR, payload.colour))
    sections += [Section(FIRST_LAYER + number, layer) for number, layer in enumerate(payload.layers)]
    return directory.pack(payload.header, sections)


def parse(data: bytes | bytearray | memoryview) -> ScalablePayload:
    """The payload in data, which must hold that, or the beginning of it up to the end of a layer, and nothing else.

    Raises
    ------
    CorruptionError
        Not such a payload, damaged, or cut elsewhere.
    FormatVersionError
        Written by a newer caecodec.
    """
    view = memoryview(data).cast("B")
    found = directory.parse_directory(view)
    parsed = directory.parse(view, _KNOWN, partial=len(view) in layer_ends(found))
    sections = dict(parsed.sections)
    ids = [section.id for section in parsed.sections]
    layers = [number for number in ids if number in _LAYERS]
    others = [number for number in ids if number not in _LAYERS]
    sound = (
        others in ([HEAD], [HEAD, PADDING], [HEAD, COLOUR], [HEAD, PADDING, COLOUR])
        and ids == others + layers
        and layers == list(_LAYERS[: len(layers)])
        and bool(layers) == (COLOUR not in ids)
        and list(parsed.missing) == list(_LAYERS[len(layers) : len(layers) + len(parsed.missing)])
    )
    head = sections.get(HEAD, b"")
    if not sound or len(head) < 2 + _DIGEST or (COLOUR in sections and len(head) > 2 + _DIGEST):
        raise CorruptionError(
            f"payload has sections {ids} and a head of {len(head)} bytes, but must have a head, and then one colour, or layers "
            "from the base on: it is damaged; restore it from a copy"
        )
    if COLOUR in sections:
        parsed.header.parse_colour(sections[COLOUR], 0)
    return ScalablePayload(
        parsed.header,
        METRICS.name(head[0]),
        FAMILIES.name(head[1]),
        head[2 : 2 + _DIGEST],
        head[2 + _DIGEST :],
        tuple(sections[number] for number in layers),
        len(parsed.missing),
        sections.get(PADDING, b""),
        sections.get(COLOUR, b""),
    )


def layer_ends(found: directory.Directory) -> list[int]:
    """How many bytes of a payload hold its first 1, 2, ... layers; nothing for a chunk of one colour."""
    return [entry.stop for entry in found.entries if entry.id in _LAYERS]


def whole_size(data: bytes | bytearray | memoryview) -> int:
    """The length of a whole payload, of which data is the beginning."""
    return directory.parse_directory(data).size


def first_layers(data: bytes | bytearray | memoryview, count: int) -> bytes:
    """The payload with its first `count` layers, from the whole payload or from these layers alone; no fewer than one."""
    payload = parse(data)
    return pack(replace(payload, layers=payload.layers[: max(1, count)], missing=0))
