"""Whether the codec arrived: finds arrays that another codec coded, although metadata or the caller say that caecodec did."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import zarr
from zarr.errors import BaseZarrError

from .. import weights
from ..codecs.base import Codec, Parameters
from ..codecs.registry import codecs
from ..errors import ParameterError
from . import layers

ANY = "any"
CONVERSION = "caecodec_conversion"  # the attribute of a group in which a conversion notes its options
_LABELS = "labels"


class FoundArray(NamedTuple):
    """An array by its own document, under the name that messages call it.

    codec, parameters : None if it is not coded by caecodec
    consolidated : what the consolidated metadata of a group above it claim that is not so
    """

    name: str
    array: zarr.Array[Any]
    codec: Codec[Any, Any] | None
    parameters: Parameters | None
    consolidated: str = ""

    @classmethod
    def of(cls, name: str, array: zarr.Array[Any], member: bool, listed: bool = True) -> "FoundArray":
        """An array with what codes it.

        member : it was found through a group, whose metadata may be consolidated
        listed : these metadata know it, or there are none

        Raises ParameterError if only consolidated metadata know it.
        """
        try:
            own = zarr.open_array(array.store, path=array.path, mode="r") if member else array
        except (BaseZarrError, OSError, KeyError) as error:
            raise ParameterError(
                f"{name} is named by consolidated metadata but is not there, or has no document of its own ({error}); write "
                "these metadata anew (zarr.consolidate_metadata)"
            ) from error
        if not listed:
            claimed = "that it is not there"
        elif not layers.same(own, array):
            claimed = ", ".join(layers.names(array))
        elif (own.shape, own.dtype) != (array.shape, array.dtype):
            claimed = f"that it has shape {array.shape} and dtype {array.dtype}, not {own.shape} and {own.dtype}"
        else:
            claimed = ""
        try:
            return cls(name, own, *layers.coded_by(own), claimed)
        except ParameterError:
            return cls(name, own, None, None, claimed)

    def __str__(self) -> str:
        by = self.codec.name if self.codec else ", ".join(layers.names(self.array)) or "no codec"
        return f"{self.name} is coded by {by}"


def check_expected(expect: str | None) -> None:
    """Raise ParameterError unless `expect` is None, "any", or the name of a codec."""
    if expect not in (None, ANY, *codecs()):
        raise ParameterError(f"expect is {expect!r} but must be {ANY} or one of {', '.join(codecs())}")


def strays(node: zarr.Group | zarr.Array[Any], arrays: Sequence[FoundArray], expect: str | None) -> dict[str, str]:
    """A sentence on each of the arrays at or below `node` that is not coded as it should be, by the name of the array.

    expect : a codec that must code the levels of images, or all arrays if there are no images; "any": any codec of caecodec;
        None: what the metadata of groups say
    """
    stale = {
        one.name: f"{one}, but consolidated metadata above it say {one.consolidated}, so that reading through them goes wrong; "
        "write them anew (zarr.consolidate_metadata)"
        for one in arrays
        if one.consolidated
    }
    groups = list(_groups(node)) if isinstance(node, zarr.Group) else []
    return {**stale, **_uncoded(groups, arrays, expect)}


def _uncoded(groups: Sequence[zarr.Group], arrays: Sequence[FoundArray], expect: str | None) -> dict[str, str]:
    """A sentence on each of the arrays that the codec did not reach."""
    if expect is None:
        named = {path: why for group in groups for why in _reasons(group) for path in _levels(group) or _children(group)}
        wrong = [one for one in arrays if one.codec is None and one.array.path in named]
        return {one.name: f"{one}, not by caecodec, although {named[one.array.path]}" for one in wrong}
    levels = {path for group in groups for path in _levels(group)}
    wrong = [one for one in arrays if (not levels or one.array.path in levels) and not _is(one.codec, expect)]
    return {one.name: f"{one}, not by {'caecodec' if expect == ANY else expect}" for one in wrong}


def _is(codec: Codec[Any, Any] | None, expect: str) -> bool:
    return codec is not None and expect in (ANY, codec.name)


def _groups(root: zarr.Group) -> Iterator[zarr.Group]:
    """The group and those below it, without labels and weights."""
    yield root
    for _, member in root.members(max_depth=None):
        if isinstance(member, zarr.Group) and not {_LABELS, weights.GROUP} & set(member.path.split("/")):
            yield member


def _levels(group: zarr.Group) -> list[str]:
    """The paths in the store of the levels of an OME-NGFF image; none if the group is no image."""
    attributes: Any = group.attrs.asdict()
    try:
        datasets = attributes.get("ome", attributes)["multiscales"][0]["datasets"]
        return [_joined(group, dataset["path"]) for dataset in datasets]
    except (AttributeError, IndexError, KeyError, TypeError):
        return []


def _children(group: zarr.Group) -> list[str]:
    return [_joined(group, name) for name, member in group.members() if isinstance(member, zarr.Array)]


def _joined(group: zarr.Group, name: str) -> str:
    return f"{group.path}/{name}" if group.path else name


def _reasons(group: zarr.Group) -> Iterator[str]:
    """What in a group says that caecodec coded its arrays."""
    noted: Any = group.attrs.get(CONVERSION)
    if isinstance(noted, dict) and noted.get("codec") in codecs():
        yield f"the attribute {CONVERSION} of its group says codec {noted['codec']}"
    if weights.GROUP in group:
        yield f"its group carries weights in {weights.GROUP}"
