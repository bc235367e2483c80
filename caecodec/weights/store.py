"""Weights that travel with the data: a group of a Zarr store <-> weights files, and from there into the user's folder.

A group carries weights in its subgroup `caecodec_weights`, where each file is an array of bytes (FORMAT.md, 8). A file is only
used if its SHA-256 is the one recorded, and it is a safetensors file of a network.
"""

import contextlib
import hashlib
import os
import re
import time
import uuid
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import FormatVersionError, ParameterError, WeightsError
from ..storage import locations
from . import file as weights_file
from .catalogue import (
    CHECKPOINT_SUFFIXES,
    DIGEST_BYTES,
    SUFFIX,
    Carried,
    Refused,
    Source,
    by_place,
    file_bytes,
    found_as_well,
    installed,
    of_bytes,
    user_folder,
)

if TYPE_CHECKING:
    import zarr

GROUP = "caecodec_weights"
MAX_BYTES = 2**28  # twenty times the largest shipped file
_DIGESTS = "digests"  # the attribute that lists them, because not every store lists its keys
_MAX_DIGESTS = 64
_KEY_DIGITS = 2 * DIGEST_BYTES


def carry(group: "zarr.Group", sources: Iterable[Source]) -> None:
    """Store weights files in a group; files that the group carries already stay as they are.

    A checkpoint is stored as the safetensors file that it is converted to.

    Raises
    ------
    WeightsError
        A file cannot be read, or has changed.
    """
    wanted = {source.sha256[:_KEY_DIGITS]: source for source in sources}
    if not wanted:
        return
    holder = group.require_group(GROUP)
    listed = holder.attrs.get(_DIGESTS)
    there = {key for key in listed if isinstance(key, str)} if isinstance(listed, list) else set()
    for key in wanted.keys() - there:
        file = of_bytes(file_bytes(wanted[key]), wanted[key].where)
        data = np.frombuffer(file.content or b"", np.uint8)
        attributes: dict[str, Any] = {
            "sha256": file.sha256, "name": file.name, "family": file.family, "metric": file.metric,
            "qualities": list(file.qualities),
        }  # fmt: skip
        array = holder.create_array(
            key, shape=data.shape, chunks=data.shape, dtype="uint8", filters=None, compressors=None, fill_value=0,
            attributes=attributes, overwrite=True,
        )  # fmt: skip
        array[:] = data
    holder.attrs[_DIGESTS] = sorted(there | wanted.keys())  # last, so that every listed file is complete


def carried(place: "locations.Place | zarr.Group", without: Collection[str] = ()) -> Carried:
    """The verified weights that a group, or a group around it, carries; those whose SHA-256 is in `without` are not read.

    There are none if there is no group. Weights that cannot be used are in `refused`, with the reason.
    """
    sources: dict[str, Source] = {}
    refused: list[Refused] = []
    for where, group in _groups(place):
        try:
            holder = group.get(GROUP)
            digests = [] if holder is None else _listed(holder)
        except (WeightsError, OSError, KeyError, TypeError, ValueError) as error:
            refused.append(Refused("", f"{where}/{GROUP} is damaged: {error}"))
            continue
        for key in digests:
            try:
                source = _proven(holder, key, f"{where}/{GROUP}/{key}", without)
            except (WeightsError, FormatVersionError) as error:
                refused.append(Refused(key, str(error)))
            else:
                if source is not None:
                    sources[source.sha256] = source
    return Carried(tuple(sources.values()), tuple(refused))


@contextlib.contextmanager
def using(place: "locations.Place | zarr.Group") -> Iterator[None]:
    """Use the weights that a group carries during a with block, without installing them.

    All threads of this process find them, those of dask too; other processes need them installed. Reading an array of the group
    raises `WeightsError` if the weights that it needs are refused.
    """
    with found_as_well(carried(place, {source.sha256 for source in installed()})):
        yield


