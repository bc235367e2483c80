"""The training loop: steps with all qualities at once, averaged weights, reports, and checkpoints to resume from."""

import io
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import ParameterError
from ..storage.partial import complete_file
from .crops import Crops
from .loss import Distortion, weighted
from .recipe import Recipe
from .step import Step

AVERAGE = 0.999
WARM_UP = 100
REPORT = 50


@dataclass(frozen=True)
class TrainingReport:
    """Means since the last report: bpp, PSNR in dB and distortion of each quality, and the loss.

    `seconds` is the duration of the run so far, and `left` an estimate of the remaining seconds; `epoch` counts passes over the
    images.
    """

    step: int
    seconds: float
    left: float
    loss: float
    bpp: tuple[float, ...]
    psnr: tuple[float, ...]
    distortion: tuple[float, ...]
    epoch: float


class Training:
    """A training run: the network, its steps and their running average, and the history of reports.

    The recipe must have its crop and batch. With `compiled`, point-wise parts go through torch.compile. `init` says what the
    network was initialised from. `measure` is the distortion of the loss; None: made from the recipe.
    """

    def __init__(
        self,
        backbone: Any,
        recipe: Recipe,
        crops: Crops,
        device: str = "cpu",
        compiled: bool = False,
        init: str = "",
        measure: Distortion | None = None,
    ) -> None:
        self.recipe, self.crops, self.device, self.init = recipe, crops, device, init
        self.backbone = backbone.to(device).train()
        measure = measure or weighted(recipe.distortions, device=device)
        self.advance = Step(self.backbone, recipe, crops, measure, compiled)
        self.step, self.seconds = 0, 0.0
        self.history: list[dict[str, Any]] = []

    def run(self, report: Callable[[TrainingReport], None], save_every: float, save: Callable[["Training"], None]) -> None:
        """Train to the end of the recipe. Call `report` every 50 steps, and `save` every save_every seconds and at the end.

        KeyboardInterrupt is raised again after a last `save`. Raises ParameterError, without saving, if the loss is no longer
        finite because lr is too high.
        """
        with _flushed_denormals():
            self._run(report, save_every, save)

    def _run(self, report: Callable[[TrainingReport], None], save_every: float, save: Callable[["Training"], None]) -> None:
        last, saved = time.monotonic(), self.seconds
        try:
            while self.progress < 1:
                self.take_step()
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
        """The part of the run that is done, from 0 to 1."""
        if self.recipe.steps:
            return self.step / self.recipe.steps
        if self.recipe.epochs:
            return self.epoch / self.recipe.epochs
        return self.seconds / (60 * self.recipe.minutes)

    @property
    def epoch(self) -> float:
        """Passes over the images so far: the pixels of all crops drawn, to those of the images that are held in memory."""
        return self.step * self.recipe.crops * self.recipe.size**2 / len(self.crops.pixels)

    def state(self) -> dict[str, Any]:
        """The content of a checkpoint; its "state_dict" is the averaged network, which `caecodec export` reads."""
        network = self.backbone.state_dict()
        return {
            "state_dict": network | self.advance.average,
            "network": network,
            "steps": self.advance.state(),
            "recipe": asdict(self.recipe),
            "init": self.init,
            "step": self.step,
            "seconds": self.seconds,
            "history": self.history,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint's state, which may come from another kind of device.

        Raises ParameterError if the checkpoint has another family, other qualities or layers, another metric or loss, or is of
        an earlier version of caecodec.
        """
        if "steps" not in state:
            raise ParameterError(
                "the checkpoint is of an earlier version of caecodec, which trained in another way; "
                "start from it instead (init, --init) with another output"
            )
        for name in ("family", "qualities", "layers", "metric", "loss"):
            ours, theirs = getattr(self.recipe, name), state["recipe"].get(name)  # earlier checkpoints lack some
            if ours != theirs:
                raise ParameterError(
                    f"{name} is {ours!r} but that of the checkpoint is {theirs!r}; pass the same, or leave out resume "
                    "(--resume) to start anew with another output"
                )
        self.backbone.load_state_dict(state["network"])
        self.init = state.get("init", "not recorded")
        self.advance.load(state["steps"], state["state_dict"])
        self.step, self.seconds, self.history = state["step"], state["seconds"], state["history"]

    def take_step(self) -> None:
        """Take one step, at the learning rate for the progress of the run."""
        decay = 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, self.progress)))
        lr = self.recipe.learning_rate * decay * min(1.0, (self.step + 1) / WARM_UP)
        self.advance(lr, min(AVERAGE, (1 + self.step) / (10 + self.step)))
        self.step += 1

    def _report(self) -> TrainingReport:
        sums = self.advance.sums.cpu().clone()
        self.advance.sums.zero_()
        if not sums[:, 3].all():
            raise ParameterError(
                f"lr is {self.recipe.learning_rate} but the loss is no longer finite at step {self.step}; lower it"
            )
        bpp, mse, distortion = (sums[:, :3] / sums[:, 3:]).unbind(1)
        loss = bpp + torch.tensor(self.recipe.lmbdas) * distortion
        left = self.seconds * (1 / max(1e-9, self.progress) - 1)
        report = TrainingReport(
            self.step, self.seconds, max(0.0, left), float(loss @ torch.tensor(self.recipe.shares)), tuple(bpp.tolist()),
            tuple((-10 * mse.log10()).tolist()), tuple(distortion.tolist()), self.epoch,
        )  # fmt: skip
        self.history.append(asdict(report))
        return report


@contextmanager
def _flushed_denormals() -> Iterator[None]:
    """On this thread, until the block ends, take denormal numbers, which are slow on CPUs, as zeros."""
    before = not torch.tensor(5e-324, dtype=torch.float64).mul(1).item()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def save_checkpoint(training: Training, path: Path) -> None:
    """Write a checkpoint, completely or not at all. Raises OSError if the disk is full, as torch.save by itself does not."""
    stream = io.BytesIO()
    torch.save(training.state(), stream)
    with complete_file(path) as partial:
        partial.write_bytes(stream.getbuffer())
