"""Mutated payloads through the decoder: python tests/fuzz.py --count 100000 --seed 0.

Every one must give the original pixels or a CaeCodecError; or, where the checksum was made right again or a payload of layers
was cut, an array of the shape that its header gives. Prints how many did which, the slowest, and the peak of memory. Those of
format version 4 are mutated by fuzz_sections.py, which also checks those of no known family; of those of version 5 the padding
is mutated, or the payload in it.
"""

import argparse
import collections
import random
import resource
import time
import warnings
import zlib
from pathlib import Path
from typing import NamedTuple

import fuzz_sections
import numpy as np
from golden import make
from helpers import padding
from helpers.paths import GOLDEN

import caecodec
from caecodec.bitstream import autoencoder, overfitted, padded, varint
from caecodec.bitstream.codings import Body
from caecodec.bitstream.prefix import DIRECTORY_VERSION, OVERFITTED_VERSION, PADDED_VERSION, RGB_VERSION
from caecodec.codecs.decoding import parse_payload
from caecodec.codecs.overfitted.network import LARGEST, Network, identify

LARGE = 2**14  # values of a chunk up to which a payload of another geometry is decoded in full
SEALED = 0.8  # the share of payloads whose checksum is made right after the mutation
LENGTHS = (0, 1, 2, 15, 16, 17, 255, 2**14, 2**16, 2**28, 2**31 - 1, 2**31, 2**32 - 1)


class Original(NamedTuple):
    """A payload as it was written, and what it decodes to."""

    name: str
    data: bytes
    weights: Path
    pixels: np.ndarray
    network: bytes | None = None


