"""The overfitted codec as a `Codec`. Decoding does not import PyTorch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import numpy.typing as npt

from ...bitstream import overfitted
from ...bitstream.autoencoder import MAX_QUALITY
from ...bitstream.overfitted import OverfittedPayload
from ...bitstream.prefix import OVERFITTED_VERSION
from ...chunks.axes import Axes
from ...chunks.pending import Pending
from ..base import Decoding, Dependencies, Description, Gpu, Option
from ..padding import TrimmingCodec
from ..parse import parse_quality
from ..reports import Report
from .architecture import DECODERS
from .network import digest
from .parameters import PRESETS, OverfittedParameters, text


@dataclass(frozen=True, kw_only=True)
class OverfittedReport(Report):
    """A report on payloads of the overfitted codec.

    decoders : sizes of the networks
    shared_network : the digest of the network in the array's metadata, or ""
    network_bytes : bytes of the networks in payloads
    stream_bytes, escape_bytes : bytes of the latents within the tables, and of the values outside and the low bits of wide ones
    """

    decoders: tuple[str, ...] = ()
    shared_network: str = ""
    network_bytes: int = 0
    stream_bytes: int = 0
    escape_bytes: int = 0

    @property
    def latent_bytes(self) -> int:
        """Bytes of the coded latents."""
        return self.stream_bytes + self.escape_bytes

    def model(self) -> dict[str, str]:
        """The size of the networks, and whether all chunks share one."""
        return {
            "model": f"{self.family}, decoder {', '.join(self.decoders) or 'none'}, {self.metric}",
            "asked for": self.asked or "not said",
            "network": f"shared, {self.shared_network}" if self.shared_network else "one for each chunk",
        }

    def parts(self) -> dict[str, int]:
        """Headers, networks and latents."""
        headers, *others = super().parts().items()
        return dict([headers, ("networks", self.network_bytes), ("latents", self.latent_bytes), *others])


class Overfitted(TrimmingCodec[OverfittedParameters, OverfittedPayload]):
    """The codec of `OverfittedAutoencoder`."""

    name: ClassVar[str] = "overfitted"
    codec_id: ClassVar[str] = "caecodec_overfitted"
    zarr_name: ClassVar[str] = "caecodec.overfitted"
    report: ClassVar[type[Report]] = OverfittedReport
    heading: ClassVar[str] = "of codec overfitted, which fits a network to each chunk"
    options: ClassVar[tuple[Option, ...]] = (
        Option("quality", "1 (smallest) to 8 (best), default 8", int, short="-q"),
        Option("lmbda", "instead of quality: what a bit per pixel is worth in squared error, of values in [0, 1]", float),
        Option("preset", "how long to fit, default fast", choices=PRESETS),
        Option("decoder", "size of the network; the default depends on the size of a chunk", choices=tuple(DECODERS)),
        Option("seed", "seed of the random numbers, default 0", int),
    )
    slow: ClassVar[bool] = True
    shares: ClassVar[bool] = True

    def parse(self, **arguments: Any) -> OverfittedParameters:
        """See `OverfittedParameters.parse`."""
        return OverfittedParameters.parse(**arguments)

    def owns(self, version: int, family: int) -> bool:
        """Version 3. The header checks the family."""
        return version == OVERFITTED_VERSION

    def encode(self, parameters: OverfittedParameters, array: npt.NDArray[Any], gpu: Gpu = None) -> bytes:
        """Fit a network and latents to the chunk. Codec "cae" stores a chunk that cannot be fitted, without loss."""
        from . import codec

        return codec.encode_with(parameters, array, gpu)

    def parse_content(self, data: bytes | memoryview) -> OverfittedPayload:
        """See `bitstream.overfitted.parse`."""
        return overfitted.parse(data)

    def start_decode_content(self, payload: OverfittedPayload, dependencies: Dependencies, gpu: Gpu, keep: bool) -> Decoding:
        """Leave the work to the thread that asks for the result: the CPU decodes all payloads."""
        header = payload.header
        if header.constant:
            return Decoding.constant(header, payload.colour)
        from . import codec

        axes = Axes.of(len(header.shape), header.channel_axis)
        return Decoding(Pending(partial(codec.decode, payload, axes, dependencies.network)), header.fortran)

    def describe_content(self, payload: OverfittedPayload) -> Description:
        """The size of the network, and the bytes of networks and latents."""
        header = payload.header
        parts = {
            "header_bytes": payload.overhead,
            "network_bytes": len(payload.network),
            "stream_bytes": len(payload.stream),
            "escape_bytes": len(payload.escapes) + len(payload.raw),
        }
        facts = {} if header.constant else {"decoders": header.decoder}
        return Description(header.version, header.constant, None, parts, facts)

    def summary(self, parameters: OverfittedParameters) -> dict[str, Any]:
        """What was asked for, and the network that all chunks share."""
        target = f"quality {parameters.quality}" if parameters.lmbda is None else f"lmbda {parameters.lmbda:g}"
        shared = "" if parameters.section is None else digest(parameters.section).hex()
        return {"asked": f"{target}, preset {parameters.preset}", "metric": parameters.tune, "shared_network": shared}

    def content_summary(self, payload: OverfittedPayload) -> dict[str, Any]:
        """The network that the chunk shares with others. Payloads do not tell how they were fitted."""
        return {"metric": "mse", "shared_network": payload.header.digest.hex()}

    def share(
        self, parameters: OverfittedParameters, chunks: Sequence[npt.NDArray[Any]], gpu: Gpu = None
    ) -> OverfittedParameters:
        """The parameters with a network fitted to these chunks; unchanged if all chunks are constant."""
        from . import codec

        section = codec.fit_network(parameters, chunks, gpu)
        return parameters if section is None else replace(parameters, network=text(section))

    def operating_points(self, qualities: Sequence[int] | None = None) -> list[tuple[str, OverfittedParameters]]:
        """The qualities with the default preset."""
        found = range(1, MAX_QUALITY + 1) if qualities is None else sorted({parse_quality(one) for one in qualities})
        return [(f"quality {one}", self.parse(quality=one)) for one in found]


OVERFITTED = Overfitted()
