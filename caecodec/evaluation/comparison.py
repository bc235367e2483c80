"""Curves -> the table of BD-rates: each caecodec curve against each other curve."""

from collections.abc import Sequence

from ..errors import ParameterError
from ..images.metrics import bd_rate, shared_range
from .curves import METRICS, BdRate, Curve, Metric


def compare(curves: Sequence[Curve]) -> tuple[BdRate, ...]:
    """The BD-rates, in PSNR and MS-SSIM (in dB); an entry without a rate says why."""
    return tuple(
        _compare(test, reference, metric)
        for test in curves
        if test.kind == "caecodec"
        for reference in curves
        if reference is not test
        for metric in METRICS
    )


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
