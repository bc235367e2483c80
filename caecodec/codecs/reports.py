"""The part of an inspection's report that all codecs have in common."""

import math
from dataclasses import dataclass

import numpy as np

MISSING = "NOT installed: `caecodec weights install FILE`, or GROUP if a group carries them"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `inspect` finds in one file or array. Bytes are those of payloads, and chunks are those that are stored.

    The report of a codec adds fields with defaults, and lists the parts that the bytes consist of.

    family : the name of the codec
    metric : the distortion that the codec minimises
    asked : the operating point that was asked for, in words
    weights, weights_installed, weights_carried : the weights that the payloads need, if any; whether they are installed;
        whether the group carries all of them
    carried, refused : the weights that the group carries, and why others in it cannot be used
    channel_axis, channels : the axis of the channels of a chunk, as filters leave it, and how many they are
    filters, compressors : other codecs of the array, before and after this one
    chunks_lossless, lossless_bytes : the chunks that this codec could not encode and another one stores without loss
    header_bytes : headers, lengths and checksums
    """

    path: str
    family: str
    format_versions: tuple[int, ...]
    metric: str = ""
    asked: str = ""
    weights: str = ""
    weights_installed: bool = True
    weights_carried: bool = False
    carried: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dtype: str
    channel_axis: int | None
    channels: int = 1
    filters: tuple[str, ...] = ()
    compressors: tuple[str, ...] = ()
    chunks: int
    chunks_constant: int
    chunks_lossless: int = 0
    chunks_missing: int
    header_bytes: int = 0
    lossless_bytes: int = 0

    def model(self) -> dict[str, str]:
        """The rows about the codec's model."""
        return {"model": self.family, "asked for": self.asked or "not said"}

    def parts(self) -> dict[str, int]:
        """The bytes of the payloads by part; they add up to all bytes."""
        lossless = {"without loss": self.lossless_bytes} if self.chunks_lossless else {}
        return {"headers": self.header_bytes, **lossless}

    @property
    def total_bytes(self) -> int:
        """All bytes of the payloads."""
        return sum(self.parts().values())

    @property
    def bpp(self) -> float:
        """Bits per pixel, a pixel being one position with all its channels; 0 for an array without pixels."""
        return 8 * self.total_bytes * self.channels / max(1, math.prod(self.shape))

    @property
    def ratio(self) -> float:
        """Bytes of the array divided by bytes of its payloads."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize / max(1, self.total_bytes)

    def __str__(self) -> str:
        kinds = f"{self.chunks_constant} of one colour" + (
            f", {self.chunks_lossless} that could not be fitted and are stored without loss" if self.chunks_lossless else ""
        )
        stored = f"{self.chunks} stored ({kinds}), {self.chunks_missing} empty"
        parts = ", ".join(f"{name} {count}" for name, count in self.parts().items())
        rows = {
            "format version": ", ".join(map(str, self.format_versions)) or "no chunks stored",
            **self.model(),
            "shape": f"{self.shape} {self.dtype}, channel axis {self.channel_axis}",
            "chunks": f"{self.chunk_shape}: {stored}",
            "bytes": f"{self.total_bytes} ({parts})",
            "bits per pixel": f"{self.bpp:.4f}",
            "ratio": f"{self.ratio:.1f}",
        }
        others = [*(f"{name} before" for name in self.filters), *(f"{name} after" for name in self.compressors)]
        if others:
            rows["other codecs"] = ", ".join(others)
        if self.carried or self.refused:
            rows["group carries"] = "; ".join([*self.carried, *(f"REFUSED: {reason}" for reason in self.refused)])
        return "\n".join([self.path, *(f"  {name:15} {value}" for name, value in rows.items())])
