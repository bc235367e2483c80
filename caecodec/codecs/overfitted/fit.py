"""Fits latents and networks to pictures, with gradients in closed form (torch).

The first part of a fit has the quantiser of C3 (Kim et al. 2024) and Cool-chic: soft rounding, noise, and soft rounding again,
with a temperature and a noise that fall. The last part rounds the latents and improves the network alone. Adam improves
latents, and SOAP improves networks.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...engine.forks import no_fork
from .architecture import LEVELS, MAX_LATENT, Decoder
from .gradients import Objective, ParameterTensors
from .network import MIDDLE, UPSAMPLING, Network
from .quantise import quantise
from .reports import FitProgress, Listener
from .soap import Soap

LATENT_RATE = 0.16  # Adam's first learning rate for latents, in steps of their quantiser
MOST_NETWORK_RATE = 0.04  # the limit of SOAP's, for networks
LAST_RATE = 0.01  # the last learning rate of either, as a fraction of the first
LAST_TEMPERATURE = 0.08
NOISES = (0.22, 0.15)  # first and last standard deviation
NETWORK_ONLY = 0.1  # the fraction of iterations that improve the network alone
ATTEMPTS = 3
REPORT_EVERY = 50
_numbers = itertools.count()


@dataclass(frozen=True)
class Schedule:
    """How a fit proceeds.

    network_rate : divided by the root of the number of iterations, the first learning rate of networks, within its limit
    betas : the betas of Adam, for latents
    temperature : the first temperature
    hardened : the fraction of the soft iterations after which temperature and noise have their last values
    """

    network_rate: float
    betas: tuple[float, float]
    temperature: float
    hardened: float


SHORT = Schedule(0.9, (0.8, 0.9), 0.5, 0.8)
LONG = Schedule(2.0, (0.9, 0.999), 0.35, 1.0)  # worse for 500 iterations; better in two fits of one photograph for 10,000


@dataclass(frozen=True)
class Preset:
    """The length and the schedule of a fit."""

    iterations: int
    schedule: Schedule = SHORT


PRESETS = {
    "instant": Preset(150),
    "faster": Preset(500),
    "fast": Preset(1500),
    "medium": Preset(3000),
    "slow": Preset(10000, LONG),
    "placebo": Preset(40000, LONG),
}
CANDIDATES = 8  # the most random networks that are tried
TRIAL = 60  # iterations for each of them
TRIAL_PART = 8  # they are tried on 1 / TRIAL_PART of a chunk,
TRIAL_PIXELS = 2**14  # but on no fewer pixels than this
TRIAL_TIME = 3  # all trials take at most 1 / TRIAL_TIME of the time of the iterations after them


@dataclass(frozen=True, eq=False)
class Fitted:
    """A chunk as it will be stored: a network, and latents (m, rows, columns) int32 of each level, the finest first."""

    network: Network
    latents: list[npt.NDArray[np.int32]]


@torch.no_grad()
def fit(
    pictures: npt.NDArray[np.float32],
    decoder: Decoder,
    lmbda: float,
    preset: str,
    seed: int = 0,
    network: Network | None = None,
    device: str = "cpu",
    report: Listener | None = None,
    raw_bits: float = math.inf,
) -> list[Fitted | None]:
    """Networks and latents for b independent chunks; None for a chunk if no attempt is better than what needs no fit.

    What needs no fit is the mean colour of the chunk, or its plain values: no distortion, for `raw_bits` per pixel.

    The result for a chunk does not depend on the other chunks, except by rounding: all have the same random numbers.

    Parameters
    ----------
    pictures
        (b, m, C, height, width) in [0, 1]: m pictures of each chunk share a network.
    lmbda
        What a bit per pixel is worth, in mean squared error of values in [0, 1].
    preset
        One of PRESETS.
    seed
        The same seed gives the same result for the same batch, machine, device and number of threads.
    network
        Fit latents alone, for this network.
    report
        Called every few iterations and at the end. An error that it raises ends the fit.
    raw_bits
        The bits of a pixel without compression, all channels together.
    """
    chosen = PRESETS[preset]
    images = torch.from_numpy(np.ascontiguousarray(pictures)).to(device)
    spread = images.var((1, 3, 4), correction=0).mean(1)  # the mean squared error of the mean colour
    pixels = images[0, :, 0].numel()
    allowed = 1 + 8 * decoder.parameters(images.shape[2]) / pixels  # bits per pixel, including those of the network
    results: list[tuple[Fitted, float] | None] = [None] * len(images)
    for attempt in range(ATTEMPTS):
        left = [i for i, result in enumerate(results) if result is None]
        if not left:
            break
        run = _Run(images[left], decoder, lmbda, chosen, seed + attempt, network, report)
        run.fit(slower=2.0**-attempt)
        for i, found in zip(left, run.results(spread[left] + lmbda * allowed), strict=True):
            results[i] = found
    return [result[0] if result and result[1] < lmbda * raw_bits else None for result in results]


class _Run:
    """One attempt for b chunks; parameters have b * candidates rows until the best candidates are chosen."""

    def __init__(
        self, images: Tensor, decoder: Decoder, lmbda: float, preset: Preset, seed: int, network: Network | None,
        report: Listener | None,
    ) -> None:  # fmt: skip
        self._decoder, self._preset, self._report, self._network = decoder, preset, report, network
        self._images, self._objective = images, Objective(images, lmbda, revive=True)
        self._number = next(_numbers)
        self._candidates = candidates(preset, self._objective.pixels) if network is None else 1
        self._trial = TRIAL if self._candidates > 1 else 0
        self._iterations = self._trial + preset.iterations  # in all
        self._network_rate = min(preset.schedule.network_rate / math.sqrt(preset.iterations), MOST_NETWORK_RATE)
        self._generator = torch.Generator(images.device).manual_seed(seed)
        self._latents = torch.zeros(self._objective.shape, device=images.device)
        if network is None:
            drawn = initial(decoder, images.shape[2], self._candidates, self._generator)
            self._parameters = {name: value.repeat_interleave(len(images), 0) for name, value in drawn.items()}
        else:
            self._parameters = {
                name: torch.from_numpy(value).to(images.device).expand(len(images), *value.shape)
                for name, value in network.floats().items()
            }

    def fit(self, slower: float) -> None:
        """Run all iterations, with learning rates multiplied by `slower`."""
        preset = self._preset
        if self._trial:
            self._choose(slower)
        last = preset.iterations if self._network else round(preset.iterations * (1 - NETWORK_ONLY))
        self._begin()
        for iteration in range(last):
            done = iteration / last
            rate = slower * (LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * done)) / 2)
            self._soft_step(done, rate)
            self._tell(self._trial + iteration + 1)
        self._latents = (self._latents.round().clamp_(-MAX_LATENT, MAX_LATENT)) * self._objective.atlas.mask
        for iteration in range(last, preset.iterations):
            rate = 0.3 * slower * (preset.iterations - iteration) / (preset.iterations - last)
            losses = self._objective.losses(self._latents, self._parameters)
            self._soap.step(losses.parameters, self._network_rate * rate)
            self._tell(self._trial + iteration + 1)

    def results(self, limits: Tensor) -> list[tuple[Fitted, float] | None]:
        """What is stored of each chunk, and its loss; None for a chunk whose loss is not below its limit."""
        found: list[tuple[Fitted, float] | None] = []
        for i, limit in enumerate(limits.tolist()):
            objective = Objective(self._images[i : i + 1], self._objective.lmbda)
            latents = self._latents[i : i + 1]
            parameters = {name: value[i : i + 1] for name, value in self._parameters.items()}
            if not math.isfinite(float(sum(objective.measure(latents, parameters)))):
                found.append(None)
                continue
            network, loss = quantise(objective, latents, parameters, self._decoder, self._network)
            levels = [self._objective.atlas.level(latents[0], level) for level in range(LEVELS)]
            stored = Fitted(network, [level.cpu().numpy().astype(np.int32) for level in levels])
            found.append((stored, loss) if loss < limit else None)
        if any(found):
            self._tell(self._iterations, len(found) - found.count(None))
        return found

    def _choose(self, slower: float) -> None:
        """Try several networks on the middle of each chunk, and begin the fit with the best of them as the trial leaves it."""
        count, chunks = self._candidates, len(self._images)
        whole, latents = self._objective, self._latents
        self._objective = Objective(_middle(self._images).repeat(count, 1, 1, 1, 1), whole.lmbda, revive=True)
        self._latents = latents.new_zeros(self._objective.shape)
        self._begin()
        for iteration in range(self._trial):
            self._soft_step(0.0, slower)
            self._tell(iteration + 1)
        distortion, rate = self._objective.measure(self._latents.round(), self._parameters)
        loss = (distortion + whole.lmbda * rate).reshape(count, chunks).nan_to_num(math.inf)
        best = loss.argmin(0) * chunks + torch.arange(chunks, device=loss.device)
        self._objective, self._latents = whole, latents
        self._parameters = {name: value[best] for name, value in self._parameters.items()}

    def _begin(self) -> None:
        """Reset the optimisers."""
        self._adam = torch.optim.Adam([self._latents], betas=self._preset.schedule.betas, fused=True)
        self._soap = Soap(self._parameters)

    @no_fork()
    def _soft_step(self, done: float, rate: float) -> None:
        schedule = self._preset.schedule
        hard = min(1.0, done / schedule.hardened)
        temperature, deviation = (
            first + (last - first) * hard for first, last in ((schedule.temperature, LAST_TEMPERATURE), NOISES)
        )
        noise = torch.randn(self._latents.shape[1:], generator=self._generator, device=self._latents.device).mul_(deviation)
        mask = self._objective.atlas.mask
        quantised, slope = _soften(self._latents, noise, temperature)
        losses = self._objective.losses(quantised.mul_(mask), self._parameters)
        self._latents.grad = losses.latents.mul_(slope).mul_(mask)
        self._adam.param_groups[0]["lr"] = LATENT_RATE * rate
        self._adam.step()
        if self._network is None:
            self._soap.step(losses.parameters, self._network_rate * rate)

    def _tell(self, iteration: int, fitted: int = 0) -> None:
        """Report every few iterations, and at the end if some chunks are fitted."""
        if self._report is None or not (fitted or (iteration % REPORT_EVERY == 0 and iteration < self._iterations)):
            return
        latents = self._latents.round() * self._objective.atlas.mask
        distortion, rate = self._objective.measure(latents, self._parameters)
        psnr = -10 * torch.log10(distortion).nanmean()
        chunks = fitted or len(self._images)
        self._report(FitProgress(self._number, chunks, iteration, self._iterations, float(rate.nanmean()), float(psnr)))


def _middle(images: Tensor) -> Tensor:
    """The middle of pictures (b, m, C, height, width) to try candidates on: of all pictures, or 64x64 of fewer of them."""
    pictures = images.shape[1]
    tried = _tried(images[0, :, 0].numel())
    side = max(64, math.isqrt(tried // pictures))
    every = -(-pictures // max(1, tried // side**2))
    top, left = (max(0, length - side) // 2 for length in images.shape[3:])
    return images[:, ::every, :, top : top + side, left : left + side]


def _tried(pixels: int) -> int:
    """The number of pixels to try candidates on, for a chunk of this many."""
    return min(pixels, max(TRIAL_PIXELS, pixels // TRIAL_PART))


def candidates(preset: Preset, pixels: int) -> int:
    """The number of random networks to try for a chunk of this many pixels; a single one is not tried."""
    return max(1, min(CANDIDATES, preset.iterations * pixels // (TRIAL_TIME * TRIAL * _tried(pixels))))


def work(preset: Preset, pixels: int) -> float:
    """The number of iterations that take as long as a fit of a chunk of this many pixels, trials included."""
    count = candidates(preset, pixels)
    return preset.iterations + (count * TRIAL * _tried(pixels) / pixels if count > 1 else 0)


def memory(decoder: Decoder, pixels: int) -> int:
    """About how many bytes of memory a fit of a chunk of this many pixels takes."""
    return (pixels + CANDIDATES * _tried(pixels)) * (4 * (12 * decoder.inputs + 6 * decoder.hidden) + 600)


def initial(decoder: Decoder, channels: int, count: int, generator: torch.Generator) -> ParameterTensors:
    """First parameters of `count` networks, which interpolate, give a mean grey, and expect small values."""
    device = generator.device
    parameters = {name: torch.zeros(count, *shape, device=device) for name, shape in decoder.shapes(channels).items()}

    def draw(name: str, deviation: float) -> None:
        value = parameters[name]
        value.normal_(0, deviation / math.sqrt(value.shape[-1]), generator=generator)

    for name, deviation in (("arm_w1", 0.3), ("arm_w2", 0.3), ("arm_w3", 0.1), ("syn_w1", 1.0), ("syn_w2", 1.0)):
        draw(name, deviation)
    parameters["arm_b3"][:, 1] = -1.5
    parameters["up"] += torch.from_numpy(UPSAMPLING).to(device)
    parameters["syn_b2"] += float(MIDDLE)
    return parameters


def _soften(values: Tensor, noise: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Values after soft rounding, noise and soft rounding again, and the slope of this function."""
    first, first_slope = _round_softly(values, temperature)
    second, second_slope = _round_softly(first.add_(noise), temperature)  # the same noise for all chunks
    return second, first_slope.mul_(second_slope)


def _round_softly(values: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    below = values.floor()
    bent = (values - below).sub_(0.5).div_(temperature).tanh_()
    height = 1 / (2 * math.tanh(1 / (2 * temperature)))
    slope = bent.square().neg_().add_(1).mul_(height / temperature)
    return below.add_(0.5).add_(bent, alpha=height), slope
