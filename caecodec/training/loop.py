"""The training loop: one backbone, a quality at random in every step, averaged weights, checkpoints that resume."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ParameterError
from .backbone import LOW_QUALITIES, Backbone
from .crops import Crops

LMBDAS = {
    "mse": (0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483, 0.0932, 0.18),
    "ms-ssim": (2.4, 4.58, 8.73, 16.64, 31.73, 60.5, 115.37, 220.0),
}
CROPS = {"mse": 256, "ms-ssim": 192}  # MS-SSIM needs 161 pixels
BATCHES = {"mse": 2, "ms-ssim": 3}
RATES = {"transforms": 1.0, "modulations": 3.0, "rate weights": 5.0, "rate biases": 30.0}
AVERAGE = 0.999
FULL_CROPS = 0.75  # the part of the run after which crops are of full size, MSE being the metric
WARM_UP = 100
REPORT = 50


@dataclass(frozen=True)
class Recipe:
    """How to train.

    qualities : of one backbone, all within 1 to 5 or all within 6 to 8
    metric : "mse" or "ms-ssim", the distortion in the loss
    steps, minutes : when to stop; one of them, the other being 0
    crop : pixels a side of a crop, a multiple of 32; for "mse" crops have half of it until three quarters of the run
    batch : crops in a step; four times as many of half the size
    lr : learning rate of the transforms after warm-up, before its cosine decay
    seed : of the start and of every random choice

    Raises ParameterError where these do not fit.
    """

    qualities: tuple[int, ...] = (1, 2, 3, 4, 5)
    metric: str = "mse"
    steps: int = 0
    minutes: float = 0.0
    crop: int | None = None
    batch: int | None = None
    lr: float = 2e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.metric not in LMBDAS:
            raise ParameterError(f"metric is {self.metric!r} but must be one of {', '.join(LMBDAS)}")
        object.__setattr__(self, "crop", self.crop or CROPS[self.metric])
        object.__setattr__(self, "batch", self.batch or BATCHES[self.metric])
        low = {quality <= LOW_QUALITIES for quality in self.qualities}
        if not set(self.qualities) <= set(range(1, 9)) or len(low) != 1 or len(set(self.qualities)) < len(self.qualities):
            raise ParameterError(
                f"qualities are {self.qualities} but one network has some of 1 to 5 or some of 6 to 8, each once; "
                "train two networks for others"
            )
        if (self.steps > 0) == (self.minutes > 0):
            raise ParameterError(f"steps is {self.steps} and minutes {self.minutes} but one of them must be above 0")
        smallest = 64 if self.metric == "mse" else CROPS["ms-ssim"]
        if self.size < smallest or self.size % 32:
            raise ParameterError(f"crop is {self.crop} but must be a multiple of 32, at least {smallest} for {self.metric}")
        if self.full_batch < 1 or not self.lr > 0:
            raise ParameterError(f"batch is {self.batch} and lr {self.lr} but both must be above 0")

    @property
    def size(self) -> int:
        """Pixels a side of a crop."""
        assert self.crop is not None
        return self.crop

    @property
    def full_batch(self) -> int:
        """Crops of this size in a step."""
        assert self.batch is not None
        return self.batch

    @property
    def lmbdas(self) -> list[float]:
        """The rate-distortion trade-off of each quality."""
        return [LMBDAS[self.metric][quality - 1] for quality in self.qualities]


@dataclass(frozen=True)
class Report:
    """Means since the last report: bpp, PSNR in dB and the loss's distortion of each quality; the loss, their mean.

    `seconds` are those of the run so far, `left` those it still takes.
    """

    step: int
    seconds: float
    left: float
    loss: float
    bpp: tuple[float, ...]
    psnr: tuple[float, ...]
    distortion: tuple[float, ...]


class Training:
    """A run: the network, its running average, the optimiser, and the history of reports."""

    def __init__(self, backbone: Backbone, recipe: Recipe, crops: Crops, device: str = "cpu", compiled: bool = False) -> None:
        self.recipe, self.crops, self.device = recipe, crops, device
        self.backbone = backbone.to(device).train()
        self.average = {name: value.clone() for name, value in backbone.state_dict().items()}
        self.optimiser = torch.optim.Adam(_groups(backbone, recipe.lr), fused=device != "cpu")
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, Any]] = []
        self._rate_distortion = torch.compile(rate_distortion, dynamic=False) if compiled else rate_distortion
        self._choice = torch.Generator().manual_seed(recipe.seed)
        self._typical = torch.zeros(len(recipe.qualities), device=device)
        self._sums = torch.zeros(len(recipe.qualities), 4, device=device)

    def run(self, report: Callable[[Report], None], save_every: float, save: Callable[["Training"], None]) -> None:
        """Train to the end of the recipe; `report` every 50 steps, `save` every save_every seconds and at the end.

        KeyboardInterrupt passes through, after a last `save`. ParameterError when the loss is no longer finite: lr is too
        high; then nothing is saved.
        """
        torch.set_flush_denormal(True)
        last, saved = time.monotonic(), self.seconds
        try:
            while self.progress < 1:
                self._advance()
                now = time.monotonic()
                self.seconds, last = self.seconds + now - last, now
                if self.step % REPORT == 0 or self.progress >= 1:
                    report(self._report())
                if self.seconds - saved > save_every:
                    save(self)
                    saved = self.seconds
        except KeyboardInterrupt:
            save(self)
            raise
        save(self)

    @property
    def progress(self) -> float:
        """How much of the run is done, from 0."""
        if self.recipe.steps:
            return self.step / self.recipe.steps
        return self.seconds / (60 * self.recipe.minutes)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds; "state_dict" is the averaged network, which `caecodec export` reads."""
        return {
            "state_dict": self.average,
            "network": self.backbone.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "recipe": asdict(self.recipe),
            "step": self.step,
            "seconds": self.seconds,
            "typical": self._typical,
            "random": [torch.get_rng_state(), self.crops.random.get_state(), self._choice.get_state()],
            "history": self.history,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's state; ParameterError when it is of a network of other qualities."""
        try:
            self.backbone.load_state_dict(state["network"])
        except RuntimeError as error:
            raise ParameterError(
                f"the checkpoint is of qualities {state['recipe']['qualities']} but the recipe says {self.recipe.qualities}"
            ) from error
        self.average = {name: value.to(self.device) for name, value in state["state_dict"].items()}
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]
        self._typical = state["typical"].to(self.device)
        everywhere, crops, choice = (random.cpu() for random in state["random"])
        torch.set_rng_state(everywhere)
        self.crops.random.set_state(crops)
        self._choice.set_state(choice)

    def _advance(self) -> None:
        recipe, progress = self.recipe, self.progress
        decay = 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, progress)))
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.lr * group["scale"] * decay * min(1.0, (self.step + 1) / WARM_UP)
        full = progress >= FULL_CROPS or recipe.metric == "ms-ssim"
        size, batch = (recipe.size, recipe.full_batch) if full else (recipe.size // 2, 4 * recipe.full_batch)
        index = int(torch.randint(len(recipe.qualities), (), generator=self._choice))
        x = self.crops.draw(batch, size)
        bpp, mse, distortion = self._rate_distortion(self.backbone, x, index, recipe.metric)
        loss = bpp + recipe.lmbdas[index] * distortion
        with torch.no_grad():  # qualities are weighted alike: each loss by its own running mean
            typical = self._typical[index]
            typical.copy_(torch.where(typical == 0, loss, typical + 0.02 * (loss - typical)))
            self._sums[index] += torch.stack((bpp, mse, distortion, torch.ones_like(loss)))
        self.optimiser.zero_grad(set_to_none=True)
        (loss / typical).backward()  # type: ignore[no-untyped-call]  # Tensor.backward has no annotations
        nn.utils.clip_grad_norm_(self.backbone.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        keep = min(AVERAGE, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            names, values = zip(*self.backbone.named_parameters(), strict=True)
            torch._foreach_lerp_([self.average[name] for name in names], values, 1 - keep)

    def _report(self) -> Report:
        sums = self._sums.cpu().clone()
        self._sums.zero_()
        bpp, mse, distortion = (sums[:, :3] / sums[:, 3:]).unbind(1)  # not a number for a quality that had no step
        loss = bpp + torch.tensor(self.recipe.lmbdas) * distortion
        if not loss[sums[:, 3] > 0].isfinite().all():
            raise ParameterError(f"lr is {self.recipe.lr} but the loss was no longer finite at step {self.step}; lower it")
        left = self.seconds * (1 / max(1e-9, self.progress) - 1)
        report = Report(
            self.step, self.seconds, max(0.0, left), float(loss.nanmean()), tuple(bpp.tolist()),
            tuple((-10 * mse.log10()).tolist()), tuple(distortion.tolist()),
        )  # fmt: skip
        self.history.append(asdict(report))
        return report


def rate_distortion(backbone: Backbone, x: Tensor, index: int, metric: str) -> tuple[Tensor, Tensor, Tensor]:
    """Bits per pixel, MSE, and the distortion of the loss, of images (n, 3, h, w) with noise in place of rounding."""
    y = backbone.analysis(x, index)
    noisy = y + torch.rand_like(y) - 0.5
    bpp = backbone.bits(noisy, index).sum() / (x.shape[0] * x.shape[2] * x.shape[3])
    x_hat = backbone.synthesis(noisy, index)
    mse = nn.functional.mse_loss(x_hat, x)
    if metric == "mse":
        return bpp, mse, 255**2 * mse
    from pytorch_msssim import ms_ssim

    similarity: Tensor = ms_ssim(x_hat, x, data_range=1.0)
    return bpp, mse, 1 - similarity


def _groups(backbone: Backbone, lr: float) -> list[dict[str, Any]]:
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in RATES}
    for name, parameter in backbone.named_parameters():
        first, last = name.split(".")[0], name.rsplit(".", 1)[-1]
        kind = "transforms" if first in ("ga", "gan", "gs", "gsn") else "modulations"
        if first == "cond":
            kind = "rate weights" if last == "w" else "rate biases"
        groups[kind].append(parameter)
    return [{"params": groups[name], "lr": lr * scale, "scale": scale} for name, scale in RATES.items()]


def save_checkpoint(training: Training, path: Path) -> None:
    """Write a checkpoint, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    torch.save(training.state(), partial)
    partial.replace(path)
