"""Trains weights on the user's images: images -> network -> checkpoints -> a weights file with fitted entropy tables."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from .. import settings, weights
from ..engine import DevicePlacement
from ..errors import ParameterError
from ..models import bfloat16
from ..storage.locations import Location, local, parse_paths
from . import data, report, symbols
from .crops import Crops
from .export import export
from .loop import Training, TrainingReport, save_checkpoint
from .loss import weighted
from .outputs import in_folder
from .recipe import Recipe
from .start import default_init, start

POOL = 2**30  # training pixels kept in memory, three bytes each
POOL_SHARE = 32  # bytes of a GPU's memory per pixel kept, so that pixels take a tenth of the memory
REGION = 512


@dataclass(frozen=True)
class Paths:
    """The paths of a run: its images, the output NAME.safetensors, and beside it NAME.ckpt, NAME.png and NAME.md."""

    images: Sequence[Path]
    output: Path

    @property
    def checkpoint(self) -> Path:
        """The checkpoint from which `resume` continues."""
        return self.output.with_suffix(".ckpt")

    @property
    def curves(self) -> Path:
        """The plot of the history that the checkpoint holds."""
        return self.output.with_suffix(".png")

    def check(self, resume: bool, overwrite: bool) -> None:
        """Raise ParameterError if something would be overwritten or is missing, or if nothing can be written."""
        if self.output.suffix != ".safetensors":
            raise ParameterError(f"output is {self.output} but must be named NAME.safetensors")
        for path in (self.output, self.checkpoint):
            if path.exists() and not overwrite and not (resume and path == self.checkpoint):
                raise ParameterError(
                    f"{path} exists already; pass resume (--resume) or overwrite (--overwrite), or another name"
                )
        if resume and not self.checkpoint.exists():
            raise ParameterError(f"there is no checkpoint {self.checkpoint} to resume from; leave out resume to start anew")
        in_folder(self.output)


def train(
    images: Sequence[Location],
    output: Location,
    recipe: Recipe,
    *,
    init: Location | None = None,
    name: str | None = None,
    validation: float = 0.05,
    gpu: bool | None = None,
    compiled: bool | None = None,
    lpips_backbone: Location | None = None,
    resume: bool = False,
    save_every: float = 300,
    overwrite: bool = False,
    on_report: Callable[[TrainingReport], None] = lambda report: None,
) -> weights.Source:
    """Train a network on images, and write a weights file, with a model card, the checkpoint and curves beside it.

    Parameters
    ----------
    images
        The paths of image files, folders and tar files of them, uint8 RGB Zarr arrays and OME-NGFF groups. A random part is
        used if there are more pixels than a gigapixel, or than a tenth of the GPU's memory holds. `training.data` says what
        happens to files that cannot be used.
    output
        NAME.safetensors, in a folder that is made if there is none. NAME.ckpt, from which `resume` continues, is written every
        `save_every` seconds and when the run is interrupted. It holds the history of all reports, which NAME.png draws at the
        end and when the run is interrupted. NAME.md (model card) is written at the end.
    recipe
        Qualities or layers, metric, loss, length and batches.
    init
        What to start from: the name of installed weights, the path of a weights file or of a checkpoint, "klt" (principal
        components of the images) or "random". None: `start.default_init`. Not used with `resume`.
    name
        The weights' name; the default is the name of `output`.
    validation
        The share of images that is held out and measured at the end; 0: none.
    gpu
        True: CUDA if present; False: the CPU; None: as `caecodec.settings` says.
    compiled
        Run the point-wise parts through torch.compile, which makes the start slower and steps faster; None: only on CUDA. If
        torch.compile or a CUDA graph is not available, a warning says so, and training continues without it.
    lpips_backbone
        For LPIPS in the loss: a file with the state dict of torchvision's AlexNet; None: torchvision downloads it.
    on_report
        Called every 50 steps.

    Raises
    ------
    ParameterError
        No image is as large as a crop, or as 256x256 pixels, output exists, there is nothing to resume, LPIPS is not available,
        the loss diverged, or the folder of output cannot be written to.
    WeightsError
        init names weights that do not exist, or that are of a wider network; lpips_backbone is not AlexNet's.
    """
    paths = Paths(parse_paths(images), local(output))
    images, output = paths.images, paths.output
    paths.check(resume, overwrite)
    report.require()
    place = DevicePlacement.choose(gpu)
    threads = settings.current().threads
    if threads:
        torch.set_num_threads(threads)
    if not 0 <= validation <= 0.5:
        raise ParameterError(f"validation is {validation} but must be from 0 (hold nothing out) to 0.5")
    every = round(1 / validation) if validation else 0
    cuda = place.device != "cpu"
    memory = torch.cuda.get_device_properties(place.device).total_memory if cuda else None
    recipe = recipe.on(memory)
    measure = weighted(recipe.distortions, None if lpips_backbone is None else Path(lpips_backbone), place.device)
    pool = POOL if memory is None else min(POOL, memory // POOL_SHARE)
    if not data.count(images, symbols.CROP, every):
        raise ParameterError(
            f"no image of {symbols.CROP}x{symbols.CROP} pixels in {', '.join(map(str, images))}, as the entropy tables need "
            "after the training; name others too"
        )
    if every:
        for _ in data.held_out(images, every):  # those that cannot be read are refused now, not after the training
            pass
    crops = Crops(_regions(images, every, recipe.seed, pool), recipe.size, place.device, recipe.seed)
    torch.manual_seed(recipe.seed)
    init, dtype = str(init or default_init(recipe)), _dtype(place.device)
    network = recipe.trainer.network(recipe.qualities, recipe.metric, dtype) if resume else start(init, recipe, crops, dtype)
    with torch.backends.cudnn.flags(enabled=True, benchmark=cuda, allow_tf32=True):
        point_wise = cuda if compiled is None else compiled
        training = Training(network, recipe, crops, place.device, point_wise, init, measure)
        if resume:
            training.resume(torch.load(paths.checkpoint, map_location=place.device, weights_only=True))
        try:
            training.run(on_report, save_every, lambda run: save_checkpoint(run, paths.checkpoint))
        except KeyboardInterrupt:
            report.draw(training.history, recipe, paths.curves)
            raise
    source = export(paths.checkpoint, output, images, name=name, overwrite=overwrite, without=every)
    report.draw(training.history, recipe, paths.curves)
    points = report.validate(source, data.held_out(images, every)) if every else []
    card = report.model_card(source, images, training, points)
    output.with_suffix(".md").write_text(card, encoding="utf-8", errors="backslashreplace")
    return source


def _regions(images: Sequence[Path], every: int, seed: int, pool: int) -> Iterator[npt.NDArray[np.uint8]]:
    """The images that are not held out, or random regions of them if they do not fit the pool."""
    share = pool / max(1, sum(height * width for height, width in data.sizes(images, every)))
    rng = np.random.default_rng(seed)
    for image in data.images(images, every):
        if share >= 1:
            yield image
            continue
        for top in range(0, image.shape[0], REGION):
            for left in range(0, image.shape[1], REGION):
                if rng.random() < share:
                    yield image[top : top + REGION, left : left + REGION].copy()


def _dtype(device: str) -> torch.dtype:
    """Half precision if the settings ask for it, or if they leave the choice and the processor supports it."""
    return torch.bfloat16 if bfloat16.wanted(settings.current().precision, device) else torch.float32
