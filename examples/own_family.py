"""A family of networks of your own, outside the package: python examples/own_family.py [-o FOLDER] [--minutes 1].

The network is a lapped transform: the analysis takes blocks of 8x8 pixels apart, and each block of the synthesis overlaps
its neighbours, so that borders of blocks are smooth. It starts from the principal components of the blocks, is trained on
photographs of scikit-image, and then codes the chunks of a Zarr array. Whoever reads the array imports this file first,
which registers the family, and has the weights file. Needs the extra train, and scikit-image.
"""

import argparse
import math
import tempfile
from pathlib import Path

import numpy as np
import skimage.data
import torch
import torch.nn.functional as F
import zarr
from PIL import Image
from torch import nn

import caecodec
from caecodec.images.metrics import psnr
from caecodec.models import rate, registry
from caecodec.models.family import Family, FoldedNetwork, Trainer
from caecodec.training import Recipe, train

STRIDE, LATENT = 8, 48


def analyse(images, kernel, step):
    """Images (n, 3, 8 h, 8 w) -> latents (n, 48, h, w), in quantisation steps."""
    return F.conv2d(images - 0.5, kernel, stride=STRIDE) / step


def synthesise(latents, kernel, step):
    """Latents (n, 48, h, w) -> images (n, 3, 8 h, 8 w)."""
    return F.conv_transpose2d(latents * step, kernel, stride=STRIDE, padding=STRIDE // 2) + 0.5


class Lapped(Family):
    """What caecodec asks of a family: `caecodec/models/family.py` describes each name."""

    name = stored_name = "lapped"
    wire_id = 200  # of your choice, if only your own arrays have it
    stride = STRIDE

    def check(self, tensors, quality):
        for name, shape in (("g_a", (LATENT, 3, 8, 8)), ("g_s", (LATENT, 3, 16, 16)), (f"q{quality}.step", (LATENT, 1, 1))):
            if tensors[name].shape != shape or tensors[name].dtype != np.float32:
                raise ValueError(f"{name} is {tensors[name].dtype} {tensors[name].shape} but must be float32 {shape}")

    def fold(self, tensors, quality):
        step = tensors[f"q{quality}.step"]
        plain = {"g_a": tensors["g_a"], "g_s": tensors["g_s"], "step": step}
        return FoldedNetwork(plain, np.zeros(LATENT, np.float32), step.ravel())

    def halo(self, tensors):
        return 1  # block to each side

    def build(self, tensors):
        return LappedInference(**{name: torch.from_numpy(tensor) for name, tensor in tensors.items()})

    def pixel_bytes(self, tensors, device, exact=False):
        return 24 + 4 * LATENT  # images, and latents with room to spare

    def trainer(self):
        return LappedTrainer()


class LappedInference:
    """The network of one quality: images to symbols and back."""

    def __init__(self, g_a, g_s, step):
        self.g_a, self.g_s, self.step = g_a, g_s, step

    def analysis(self, images):
        return analyse(images, self.g_a, self.step).round().to(torch.int32)

    def synthesis(self, symbols):
        return synthesise(symbols.float(), self.g_s, self.step)

    def to(self, device):
        return LappedInference(self.g_a.to(device), self.g_s.to(device), self.step.to(device))


class LappedNetwork(nn.Module):
    """The network in training: all qualities share the kernels, and each has its own steps and its own rate."""

    def __init__(self, qualities):
        super().__init__()
        self.g_a = nn.Parameter(torch.zeros(LATENT, 3, 8, 8))
        self.g_s = nn.Parameter(torch.zeros(LATENT, 3, 16, 16))
        self.log_step = nn.Parameter(torch.zeros(len(qualities), LATENT, 1, 1))
        self.cond = nn.ModuleList(rate.ConditionalRate(LATENT) for _ in qualities)
        self.register_buffer("order", torch.arange(LATENT))
        self.register_buffer("qualities", torch.tensor(qualities))

    def analysis(self, x, quality):
        return analyse(x, self.g_a, self.log_step[quality].exp())

    def synthesis(self, y, quality):
        return synthesise(y, self.g_s, self.log_step[quality].exp())

    def bits(self, y, quality):
        return rate.bits(self, y, quality)

    def learning_groups(self):
        return rate.learning_groups(self, lambda name: name.startswith("g_"))

    def use_compiled(self, compiled):
        pass


class LappedTrainer(Trainer):
    """How a network starts, and what of it a weights file keeps."""

    def network(self, qualities, metric, dtype):
        return LappedNetwork(qualities)

    @torch.no_grad()
    def start_from_images(self, network, images, lmbdas):
        blocks = F.unfold(images - 0.5, 8, stride=STRIDE).transpose(1, 2).reshape(-1, 192)
        axes = torch.linalg.eigh(blocks.T @ blocks)[1].flip(1)[:, :LATENT].T.reshape(LATENT, 3, 8, 8)
        network.g_a.copy_(axes)
        network.g_s[:, :, 4:12, 4:12] = axes
        for log_step, lmbda in zip(network.log_step, lmbdas, strict=True):
            log_step.fill_(-math.log(lmbda / 4e-4) / 2)

    def start_rate(self, network, images):
        rate.fit(network, images)

    def recognises(self, state):
        return "log_step" in state and "g_s" in state

    def tensors(self, state):
        steps = zip(self.qualities(state), state["log_step"].exp().numpy(), strict=True)
        return {"g_a": state["g_a"].numpy(), "g_s": state["g_s"].numpy(), **{f"q{q}.step": step for q, step in steps}}


registry.register(Lapped())


def show(report):
    print(f"step {report.step}: {report.bpp[0]:.3f} bits per pixel, {report.psnr[0]:.2f} dB", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, help="a folder for the weights and the array")
    parser.add_argument("--minutes", type=float, default=1, help="how long to train, default %(default)s")
    parser.add_argument("--steps", type=int, help="how long to train, instead of minutes")
    options = parser.parse_args()
    folder = options.output or Path(tempfile.mkdtemp())
    (folder / "photographs").mkdir(parents=True)
    for name in ("coffee", "chelsea", "rocket"):
        Image.fromarray(getattr(skimage.data, name)()).save(folder / "photographs" / f"{name}.png")

    length = {"steps": options.steps} if options.steps else {"minutes": options.minutes}
    recipe = Recipe(qualities=(4,), family="lapped", crop=64, batch=16, **length)
    file = folder / "lapped.safetensors"
    train([folder / "photographs"], file, recipe, init="klt", validation=0, on_report=show)

    image = skimage.data.astronaut()
    array = zarr.create_array(
        folder / "astronaut.zarr",
        data=image,
        chunks=(256, 256, 3),
        serializer=caecodec.zarr.ConvolutionalAutoencoder(quality=4, weights=file),
        compressors=None,
    )
    again = zarr.open_array(folder / "astronaut.zarr")[...]
    print(f"{8 * array.nbytes_stored() / image[..., 0].size:.3f} bits per pixel, {psnr(image, again):.2f} dB: {folder}")


if __name__ == "__main__":
    main()
