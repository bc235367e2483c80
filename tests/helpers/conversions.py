"""Conversions with the overfitted codec, and what they leave."""

import zarr

from caecodec.arrays import payloads
from caecodec.ngff import Options, encode_paths

QUICK = {"codec": "overfitted", "preset": "instant", "quality": 3, "chunk_size": 32}
OPTIONS = Options(**QUICK)


def convert(source, target, options=OPTIONS, **others):
    (written,), failed = encode_paths([source], target, options, **others)
    assert not failed, failed[0].error
    return written


def network_of(group):
    """What the chunks of the first level share."""
    return payloads.coded_by(zarr.open_group(str(group), mode="r")["s0"])[1].network


def chunks(folder):
    """The files of chunks below a folder, and what is in them."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith((".z", "zarr.json")) and path.suffix != ".partial"
    }
