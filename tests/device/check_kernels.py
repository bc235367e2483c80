"""The kernels against the coders of the CPU, byte for byte and symbol for symbol.

On a GPU or, with TRITON_INTERPRET=1, in Triton's interpreter: `PYTHONPATH=.:tests python tests/device/check_kernels.py cuda`.
"""

import sys

import numpy as np
import torch
from helpers.networks import TABLES, seeded_context

from caecodec import weights
from caecodec.bitstream import varint
from caecodec.entropy import context, device_context, device_static, static, streams
from caecodec.errors import CorruptionError

CONTEXT = seeded_context(3)
CHANNELS = len(TABLES.length)
CODERS = {static.MODEL: TABLES, context.MODEL: CONTEXT}
ON_DEVICE = {static.MODEL: device_static.CODER, context.MODEL: device_context.CODER}


def draw(rng, shape, spread):
    return np.rint(rng.laplace(size=shape) * spread).astype(np.int32)


def decode(coder, coded, tables, shape, on):
    """Symbols (N, *shape) and the flags of N payloads, by the kernels."""
    kernels = ON_DEVICE[coder]
    placed = kernels.place(tables, torch.device(on))
    prepared = [kernels.prepare(each, shape) for each in coded]
    symbols, damaged = kernels.decode(prepared, placed, shape)
    return symbols.cpu().numpy().reshape(-1, *shape), damaged.cpu().numpy()


def check_bytes(on, shapes, spreads):
    """Both directions of three payloads, one of which ends in channels of zeros."""
    rng = np.random.default_rng(0)
    for coder, tables in CODERS.items():
        placed = ON_DEVICE[coder].place(tables, torch.device(on))
        for shape in shapes:
            for spread in spreads:
                symbols = np.stack([draw(rng, shape, spread) for _ in range(3)])
                symbols[1][:, tables.order[5:] if coder is context.MODEL else slice(5, None)] = 0
                coded = [coder.encode(each, tables) for each in symbols]
                found, damaged = decode(coder, coded, tables, shape, on)
                np.testing.assert_array_equal(found, symbols)
                assert not damaged.any()
                together = torch.from_numpy(symbols.reshape(-1, *shape[1:])).to(on)
                assert ON_DEVICE[coder].encode(together, placed, shape[0]) == coded


def check_damage(on, shape):
    """What the CPU's coder refuses as damaged is flagged, each of many, and leaves the payloads beside it alone."""
    rng = np.random.default_rng(1)
    for coder, tables in CODERS.items():
        symbols = [draw(rng, shape, 100) for _ in range(3)]
        coded = [coder.encode(each, tables) for each in symbols]
        words = coded[1].streams[0]
        head, escapes = (coded[1].escapes[:1], coded[1].escapes[1:]) if coder is context.MODEL else (b"", coded[1].escapes)
        assert len(escapes) > 1
        flipped = bytes([words[0] ^ 1]) + words[1:]
        huge = varint.pack(2 * streams.MAX_SYMBOL) * sum(byte < 0x80 for byte in escapes)
        wrong = [
            coded[1]._replace(streams=(flipped, *coded[1].streams[1:])),
            coded[1]._replace(streams=(words[4:], *coded[1].streams[1:])),
            coded[1]._replace(streams=(words + b"\x01\x00\x00\x00", *coded[1].streams[1:])),
            coded[1]._replace(streams=(b"", *coded[1].streams[1:])),
            coded[1]._replace(escapes=head + escapes + b"\x01"),
            coded[1]._replace(escapes=head),
            *([coded[1]._replace(escapes=head + huge)] if coder is context.MODEL else []),
        ]
        for each in wrong:
            try:
                coder.decode(each, tables, shape)
            except CorruptionError:
                continue
            raise AssertionError(f"the CPU's coder takes {each}, which is damaged")
        found, damaged = decode(coder, [coded[0], *wrong, coded[2]], tables, shape, on)
        assert damaged.tolist() == [False, *[True] * len(wrong), False]
        np.testing.assert_array_equal(found[[0, -1]], [symbols[0], symbols[2]])


def check_shipped(on, latents, count):
    """The tables of the shipped weights, on symbols that follow them roughly."""
    rng = np.random.default_rng(2)
    for quality in (1, 8) if on == "cuda" else (1,):
        loaded = weights.load(weights.resolve(weights.Spec.parse("default"), "mse", quality), quality)
        shape = (1, loaded.network.latent_channels, *latents)
        symbols = [draw(rng, shape, 0.3 * quality) for _ in range(count)]
        for coder in (static.MODEL, context.MODEL):
            tables = loaded.tables_of(coder)
            coded = [coder.encode(each, tables) for each in symbols]
            found, damaged = decode(coder, coded, tables, shape, on)
            np.testing.assert_array_equal(found, symbols)
            assert not damaged.any()
            placed = ON_DEVICE[coder].place(tables, torch.device(on))
            assert ON_DEVICE[coder].encode(torch.from_numpy(np.concatenate(symbols)).to(on), placed, 1) == coded


def main(on):
    if on == "cuda":
        check_bytes(on, [(1, CHANNELS, 1, 1), (2, CHANNELS, 37, 61), (1, CHANNELS, 300, 200)], [0.4, 3, 100])
        check_shipped(on, (16, 16), 64)
        check_shipped(on, (33, 47), 8)
        check_damage(on, (1, CHANNELS, 20, 30))
    else:
        check_shipped(on, (1, 1), 1)
        check_bytes(on, [(1, CHANNELS, 2, 3)], [0.4])
    streams.BAND_SYMBOLS = 32  # so that small symbols have several streams, and the interpreter does not take hours
    check_bytes(on, [(2, CHANNELS, 2, 3)], [10])
    check_damage(on, (1, CHANNELS, 2, 3))
    print("same bytes")


if __name__ == "__main__":
    main(sys.argv[1])
