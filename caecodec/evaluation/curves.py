"""Rate-distortion curves, measured by a sweep or published by others."""

import math
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
import numpy.typing as npt

from ..images.metrics import decibels

Pixels = npt.NDArray[np.uint8]
CurveKind = Literal["caecodec", "reference codec", "published"]
Metric = Literal["psnr", "ms_ssim"]
METRICS: tuple[Metric, ...] = ("psnr", "ms_ssim")
LABELS: dict[Metric, str] = {"psnr": "PSNR (dB)", "ms_ssim": "MS-SSIM (dB)"}


@dataclass(frozen=True)
class Measurement:
    """One image, coded at one setting.

    bytes : the size of all its chunks' payloads, headers included
    bpp : 8 * bytes / (height * width)
    psnr : dB, over all values of the RGB image; infinite if it was decoded exactly
    ms_ssim : 0 to 1; None for an image that is too small
    encode_s_per_mp, decode_s_per_mp : wall-clock seconds per million pixels, one chunk after the other
    """

    image: str
    bytes: int
    bpp: float
    psnr: float
    ms_ssim: float | None
    encode_s_per_mp: float
    decode_s_per_mp: float


@dataclass(frozen=True)
class Point:
    """A setting of a codec, with means over the images; None for what was not measured or has no mean."""

    setting: str
    bpp: float
    psnr: float | None
    ms_ssim: float | None
    encode_s_per_mp: float | None = None
    decode_s_per_mp: float | None = None
    images: tuple[Measurement, ...] = ()

    @classmethod
    def mean(cls, setting: str, images: tuple[Measurement, ...]) -> "Point":
        """The means of the images' values; of PSNR and MS-SSIM only if every image has a finite value."""
        similarities = [image.ms_ssim for image in images if image.ms_ssim is not None]
        psnr = fmean(image.psnr for image in images)
        return cls(
            setting,
            fmean(image.bpp for image in images),
            psnr if math.isfinite(psnr) else None,
            fmean(similarities) if len(similarities) == len(images) else None,
            fmean(image.encode_s_per_mp for image in images),
            fmean(image.decode_s_per_mp for image in images),
            images,
        )

    @property
    def ms_ssim_db(self) -> float | None:
        """The mean MS-SSIM in dB; None if there is none, or if it is infinite."""
        value = None if self.ms_ssim is None else decibels(self.ms_ssim)
        return None if value == math.inf else value

    def db(self, metric: Metric) -> float | None:
        """The value of a metric, PSNR or MS-SSIM, in dB."""
        return self.psnr if metric == "psnr" else self.ms_ssim_db


@dataclass(frozen=True)
class Curve:
    """The points of a codec in one configuration, in the order of its settings; `about` says what it is and how it was run."""

    name: str
    kind: CurveKind
    about: str
    points: tuple[Point, ...]

    def series(self, metric: Metric) -> list[tuple[float, float]]:
        """The (bpp, dB) of the points that have this metric, sorted by rate."""
        return sorted((point.bpp, db) for point in self.points if (db := point.db(metric)) is not None)


@dataclass(frozen=True)
class ImageInfo:
    """An image that was evaluated: its name and size in pixels."""

    name: str
    height: int
    width: int


@dataclass(frozen=True)
class BdRate:
    """The BD-rate of curve `test` against curve `reference` in percent, over the dB both cover; or a note why there is none."""

    test: str
    reference: str
    metric: Metric
    percent: float | None
    low_db: float | None
    high_db: float | None
    note: str = ""


@dataclass(frozen=True)
class Results:
    """Everything that an evaluation found.

    chunk : pixels a side, 0 for whole images
    notes : what is missing, and why
    environment : the versions, threads and device that the seconds were measured with
    """

    images: tuple[ImageInfo, ...]
    chunk: int
    curves: tuple[Curve, ...]
    bd_rates: tuple[BdRate, ...]
    notes: tuple[str, ...]
    environment: dict[str, str]
