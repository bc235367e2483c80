"""Converts image files to OME-NGFF groups and .cae files and back, and OME-NGFF groups from one codec to another."""

from ..images.image import Image, Size
from .convert import decode_paths, encode_paths
from .files import read_image, write_image
from .groups import read_group, write_group
from .jobs import Failure, FolderProgress
from .options import Options
from .reencode import reencode

__all__ = [
    "Failure",
    "FolderProgress",
    "Image",
    "Options",
    "Size",
    "decode_paths",
    "encode_paths",
    "read_group",
    "read_image",
    "reencode",
    "write_group",
    "write_image",
]
