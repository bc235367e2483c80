"""The codec options of zarr.create_array for each codec of a conversion."""

from typing import Any

import numcodecs
from zarr.codecs import BloscCodec

from ..errors import ParameterError
from ..numcodecs import ConvolutionalAutoencoder
from ..zarr import ConvolutionalAutoencoder as Serializer
from .options import Options

JPEG2K_LEVEL = 32  # dB


def array_options(options: Options, shape: tuple[int, ...]) -> dict[str, Any]:
    """Chunks, shards and codecs of an array (3, height, width); chunks are no larger than the array."""
    side, shard = options.chunk_size, options.shard_size
    chunks = (3, *(min(side, n) for n in shape[1:]))
    layout: dict[str, Any] = {"chunks": chunks}
    if shard and max(shape[1:]) > side:
        layout["shards"] = (3, *(c * min(shard // side, -(-n // c)) for c, n in zip(chunks[1:], shape[1:], strict=True)))
    if options.ngff == "0.4":
        return {**layout, "compressors": _v2(options), "chunk_key_encoding": {"name": "v2", "separator": "/"}}
    return {**layout, **_v3(options), "dimension_names": ("c", "y", "x")}


def _v2(options: Options) -> Any:
    if options.codec == "cae":
        return ConvolutionalAutoencoder(**options.parameters.arguments(), gpu=options.gpu)
    if options.codec == "blosc":
        return numcodecs.Blosc(cname="zstd", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)
    if options.codec == "jpeg2k":
        numcodecs_ = _imagecodecs("numcodecs")
        numcodecs_.register_codecs(["imagecodecs_jpeg2k"], verbose=False)
        return numcodecs_.Jpeg2k(level=JPEG2K_LEVEL, planar=True, reversible=False)
    return None


def _v3(options: Options) -> dict[str, Any]:
    if options.codec == "cae":
        return {"serializer": Serializer(**options.parameters.arguments(), gpu=options.gpu), "compressors": None}
    if options.codec == "blosc":
        return {"compressors": BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")}
    if options.codec == "jpeg2k":
        zarr_ = _imagecodecs("zarr")
        zarr_.register_codecs(["jpeg2k"], verbose=False)
        return {"serializer": zarr_.Jpeg2k(level=JPEG2K_LEVEL, planar=True, reversible=False), "compressors": None}
    return {"compressors": None}


def _imagecodecs(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"imagecodecs.{module}")
    except ImportError as error:
        raise ParameterError(
            f"codec 'jpeg2k' needs imagecodecs with imagecodecs.{module}, which is not installed: pip install 'caecodec[eval]' "
            "(its Zarr v3 codecs need Python 3.12 or newer; on 3.11 use ngff 0.4)"
        ) from error
