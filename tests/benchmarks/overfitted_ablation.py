"""What each part of a fit contributes: python tests/benchmarks/overfitted_ablation.py [IMAGES] [--preset faster].

Prints the loss (mean squared error over lmbda, plus bits per pixel including the network) and the time without one part at a
time, relative to those with all parts: geometric means over the middle of each image.
"""

import argparse
import contextlib
import math
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import skimage.data
import torch
from PIL import Image

from caecodec.codecs.overfitted import fit, gradients, quantise, scratch, soap
from caecodec.codecs.overfitted.architecture import DECODERS
from caecodec.codecs.overfitted.gradients import Objective
from caecodec.codecs.overfitted.network import Network


class Adam:
    """Adam in place of SOAP, at its best learning rate."""

    def __init__(self, parameters):
        self.parameters = parameters
        self.adam = torch.optim.Adam(list(parameters.values()), betas=fit.SHORT.betas)

    def step(self, gradients, rate):
        for name, value in self.parameters.items():
            value.grad = gradients[name]
        self.adam.param_groups[0]["lr"] = rate / 2
        self.adam.step()


def without_parents():
    """Make probabilities independent of the next level."""
    inputs, backward = Objective._inputs, Objective._add_inputs_backward

    def blind(self, latents, count):
        found = inputs(self, latents, count)
        found[:, -1] = 0
        return found

    def deaf(self, of_inputs, latents, of_latents):
        of_inputs[:, -1] = 0
        backward(self, of_inputs, latents, of_latents)

    return [mock.patch.object(Objective, "_inputs", blind), mock.patch.object(Objective, "_add_inputs_backward", deaf)]


def one_step(objective, latents, parameters, decoder, network):
    """Quantise the network in steps of 2^-8, regardless of the loss."""
    floats = {name: value[0].numpy() for name, value in parameters.items()}
    network = Network.quantise(decoder, parameters["syn_w2"].shape[1], floats, (8,) * 6)
    return network, quantise._loss(objective, latents, network)


def fresh(self, *shape):
    return self._block.new_empty(shape)


def scheduled(change):
    """Change the schedule of all presets."""
    presets = {name: replace(preset, schedule=change(preset.schedule)) for name, preset in fit.PRESETS.items()}
    return [mock.patch.object(fit, "PRESETS", presets)]


def variants():
    yield "all parts", []
    yield "Adam in place of SOAP", [mock.patch.object(fit, "Soap", Adam)]
    yield (
        "SOAP without its bounds (clipping, warming up, width)",
        [mock.patch.multiple(soap, CLIP=math.inf, WARM=1, WIDTH=math.inf)],
    )
    yield "one network, without a trial", [mock.patch.object(fit, "candidates", return_value=1)]
    yield "no parents among the inputs", without_parents()
    yield "rounding that hardens to the end", scheduled(lambda schedule: replace(schedule, hardened=1.0))
    yield "the schedule of long fits", scheduled(lambda schedule: fit.LONG)
    yield "no iterations of the network alone", [mock.patch.object(fit, "NETWORK_ONLY", 0.0)]
    yield "channels that are cut off stay so", [mock.patch.object(gradients, "DEAD", 0.0)]
    yield "steps of the network of 2^-8", [mock.patch.object(fit, "quantise", one_step)]
    yield "fresh memory", [mock.patch.object(scratch.Scratch, "take", fresh)]


def pictures(folder, side):
    if folder is None:
        images = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    else:
        images = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(Path(folder).iterdir())]
    for image in images:
        top, left = ((length - side) // 2 for length in image.shape[:2])
        yield (image[top : top + side, left : left + side].astype(np.float32) / 255).transpose(2, 0, 1)[None]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="?", help="a folder of photographs; default scikit-image's")
    parser.add_argument("--every", type=int, default=1, help="take the first image and every Nth after it")
    parser.add_argument("--preset", default="faster", choices=fit.PRESETS)
    parser.add_argument("--decoder", default="mop", choices=DECODERS)
    parser.add_argument("--lmbda", type=float, default=1e-3)
    parser.add_argument("--side", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    chosen = list(pictures(options.images, options.side))[:: options.every]
    reference = None
    print("| | loss | time |\n|---|---|---|")
    for name, patches in variants():
        losses, start = [], time.process_time()
        with contextlib.ExitStack() as stack:
            for patch in patches:
                stack.enter_context(patch)
            for image in chosen:
                (fitted,) = fit.fit(image[None], DECODERS[options.decoder], options.lmbda, options.preset)
                losses.append(math.inf if fitted is None else loss(image, fitted, options.lmbda))
        found = np.array([math.exp(np.mean(np.log(losses))), time.process_time() - start])
        reference = found if reference is None else reference
        change = found / reference
        print(f"| {name} | {change[0] - 1:+.1%} | {change[1]:.2f} x |", flush=True)


def loss(image, fitted, lmbda):
    """The loss of a stored image, including the network, in bits per pixel."""
    objective = Objective(torch.from_numpy(image[None]), lmbda)
    latents = torch.zeros(objective.shape)
    for level, values in enumerate(fitted.latents):
        objective.atlas.level(latents, level).copy_(torch.from_numpy(values))
    stored = quantise._loss(objective, latents, fitted.network) / lmbda
    return stored + 8 * len(fitted.network.section()) / objective.pixels


if __name__ == "__main__":
    main()
