"""The parameters of a training run, and the rate-distortion trade-off of each quality."""

import contextlib
from dataclasses import dataclass, replace

from ..bitstream.autoencoder import MAX_QUALITY
from ..errors import ParameterError
from ..models import registry
from ..models.family import Trainer
from .layered_trainer import LayeredTrainer, check_layers, check_scalable

LMBDAS = {
    "mse": (0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483, 0.0932, 0.18),
    "ms-ssim": (2.4, 4.58, 8.73, 16.64, 31.73, 60.5, 115.37, 220.0),
}
LAYER_RATIO = 4.6  # of a layer's lmbda to that of the layer below, about that of qualities whose rates are as far apart
TERMS = ("mse", "mae", "ms-ssim", "lpips")  # the distortions that a loss can have
SMALLEST, SMALLEST_MS_SSIM = 64, 192  # pixels a side of crops; MS-SSIM needs 161
CROP, CUDA_CROP = 128, 192
PIXELS, CUDA_PIXELS = 10 * 128**2, 2 * 10**6  # pixels per step, if the GPU has enough memory


@dataclass(frozen=True)
class Recipe:
    """The parameters of a training run.

    qualities : the qualities of one network; in the default family all from 1 to 5, or all from 6 to 8
    metric : "mse" or "ms-ssim", which payloads name; it sets the trade-offs, and the distortion unless there is a loss
    steps, minutes, epochs : when to stop; exactly one of them is above 0. An epoch is as many steps as it takes for their crops
        to have as many pixels as the training images that are held in memory (`Training.epoch`)
    crop : the side of a crop in pixels, a multiple of 32; None: `on` chooses
    batch : crops per step, at least one for each quality; None: `on` chooses
    lr : the learning rate of the transforms between warm-up and cosine decay; None: that of the family
    seed : the seed of the initialisation and of all random choices
    family : the name of the network's family
    loss : such as "bpp+mae+ms-ssim=2+lpips", with the distortions of `TERMS` and their weights (1 where none is given), whose
        sum the trade-off multiplies: 255^2 MSE, the mean absolute error of values in [0, 1], 1 - MS-SSIM, and LPIPS.
        None: that of the metric, "bpp+mse" or "bpp+ms-ssim"
    layers : train for this number of layers, the last of which is the only quality; None: without layers

    Raises ParameterError if a value is invalid.
    """

    qualities: tuple[int, ...] = (1, 2, 3, 4, 5)
    metric: str = "mse"
    steps: int = 0
    minutes: float = 0.0
    crop: int | None = None
    batch: int | None = None
    lr: float | None = None
    seed: int = 0
    family: str = registry.DEFAULT
    loss: str | None = None
    epochs: float = 0.0
    layers: int | None = None

    def __post_init__(self) -> None:
        if self.metric not in LMBDAS:
            raise ParameterError(f"metric is {self.metric!r} but must be one of {', '.join(LMBDAS)}")
        families = [family.name for family in registry.families()]
        if self.family not in families:
            raise ParameterError(f"family is {self.family!r} but must be one of {', '.join(families)}")
        good = self.qualities and set(self.qualities) <= set(range(1, MAX_QUALITY + 1))
        if not good or len(set(self.qualities)) < len(self.qualities):
            raise ParameterError(f"qualities are {self.qualities} but one network serves some of 1 to {MAX_QUALITY}, each once")
        self.trainer.check_qualities(self.qualities)
        if self.layers is not None:
            check_scalable(registry.by_name(self.family))
            check_layers(self.layers)
            if len(self.qualities) != 1:
                raise ParameterError(f"qualities are {self.qualities} but the last layer is one of them; pass it alone (-q)")
        ends = {"steps": self.steps, "minutes": self.minutes, "epochs": self.epochs}
        if sum(end > 0 for end in ends.values()) != 1:
            given = ", ".join(f"{name} is {end:g}" for name, end in ends.items())
            raise ParameterError(f"{given}, but exactly one must be above 0")
        smallest = self.smallest_crop
        if self.crop is not None and (self.crop < smallest or self.crop % 32):
            raise ParameterError(
                f"crop is {self.crop} but must be a multiple of 32, at least {smallest} for {' and '.join(self.distortions)}"
            )
        if self.batch is not None and self.batch < len(self.points):
            raise ParameterError(f"batch is {self.batch} but must be at least {len(self.points)}, a crop for each {self.kind}")
        if self.lr is not None and not self.lr > 0:
            raise ParameterError(f"lr is {self.lr} but must be above 0")

    @property
    def trainer(self) -> Trainer:
        """The trainer of the family, for layers if there are some."""
        trainer = registry.by_name(self.family).trainer()
        return trainer if self.layers is None else LayeredTrainer(trainer, self.layers)

    def on(self, memory: int | None) -> "Recipe":
        """The recipe with crop and batch filled in, for a GPU with this many bytes of memory, or for the CPU (None).

        All qualities, or layers, get equally many crops. On a GPU whose memory suffices, a step has two megapixels.
        """
        crop = self.crop or max(self.smallest_crop, CROP if memory is None else CUDA_CROP)
        pixels = PIXELS if memory is None else min(CUDA_PIXELS, memory // self.trainer.pixel_bytes)
        each = max(1, pixels // crop**2 // len(self.points))
        return replace(self, crop=crop, batch=self.batch or each * len(self.points))

    @property
    def distortions(self) -> dict[str, float]:
        """The distortions of the loss, and their weights."""
        return {self.metric: 1.0} if self.loss is None else parse_loss(self.loss)

    @property
    def shown(self) -> str:
        """What reports show beside bpp: "ms-ssim" if the distortion is 1 - MS-SSIM, else "mse", that is, PSNR."""
        return "ms-ssim" if self.distortions == {"ms-ssim": 1.0} else "mse"

    @property
    def smallest_crop(self) -> int:
        """The least side of a crop in pixels."""
        return SMALLEST_MS_SSIM if "ms-ssim" in self.distortions else SMALLEST

    @property
    def size(self) -> int:
        """The side of a crop in pixels, after `on` has chosen it."""
        assert self.crop is not None
        return self.crop

    @property
    def crops(self) -> int:
        """The number of crops per step, after `on` has chosen it."""
        assert self.batch is not None
        return self.batch

    @property
    def learning_rate(self) -> float:
        """The learning rate, the family's if none is given."""
        return self.trainer.lr if self.lr is None else self.lr

    @property
    def lmbdas(self) -> list[float]:
        """The rate-distortion trade-off of each quality, or of each layer."""
        lmbdas = [LMBDAS[self.metric][quality - 1] for quality in self.qualities]
        return lmbdas if self.layers is None else [lmbdas[0] / LAYER_RATIO ** (self.layers - layer) for layer in self.points]

    @property
    def shares(self) -> list[float]:
        """How much each quality or layer counts in the loss: qualities all the same, the last layer as much as all others."""
        if self.layers is None:
            return [1 / len(self.qualities)] * len(self.qualities)
        return [0.5 / (self.layers - 1)] * (self.layers - 1) + [0.5]

    @property
    def points(self) -> tuple[int, ...]:
        """The numbers of what is trained at once: the qualities, or the layers."""
        return self.qualities if self.layers is None else tuple(range(1, self.layers + 1))

    @property
    def kind(self) -> str:
        """What `points` are, "quality" or "layer"."""
        return "quality" if self.layers is None else "layer"


def parse_loss(loss: str) -> dict[str, float]:
    """The distortions of a loss such as "bpp+mae+ms-ssim=2", and their weights; ParameterError if it is not one."""
    rate, *terms = loss.split("+")
    weights: dict[str, float] = {}
    for term in terms:
        name, given, weight = term.partition("=")
        with contextlib.suppress(ValueError):  # not a number
            weights[name] = float(weight) if given else 1.0
    good = all(name in TERMS and 0 < weight < float("inf") for name, weight in weights.items())
    if rate != "bpp" or not good or not 0 < len(terms) == len(weights):
        raise ParameterError(
            f"loss is {loss!r} but must be bpp and at least one of {', '.join(TERMS)}, each once, joined by + and with weights "
            "above 0 or none, such as bpp+mae+ms-ssim=2"
        )
    return weights


def default_metric(loss: str | None) -> str:
    """The metric whose trade-offs suit a loss: "mse" if the loss has it or is None; else "ms-ssim", which is as small."""
    return "mse" if loss is None or "mse" in parse_loss(loss) else "ms-ssim"
