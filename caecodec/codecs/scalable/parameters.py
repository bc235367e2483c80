"""The parameters of the scalable autoencoder, parsed once, and their stored configuration."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ... import weights as weights_
from ...bitstream.scalable import MAX_LAYERS
from ...errors import ParameterError
from ...weights import Source, Spec
from ..base import Dependencies, Parameters
from ..parse import parse_channel_axis, parse_metric

LAYERED = "photo-layers"  # the weights that are shipped
_DEFAULT_WEIGHTS = Spec(LAYERED)


@dataclass(frozen=True)
class ScalableParameters(Parameters):
    """The parameters of `ScalableAutoencoder`. `layers` is None for all that the weights have."""

    layers: int | None = None
    metric: str = "mse"
    channel_axis: int | None = -1
    weights: Spec = _DEFAULT_WEIGHTS

    @classmethod
    def parse(cls, **arguments: Any) -> "ScalableParameters":
        """Checked parameters; weights without a digest are found, and pinned to their digest.

        Raises
        ------
        ParameterError
            A parameter is outside its range.
        WeightsError
            There are no such weights, they are not of layers, or they have fewer of them.
        """
        raw = cls(**arguments)
        parsed = cls(
            parse_layers(raw.layers), parse_metric(raw.metric), parse_channel_axis(raw.channel_axis), Spec.parse(raw.weights)
        )
        if parsed.weights.digest:
            return parsed
        source = parsed.source()
        weights_.require_tables(source, max(source.qualities), "layers")
        return replace(parsed, weights=source.spec)

    def source(self) -> Source:
        """The weights to encode with; WeightsError if there are none."""
        return weights_.resolve(self.weights, self.metric, self.layers or 1)

    @property
    def dependencies(self) -> Dependencies:
        """The weights, because payloads name only their digest."""
        return Dependencies(self.weights)

    def needed_weights(self) -> tuple[Source, ...]:
        """The weights, which all layers share."""
        return (self.source(),)

    def config(self) -> dict[str, Any]:
        """What array metadata stores, with the weights as NAME@DIGEST."""
        return {**super().config(), "weights": str(self.weights)}


class ScalableArguments:
    """The signature of `ScalableAutoencoder`, for numcodecs and for zarr."""

    parameters: ScalableParameters
    gpu: bool | None

    def __init__(
        self,
        layers: int | None = None,
        metric: str = "mse",
        channel_axis: int | None = -1,
        weights: str | Path | Spec = LAYERED,
        gpu: bool | None = None,
    ) -> None:
        parameters = ScalableParameters.parse(layers=layers, metric=metric, channel_axis=channel_axis, weights=weights)
        object.__setattr__(self, "parameters", parameters)  # zarr's codecs are frozen
        object.__setattr__(self, "gpu", gpu)
        super().__init__()


def parse_layers(layers: Any) -> int | None:
    """A number of layers, or None for all."""
    if layers is None:
        return None
    if isinstance(layers, bool) or not hasattr(layers, "__index__") or not 1 <= layers <= MAX_LAYERS:
        raise ParameterError(f"layers is {layers!r} but must be an integer from 1 to {MAX_LAYERS}, or None for all layers")
    return int(layers)
