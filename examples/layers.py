"""Shows an image early over a slow network, by layers and by pyramid levels: python examples/layers.py [-o FOLDER].

A photograph of scikit-image, tiled to the size of a small slide, is coded in layers, as an OME-NGFF pyramid. It is read
through a store that waits as a network does. For each number of layers of the full resolution, and then for each pyramid
level with all layers, the script prints the bytes that came, the seconds until the image was there, and its PSNR; that of a
level is of the level enlarged to the full resolution.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
import zarr
from PIL import Image

import caecodec
from caecodec.images.metrics import psnr


class ThrottledStore(zarr.storage.WrapperStore):
    """A store behind a network: every request waits for `latency` seconds, and all share `bandwidth` in bytes per second."""

    def __init__(self, store, latency=0.02, bandwidth=2.5e6):
        super().__init__(store)
        self.latency, self.bandwidth = latency, bandwidth
        self.received, self.free = 0, 0.0

    async def get(self, key, prototype, byte_range=None):
        found = await super().get(key, prototype, byte_range)
        if found is not None:
            self.received += len(found)
            self.free = max(self.free, time.monotonic()) + len(found) / self.bandwidth  # the line is busy until then
        await asyncio.sleep(self.latency + max(0.0, self.free - time.monotonic() if found is not None else 0.0))
        return found


def timed(group, level, layers):
    """An image (c, y, x) with the bytes and seconds that it took."""
    store = ThrottledStore(group.store)
    start = time.perf_counter()
    image = caecodec.read(zarr.open_array(store, path=f"{group.path}/{level}", mode="r"), layers=layers)
    return image, store.received, time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="keep the group in this folder")
    parser.add_argument("--side", type=int, default=2048, help="pixels a side, default %(default)s")
    arguments = parser.parse_args()
    tile = skimage.data.immunohistochemistry()
    repeats = -(-arguments.side // len(tile))
    slide = np.tile(np.block([[[tile], [tile[:, ::-1]]], [[tile[::-1]], [tile[::-1, ::-1]]]]), (repeats, repeats, 1))
    slide = slide[: arguments.side, : arguments.side]
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.output or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(slide).save(folder / "slide.png")
        options = caecodec.ngff.Options(codec="sae", overwrite=True)
        caecodec.ngff.encode_paths([folder / "slide.png"], folder / "slide.ome.zarr", options)
        group = zarr.open_group(folder / "slide.ome.zarr", mode="r")
        levels = sorted(name for name, _ in group.arrays())
        timed(group, levels[-1], 1)  # loads the networks
        for layers in range(1, 5):
            timed(group, levels[-1], layers)
        print("what             bytes  seconds  PSNR (dB)")
        for layers in range(1, 5):
            image, received, seconds = timed(group, levels[0], layers)
            print(f"layers 1-{layers}  {received:11}  {seconds:7.2f}  {psnr(slide, image.transpose(1, 2, 0)):9.2f}")
        for level in reversed(levels):
            image, received, seconds = timed(group, level, None)
            large = Image.fromarray(image.transpose(1, 2, 0)).resize((arguments.side,) * 2, Image.Resampling.BICUBIC)
            print(f"level {level}   {received:11}  {seconds:7.2f}  {psnr(slide, np.asarray(large)):9.2f}")


if __name__ == "__main__":
    main()
