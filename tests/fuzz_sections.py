"""Mutated payloads of format version 4, which fuzz.py has among its own.

One that parses must be written as the same bytes again, and hold what the reference decoder finds, in whole or in part; all
others must raise a CaeCodecError.
"""

import random
import zlib
from typing import NamedTuple

from helpers.sections import cases
from reference import sections as reference

import caecodec
from caecodec.bitstream import directory, varint
from caecodec.bitstream.prefix import PREFIX_BYTES

LENGTHS = (0, 1, 2, 127, 128, 255, 2**14, 2**28, 2**31, 2**32 - 1)
ALL = range(256)


class SectionsOriginal(NamedTuple):
    """A payload as it was written."""

    name: str
    data: bytes


class SectionParts:
    """A payload taken apart: what a mutation changes. Sections are [id, length as listed, bytes, right checksum]."""

    def __init__(self, data):
        payload = directory.parse(data, ALL)
        self.prefix, self.shape = bytearray(data[:PREFIX_BYTES]), list(payload.header.shape)
        self.count = len(payload.sections)
        self.sections = [[number, len(part), bytearray(part), True] for number, part in payload.sections]

    def pack(self, sealed):
        """The bytes, with right checksums of directory and payload if `sealed`, and none of the two otherwise."""
        head = b"".join([bytes(self.prefix), *map(varint.pack, self.shape), bytes((self.count % 256,))])
        for number, length, part, right in self.sections:
            crc = zlib.crc32(part) if right else zlib.crc32(part) ^ 1
            head += bytes((number,)) + varint.pack(length) + crc.to_bytes(4, "little")
        head += (zlib.crc32(head) ^ 0xFFFFFFFF if sealed else 0).to_bytes(4, "little")
        body = head + b"".join(bytes(part) for _, _, part, _ in self.sections)
        return body + (zlib.crc32(body) if sealed else 0).to_bytes(4, "little")


def originals():
    """The cases of the golden files but for the largest."""
    return [SectionsOriginal(f"v4-{name}", directory.pack(*case)) for name, *case in cases() if name != "many-sections"]


def mutate(rng: random.Random, data):
    """A mutated payload, and whether it may be another valid one."""
    if rng.random() < 0.3:
        body = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            _raw(rng, body)
        return bytes(body), False
    parts, sealed = SectionParts(data), rng.random() < 0.9
    for _ in range(rng.randint(1, 3)):
        rng.choice([_prefix, _shape, _list, _section])(rng, parts)
    mutated = parts.pack(sealed)
    return mutated[: rng.randint(0, len(mutated))] if rng.random() < 0.2 else mutated, sealed


def _prefix(rng, parts):
    position = rng.randrange(2, PREFIX_BYTES)
    parts.prefix[position] = rng.choice([parts.prefix[position] ^ 1 << rng.randint(0, 7), rng.randint(0, 255)])


def _shape(rng, parts):
    parts.shape[rng.randrange(len(parts.shape))] = rng.choice(LENGTHS)


def _list(rng, parts):
    action, i = rng.randint(0, 5), rng.randrange(len(parts.sections))
    section = parts.sections[i]
    if action == 0:
        parts.count = rng.choice([0, 1, 255, parts.count + 1, max(0, parts.count - 1)])
    elif action == 1:
        section[1] = rng.choice([*LENGTHS, section[1] + 1, max(0, section[1] - 1)])
    elif action == 2:
        section[3] = False
    elif action == 3:
        section[0] = rng.randint(0, 255)
    elif action == 4:
        parts.sections.insert(i, [*section[:2], section[2][:], section[3]])
        parts.count += 1
    else:
        rng.shuffle(parts.sections)


def _section(rng, parts):
    section = rng.choice(parts.sections)
    _raw(rng, section[2])
    section[1] = rng.choice([section[1], len(section[2])])


def _raw(rng, body):
    where, size = rng.randint(0, len(body)), rng.choice([1, 1, 2, 4, 16])
    action = rng.randint(0, 3)
    if action == 0:
        body[where:where] = rng.randbytes(size)
    elif action == 1:
        del body[where : where + size]
    elif action == 2:
        del body[where:]
    elif where < len(body):
        body[where] ^= 1 << rng.randint(0, 7)


def check(original, data, sealed):
    """What became of a mutated payload, in a word; AssertionError when it is what must not be."""
    outcome, beginning = _parsed(data, False), _parsed(data, True)
    if isinstance(beginning, directory.DirectoryPayload):
        found = reference.decode(data)
        assert (found.family, found.shape) == (beginning.header.family, beginning.header.shape)
        assert found.sections == beginning.sections
        assert found.whole == (beginning == outcome)
    try:
        caecodec.decode(data)
        raise AssertionError("a family that nobody knows was decoded")
    except caecodec.CaeCodecError as error:
        if not isinstance(outcome, directory.DirectoryPayload):
            return f"{type(error).__name__}" if isinstance(beginning, str) else "CorruptionError, but for a beginning"
    assert directory.pack(outcome.header, outcome.sections) == data
    assert sealed or data == original.data, "other sections behind wrong checksums"
    return "original sections" if data == original.data else "other sections, right checksums"


def _parsed(data, partial):
    try:
        return directory.parse(data, ALL, partial)
    except caecodec.CaeCodecError as error:
        return type(error).__name__
