"""What an overfitted codec was asked for, parsed once, and the stored configuration it comes from and goes to."""

import base64
from dataclasses import dataclass, fields
from typing import Any

from ...errors import CorruptionError, ParameterError
from ..autoencoder.parameters import DEFAULT_QUALITY, parse_channel_axis, parse_positive, parse_quality
from .architecture import choose
from .network import Network, digest, identify

# The loss is the mean squared error of values in [0, 1] plus lmbda times bits per pixel. With these, quality 1 to 8, payloads
# are about as large as the convolutional autoencoder's; its own trade-offs, which weigh errors of 0 to 255 against bits, are
# the same up to quality 4.
LMBDAS = tuple(1 / (255**2 * weight) for weight in (0.0018, 0.0035, 0.0067, 0.013, 0.027, 0.06, 0.15, 0.45))
PRESETS = ("instant", "faster", "fast", "medium", "slow", "placebo")
TUNES = ("mse",)
_MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class OverfittedParameters:
    """The parameters of `OverfittedAutoencoder`; all that stored metadata holds.

    `quality` is None where lmbda is given. `network` is a network section as base64 text, which all chunks share. Only that
    matters to readers. What is None is not stored, but for channel_axis.
    """

    quality: int | None
    lmbda: float | None
    preset: str
    decoder: str | None
    channel_axis: int | None
    tune: str
    seed: int
    network: str | None = None

    @classmethod
    def parse(
        cls, quality: Any = None, lmbda: Any = None, preset: Any = "fast", decoder: Any = None, channel_axis: Any = -1,
        tune: Any = "mse", seed: Any = 0, network: Any = None,
    ) -> "OverfittedParameters":  # fmt: skip
        """Checked parameters.

        Raises ParameterError where one of them is not one there is, or they contradict each other.
        """
        if quality is not None and lmbda is not None:
            raise ParameterError("quality and lmbda are given but only one of them can be: a quality stands for a lmbda")
        if lmbda is None:
            quality = DEFAULT_QUALITY if quality is None else parse_quality(quality)
        lmbda = parse_positive("lmbda", lmbda, "mean squared error per bit of a pixel")
        if preset not in PRESETS:
            raise ParameterError(f"preset is {preset!r} but must be one of {', '.join(PRESETS)}")
        if tune not in TUNES:
            raise ParameterError(f"tune is {tune!r} but must be 'mse'")
        if isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= seed <= _MAX_SEED:
            raise ParameterError(f"seed is {seed!r} but must be an integer from 0 to {_MAX_SEED}")
        if decoder is not None:
            choose(decoder, 0)
        parsed = cls(
            quality, lmbda, str(preset), decoder, parse_channel_axis(channel_axis), str(tune), int(seed), _text(network)
        )
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
        """The network that all chunks share, if any; ParameterError where it is none, or not of the decoder asked for."""
        section = self.section
        if section is None:
            return None
        try:
            network = identify(section)
        except CorruptionError as error:
            raise ParameterError(f"network is no network section: {error}") from error
        if self.decoder not in (None, network.decoder.name):
            raise ParameterError(
                f"network is of decoder {network.decoder.name!r} but decoder is {self.decoder!r}; leave that out"
            )
        return network

    def arguments(self) -> dict[str, Any]:
        """What `parse` and the codecs' constructors take."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def config(self) -> dict[str, Any]:
        """As stored in array metadata."""
        return {name: value for name, value in self.arguments().items() if value is not None or name == "channel_axis"}

    def __str__(self) -> str:
        config = self.config()
        if self.section is not None:
            config["network"] = f"<{len(self.section)} bytes, {digest(self.section).hex()}>"
        return ", ".join(f"{name}={value!r}" for name, value in config.items())


def _text(network: Any) -> str | None:
    """A network section as text, from its bytes or text."""
    if network is None:
        return None
    if isinstance(network, bytes):
        return base64.b64encode(network).decode()
    try:
        base64.b64decode(network, validate=True)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"network is not the bytes of a network section, nor such in base64: {error}") from error
    return str(network)
