"""The parameters of the convolutional autoencoder, parsed once, and their stored configuration."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ... import weights as weights_
from ...entropy import registry
from ...errors import ParameterError
from ...weights import DEFAULT, Source, Spec
from ..base import Dependencies, Parameters
from ..parse import DEFAULT_QUALITY, parse_channel_axis, parse_metric, parse_positive, parse_quality

_DEFAULT_WEIGHTS = Spec(DEFAULT)


def parse_entropy(entropy: Any) -> str | None:
    """The entropy model to write with, or None for the best that the weights have."""
    names = [model.name for model in registry.models()]
    if entropy is not None and entropy not in names:
        raise ParameterError(
            f"entropy is {entropy!r} but must be {', '.join(map(repr, names))}, or None for the first that the weights have"
        )
    return None if entropy is None else str(entropy)


@dataclass(frozen=True)
class AutoencoderParameters(Parameters):
    """The parameters of `ConvolutionalAutoencoder`.

    `quality` is None if psnr, bpp or max_error replaces it. `entropy` matters only for writing: payloads name their entropy
    model.
    """

    quality: int | None = None
    metric: str = "mse"
    channel_axis: int | None = -1
    weights: Spec = _DEFAULT_WEIGHTS
    entropy: str | None = None
    max_error: float | None = None
    psnr: float | None = None
    bpp: float | None = None

    @classmethod
    def parse(cls, **arguments: Any) -> "AutoencoderParameters":
        """Checked parameters. Weights without a digest are found, and pinned to their digest if one file serves all qualities.

        Raises
        ------
        ParameterError
            A parameter is outside its range, or two contradict each other.
        WeightsError
            There are no such weights for this quality and metric, or they lack what entropy asks for.
        """
        raw = cls(**arguments)
        targets = {"quality": raw.quality, "psnr": raw.psnr, "bpp": raw.bpp}
        given = [name for name, value in targets.items() if value is not None]
        if len(given) > 1 or (raw.max_error is not None and {"psnr", "bpp"} & set(given)):
            names = " and ".join([*given, *(["max_error"] if raw.max_error is not None else [])])
            raise ParameterError(
                f"{names} are given together; give only one of quality, psnr and bpp, and max_error alone or with quality"
            )
        default = None if given or raw.max_error is not None else DEFAULT_QUALITY
        parsed = cls(
            default if raw.quality is None else parse_quality(raw.quality),
            parse_metric(raw.metric),
            parse_channel_axis(raw.channel_axis),
            Spec.parse(raw.weights),
            parse_entropy(raw.entropy),
            parse_positive("max_error", raw.max_error, "the array's units", zero=True),
            parse_positive("psnr", raw.psnr, "dB"),
            parse_positive("bpp", raw.bpp, "bits per pixel"),
        )
        if parsed.weights.digest:
            return parsed
        sources = parsed.sources()
        if parsed.entropy is not None:
            for one, source in sources.items():
                weights_.require_tables(source, one, parsed.entropy)
        specs = {source.spec for source in sources.values()}
        return replace(parsed, weights=specs.pop() if len(specs) == 1 else Spec(specs.pop().name))

    def sources(self) -> dict[int, Source]:
        """The weights to encode with, by quality: those of the given quality, or of all available ones.

        Raises WeightsError if there are none.
        """
        if self.quality is not None:
            return {self.quality: weights_.resolve(self.weights, self.metric, self.quality)}
        return weights_.resolve_all(self.weights, self.metric)

    @property
    def dependencies(self) -> Dependencies:
        """The weights, because payloads name only their digest."""
        return Dependencies(self.weights)

    def needed_weights(self) -> tuple[Source, ...]:
        """The weights of all qualities in question; none for max_error alone if they are pinned to a digest."""
        of_network = (self.quality, self.psnr, self.bpp) != (None, None, None)
        if not of_network and self.weights.digest is not None:
            return ()
        return tuple({source.sha256: source for source in self.sources().values()}.values())

    def config(self) -> dict[str, Any]:
        """What array metadata stores, with the weights as NAME@DIGEST."""
        return {**super().config(), "weights": str(self.weights)}


class AutoencoderArguments:
    """The signature of `ConvolutionalAutoencoder`, for numcodecs and for zarr."""

    parameters: AutoencoderParameters
    gpu: bool | None

    def __init__(
        self,
        quality: int | None = None,
        metric: str = "mse",
        channel_axis: int | None = -1,
        weights: str | Path | Spec = DEFAULT,
        gpu: bool | None = None,
        entropy: str | None = None,
        max_error: float | None = None,
        psnr: float | None = None,
        bpp: float | None = None,
    ) -> None:
        parameters = AutoencoderParameters.parse(
            quality=quality, metric=metric, channel_axis=channel_axis, weights=weights,
            entropy=entropy, max_error=max_error, psnr=psnr, bpp=bpp,
        )  # fmt: skip
        object.__setattr__(self, "parameters", parameters)  # zarr's codecs are frozen
        object.__setattr__(self, "gpu", gpu)
        super().__init__()