class Parts:
    """A payload taken apart: what a mutation changes."""

    def __init__(self, data):
        payload = autoencoder.parse(data)
        self.header = bytearray(data[:11])
        self.shape = list(payload.header.shape)
        self.constant = payload.header.constant
        self.streams = [bytearray(stream) for stream in payload.streams]
        self.escapes = bytearray(payload.escapes)
        self.colour = bytearray(payload.colour)
        sections = (payload.bound if payload.header.body is Body.BOUNDED else None, payload.planes)
        written = [bytearray(part) for part in sections if part is not None]
        self.sections = written if payload.header.version > RGB_VERSION else []
        self.count = None  # what the payload claims, where that is a lie
        self.lengths = {}

    def pack(self):
        """The bytes before the checksum."""
        out = [bytes(self.header), *map(varint.pack, self.shape)]
        if self.constant:
            return b"".join([*out, bytes(self.colour)])
        for i, section in enumerate(self.sections):
            out += [varint.pack(self.lengths.get(("section", i), len(section))), bytes(section)]
        lengths = [self.lengths.get(i, len(stream) // 4) for i, stream in enumerate(self.streams)]
        out += [varint.pack(len(lengths) if self.count is None else self.count), *map(varint.pack, lengths)]
        out += [varint.pack(self.lengths.get("escapes", len(self.escapes))), *map(bytes, self.streams), bytes(self.escapes)]
        return b"".join(out)


class OverfittedParts:
    """An overfitted payload taken apart."""

    def __init__(self, data):
        payload = parse_payload(data)
        self.header = bytearray(data[: 7 + len(payload.header.digest)])
        self.shape = list(payload.header.shape)
        self.constant = payload.header.constant
        self.colour = bytearray(payload.colour)
        self.streams, self.escapes, self.low = [bytearray(payload.stream)], bytearray(payload.escapes), bytearray(payload.raw)
        own = payload.header.body == overfitted.OWN_NETWORK
        self.sections = [bytearray(part) for part in ((payload.planes, payload.network) if own else (payload.planes,))]
        self.count = None
        self.lengths = {}

    def pack(self):
        """The bytes before the checksum."""
        out = [bytes(self.header), *map(varint.pack, self.shape)]
        if self.constant:
            return b"".join([*out, bytes(self.colour)])
        for i, part in enumerate(self.sections):
            out += [varint.pack(self.lengths.get(("section", i), len(part))), bytes(part)]
        stream = b"".join(map(bytes, self.streams))
        out += [varint.pack(self.lengths.get(0, len(stream) // 4)), varint.pack(self.lengths.get("escapes", len(self.escapes)))]
        return b"".join([*out, stream, bytes(self.escapes), bytes(self.low)])


def apart(data):
    """A payload of either family taken apart; of one with padding that of its content."""
    if data[2] == PADDED_VERSION:
        data = padded.parse(data).content
    return (Parts if data[2] < OVERFITTED_VERSION else OverfittedParts)(data)


def originals():
    """The golden payloads of the tiny networks but for the largest, and overfitted ones of all kinds, with their pixels.

    And those of format version 4, with layers and of no known family.
    """
    found = list(fuzz_sections.originals())
    for name, *case in make.overfitted_cases():
        data, network = make.overfitted_payload(*case)
        found.append(Original(f"v3-{name}", data, "default", caecodec.decode(data, network=network), network))
    for path in [*sorted(GOLDEN.glob("v1-*.cae")), *sorted(GOLDEN.glob("v2-*.cae"))]:
        context = "context" in path.stem or path.stem == "v2-bounded-planes"
        family = next(
            (name for name in ("binary-context", "binary", "depthwise", "residual-attention") if name in path.stem), None
        )
        network = f"tiny-{family}" if family else "tiny-context" if context else "tiny"
        weights = GOLDEN / f"{network}.safetensors"
        data = path.read_bytes()
        if "several-streams" not in path.stem:
            found.append(Original(path.stem, data, weights, caecodec.decode(data, weights=weights)))
    for path in sorted(GOLDEN.glob("v4-layered-*.cae")):
        data, weights = path.read_bytes(), GOLDEN / "tiny-layers.safetensors"
        found.append(Original(path.stem, data, weights, caecodec.decode(data, weights=weights)))
    for case in padding.cases():
        data, weights = make.padded_payload(case), GOLDEN / "tiny.safetensors"
        found.append(Original(f"v5-{case[0]}", data, weights, caecodec.decode(data, weights=weights)))
    return found


def mutate(rng, data):
    """A mutated payload, and whether its checksum is right; `rng` is a random.Random."""
    if data[2] == DIRECTORY_VERSION:
        return fuzz_sections.mutate(rng, data)
    if data[2] == PADDED_VERSION:
        return _mutate_padded(rng, data)
    parts = apart(data)
    kinds = [_header, _shape, _claims, _streams, _escapes, _sections, _sections, _constant, _raw, _raw]
    kind = rng.choice(kinds + [_network, _low] * isinstance(parts, OverfittedParts))
    body = bytearray(parts.pack())
    if kind is _raw:
        for _ in range(rng.randint(1, 6)):
            _raw(rng, body)
    else:
        for _ in range(rng.randint(1, 3)):
            kind(rng, parts)
        body = bytearray(parts.pack())
    sealed = rng.random() < SEALED
    return bytes(body) + (zlib.crc32(body).to_bytes(4, "little") if sealed else data[-4:]), sealed


def _mutate_padded(rng, data):
    """A mutation of the padding, or of the payload of the content, or of any byte."""
    content, around = padded.parse(data)
    action, sealed = rng.randint(0, 2), True
    if action == 0:
        content, sealed = mutate(rng, content)
    elif action == 1:
        around = bytearray(around)
        _raw(rng, around)
        if rng.random() < 0.5:
            around[:1] = varint.pack(rng.choice(LENGTHS))
    body = bytearray(padded.pack(content, bytes(around))[:-4])
    if action == 2:
        _raw(rng, body)
    sealed = sealed and rng.random() < SEALED
    return bytes(body) + (zlib.crc32(body).to_bytes(4, "little") if sealed else data[-4:]), sealed


def _header(rng, parts):
    position = rng.choice([2, 3, 4, 5, 5, 6, 6, 6, rng.randrange(len(parts.header))])
    parts.header[position] = rng.choice([parts.header[position] ^ 1 << rng.randint(0, 7), rng.randint(0, 255)])


def _shape(rng, parts):
    action = rng.randint(0, 3)
    if action == 0:
        rng.shuffle(parts.shape)
    elif action == 1 and len(parts.shape) > 1:
        parts.shape.pop(rng.randrange(len(parts.shape)))
    else:
        near = [max(0, n + rng.randint(-17, 17)) for n in parts.shape]
        parts.shape[rng.randrange(len(parts.shape))] = rng.choice([*near, *LENGTHS])


def _claims(rng, parts):
    if rng.random() < 0.3:
        parts.count = rng.choice([*LENGTHS, len(parts.streams) + 1, max(0, len(parts.streams) - 1)])
    elif parts.streams:
        parts.lengths[rng.choice([*range(len(parts.streams)), "escapes"])] = rng.choice([*LENGTHS, rng.randint(0, 64)])


def _streams(rng, parts):
    if not parts.streams:
        return _constant(rng, parts)
    i = rng.randrange(len(parts.streams))
    stream = parts.streams[i]
    action = rng.randint(0, 7)
    if action == 0:
        del stream[4 * rng.randint(0, len(stream) // 4) :]
    elif action == 1:
        stream += rng.randbytes(4 * rng.randint(1, 20))
    elif action == 2:
        stream[:] = rng.choice([b"", b"\xff" * len(stream), bytes(len(stream)), b"\x01\0\0\0", b"\xff" * 8])
    elif action == 3:
        stream[:] = rng.randbytes(len(stream))
    elif action == 4:
        parts.streams.insert(i, bytearray(stream))
    elif action == 5:
        parts.streams.pop(i)
    elif stream:
        for _ in range(rng.randint(1, 4)):
            stream[rng.randrange(len(stream))] ^= 1 << rng.randint(0, 7)
    return None


def _sections(rng, parts):
    if not parts.sections:
        return _raw(rng, parts.escapes)
    i = rng.randrange(len(parts.sections))
    if rng.random() < 0.1:
        parts.lengths["section", i] = rng.choice(LENGTHS)
    return _raw(rng, parts.sections[i])


def _escapes(rng, parts):
    escapes = parts.escapes
    where = rng.randint(0, len(escapes))
    action = rng.randint(0, 4)
    if action == 0:
        escapes[where:where] = varint.pack(rng.choice([*LENGTHS, 2**24, 2**25, 2**25 + 1]))
    elif action == 1:
        escapes[where:where] = rng.choice([b"\x80\0", b"\xff\xff\xff\xff\x0f", b"\xff" * 6, b"\x80" * 5, b"\0"])
    elif action == 2:
        del escapes[where : where + rng.randint(1, 8)]
    elif action == 3:
        escapes[:] = rng.randbytes(rng.choice([len(escapes), rng.randint(0, 300)]))
    elif escapes:
        escapes[rng.randrange(len(escapes))] = rng.randint(0, 255)


def _network(rng, parts):
    """Another network, well-formed but for its numbers."""
    try:
        network = identify(bytes(parts.sections[-1]))
    except caecodec.CorruptionError:
        return _raw(rng, parts.sections[-1])
    steps = tuple(rng.choice([step, rng.randint(0, 13)]) for step in network.steps)
    integers = {name: values.copy() for name, values in network.integers.items()}
    for _ in range(rng.randint(1, 20)):
        values = integers[rng.choice(list(integers))].reshape(-1)
        values[rng.randrange(len(values))] = rng.choice([0, 1, -1, LARGEST << 12, -LARGEST << 8, rng.randint(-(2**17), 2**17)])
    parts.sections[-1][:] = Network(network.decoder, network.channels, steps, integers).section()
    return None


def _low(rng, parts):
    _raw(rng, parts.low)


def _constant(rng, parts):
    parts.constant = not parts.constant or rng.random() < 0.5
    parts.header[5] = parts.header[5] & 0xF0 | (15 if rng.random() < 0.9 else rng.randint(0, 15))
    parts.colour[:] = rng.randbytes(rng.choice([0, 1, 2, 3, 3, 3, 4, 200]))


def _raw(rng, body):
    where = rng.randint(0, len(body))
    size = rng.choice([1, 1, 2, 4, 16, len(body)])
    action = rng.randint(0, 5)
    if action == 0:
        body[where:where] = rng.randbytes(size)
    elif action == 1:
        del body[where : where + size]
    elif action == 2:
        body[where:where] = body[rng.randint(0, len(body)) :][:size]
    elif where < len(body):
        body[where] = rng.choice([body[where] ^ 1 << rng.randint(0, 7), rng.randint(0, 255), 0, 0x7F, 0x80, 0xFF])


def check(original, data, sealed):
    """What became of a mutated payload, in a word; AssertionError when it is what must not be."""
    if isinstance(original, fuzz_sections.SectionsOriginal):
        return fuzz_sections.check(original, data, sealed)
    shape = original.pixels.shape
    try:
        pixels = caecodec.decode(data, weights=original.weights, expected_shape=shape, network=original.network)
    except caecodec.CaeCodecError as error:
        header = _claimed(data)
        claimed = header and header.shape
        if claimed is None or claimed == shape or np.prod(claimed, dtype=object) > LARGE:
            return type(error).__name__
        shape = claimed  # to reach what lies behind the geometry
        try:
            pixels = caecodec.decode(data, weights=original.weights, network=original.network)
        except caecodec.CaeCodecError as error:
            return type(error).__name__
    assert pixels.shape == shape, (pixels.shape, shape)
    assert pixels.dtype == _claimed(data).numpy_dtype
    if (pixels.dtype, pixels.tobytes(), pixels.shape) == (
        original.pixels.dtype,
        original.pixels.tobytes(),
        original.pixels.shape,
    ):
        return "original pixels"
    if original.data[2] == DIRECTORY_VERSION and original.data.startswith(data):
        return "first layers"
    assert sealed, "other pixels behind a wrong checksum"
    return "other pixels, right checksum"


def _claimed(data):
    """The header of a payload whose checksum and header are right."""
    try:
        return parse_payload(data).header
    except caecodec.CaeCodecError:
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("error")
    payloads = originals()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = collections.Counter()
    slowest = (0.0, "")
    begin = time.perf_counter()
    for i in range(options.count):
        rng = random.Random(f"{options.seed}/{i}")
        original = rng.choice(payloads)
        data, sealed = mutate(rng, original.data)
        start = time.perf_counter()
        try:
            outcome = check(original, data, sealed)
        except BaseException:
            print(f"case {options.seed}/{i}, of {original.name}: {data.hex()}")
            raise
        slowest = max(slowest, (time.perf_counter() - start, f"case {options.seed}/{i}, of {original.name}: {outcome}"))
        outcomes[outcome] += 1
    print(f"{options.count} payloads mutated from {len(payloads)}, seed {options.seed}, {time.perf_counter() - begin:.0f} s")
    for outcome, number in outcomes.most_common():
        print(f"{number:9}  {outcome}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"slowest: {1000 * slowest[0]:.0f} ms, {slowest[1]}")
    print(f"peak memory: {peak / 1024:.0f} MiB, {(peak - before) / 1024:.0f} MiB above that of the originals")


if __name__ == "__main__":
    main()
