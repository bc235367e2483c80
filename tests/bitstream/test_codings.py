"""Kinds of body, entropy models and kinds of bound by their wire ids, and names that registries add."""

import pytest
from helpers.images import random_image

import caecodec
from caecodec.bitstream import autoencoder, codings
from caecodec.bitstream.codings import (
    BYTES,
    ENTROPY_MODELS,
    PLAIN,
    ZSTD,
    Body,
    BoundKind,
    in_rgb_version,
    pack_bound_kind,
    pack_coding,
    parse_bound_kind,
    parse_coding,
)
from caecodec.bitstream.wire_ids import WireIds
from caecodec.errors import CorruptionError, FormatVersionError


def test_wire_ids_never_change():
    assert ENTROPY_MODELS == {0: "static", 1: "context", 2: "binary-context"}
    assert [parse_coding(number) for number in (0, 1, 3, 2, 15)] == [
        (Body.SYMBOLS, "static"), (Body.SYMBOLS, "context"), (Body.SYMBOLS, "binary-context"), (Body.BOUNDED, None),
        (Body.CONSTANT, None),
    ]  # fmt: skip
    assert [parse_bound_kind(bytes((number,))) for number in range(6)] == [
        BoundKind("predicted", "static"), BoundKind("predicted", "context"), PLAIN, ZSTD, BYTES,
        BoundKind("predicted", "binary-context"),
    ]  # fmt: skip


@pytest.fixture
def all_entropy_models(monkeypatch):
    """As many entropy models as the format has room for."""
    names = {number: f"model {number}" for number in range(14)}
    monkeypatch.setattr(codings, "ENTROPY_MODELS", WireIds("entropy model id", names, largest=13))
    return names.values()


def test_every_combination_has_numbers_of_its_own(all_entropy_models):
    bodies = [(Body.BOUNDED, None), (Body.CONSTANT, None), *((Body.SYMBOLS, name) for name in all_entropy_models)]
    assert [parse_coding(pack_coding(*body)) for body in bodies] == bodies
    assert sorted(pack_coding(*body) for body in bodies) == list(range(16))
    kinds = [PLAIN, ZSTD, BYTES, *(BoundKind("predicted", name) for name in all_entropy_models)]
    assert [parse_bound_kind(pack_bound_kind(kind)) for kind in kinds] == kinds
    assert sorted(pack_bound_kind(kind)[0] for kind in kinds) == list(range(17))


def test_which_codings_version_1_has(all_entropy_models):
    assert [number for number in range(16) if in_rgb_version(*parse_coding(number))] == [0, 1, 15]


def test_entropy_models_that_are_not_known():
    with pytest.raises(
        FormatVersionError, match="entropy model id of the payload is 3 but this caecodec knows 0, 1, 2; upgrade"
    ):
        parse_coding(4)
    with pytest.raises(FormatVersionError, match=r"unknown bound kind 6 \(known kinds: 0, 1, 2, 3, 4, 5\); upgrade"):
        parse_bound_kind(b"\x06")


def test_bounds_of_payloads_that_are_not_known():
    payload = autoencoder.parse(caecodec.encode(random_image(8, 8, 3), max_error=0))
    for bound, error, match in (
        (b"\x07" + payload.bound[1:], FormatVersionError, "unknown bound kind 7"),
        (b"", CorruptionError, "bound of the payload is empty"),
    ):
        with pytest.raises(error, match=match):
            caecodec.decode(autoencoder.pack(autoencoder.AutoencoderPayload(payload.header, bound=bound)))


def test_names_are_added_once():
    ids = WireIds("colour id", {0: "red"}, largest=2)
    ids.add(2, "blue")
    ids.add(2, "blue")
    assert ids == {0: "red", 2: "blue"}
    assert (ids.number("blue"), ids.name(2)) == (2, "blue")
    for number, name in ((2, "green"), (1, "red"), (3, "green"), (-1, "green")):
        with pytest.raises(ValueError, match=f"colour id {number} cannot stand for '{name}': it must be a free number"):
            ids.add(number, name)
    with pytest.raises(FormatVersionError, match="colour id of the payload is 1 but this caecodec knows 0, 2; upgrade"):
        ids.name(1)
