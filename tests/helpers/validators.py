"""What others say of OME-NGFF groups: yaozarrs of 0.4 and 0.5, the schemas of the specification of 0.6, ome-zarr and dask."""

import importlib.util
import json
from pathlib import Path

import dask.array as da
import ome_zarr.io
import ome_zarr.reader
import yaozarrs
import zarr
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from .paths import TESTS

SCHEMAS = [json.loads(path.read_text()) for path in sorted((TESTS / "ngff" / "ome-ngff-0.6").glob("*.schema"))]
REGISTRY = Registry().with_resources((one["$id"], Resource.from_contents(one, DRAFT202012)) for one in SCHEMAS)
BY_NAME = {one["$id"].rsplit("/", 1)[-1].removesuffix(".schema"): one for one in SCHEMAS}


def validate(path, version):
    """Raise an error unless the group of an image, with its levels and labels, is valid."""
    if version != "0.6":
        yaozarrs.validate_zarr_store(str(path))
        return
    attributes = json.loads((Path(path) / "zarr.json").read_text())["attributes"]
    for kind in ("image", "label") if "image-label" in attributes["ome"] else ("image",):
        Draft202012Validator(BY_NAME[kind], registry=REGISTRY).validate(attributes)
    group = zarr.open_group(str(path), mode="r")
    for image in attributes["ome"]["multiscales"]:
        axes = [len(system["axes"]) for system in image["coordinateSystems"]]
        assert {group[level["path"]].ndim for level in image["datasets"]} == set(axes)


def opened(path):
    """The levels of a group as ome-zarr opens them; those that dask opens by itself must be the same."""
    (node,) = ome_zarr.reader.Reader(ome_zarr.io.parse_url(str(path)))()
    group = zarr.open_group(str(path), mode="r")
    attributes = group.attrs.asdict()
    datasets = attributes.get("ome", attributes)["multiscales"][0]["datasets"]
    for level, dataset in zip(node.data, datasets, strict=True):
        assert (level.compute() == da.from_zarr(group[dataset["path"]]).compute()).all()
    if importlib.util.find_spec("ome_zarr_models.v06"):  # of Python 3.12 and newer
        from ome_zarr.classes.image import OMEZarrMultiscale

        OMEZarrMultiscale.from_ome_zarr(str(path))
    return node.data
