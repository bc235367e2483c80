"""The registry of families, with one line for each."""

from ..bitstream.autoencoder import FAMILIES
from .binary.family import BinaryFamily
from .depthwise.family import DepthwiseResidualFamily
from .factorized.family import Factorized
from .family import Family
from .residual_attention.family import ResidualAttentionFamily

DEFAULT = "bmshj2018-factorized"
_families: dict[str, Family] = {}


def register(family: Family) -> None:
    """Register a family; ValueError if another one has its name, stored name or wire id."""
    for other in _families.values():
        if {family.name, family.stored_name} & {other.name, other.stored_name} or family.wire_id == other.wire_id:
            raise ValueError(
                f"family {family.name!r} (stored as {family.stored_name!r}, wire id {family.wire_id}) has a name or id of "
                f"{other.name!r} (stored as {other.stored_name!r}, wire id {other.wire_id}); choose another"
            )
    _families[family.name] = family
    FAMILIES.add(family.wire_id, family.stored_name)


def unregister(name: str) -> None:
    """Remove the family of this name."""
    FAMILIES.remove(_families.pop(name).wire_id)


def families() -> tuple[Family, ...]:
    """All registered families."""
    return tuple(_families.values())


def by_name(name: str) -> Family:
    """The family of this name; KeyError if there is none."""
    return _families[name]


def by_stored_name(name: str) -> Family:
    """The family with this name in weights files; KeyError if there is none."""
    for family in _families.values():
        if family.stored_name == name:
            return family
    raise KeyError(name)


register(Factorized())
register(DepthwiseResidualFamily())
register(ResidualAttentionFamily())
register(BinaryFamily())
