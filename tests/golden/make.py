"""Write the golden files of this format version where there are none yet; a released one is never rewritten.

Run with PYTHONPATH=tests.

Each NAME.cae is a payload; NAME.npz holds its symbols (n, M, rows, columns) and the pixels that it decodes to.
"""

import importlib.util
from pathlib import Path

import conftest
import numpy as np
import prototype

import caecodec
from caecodec import codec, pixels, weights

HERE = Path(__file__).parent
VERSION = 1


def cases():
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:80, :96]
    wave = 128 + 100 * np.sin(y / 9) * np.cos(x / 13)
    picture = np.clip(wave[..., None] + rng.normal(size=(80, 96, 3)) * [4, 12, 30], 0, 255).astype(np.uint8)
    yield "yxc", picture, 4, -1
    yield "cyx-odd-size", np.ascontiguousarray(np.moveaxis(picture[:37, :51], -1, 0)), 1, -3
    yield "leading-axes", np.stack([picture[:16, :16], picture[20:36, 20:36]] * 3).reshape(3, 2, 16, 16, 3), 4, -1
    yield "fortran", np.asfortranarray(picture[:20, :20]), 1, -1
    yield "one-pixel", picture[:1, :1], 4, -1
    yield "several-streams", np.tile(picture[:, :, ::-1] // 8 * 8, (12, 16, 1)), 1, -1
    yield "batch", np.stack([picture[:40, :56], picture[40:, 40:], picture[20:60, 10:66]]), 4, -1
    yield "constant", np.full((48, 32, 3), (255, 128, 0), np.uint8), 4, -1


def main():
    if not conftest.TINY.exists():
        conftest.save_seeded(conftest.TINY)
    if not conftest.TINY_CONTEXT.exists():
        conftest.save_seeded(conftest.TINY_CONTEXT, seed=2, context=True)
    for name, array, quality, channel_axis in cases():
        write(name, array, quality, channel_axis, conftest.TINY)
        if name != "constant":
            write(f"context-{name}", array, quality, channel_axis, conftest.TINY_CONTEXT)
    if importlib.util.find_spec("compressai"):
        write_prototype()


def write_prototype():
    """A chunk of the archived prototype, where CompressAI is installed: its payload and the pixels that it read back."""
    path = HERE / "prototype.npz"
    if path.exists():
        print(f"{path.name} is there: kept")
        return
    network = prototype.compressai_network(prototype.tiny_weights(HERE / "prototype.safetensors"))
    picture = next(array for name, array, *_ in cases() if name == "yxc")[:75, :90]
    payload = prototype.encode(network, picture, 48)
    string = np.frombuffer(payload, np.uint8)
    np.savez_compressed(path, payload=string, patch_size=48, pixels=prototype.decode(network, payload, 48))
    print(f"{path.name}: {len(payload)} bytes")


def write(name, array, quality, channel_axis, tiny):
    path = HERE / f"v{VERSION}-{name}.cae"
    if path.exists():
        print(f"{path.name} is there: kept")
        return
    payload = caecodec.encode(array, quality=quality, channel_axis=channel_axis, weights=tiny)
    source = weights.resolve(weights.Spec.parse(tiny), "mse", quality)
    axes = pixels.check(array.shape, array.dtype, channel_axis)
    symbols = codec.analyse(array, axes, source, quality, None)
    path.write_bytes(payload)
    np.savez_compressed(path.with_suffix(".npz"), symbols=symbols, pixels=caecodec.decode(payload, weights=tiny))
    print(f"{path.name}: {len(payload)} bytes, symbols {symbols.shape} from {symbols.min()} to {symbols.max()}")


if __name__ == "__main__":
    main()
