"""Payloads of format version 4 as the tests have them: of a family that no release writes."""

import random

from caecodec.bitstream.directory import Section
from caecodec.bitstream.prefix import Prefix

FAMILY = 240
BASE, LAYER, NOTE = 1, 2, 130
KNOWN = {BASE, LAYER, NOTE}


def cases():
    """Name, prefix and sections: all dtypes, geometries with and without channels, empty, long and many sections."""
    rng = random.Random(4)
    layers = [Section(BASE, rng.randbytes(90)), Section(LAYER, rng.randbytes(200)), Section(LAYER, rng.randbytes(17))]
    yield "layers", Prefix(FAMILY, (256, 256, 3), 2), layers
    yield "one-section", Prefix(FAMILY, (1, 1), None, dtype="float64"), [Section(BASE, b"\x00")]
    yield "optional", Prefix(FAMILY, (3, 300, 2), 0, True, "uint16"), [Section(NOTE, b"note"), *layers[:2], Section(NOTE, b"")]
    yield (
        "many-sections",
        Prefix(FAMILY, (2, 1, 9, 40, 5), 4, dtype="int16"),
        [Section(LAYER, bytes((i,)) * i) for i in range(255)],
    )
    yield "long-section", Prefix(FAMILY, (7, 20000), None, dtype="float32"), [layers[0], Section(LAYER, rng.randbytes(20000))]
    yield "empty-sections", Prefix(255, (4, 4), None, True), [Section(0, b""), Section(127, b""), Section(255, b"")]
