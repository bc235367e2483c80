import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caecodec.bitstream import varint
from caecodec.errors import CorruptionError


@given(st.integers(0, 2**32 - 1), st.binary(max_size=3))
def test_varint_round_trip(value, rest):
    packed = varint.pack(value)
    assert varint.unpack(packed + rest, 0) == (value, len(packed))


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_varints_of_an_array_are_those_of_its_values(values):
    array = np.array(values, np.uint32)
    packed = varint.pack_many(array)
    assert packed == b"".join(map(varint.pack, values))
    np.testing.assert_array_equal(varint.unpack_many(packed, len(values)), array)


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x80\x80\x80\x80\x01", b"\xff\xff\xff\xff\x1f", b"\x80\x00"])
def test_bad_varint(data):
    with pytest.raises(CorruptionError, match="no valid integer"):
        varint.unpack(data, 0)


@pytest.mark.parametrize(
    ("data", "count"), [(b"\x01", 0), (b"\x01\x02", 1), (b"\x80", 1), (b"", 1), (b"\x80" * 6 + b"\x01", 1)]
)
def test_bad_varint_array(data, count):
    with pytest.raises(CorruptionError, match="escape list"):
        varint.unpack_many(data, count)
