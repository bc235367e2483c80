"""The registry of entropy models, with one line for each."""

from typing import Any

from ..bitstream.codings import ENTROPY_MODELS
from . import binary_context, context, layered, static
from .model import EntropyModel

_models: dict[str, EntropyModel[Any]] = {}  # in order of preference


def register(model: EntropyModel[Any]) -> None:
    """Register an entropy model; ValueError if another one has its name or wire id.

    Weights that are already loaded get no tables of it.
    """
    global _models
    for other in _models.values():
        if model.name == other.name or model.wire_id == other.wire_id:
            raise ValueError(
                f"entropy model {model.name!r} (wire id {model.wire_id}) has the name or id of {other.name!r} "
                f"(wire id {other.wire_id}); choose another"
            )
    ENTROPY_MODELS.add(model.wire_id, model.name)
    known = [*_models.values(), model]
    known.sort(key=lambda one: -1 if one.preference is None else one.preference, reverse=True)
    _models = {one.name: one for one in known}


def unregister(name: str) -> None:
    """Remove the entropy model of this name."""
    ENTROPY_MODELS.remove(_models.pop(name).wire_id)


def models() -> tuple[EntropyModel[Any], ...]:
    """All registered entropy models, in the order in which writers prefer them."""
    return tuple(_models.values())


def every() -> tuple[EntropyModel[Any], ...]:
    """All entropy models that weights may have tables for: also that of layers, which no header of version 1 or 2 can name."""
    return (*models(), layered.MODEL)


def by_name(name: str) -> EntropyModel[Any]:
    """The entropy model of this name; KeyError if there is none."""
    return {model.name: model for model in every()}[name]


register(static.MODEL)
register(context.MODEL)
register(binary_context.MODEL)
