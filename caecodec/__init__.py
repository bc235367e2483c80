"""Learned image compression for Zarr.

>>> import caecodec, zarr                                                            # doctest: +SKIP
>>> codec = caecodec.ConvolutionalAutoencoder(quality=4)                             # doctest: +SKIP
>>> zarr.create_array("a.zarr", data=a, chunks=(256, 256, 3), zarr_format=2, compressors=codec)  # doctest: +SKIP

Importing caecodec imports neither torch nor zarr; its names load what they need when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .errors import CaeCodecError, CorruptionError, FormatVersionError, ParameterError, WeightsError

if TYPE_CHECKING:
    from . import evaluation, ngff, settings, torch, training, weights, zarr
    from .arrays.alignment import check_aligned
    from .arrays.inspection import inspect
    from .codecs.autoencoder.codec import encode
    from .codecs.autoencoder.latents import decode_latents
    from .codecs.decoding import decode
    from .latents import open_latents
    from .ngff.slide import open_slide
    from .numcodecs import ConvolutionalAutoencoder, OverfittedAutoencoder, ScalableAutoencoder
    from .reading import read

__version__ = "0.1.0"

__all__ = [
    "CaeCodecError",
    "ConvolutionalAutoencoder",
    "CorruptionError",
    "FormatVersionError",
    "OverfittedAutoencoder",
    "ParameterError",
    "ScalableAutoencoder",
    "WeightsError",
    "check_aligned",
    "decode",
    "decode_latents",
    "encode",
    "evaluation",
    "inspect",
    "ngff",
    "open_latents",
    "open_slide",
    "read",
    "settings",
    "torch",
    "training",
    "weights",
    "zarr",
]

_LAZY = {
    "encode": "codecs.autoencoder.codec",
    "decode": "codecs.decoding",
    "decode_latents": "codecs.autoencoder.latents",
    "open_latents": "latents",
    "open_slide": "ngff.slide",
    "read": "reading",
    "ConvolutionalAutoencoder": "numcodecs",
    "OverfittedAutoencoder": "numcodecs",
    "ScalableAutoencoder": "numcodecs",
    "check_aligned": "arrays.alignment",
    "inspect": "arrays.inspection",
}
_MODULES = ("evaluation", "ngff", "numcodecs", "settings", "torch", "training", "weights", "zarr")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_MODULES})
