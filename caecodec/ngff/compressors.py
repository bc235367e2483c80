"""The codec options of zarr.create_array for each codec of a conversion."""

from typing import Any, Literal

import numcodecs
import numpy as np
import zarr
from zarr.codecs import BloscCodec
from zarr.core.metadata.v3 import ArrayV3Metadata
from zarr.registry import get_codec_class

from ..arrays.layers import chunk_grid
from ..codecs.base import Parameters
from ..errors import ParameterError
from ..images.image import COLOURS
from .options import Options

JPEG2K_LEVEL = 32  # dB of PSNR
JPEG2K_DTYPES = ("uint8", "uint16")
LOSSLESS = ("none", "blosc")
ZARR_FORMATS: dict[str, Literal[2, 3]] = {"0.4": 2, "0.5": 3, "0.6": 3}


def array_options(
    options: Options,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    axes: str,
    rgb: bool,
    parameters: Parameters | None = None,
) -> dict[str, Any]:
    """Chunks, shards and codecs of an array with these axes, as zarr.create_array takes them.

    A chunk holds one plane, or the three of an RGB image, and is no larger than the array. `parameters`: those of a learned
    codec; None: as the options say. Raises ParameterError for a dtype that the codec does not take.
    """
    side, shard = options.chunk_size, options.shard_size
    sides = dict(zip(axes, shape, strict=True))
    single = {name: COLOURS if rgb and name == "c" else 1 for name in axes if name not in "yx"}
    chunk = {**single, "y": min(side, sides["y"]), "x": min(side, sides["x"])}
    layout: dict[str, Any] = {"chunks": tuple(chunk.values())}
    if shard and max(sides["y"], sides["x"]) > side:
        count = {name: min(shard // side, -(-sides[name] // chunk[name])) for name in "yx"}
        layout["shards"] = tuple(n * count.get(name, 1) for name, n in chunk.items())
    if options.codec == "jpeg2k" and dtype.name not in JPEG2K_DTYPES:
        raise ParameterError(
            f"codec 'jpeg2k' takes {' and '.join(JPEG2K_DTYPES)} but the image has {dtype.name}; choose another"
        )
    arguments: dict[str, Any] = {}
    if options.learned:
        parameters = parameters or learned_parameters(options, axes, rgb)
        arguments = {**parameters.arguments(), "gpu": options.gpu}
    if options.ngff == "0.4":
        return {**layout, **_V2, "compressors": _v2(options, rgb, arguments)}
    return {**layout, **_v3(options, rgb, arguments), "dimension_names": tuple(axes)}


def learned_parameters(options: Options, axes: str, rgb: bool) -> Parameters:
    """The parameters of a learned codec for the chunks of an array with these axes."""
    return options.parameters.on_axis(axes.index("c") - len(axes) if rgb else None)


def lossless_options(ngff: str, array: zarr.Array[Any]) -> dict[str, Any]:
    """What zarr.create_array takes for a lossless copy of an array: its chunks, dimension names and a codec."""
    chunks = chunk_grid(array)[0]
    if ngff == "0.4":
        return {"chunks": chunks, **_V2, "compressors": _BLOSC_V2}
    names = array.metadata.dimension_names if isinstance(array.metadata, ArrayV3Metadata) else None
    return {"chunks": chunks, "compressors": _BLOSC_V3, "dimension_names": names}


_V2 = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
_BLOSC_V2 = numcodecs.Blosc(cname="zstd", clevel=5, shuffle=numcodecs.Blosc.BITSHUFFLE)
_BLOSC_V3 = BloscCodec(cname="zstd", clevel=5, shuffle="bitshuffle")


def _v2(options: Options, rgb: bool, arguments: dict[str, Any]) -> Any:
    if options.learned:
        return numcodecs.get_codec({"id": options.learned.codec_id, **arguments})
    if options.codec == "blosc":
        return _BLOSC_V2
    if options.codec == "jpeg2k":
        module = _imagecodecs("numcodecs")
        module.register_codecs(["imagecodecs_jpeg2k"], verbose=False)
        return module.Jpeg2k(level=JPEG2K_LEVEL, planar=rgb, reversible=False)
    return None


def _v3(options: Options, rgb: bool, arguments: dict[str, Any]) -> dict[str, Any]:
    if options.learned:
        kind: Any = get_codec_class(options.learned.zarr_name)
        return {"serializer": kind(**arguments), "compressors": None}
    if options.codec == "blosc":
        return {"compressors": _BLOSC_V3}
    if options.codec == "jpeg2k":
        module = _imagecodecs("zarr")
        module.register_codecs(["jpeg2k"], verbose=False)
        return {"serializer": module.Jpeg2k(level=JPEG2K_LEVEL, planar=rgb, reversible=False), "compressors": None}
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
