"""Reads a part of an OME-Zarr image with other tools: python examples/readers.py [READER ...].

A photograph of scikit-image becomes an OME-Zarr group, coded by caecodec. Each reader is a function below, to copy from, that
reads with the calls of its tool. What it returns is compared with what zarr reads. By default all readers run; the package of
one may be missing, and is then named with the command that installs it.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import skimage.data
import zarr
from PIL import Image

import caecodec


def with_dask(path):
    import dask.array

    level = dask.array.from_zarr(path, component="s0")  # (c, y, x), in the chunks of the array
    return level[:, 100:200, 150:300].compute()


def with_xarray(path):
    import xarray

    smaller = [name for name in zarr.open_group(path, mode="r").array_keys() if name != "s0"]
    level = xarray.open_zarr(path, consolidated=False, drop_variables=smaller)["s0"]  # its dimensions have their names
    return level.isel(y=slice(100, 200), x=slice(150, 300)).values


def with_ome_zarr(path):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    image = next(iter(Reader(parse_url(path))()))
    return image.data[0][:, 100:200, 150:300].compute()  # image.data has a dask array for each level


def with_napari(path):
    from napari_ome_zarr import napari_get_reader

    layers = napari_get_reader(path)(path)  # for each layer the arrays of its levels, properties such as its name, and a kind
    channels = [levels[0][..., 100:200, 150:300].compute() for levels, properties, kind in layers]
    return np.reshape(channels, (-1, 100, 150))  # a layer is a channel; with readers before 0.11 it is all of them


def with_open_slide(path):
    with caecodec.open_slide(path) as slide:  # instead of openslide.OpenSlide or tiffslide.TiffSlide
        level = slide.get_best_level_for_downsample(1)
        picture = slide.read_region((150, 100), level, (150, 100)).convert("RGB")
    return np.asarray(picture).transpose(2, 0, 1)


READERS = {
    "dask": (with_dask, "dask[array]"),
    "xarray": (with_xarray, "xarray"),
    "ome-zarr": (with_ome_zarr, "ome-zarr"),
    "napari": (with_napari, "napari-ome-zarr"),
    "open_slide": (with_open_slide, "caecodec"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("readers", nargs="*", metavar="READER", help=f"of {', '.join(READERS)}; default: all")
    wanted = parser.parse_args().readers or list(READERS)
    if unknown := set(wanted) - set(READERS):
        parser.error(f"no reader {', '.join(sorted(unknown))}; there are {', '.join(READERS)}")
    missing = 0
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(skimage.data.immunohistochemistry()).save(Path(folder, "tissue.png"))
        options = caecodec.ngff.Options(quality=4)
        (group,), _ = caecodec.ngff.encode_paths([Path(folder, "tissue.png")], Path(folder, "tissue.ome.zarr"), options)
        expected = zarr.open_group(group, mode="r")["s0"][:, 100:200, 150:300]
        for name in wanted:
            read, package = READERS[name]
            try:
                values = read(str(group))
            except ImportError as error:
                print(f'{name}: {error}; pip install "{package}"', file=sys.stderr)
                missing += 1
                continue
            assert np.array_equal(values, expected)
            print(f"{name}: {values.dtype} {values.shape}, as zarr reads it")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
