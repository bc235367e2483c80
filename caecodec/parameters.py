"""What a codec was asked for, parsed once, and the stored configuration it comes from and goes to."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import weights as weights_
from .bitstream.header import ENTROPY_MODELS, MAX_QUALITY, METRICS
from .errors import ParameterError


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
    if entropy is not None and entropy not in ENTROPY_MODELS.values():
        raise ParameterError(
            f"entropy is {entropy!r} but must be 'context', 'static', or None for context where the weights have it"
        )
    return None if entropy is None else str(entropy)


@dataclass(frozen=True)
class Parameters:
    """The parameters of `ConvolutionalAutoencoder`; all that stored metadata holds.

    `entropy` matters to writers alone (a payload says which entropy model it has), so it is stored only where it was given.
    """

    quality: int
    metric: str
    channel_axis: int | None
    weights: weights_.Spec
    entropy: str | None = None

    @classmethod
    def parse(
        cls, quality: Any, metric: Any, channel_axis: Any, weights: str | Path | weights_.Spec, entropy: Any = None
    ) -> "Parameters":
        """Checked parameters; weights given without a digest are found and pinned to theirs.

        Raises
        ------
        ParameterError
            quality, metric, channel_axis or entropy is not one there is.
        WeightsError
            There are no such weights for this quality and metric, or they lack what entropy asks for.
        """
        parsed = cls(
            parse_quality(quality), parse_metric(metric), parse_channel_axis(channel_axis), weights_.Spec.parse(weights),
            parse_entropy(entropy),
        )  # fmt: skip
        if parsed.weights.digest:
            return parsed
        source = parsed.source()
        if parsed.entropy == "context":
            weights_.require_context(source, parsed.quality)
        return replace(parsed, weights=source.spec)

    def source(self) -> weights_.Source:
        """The weights to encode with; WeightsError when they are not here."""
        return weights_.resolve(self.weights, self.metric, self.quality)

    def config(self) -> dict[str, Any]:
        """As stored in array metadata."""
        return {
            "quality": self.quality,
            "metric": self.metric,
            "channel_axis": self.channel_axis,
            "weights": str(self.weights),
            **({} if self.entropy is None else {"entropy": self.entropy}),
        }

    def __str__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.config().items())
