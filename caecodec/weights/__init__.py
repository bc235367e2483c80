"""Weights: found by name, path or digest (catalogue), what is in a file (file)."""

from .catalogue import (
    CHECKPOINT_SUFFIXES,
    COMPRESSAI,
    DEFAULT,
    Source,
    Spec,
    find,
    installed,
    load,
    open_file,
    read_tensors,
    require_context,
    resolve,
    resolve_all,
    save,
    shipped_folder,
)

__all__ = [
    "CHECKPOINT_SUFFIXES",
    "COMPRESSAI",
    "DEFAULT",
    "Source",
    "Spec",
    "find",
    "installed",
    "load",
    "open_file",
    "read_tensors",
    "require_context",
    "resolve",
    "resolve_all",
    "save",
    "shipped_folder",
]
