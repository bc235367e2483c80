"""The parameters of the overfitted codec, parsed once, and their stored configuration."""

import base64
from dataclasses import dataclass
from typing import Any

from ...errors import CorruptionError, ParameterError
from ..base import Dependencies, Parameters
from ..parse import DEFAULT_QUALITY, parse_channel_axis, parse_positive, parse_quality
from .architecture import choose
from .network import Network, digest, identify

# The loss is the mean squared error of values in [0, 1] plus lmbda times bits per pixel. With these values for quality 1 to 8,
# payloads are about as large as the convolutional autoencoder's. Its own trade-offs, which weigh errors of 0 to 255 against
# bits, are the same up to quality 4.
LMBDAS = tuple(1 / (255**2 * weight) for weight in (0.0018, 0.0035, 0.0067, 0.013, 0.027, 0.06, 0.15, 0.45))
PRESETS = ("instant", "faster", "fast", "medium", "slow", "placebo")
TUNES = ("mse",)
_MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class OverfittedParameters(Parameters):
    """The parameters of `OverfittedAutoencoder`.

    `quality` is None if lmbda is given. `network` is the network section that all chunks share, as base64 text. The other
    parameters do not matter for reading.
    """

    quality: int | None = None
    lmbda: float | None = None
    preset: str = "fast"
    decoder: str | None = None
    channel_axis: int | None = -1
    tune: str = "mse"
    seed: int = 0
    network: str | None = None

    @classmethod
    def parse(cls, **arguments: Any) -> "OverfittedParameters":
        """Checked parameters.

        Raises ParameterError if one is outside its range, or two contradict each other.
        """
        raw = cls(**arguments)
        quality, seed = raw.quality, raw.seed
        if quality is not None and raw.lmbda is not None:
            raise ParameterError(
                "quality and lmbda are given together; give only one of them, because a quality stands for a lmbda"
            )
        if raw.lmbda is None:
            quality = DEFAULT_QUALITY if quality is None else parse_quality(quality)
        lmbda = parse_positive("lmbda", raw.lmbda, "mean squared error per bit of a pixel")
        if raw.preset not in PRESETS:
            raise ParameterError(f"preset is {raw.preset!r} but must be one of {', '.join(PRESETS)}")
        if raw.tune not in TUNES:
            raise ParameterError(f"tune is {raw.tune!r} but must be 'mse'")
        if isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= seed <= _MAX_SEED:
            raise ParameterError(f"seed is {seed!r} but must be an integer from 0 to {_MAX_SEED}")
        if raw.decoder is not None:
            choose(raw.decoder, 0)
        channel_axis = parse_channel_axis(raw.channel_axis)
        parsed = cls(quality, lmbda, str(raw.preset), raw.decoder, channel_axis, str(raw.tune), int(seed), text(raw.network))
        if parsed.network is not None:
            parsed.shared()
        return parsed

    @property
    def trade_off(self) -> float:
        """The lmbda of these parameters."""
        if self.lmbda is not None:
            return self.lmbda
        assert self.quality is not None
        return LMBDAS[self.quality - 1]

    @property
    def section(self) -> bytes | None:
        """The network section that all chunks share, if any."""
        return None if self.network is None else base64.b64decode(self.network)

    def shared(self) -> Network | None:
        """The network that all chunks share, if any; ParameterError if it is not one, or of another decoder than `decoder`."""
        section = self.section
        if section is None:
            return None
        try:
            network = identify(section)
        except CorruptionError as error:
            raise ParameterError(f"network is not a network section: {error}") from error
        if self.decoder not in (None, network.decoder.name):
            raise ParameterError(
                f"network is of decoder {network.decoder.name!r} but decoder is {self.decoder!r}; leave decoder out"
            )
        return network

    @property
    def dependencies(self) -> Dependencies:
        """The network that all chunks share, if any."""
        return Dependencies(network=self.section)

    def __str__(self) -> str:
        config = self.config()
        if self.section is not None:
            config["network"] = f"<{len(self.section)} bytes, {digest(self.section).hex()}>"
        return ", ".join(f"{name}={value!r}" for name, value in config.items())


class OverfittedArguments:
    """The signature of `OverfittedAutoencoder`, for numcodecs and for zarr."""

    parameters: OverfittedParameters
    gpu: bool | None

    def __init__(
        self,
        quality: int | None = None,
        lmbda: float | None = None,
        preset: str = "fast",
        decoder: str | None = None,
        channel_axis: int | None = -1,
        tune: str = "mse",
        seed: int = 0,
        network: bytes | str | None = None,
        gpu: bool | None = None,
    ) -> None:
        parameters = OverfittedParameters.parse(
            quality=quality, lmbda=lmbda, preset=preset, decoder=decoder,
            channel_axis=channel_axis, tune=tune, seed=seed, network=network,
        )  # fmt: skip
        object.__setattr__(self, "parameters", parameters)  # zarr's codecs are frozen
        object.__setattr__(self, "gpu", gpu)
        super().__init__()


def text(network: Any) -> str | None:
    """A network section as base64 text, from its bytes or such text."""
    if network is None:
        return None
    if isinstance(network, bytes):
        return base64.b64encode(network).decode()
    try:
        base64.b64decode(network, validate=True)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"network is neither the bytes of a network section nor their base64 text: {error}") from error
    return str(network)
