"""Random crops of a Zarr array for training, by a DataLoader with workers: python examples/dataloader.py [--workers N ...].

A photograph of tissue, tiled, is coded by caecodec. Each worker of the DataLoader reads and decodes crops at random places of
its own. Prints how many crops come in a second for each number of workers, without the time that the first takes to start.
"""

import argparse
import tempfile
import time

import numpy as np
import skimage.data
import torch
import zarr
from torch.utils.data import DataLoader, Dataset

import caecodec


class Crops(Dataset):
    """Crops (side, side, 3) of an array (y, x, 3), uint8, at random places; an item is a crop and its place (y, x)."""

    def __init__(self, array, side, count):
        self.array, self.side, self.count = array, side, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        # PyTorch seeds its own generator anew in each worker and epoch; that of numpy may be alike in all workers.
        y, x = (int(torch.randint(n - self.side + 1, ())) for n in self.array.shape[:2])
        return torch.from_numpy(self.array[y : y + self.side, x : x + self.side]), (y, x)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="default %(default)s")
    parser.add_argument("--start", nargs="+", default=["fork"], help="how workers start: fork, spawn; default %(default)s")
    parser.add_argument("--side", type=int, default=256, help="pixels a side of a crop, default %(default)s")
    parser.add_argument("--count", type=int, default=64, help="crops, default %(default)s")
    arguments = parser.parse_args()
    image = np.tile(skimage.data.immunohistochemistry(), (2, 2, 1))
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        codec = caecodec.ConvolutionalAutoencoder(quality=4, weights="photo-fast")
        array = zarr.create_array(f"{folder}/a.zarr", data=image, chunks=(128, 128, 3), serializer=codec, compressors=None)
        pixels = array[:]
        for start in arguments.start:
            for workers in arguments.workers:
                crops = Crops(array, arguments.side, arguments.count)
                how = {"num_workers": workers, "multiprocessing_context": start} if workers else {}
                batches = iter(DataLoader(crops, batch_size=8, **how))
                found = [next(batches)]  # by now a worker has started
                begun = time.perf_counter()
                found += batches
                rate = (arguments.count - len(found[0][0])) / (time.perf_counter() - begun)
                places = {(int(y), int(x)) for _, (rows, columns) in found for y, x in zip(rows, columns, strict=True)}
                for batch, (rows, columns) in found:
                    for crop, y, x in zip(batch.numpy(), rows, columns, strict=True):
                        assert np.array_equal(crop, pixels[y : y + arguments.side, x : x + arguments.side])
                print(f"{start} {workers} workers: {rate:.1f} crops per second, {len(places)} different places")


if __name__ == "__main__":
    main()