def install(source: "locations.Location | zarr.Group") -> tuple[Source, ...]:
    """Copy weights to the user's folder, where they are found by their digest.

    Parameters
    ----------
    source
        A weights file (.safetensors), or a group that carries weights, at a path, in a zipped store (.ozx, .zip), or at a URL
        that fsspec opens.

    Returns
    -------
    The weights of the source, all of which are installed now.

    Raises
    ------
    WeightsError
        There are no weights, or some are damaged, are another kind of file, or have a digest that starts like that of others.
        Then nothing is installed.
    ParameterError
        There is no such file or group.
    """
    found = read(source)
    for one in found:
        _check(one)
    folder = user_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tuple(_write(one, folder / f"{one.sha256}{SUFFIX}") for one in found)
    except OSError as error:
        raise WeightsError(
            f"weights cannot be written to {folder}: {error}; set CAECODEC_USER_WEIGHTS to another folder"
        ) from error


def read(source: "locations.Location | zarr.Group") -> tuple[Source, ...]:
    """The weights in a file or a group. Raises the errors of `read_file` and `read_group`."""
    if isinstance(source, str | Path) and _is_file(source):
        return (read_file(source),)
    return read_group(source)


def read_file(source: locations.Location) -> Source:
    """The weights in a safetensors file at a path or URL.

    Raises WeightsError for another kind of file, and ParameterError if there is no file.
    """
    if not locations.is_url(source) and Path(source).suffix in CHECKPOINT_SUFFIXES:
        raise WeightsError(
            f"{source} is a checkpoint but must be a weights file (.safetensors); convert it: "
            f"caecodec export {source} -o NAME.safetensors"
        )
    data = locations.read_bytes(source, MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise WeightsError(f"{source} has more than {MAX_BYTES} bytes, the limit for a weights file; name another")
    return of_bytes(data, str(source))


def read_group(place: "locations.Location | zarr.Group") -> tuple[Source, ...]:
    """All weights that a group, or a group around it, carries.

    Raises WeightsError if there are none or one is refused, and ParameterError if there is no group or array.
    """
    found = carried(place)
    if found.refused:
        raise WeightsError(found.refused[0].reason)
    if not found.sources:
        if isinstance(place, str | Path):
            locations.open_node(place)  # for its errors
        raise WeightsError(f"{place} carries no weights; encode with --with-weights to store them in a group")
    return found.sources


def _is_file(source: locations.Location) -> bool:
    if locations.is_url(source):
        return str(source).endswith(SUFFIX)
    path = Path(source)
    return path.suffix in (SUFFIX, *CHECKPOINT_SUFFIXES) or (path.is_file() and not locations.is_zipped(path))


def _check(source: Source) -> None:
    """Raise WeightsError unless every quality loads, and no other weights have the same first bytes of the digest."""
    for quality in source.qualities:
        weights_file.quality_weights(file_bytes(source), quality, source.where)
    for other in installed():
        if other.digest == source.digest and other.sha256 != source.sha256:
            raise WeightsError(
                f"weights {source} have SHA-256 {source.sha256}, which starts like that of {other} at {other.where}; payloads "
                "could not tell them apart. Train them again, or do not trust them if they are not your own"
            )


def _write(source: Source, path: Path) -> Source:
    """Write a file that is complete or absent, even if others write it at the same time."""
    data = file_bytes(source)
    if not (path.is_file() and path.read_bytes() == data):
        partial = path.with_name(f".{path.stem}.{os.getpid()}-{uuid.uuid4().hex}.partial")
        try:
            with partial.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    # The latest installed file of a name is used, but clocks of file systems are too coarse to order two quick installations.
    others = (other.stat().st_mtime_ns for other in path.parent.glob(f"*{SUFFIX}") if other != path)
    latest = max(time.time_ns(), 1 + max(others, default=0))
    os.utime(path, ns=(latest, latest))
    return next(one for one in by_place()["installed"] if one.sha256 == source.sha256)


def _groups(place: "locations.Place | zarr.Group") -> Iterator[tuple[str, "zarr.Group"]]:
    """The group at a place and, for a folder, the groups around it; none if there is no group."""
    import zarr

    if isinstance(place, zarr.Group):
        yield place.path or str(place.store), place
        return
    local = not locations.is_url(place) and locations.as_path(place).is_dir()
    nodes: list[locations.Place] = [place]
    if local:
        for parent in locations.as_path(place).resolve().parents:
            if not locations.is_node(parent):
                break
            nodes.append(parent)
    for node in nodes:
        try:
            yield str(node), locations.open_group(node)
        except ParameterError:  # an array, or no Zarr data: reading it raises the error
            continue


def _listed(holder: Any) -> list[str]:
    """The keys of the arrays in a group of weights."""
    if not hasattr(holder, "members"):
        raise WeightsError("it is an array but must be a group")
    digests = holder.attrs.get(_DIGESTS)
    if not isinstance(digests, list) or len(digests) > _MAX_DIGESTS:
        raise WeightsError(f"its attribute {_DIGESTS!r} must be a list of at most {_MAX_DIGESTS} digests")
    for key in digests:
        if not isinstance(key, str) or not re.fullmatch(f"[0-9a-f]{{{_KEY_DIGITS}}}", key):
            raise WeightsError(f"its attribute {_DIGESTS!r} holds {key!r}, which is not the start of a digest")
    return digests


def _proven(holder: Any, key: str, where: str, without: Collection[str]) -> Source | None:
    """The verified weights in one array of a group, or None if they are in `without`; WeightsError for anything else."""
    try:
        array = holder[key]
        kind = f"{array.dtype} of shape {array.shape} in chunks of {array.chunks}"
        raw = array.dtype == np.uint8 and array.ndim == 1 and array.chunks == array.shape and _is_raw(array)
        size, sha256 = array.shape[0] if raw else 0, array.attrs.get("sha256")
    except (AttributeError, OSError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{where} cannot be opened as a Zarr array ({error!r}); store the weights again") from error
    if not raw:
        raise WeightsError(
            f"{where} is {kind}, but weights must be uint8 of one dimension, in one chunk and without codecs; store them again"
        )
    if not 0 < size <= MAX_BYTES:
        raise WeightsError(f"{where} has {size} bytes but a weights file has 1 to {MAX_BYTES}: it is not a weights file")
    if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256) or not sha256.startswith(key):
        raise WeightsError(
            f"{where} has SHA-256 {sha256!r} in its attributes but must have one that starts with {key}: it is damaged"
        )
    if sha256 in without:
        return None
    data = _chunk(array, size, where)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise WeightsError(f"{where} has SHA-256 {found} but must have {sha256}: it is damaged, or another file")
    source = of_bytes(data, where)
    weights_file.tensors(data, where)
    return source


def _is_raw(array: Any) -> bool:
    from zarr.codecs import BytesCodec

    plain = array.metadata.zarr_format == 2 or isinstance(array.serializer, BytesCodec)
    return bool(plain and array.shards is None and not array.filters and not array.compressors)


def _chunk(array: Any, size: int, where: str) -> bytes:
    """The bytes of the only chunk, which must be `size`; no more are read."""
    from zarr.abc.store import RangeByteRequest
    from zarr.core.buffer import default_buffer_prototype
    from zarr.core.sync import sync

    key = f"{array.path}/{array.metadata.encode_chunk_key((0,))}"
    try:
        buffer = sync(array.store.get(key, default_buffer_prototype(), RangeByteRequest(0, size)))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{where} cannot be read: {error}") from error
    data: bytes = b"" if buffer is None else buffer.to_bytes()[:size]
    if len(data) != size:
        lack = "is missing" if buffer is None else f"has {len(data)} bytes, not {size}"
        raise WeightsError(f"{where} is not complete: its chunk {lack}; copy the group again")
    return data
