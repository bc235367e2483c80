"""The scalable autoencoder as a `Codec`. PyTorch is only imported when something is encoded or decoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy.typing as npt

from ... import weights
from ...bitstream import scalable
from ...bitstream.autoencoder import METRICS
from ...bitstream.prefix import DIRECTORY_VERSION
from ...bitstream.scalable import MAX_LAYERS, ScalablePayload
from ...chunks.pending import Pending
from ...settings import current
from ...weights import Spec
from ..base import Codec, Decoding, Dependencies, Description, Gpu, Option
from ..reports import MISSING, Report
from .parameters import ScalableParameters, parse_layers

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ScalableReport(Report):
    """A report on payloads of the scalable autoencoder.

    layers : the numbers of layers that the stored chunks have
    layer_1_bytes, ..., layer_8_bytes : bytes of each layer
    """

    layers: tuple[int, ...] = ()
    layer_1_bytes: int = 0
    layer_2_bytes: int = 0
    layer_3_bytes: int = 0
    layer_4_bytes: int = 0
    layer_5_bytes: int = 0
    layer_6_bytes: int = 0
    layer_7_bytes: int = 0
    layer_8_bytes: int = 0

    def model(self) -> dict[str, str]:
        """The layers, and the weights."""
        there = "installed" if self.weights_installed else "carried by the group" if self.weights_carried else MISSING
        return {
            "model": f"{self.family}, {', '.join(map(str, self.layers)) or 'no'} layers, {self.metric}",
            "asked for": self.asked,
            "weights": f"{self.weights} ({there})",
        }

    def parts(self) -> dict[str, int]:
        """Headers, and each layer."""
        headers, *others = super().parts().items()
        sizes = {f"layer {number}": getattr(self, f"layer_{number}_bytes") for number in range(1, MAX_LAYERS + 1)}
        return dict([headers, *((name, size) for name, size in sizes.items() if size), *others])


class Scalable(Codec[ScalableParameters, ScalablePayload]):
    """The codec of `ScalableAutoencoder`."""

    name: ClassVar[str] = "sae"
    codec_id: ClassVar[str] = "caecodec_sae"
    zarr_name: ClassVar[str] = "caecodec.sae"
    report: ClassVar[type[Report]] = ScalableReport
    heading: ClassVar[str] = "of codec sae, whose layers can be fetched one by one"
    options: ClassVar[tuple[Option, ...]] = (
        Option("layers", f"how many layers to write, 1 to {MAX_LAYERS}, default all that the weights have", int),
        Option("metric", "default mse", choices=tuple(METRICS.values()), short="-m"),
        Option("weights", "an installed name, or the path of a weights file or checkpoint; for codec sae one with layers"),
    )
    carries_weights: ClassVar[bool] = True

    def parse(self, **arguments: Any) -> ScalableParameters:
        """See `ScalableParameters.parse`."""
        return ScalableParameters.parse(**arguments)

    def owns(self, version: int, family: int) -> bool:
        """Version 4 with the family of layers."""
        return version == DIRECTORY_VERSION and family == scalable.FAMILY

    def encode(self, parameters: ScalableParameters, array: npt.NDArray[Any], gpu: Gpu = None) -> bytes:
        """All layers of a chunk, or the first ones."""
        return self.start_encode(parameters, array, gpu).result()

    def start_encode(
        self, parameters: ScalableParameters, array: "npt.NDArray[Any] | Tensor", gpu: Gpu = None
    ) -> Pending[bytes]:
        """See `Codec.start_encode`; the line of the device does the work."""
        from . import codec

        return codec.start_encode(parameters, array, gpu)

    def in_batches(self, gpu: Gpu) -> bool:
        """Whether the line of the device works on batches."""
        from ...engine import DevicePlacement, engine

        return engine().line(DevicePlacement.choose(gpu)).batches

    def parse_payload(self, data: bytes | bytearray | memoryview) -> ScalablePayload:
        """See `bitstream.scalable.parse`: also the beginning of a payload, up to the end of a layer."""
        return scalable.parse(data)

    def start_decode(
        self, payload: ScalablePayload, dependencies: Dependencies, gpu: Gpu = None, keep: bool = False
    ) -> Decoding:
        """Decode the first layers: as many as `dependencies` or the settings ask for, or all that are there."""
        from . import codec

        return codec.start_decode(payload, dependencies, gpu, keep)

    def first_layers(self, layers: int | None) -> int | None:
        """See `Codec.first_layers`: what the settings say, if a caller asks for none."""
        return parse_layers(layers) or current().layers or None

    def layer_count(self, parameters: ScalableParameters) -> int:
        """See `Codec.layer_count`: those asked for, or all that the weights have."""
        return parameters.layers or max(parameters.source().qualities)

    def describe(self, payload: ScalablePayload) -> Description:
        """The number of layers, and the bytes of each."""
        parts = {f"layer_{number}_bytes": len(layer) for number, layer in enumerate(payload.layers, 1)}
        facts = {} if payload.colour else {"layers": len(payload.layers)}
        constant = bool(payload.colour) and not payload.padding
        return Description(payload.header.version, constant, payload.digest, {"header_bytes": payload.overhead, **parts}, facts)

    def summary(self, parameters: ScalableParameters) -> dict[str, Any]:
        """What was asked for, and the weights."""
        asked = "all layers" if parameters.layers is None else f"{parameters.layers} layers"
        return {"asked": asked, "metric": parameters.metric, "weights": parameters.weights}

    def payload_summary(self, payload: ScalablePayload) -> dict[str, Any]:
        """The weights by name, if they are known here."""
        known = (source.spec for source in weights.known() if source.digest == payload.digest)
        spec = next(known, Spec(payload.digest.hex()))
        return {"asked": f"{len(payload.layers)} layers", "metric": payload.metric, "weights": spec}

    def operating_points(self, qualities: Sequence[int] | None = None) -> list[tuple[str, ScalableParameters]]:
        """Each number of layers of the default weights; it has no qualities."""
        return [(f"{one} layers", self.parse(layers=one)) for one in self.parse().source().qualities]


SCALABLE = Scalable()
