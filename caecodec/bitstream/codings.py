"""Kinds of body, entropy models and kinds of bound: three enumerations, and which of their combinations payloads can name.

The coding in a header of version 1 or 2 names a kind of body and, for symbols, their entropy model (FORMAT.md, 3). The first
byte of a bound names a kind of residual and, for predicted ones, the entropy model of the symbols (FORMAT.md, 12).
"""

from enum import Enum
from typing import NamedTuple, TypeVar

from ..errors import CorruptionError, FormatVersionError
from .wire_ids import WireIds

ENTROPY_MODELS = WireIds("entropy model id", {0: "static", 1: "context", 2: "binary-context"}, largest=13)
Value = TypeVar("Value")


class Body(Enum):
    """What the body of a payload holds."""

    SYMBOLS = "symbols"
    BOUNDED = "bounded"
    CONSTANT = "constant"


class BoundKind(NamedTuple):
    """How the values of a bounded chunk are coded.

    residual : "predicted" (from the reconstruction of symbols), "plain" (from neighbours), "zstd" or "bytes" (the chunk itself)
    entropy : the entropy model of the symbols; None unless the residual is predicted
    """

    residual: str
    entropy: str | None = None


PREDICTED = "predicted"
PLAIN = BoundKind("plain")
ZSTD = BoundKind("zstd")
BYTES = BoundKind("bytes")

# Wire ids. Literals: never reused, never renumbered.
_BODIES = {2: Body.BOUNDED, 15: Body.CONSTANT}  # all other codings are symbols
_RGB_CODINGS = (0, 1, 15)  # those that format version 1 has
_SYMBOLS = {0: 0, 1: 1, 3: 2, 4: 3, 5: 4, 6: 5, 7: 6, 8: 7, 9: 8, 10: 9, 11: 10, 12: 11, 13: 12, 14: 13}  # entropy models
_BOUNDS = {2: PLAIN, 3: ZSTD, 4: BYTES}  # all other kinds are predicted
_PREDICTED = {0: 0, 1: 1, 5: 2, 6: 3, 7: 4, 8: 5, 9: 6, 10: 7, 11: 8, 12: 9, 13: 10, 14: 11, 15: 12, 16: 13}  # entropy models


def pack_coding(body: Body, entropy: str | None) -> int:
    """The number, 0 to 15, that names a kind of body and, for symbols, their entropy model."""
    if body is Body.SYMBOLS:
        assert entropy is not None
        return _number(_SYMBOLS, ENTROPY_MODELS.number(entropy))
    return _number(_BODIES, body)


def parse_coding(number: int) -> tuple[Body, str | None]:
    """What a number from 0 to 15 names; FormatVersionError for an entropy model that is not known here."""
    if number in _BODIES:
        return _BODIES[number], None
    return Body.SYMBOLS, ENTROPY_MODELS.name(_SYMBOLS[number])


def in_rgb_version(body: Body, entropy: str | None) -> bool:
    """Whether format version 1 has such bodies."""
    return pack_coding(body, entropy) in _RGB_CODINGS


def pack_bound_kind(kind: BoundKind) -> bytes:
    """The first byte of a bound."""
    if kind.entropy is not None:
        return bytes((_number(_PREDICTED, ENTROPY_MODELS.number(kind.entropy)),))
    return bytes((_number(_BOUNDS, kind),))


def parse_bound_kind(bound: bytes) -> BoundKind:
    """The kind that a bound begins with.

    Raises
    ------
    CorruptionError
        The bound is empty.
    FormatVersionError
        A kind that is not known here.
    """
    if not bound:
        raise CorruptionError(
            "bound of the payload is empty but must begin with its kind: the payload is damaged; restore it from a copy"
        )
    known = {**_BOUNDS, **{number: PREDICTED for number, entropy in _PREDICTED.items() if entropy in ENTROPY_MODELS}}
    if bound[0] not in known:
        kinds = ", ".join(map(str, sorted(known)))
        raise FormatVersionError(f"unknown bound kind {bound[0]} (known kinds: {kinds}); upgrade caecodec")
    return _BOUNDS.get(bound[0]) or BoundKind(PREDICTED, ENTROPY_MODELS[_PREDICTED[bound[0]]])


def _number(table: dict[int, Value], value: Value) -> int:
    return next(number for number, known in table.items() if known == value)
