"""The convolutional autoencoder as a `Codec`. PyTorch is only imported when something is encoded or decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy.typing as npt

from ... import weights
from ...bitstream import autoencoder
from ...bitstream.autoencoder import MAX_QUALITY, METRICS, AutoencoderPayload
from ...bitstream.prefix import PLANES_VERSION, RGB_VERSION
from ...chunks.axes import Axes
from ...chunks.pending import Pending
from ...entropy import registry
from ...weights import Spec
from ..base import Decoding, Dependencies, Description, Gpu, Option
from ..padding import TrimmingCodec
from ..parse import parse_quality
from ..reports import MISSING, Report
from .parameters import AutoencoderParameters

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AutoencoderReport(Report):
    """A report on payloads of the convolutional autoencoder.

    qualities : the qualities of the stored chunks
    entropy : how their symbols are coded
    stream_bytes, escape_bytes : bytes of the symbols within the tables, and of those outside
    """

    qualities: tuple[int, ...] = ()
    entropy: tuple[str, ...] = ()
    stream_bytes: int = 0
    escape_bytes: int = 0

    def model(self) -> dict[str, str]:
        """The network and its weights."""
        there = "installed" if self.weights_installed else "carried by the group" if self.weights_carried else MISSING
        return {
            "model": f"{self.family}, quality {', '.join(map(str, self.qualities)) or 'none'}, {self.metric}",
            "asked for": self.asked,
            "entropy coding": ", ".join(self.entropy) or "none",
            "weights": f"{self.weights} ({there})",
        }

    def parts(self) -> dict[str, int]:
        """Headers, streams and escapes."""
        headers, *others = super().parts().items()
        return dict([headers, ("streams", self.stream_bytes), ("escapes", self.escape_bytes), *others])


class Autoencoder(TrimmingCodec[AutoencoderParameters, AutoencoderPayload]):
    """The codec of `ConvolutionalAutoencoder`."""

    name: ClassVar[str] = "cae"
    codec_id: ClassVar[str] = "caecodec_cae"
    zarr_name: ClassVar[str] = "caecodec.cae"
    report: ClassVar[type[Report]] = AutoencoderReport
    heading: ClassVar[str] = "of codec cae"
    options: ClassVar[tuple[Option, ...]] = (
        Option("quality", "1 (smallest) to 8 (best), default 8", int, short="-q"),
        Option("psnr", "instead of quality: the least PSNR of each chunk, in dB", float),
        Option("bpp", "instead of quality: the most bits per pixel of each chunk", float),
        Option("max_error", "a bound on the error of every value, in the array's units; 0 is lossless", float),
        Option("metric", "default mse", choices=tuple(METRICS.values()), short="-m"),
        Option("weights", "an installed name, or the path of a weights file or checkpoint"),
        Option(
            "entropy", "default the best that the weights have tables for",
            choices=lambda: [model.name for model in registry.models()],
        ),
    )  # fmt: skip
    carries_weights: ClassVar[bool] = True

    def parse(self, **arguments: Any) -> AutoencoderParameters:
        """See `AutoencoderParameters.parse`."""
        return AutoencoderParameters.parse(**arguments)

    def owns(self, version: int, family: int) -> bool:
        """Versions 1 and 2. Their family byte names the family of the network, which the header checks."""
        return version in (RGB_VERSION, PLANES_VERSION)

    def encode(self, parameters: AutoencoderParameters, array: npt.NDArray[Any], gpu: Gpu = None) -> bytes:
        """See `caecodec.encode`."""
        from . import codec

        return codec.encode_with(parameters, array, gpu)

    def in_batches(self, gpu: Gpu) -> bool:
        """Whether the line of the device works on batches."""
        from ...engine import DevicePlacement, engine

        return engine().line(DevicePlacement.choose(gpu)).batches

    def start_encode(
        self, parameters: AutoencoderParameters, array: "npt.NDArray[Any] | Tensor", gpu: Gpu = None
    ) -> Pending[bytes]:
        """Begin at once with RGB chunks of uint8 and a quality if the line works on batches; others begin when waited for."""
        from . import codec

        return codec.start_encode(parameters, array, gpu)

    def parse_content(self, data: bytes | memoryview) -> AutoencoderPayload:
        """See `bitstream.autoencoder.parse`."""
        return autoencoder.parse(data)

    def start_decode_content(self, payload: AutoencoderPayload, dependencies: Dependencies, gpu: Gpu, keep: bool) -> Decoding:
        """Begin at once with payloads of symbols if the line works on batches; others begin when waited for."""
        header = payload.header
        if header.constant:
            return Decoding.constant(header, payload.colour)
        from . import codec

        axes = Axes.of(len(header.shape), header.channel_axis)
        return Decoding(codec.start_decode(payload, axes, dependencies.weights, gpu, keep), header.fortran, keep)

    def describe_content(self, payload: AutoencoderPayload) -> Description:
        """The quality, the coding, and the bytes of streams and escapes."""
        header = payload.header
        entropy = header.entropy or header.body.value
        return Description(
            header.version,
            header.constant,
            header.digest,
            {
                "header_bytes": payload.overhead + len(payload.colour) + len(payload.planes),
                "stream_bytes": sum(map(len, payload.streams)) + len(payload.bound),
                "escape_bytes": len(payload.escapes),
            },
            {} if header.constant else {"qualities": header.quality, "entropy": entropy},
        )

    def summary(self, parameters: AutoencoderParameters) -> dict[str, Any]:
        """What was asked for, and the weights."""
        targets = {name: getattr(parameters, name) for name in ("quality", "psnr", "bpp", "max_error")}
        asked = ", ".join(f"{name} {value:g}" for name, value in targets.items() if value is not None)
        return {"asked": asked, "metric": parameters.metric, "weights": parameters.weights}

    def content_summary(self, payload: AutoencoderPayload) -> dict[str, Any]:
        """The quality, and the weights by name if they are known here."""
        header = payload.header
        known = (source.spec for source in weights.known() if source.digest == header.digest)
        spec = next(known, Spec(header.digest.hex()))
        return {"asked": f"quality {header.quality}", "metric": header.metric, "weights": spec}

    def operating_points(self, qualities: Sequence[int] | None = None) -> list[tuple[str, AutoencoderParameters]]:
        """The qualities of the default weights for mean squared error."""
        found = range(1, MAX_QUALITY + 1) if qualities is None else sorted({parse_quality(one) for one in qualities})
        return [(f"quality {one}", self.parse(quality=one)) for one in found]


AUTOENCODER = Autoencoder()
