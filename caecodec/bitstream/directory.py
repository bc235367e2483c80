"""A payload of format version 4: prefix, directory of sections, sections, CRC-32 (FORMAT.md, 19).

    prefix | directory, CRC-32 | section | section | ... | CRC-32

The directory gives the id, the length and the CRC-32 of each section, and has a CRC-32 of its own. A reader that has only the
beginning of a payload can therefore verify the directory, and each section that it has as a whole. A family decides what its
sections hold. With BASE and LAYER as literal ids:

    data = pack(Prefix(family, shape, channel_axis), [Section(BASE, base), Section(LAYER, layer)])
    payload = parse(data, {BASE, LAYER})                       # every section, or CorruptionError
    payload = parse(data[:1000], {BASE, LAYER}, partial=True)  # the sections that are there as a whole
    payload.header, payload.sections, payload.missing          # missing holds the ids of the other sections
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import CorruptionError, FormatVersionError, ParameterError
from . import varint
from .framing import CRC_BYTES, checksum, seal, unseal
from .prefix import DIRECTORY_VERSION, PREFIX_BYTES, VERSIONS, Prefix, check_magic

MAX_SECTIONS = 255
FIRST_OPTIONAL = 128  # from this id on, a reader leaves out the sections that it does not know
MAX_ID = 255


class Section(NamedTuple):
    """A part of a payload with a checksum of its own: its id, 0 to 255, and its bytes, at most 2^32 - 1 of them."""

    id: int
    data: bytes


class Entry(NamedTuple):
    """A section as the directory lists it: its bytes are payload[start:stop], and `checksum` is their CRC-32."""

    id: int
    start: int
    stop: int
    checksum: bytes


@dataclass(frozen=True)
class Directory:
    """What the first bytes of a payload tell about the whole."""

    header: Prefix
    entries: tuple[Entry, ...]

    @property
    def size(self) -> int:
        """Length of the whole payload in bytes."""
        return self.entries[-1].stop + CRC_BYTES


@dataclass(frozen=True)
class DirectoryPayload:
    """A parsed payload.

    sections : the sections that are there, in the payload's order, without optional sections that the reader does not know
    missing : the ids of the sections that a partial payload lacks, in the same order and with the same exception
    """

    header: Prefix
    sections: tuple[Section, ...]
    missing: tuple[int, ...] = ()


def pack(header: Prefix, sections: Sequence[Section]) -> bytes:
    """The payload's bytes, for 1 to 255 sections. There is only one way to write a header and a list of sections.

    Raises ParameterError if the number of sections, an id or a length is out of range.
    """
    if not 1 <= len(sections) <= MAX_SECTIONS:
        raise ParameterError(f"payload would have {len(sections)} sections but must have 1 to {MAX_SECTIONS}")
    parts = [header.pack(), bytes((len(sections),))]
    for section in sections:
        if not 0 <= section.id <= MAX_ID:
            raise ParameterError(f"section id is {section.id} but must be 0 to {MAX_ID}")
        if len(section.data) > varint.MAX_VALUE:
            raise ParameterError(
                f"section {section.id} has {len(section.data)} bytes but must have at most {varint.MAX_VALUE}; "
                "use smaller chunks"
            )
        parts += [bytes((section.id,)), varint.pack(len(section.data)), checksum(section.data)]
    head = b"".join(parts)
    return seal(b"".join([head, _directory_checksum(head), *(section.data for section in sections)]))


def parse_directory(data: bytes | bytearray | memoryview) -> Directory:
    """The directory of a payload, which says which bytes hold which section; data is the payload, or the beginning of it.

    Raises
    ------
    CorruptionError
        Not a payload of format version 4, damaged, or cut short before the end of its directory.
    FormatVersionError
        A format version, a dtype or a flag that this reader does not know.
    """
    view = memoryview(data).cast("B")
    check_magic(view)
    if bytes(view[2:3]) != bytes((DIRECTORY_VERSION,)):
        unseal(view)  # so that a damaged byte is not taken for another version
        VERSIONS.name(view[2])
        raise CorruptionError(f"payload has format version {view[2]}, which has no directory of sections; parse it as that")
    listed, end = _listed(view)
    if _directory_checksum(view[: end - CRC_BYTES]) != bytes(view[end - CRC_BYTES : end]):
        raise CorruptionError("directory of the payload fails its CRC-32: the payload is damaged; restore it from a copy")
    entries, start = [], end
    for number, length, crc in listed:
        entries.append(Entry(number, start, start + length, crc))
        start += length
    return Directory(Prefix.parse(view), tuple(entries))


def parse(data: bytes | bytearray | memoryview, known: Container[int], partial: bool = False) -> DirectoryPayload:
    """The payload in data, which must hold that and nothing else or, with `partial`, the beginning of it.

    known : ids of the sections that the reader understands; other sections are left out if they are optional (128 to 255)
    partial : accept a payload that is cut anywhere behind its directory. Sections that are there as a whole must still be
        undamaged; to read the sections before a damaged one, pass the bytes up to its `Entry.start`

    Raises
    ------
    CorruptionError
        Not a payload of format version 4, damaged, too long, or cut short where that is not allowed.
    FormatVersionError
        A newer caecodec wrote it: it has a required section (0 to 127) that is not known, or an unknown id in the prefix.
    """
    view, directory = memoryview(data).cast("B"), parse_directory(data)
    entries = directory.entries
    for entry in entries:
        if entry.id < FIRST_OPTIONAL and entry.id not in known:
            raise FormatVersionError(
                f"payload of family {directory.header.family} needs section {entry.id}, which this caecodec does not know; "
                "upgrade caecodec"
            )
    if len(view) > directory.size:
        raise CorruptionError(f"payload has {len(view)} bytes but its directory says {directory.size}: something follows it")
    whole = [entry for entry in entries if entry.stop <= len(view)]
    if len(view) < directory.size and not partial:
        raise CorruptionError(
            f"payload has {len(view)} bytes but its directory says {directory.size}: it is cut short, with {len(whole)} of "
            f"{len(entries)} sections whole; restore it from a copy"
        )
    sections = []
    for i, entry in enumerate(whole):
        section = Section(entry.id, bytes(view[entry.start : entry.stop]))
        if checksum(section.data) != entry.checksum:
            raise CorruptionError(
                f"section {i + 1} of {len(entries)} (id {entry.id}) fails its CRC-32: the payload is damaged; "
                "restore it from a copy"
            )
        sections.append(section)
    if len(view) == directory.size:
        unseal(view)
    return DirectoryPayload(
        directory.header,
        tuple(section for section in sections if section.id in known),
        tuple(entry.id for entry in entries[len(whole) :] if entry.id in known),
    )


def _listed(view: memoryview) -> tuple[list[tuple[int, int, bytes]], int]:
    """Id, length and checksum of each section as written, before they are verified, and the position behind the directory."""
    position = PREFIX_BYTES
    if len(view) < position:
        raise _cut(view)
    for _ in range((view[position - 1] & 7) + 1):
        _, position = varint.unpack(view, position)
    if len(view) == position:
        raise _cut(view)
    count, position = view[position], position + 1
    if not count:
        raise CorruptionError("directory of the payload has no sections: the payload is damaged; restore it from a copy")
    listed = []
    for _ in range(count):
        length, middle = varint.unpack(view, position + 1)
        listed.append((view[position], length, bytes(view[middle : middle + CRC_BYTES])))
        position = middle + CRC_BYTES
    if position + CRC_BYTES > len(view):
        raise _cut(view)
    return listed, position + CRC_BYTES


def _directory_checksum(head: bytes | memoryview) -> bytes:
    """The inverted CRC-32 of prefix and directory; with a plain one, a payload that is cut here would look whole."""
    return bytes(byte ^ 0xFF for byte in checksum(head))


def _cut(view: memoryview) -> CorruptionError:
    return CorruptionError(
        f"payload has {len(view)} bytes and ends within its directory: it is cut short; restore it from a copy"
    )
