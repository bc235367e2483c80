"""What a codec was asked for, parsed once, and the stored configuration it comes from and goes to."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ... import weights as weights_
from ...bitstream.autoencoder import MAX_QUALITY, METRICS
from ...entropy import registry
from ...errors import ParameterError

DEFAULT_QUALITY = 8


def parse_quality(quality: Any) -> int:
    """An operating point, 1 to 8."""
    if isinstance(quality, bool) or not hasattr(quality, "__index__") or not 1 <= quality <= MAX_QUALITY:
        raise ParameterError(f"quality is {quality!r} but must be an integer from 1 (smallest) to {MAX_QUALITY} (best)")
    return int(quality)


def parse_metric(metric: Any) -> str:
    """The distortion the network was trained for."""
    if metric not in METRICS.values():
        raise ParameterError(f"metric is {metric!r} but must be 'mse' or 'ms-ssim'")
    return str(metric)


def parse_channel_axis(channel_axis: Any) -> int | None:
    """An axis number, or None for a plane."""
    if channel_axis is None:
        return None
    if isinstance(channel_axis, bool) or not hasattr(channel_axis, "__index__"):
        raise ParameterError(
            f"channel_axis is {channel_axis!r} but must be an integer (-1 for y, x, c; -3 for c, y, x) or None for a plane"
        )
    return int(channel_axis)


def parse_entropy(entropy: Any) -> str | None:
    """The entropy model to write with, or None for the best that the weights have."""
    names = [model.name for model in registry.models()]
    if entropy is not None and entropy not in names:
        raise ParameterError(
            f"entropy is {entropy!r} but must be {', '.join(map(repr, names))}, or None for the first that the weights have"
        )
    return None if entropy is None else str(entropy)


def parse_positive(name: str, value: Any, unit: str, zero: bool = False) -> float | None:
    """A number above 0 (or from 0), or None."""
    if value is None:
        return None
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)
    if not number or not np.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise ParameterError(f"{name} is {value!r} but must be {'0 or more' if zero else 'above 0'}, in {unit}, or None")
    return float(value)


@dataclass(frozen=True)
class Parameters:
    """The parameters of `ConvolutionalAutoencoder`; all that stored metadata holds.

    `quality` is None where psnr or bpp is given, and for max_error alone. `entropy` matters to writers alone (a payload says
    which entropy model it has). What is None is not stored, but for channel_axis.
    """

    quality: int | None
    metric: str
    channel_axis: int | None
    weights: weights_.Spec
    entropy: str | None = None
    max_error: float | None = None
    psnr: float | None = None
    bpp: float | None = None

    @classmethod
    def parse(
        cls, quality: Any, metric: Any, channel_axis: Any, weights: str | Path | weights_.Spec, entropy: Any = None,
        max_error: Any = None, psnr: Any = None, bpp: Any = None,
    ) -> "Parameters":  # fmt: skip
        """Checked parameters; weights given without a digest are found and pinned to theirs where one file has them.

        Raises
        ------
        ParameterError
            One of them is not one there is, or they contradict each other.
        WeightsError
            There are no such weights for this quality and metric, or they lack what entropy asks for.
        """
        targets = {"quality": quality, "psnr": psnr, "bpp": bpp}
        given = [name for name, value in targets.items() if value is not None]
        if len(given) > 1 or (max_error is not None and {"psnr", "bpp"} & set(given)):
            names = " and ".join([*given, *(["max_error"] if max_error is not None else [])])
            raise ParameterError(
                f"{names} are given but only one of quality, psnr and bpp can be; max_error goes with quality alone"
            )
        parsed = cls(
            DEFAULT_QUALITY if not given and max_error is None else None if quality is None else parse_quality(quality),
            parse_metric(metric),
            parse_channel_axis(channel_axis),
            weights_.Spec.parse(weights),
            parse_entropy(entropy),
            parse_positive("max_error", max_error, "the array's units", zero=True),
            parse_positive("psnr", psnr, "dB"),
            parse_positive("bpp", bpp, "bits per pixel"),
        )
        if parsed.weights.digest:
            return parsed
        sources = parsed.sources()
        if parsed.entropy is not None:
            for one, source in sources.items():
                weights_.require_tables(source, one, parsed.entropy)
        specs = {source.spec for source in sources.values()}
        return replace(parsed, weights=specs.pop() if len(specs) == 1 else weights_.Spec(specs.pop().name))

    @property
    def needs_weights(self) -> bool:
        """Whether who reads the array needs weights: not with max_error alone, if one file is named by its digest."""
        of_network = (self.quality, self.psnr, self.bpp) != (None, None, None)
        return of_network or self.weights.digest is None

    def sources(self) -> dict[int, weights_.Source]:
        """The weights to encode with, by quality: of the one that was asked for, or of all there are.

        Raises WeightsError when there are none.
        """
        if self.quality is not None:
            return {self.quality: weights_.resolve(self.weights, self.metric, self.quality)}
        return weights_.resolve_all(self.weights, self.metric)

    def arguments(self) -> dict[str, Any]:
        """What `parse`, `encode` and the codecs' constructors take."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def config(self) -> dict[str, Any]:
        """As stored in array metadata."""
        given = {name: value for name, value in self.arguments().items() if value is not None or name == "channel_axis"}
        return {**given, "weights": str(self.weights)}

    def __str__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.config().items())
