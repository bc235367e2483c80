"""Image files <-> OME-NGFF groups and .cae files."""

from .convert import Failure, decode_paths, encode_paths
from .files import Photograph, read_image, write_image
from .groups import read_group, write_group
from .options import Options

__all__ = [
    "Failure",
    "Options",
    "Photograph",
    "decode_paths",
    "encode_paths",
    "read_group",
    "read_image",
    "write_group",
    "write_image",
]
