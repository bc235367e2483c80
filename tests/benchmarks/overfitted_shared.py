"""When one network for all chunks saves bits: python tests/benchmarks/overfitted_shared.py [IMAGES] [--preset faster].

Compares the loss (mean squared error over lmbda, plus bits per pixel) of the chunks in the middle of each image in two cases:
each chunk stores its own network, or one network is fitted to all chunks and stored once. Prints geometric means over images.
"""

import argparse
import math

import numpy as np
import torch
from overfitted_ablation import loss, pictures

from caecodec.codecs.overfitted import codec, fit
from caecodec.codecs.overfitted.architecture import choose
from caecodec.codecs.overfitted.network import identify
from caecodec.codecs.overfitted.parameters import OverfittedParameters


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="?", help="a folder of photographs; default scikit-image's")
    parser.add_argument("--every", type=int, default=1, help="take the first image and every Nth after it")
    parser.add_argument("--preset", default="faster", choices=fit.PRESETS)
    parser.add_argument("--lmbda", type=float, default=1e-3)
    parser.add_argument("--region", type=int, default=256, help="side of the region that is cut into chunks")
    parser.add_argument("--sides", default="64,128")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| chunks | bits of own networks | bits of the shared one | loss with the shared one |\n|---|---|---|---|")
    for side in map(int, options.sides.split(",")):
        found = [measure(image[0], side, options) for image in list(pictures(options.images, options.region))[:: options.every]]
        own, shared, ratio = np.array(found).T
        change = math.exp(np.mean(np.log(ratio))) - 1
        count = (options.region // side) ** 2
        print(f"| {count} of {side}x{side} | {own.mean():.3f} | {shared.mean():.3f} | {change:+.1%} |", flush=True)


def measure(image, side, options):
    """Bits per pixel of own networks and of the shared one, and the loss with the shared one relative to that with own ones."""
    count = image.shape[1] // side
    tiles = image.reshape(3, count, side, count, side).transpose(1, 3, 0, 2, 4).reshape(-1, 1, 3, side, side)
    own = fit.fit(tiles, choose(None, side * side), options.lmbda, options.preset)
    parameters = OverfittedParameters.parse(lmbda=options.lmbda, preset=options.preset)
    section = codec.fit_network(parameters, [np.rint(255 * tile[0].transpose(1, 2, 0)).astype(np.uint8) for tile in tiles])
    network = identify(section)
    shared = fit.fit(tiles, network.decoder, options.lmbda, options.preset, network=network)
    per_tile = 8 * len(section) / image[0].size
    network_bits = np.mean([8 * len(fitted.network.section()) / side**2 for fitted in own])
    of_own = np.mean([loss(tile, fitted, options.lmbda) for tile, fitted in zip(tiles, own, strict=True)])
    of_shared = np.mean([loss(tile, fitted, options.lmbda) for tile, fitted in zip(tiles, shared, strict=True)])
    of_shared += per_tile - 8 * len(section) / side**2  # `loss` counts the section for each chunk
    return network_bits, per_tile, of_shared / of_own


if __name__ == "__main__":
    main()
