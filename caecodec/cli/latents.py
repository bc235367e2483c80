"""caecodec latents: writes the latents of an array."""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from ..errors import ParameterError
from ..storage.locations import parse_location

SUMMARY = "Write the latents of a Zarr array, which are features for learning, as a .npy file or a Zarr array."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of caecodec latents."""
    parser.add_argument("array", type=parse_location, metavar="ARRAY", help="a Zarr array coded by cae; a path or URL")
    parser.add_argument("-o", "--output", required=True, type=parse_location, help="NAME.npy or NAME.zarr")
    parser.add_argument("--overwrite", action="store_true", help="replace an output that exists")
    parser.add_argument("--quiet", action="store_true", help="do not print shape and path")


def run(arguments: argparse.Namespace) -> int:
    """Write the latents chunk by chunk, so that they may be larger than memory."""
    import numpy as np
    import zarr

    from .. import weights
    from ..latents import open_latents
    from ..storage.locations import as_path, is_url
    from ..storage.partial import complete_file, complete_folder, refuse_existing, refuse_nested

    output: Path = arguments.output
    if output.suffix not in (".npy", ".zarr"):
        raise ParameterError(f"output is {output} but must be named NAME.npy or NAME.zarr")
    refuse_existing(output, arguments.overwrite)
    if not is_url(arguments.array) and output.resolve() == as_path(arguments.array).resolve():
        raise ParameterError(f"output is {output}, which is the source; choose another name")
    refuse_nested([output], [arguments.array])
    with weights.using(arguments.array):
        latents = open_latents(arguments.array)
        with (complete_file if output.suffix == ".npy" else complete_folder)(output) as partial:
            target: Any
            if output.suffix == ".npy":
                target = np.lib.format.open_memmap(partial, "w+", latents.dtype, latents.shape)
                if sys.platform == "linux":  # if the disk were to be full later, the system would end the process
                    with partial.open("r+b") as file:
                        os.posix_fallocate(file.fileno(), 0, partial.stat().st_size)
            else:
                target = zarr.create_array(partial, shape=latents.shape, chunks=latents.chunks, dtype=latents.dtype)
            for region, values in latents.blocks():
                target[region] = values
            del target  # which flushes a file
    if not arguments.quiet:
        print(f"{output}: float32 {latents.shape}")
    return 0
