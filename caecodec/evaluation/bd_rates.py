"""Bjøntegaard delta rates: those of two curves, and the table of each caecodec curve against every other curve."""

import math
from collections.abc import Sequence

import numpy as np

from ..errors import ParameterError
from .curves import METRICS, BdRate, Curve, Metric


def compare(curves: Sequence[Curve]) -> tuple[BdRate, ...]:
    """The BD-rates over PSNR and over MS-SSIM in dB; an entry without a rate says why it has none."""
    return tuple(
        _compare(test, reference, metric)
        for test in curves
        if test.kind == "caecodec"
        for reference in curves
        if reference is not test
        for metric in METRICS
    )


def shared_range(reference: Sequence[tuple[float, float]], test: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The lowest and highest dB that two curves of (bpp, dB) points share; ParameterError if their ranges do not overlap."""
    low, high = (limit(end(db for _, db in curve) for curve in (reference, test)) for limit, end in ((max, min), (min, max)))
    if low >= high:
        raise ParameterError(f"curves share no range of distortion ({low:.2f} to {high:.2f} dB); measure more points")
    return low, high


def bd_rate(reference: Sequence[tuple[float, float]], test: Sequence[tuple[float, float]]) -> float:
    """Bjøntegaard delta rate: the mean difference between the test rate and the reference rate at equal distortion, in percent.

    Both are curves of two or more (bpp, dB) points. Log-rates are interpolated by piecewise cubics (PCHIP, as in the common
    test conditions JCTVC-L1100) over the dB that both curves cover. Negative rates mean that test needs fewer bits.

    Raises ParameterError for a curve of one point or with two points of equal dB, and for ranges that do not overlap.
    """
    from scipy.interpolate import PchipInterpolator

    for points in (reference, test):
        if len({db for _, db in points}) < max(2, len(points)):
            raise ParameterError(f"curve has {len(points)} points; BD-rate needs two or more, all of different distortion")
    low, high = shared_range(reference, test)
    curves = [np.array(sorted(points, key=lambda point: point[1])) for points in (reference, test)]
    areas = [float(PchipInterpolator(c[:, 1], np.log(c[:, 0])).integrate(low, high)) for c in curves]
    return 100 * math.expm1((areas[1] - areas[0]) / (high - low))


def _compare(test: Curve, reference: Curve, metric: Metric) -> BdRate:
    ours, theirs = test.series(metric), reference.series(metric)
    for curve, series in ((test, ours), (reference, theirs)):
        if len(series) < 2:
            note = f"{curve.name} has {len(series)} points with {metric}; BD-rate needs two"
            return BdRate(test.name, reference.name, metric, None, None, None, note)
    try:
        low, high = shared_range(theirs, ours)
        return BdRate(test.name, reference.name, metric, bd_rate(theirs, ours), low, high)
    except ParameterError as error:
        return BdRate(test.name, reference.name, metric, None, None, None, str(error))
