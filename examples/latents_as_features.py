"""Learns from latents, without decoding pixels: python examples/latents_as_features.py [-o FOLDER].

Three textures of scikit-image (brick, grass, gravel) are coded as one Zarr array. A small classifier tells its chunks of 64x64
pixels apart by the magnitudes of their latents. The same classifier does so by decoded pixels, behind a layer that it learns
and that takes 16x16 pixels at a time, as the codec's network does. Both learn on the left half of each texture, and are tested
on the right half.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage.data
import torch
import zarr
from torch import nn
from torch.utils.data import DataLoader, Dataset

import caecodec

TEXTURES, CHUNK, STRIDE = ("brick", "grass", "gravel"), 64, 16


def texture(region):
    """The label of a region: the index of its texture, and whether it is for the test."""
    return region[0].start, region[2].start >= 256


class Pixels(Dataset):
    """The chunks of an array of one channel, decoded, with their labels."""

    def __init__(self, array, regions):
        self.array, self.regions = array, regions

    def __len__(self):
        return len(self.regions)

    def __getitem__(self, index):
        region = self.regions[index]
        return torch.from_numpy(self.array[region]).float() / 255 - 0.5, texture(region)


class Magnitudes(nn.Module):
    """Features (n, channels, rows, columns) -> scores (n, 3)."""

    def __init__(self, channels):
        super().__init__()
        self.mix, self.scores = nn.Conv2d(channels, 32, 1), nn.Linear(32, len(TEXTURES))

    def forward(self, features):
        return self.scores(self.mix(features.abs()).relu().mean((2, 3)))


def learn(name, dataset, network, epochs):
    """Read, train and test; print the accuracy, and the seconds of reading and of training."""
    start = time.perf_counter()
    features, (labels, held_out) = next(iter(DataLoader(dataset, batch_size=len(dataset))))
    if features.ndim == 5:  # as the array has an axis before the spatial ones, along which chunks have one position
        features = features.squeeze(1)
    read = time.perf_counter()
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(epochs):
        order = torch.randperm(len(labels))
        for batch in order[~held_out[order]].split(16):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(features[batch]), labels[batch]).backward()
            optimiser.step()
    with torch.inference_mode():
        right = (network.eval()(features[held_out]).argmax(1) == labels[held_out]).float().mean()
    trained = time.perf_counter()
    print(f"{name:8} {100 * float(right):6.1f} %  {read - start:7.2f} s  {trained - read:7.2f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="a folder for the array")
    parser.add_argument("--epochs", type=int, default=20, help="how often all windows are seen, default %(default)s")
    options = parser.parse_args()
    folder = options.output or Path(tempfile.mkdtemp())

    codec = caecodec.zarr.ConvolutionalAutoencoder(quality=4, channel_axis=None)
    stack = np.stack([getattr(skimage.data, name)() for name in TEXTURES])
    array = zarr.create_array(
        folder / "textures.zarr", data=stack, chunks=(1, CHUNK, CHUNK), serializer=codec, compressors=None
    )
    print(f"{array.nbytes_stored()} bytes are stored for {stack.nbytes} bytes of pixels, and read for either")

    torch.manual_seed(0)
    latents = caecodec.open_latents(array)
    regions = [latents.pixels(region) for region, _ in latents.blocks()]
    print(f"{'':8} {'accuracy':>8}  {'reading':>9}  {'learning':>9}")
    learn("latents", caecodec.torch.LatentDataset(latents, label=texture), Magnitudes(latents.shape[1]), options.epochs)
    patches = nn.Conv2d(1, latents.shape[1], STRIDE, STRIDE)
    learn("pixels", Pixels(array, regions), nn.Sequential(patches, Magnitudes(latents.shape[1])), options.epochs)


if __name__ == "__main__":
    main()
