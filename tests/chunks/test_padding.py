"""What counts as padding of a chunk, and that it is put back bit by bit."""

import numpy as np
import pytest
import torch
from helpers.padding import FILLS, axes_of, bits, cases, chunk_of, padded, picture
from hypothesis import given
from hypothesis import strategies as st

from caecodec.chunks.axes import Axes
from caecodec.chunks.padding import trim, trim_tensor


@st.composite
def chunks(draw):
    """A content, the shape of a chunk around it, a fill value, and the channel axis."""
    dtype = draw(st.sampled_from(sorted(FILLS)))
    spatial = [draw(st.integers(3, 9)) for _ in range(2)]
    leading = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(0, 2)))]
    channel_axis = draw(st.sampled_from([None, -1, -3]))
    content = picture(*leading, *([] if channel_axis is None else [draw(st.integers(1, 5))]), *spatial, dtype=dtype)
    content = np.moveaxis(content, -3, -1) if channel_axis == -1 else content
    axes = Axes.of(content.ndim, channel_axis)
    margins = [0 if axis == axes.channel else draw(st.integers(0, 4)) for axis in range(content.ndim)]
    shape = tuple(n + margin for n, margin in zip(content.shape, margins, strict=True))
    return content, shape, draw(st.sampled_from(FILLS[dtype])), axes, draw(st.sampled_from("CF"))


@given(case=chunks())
def test_rows_columns_and_images_are_taken_off_and_put_back(case):
    content, shape, fill, axes, order = case
    chunk = np.asarray(padded(content, shape, fill), order=order)
    found, padding = trim(chunk, axes)
    np.testing.assert_array_equal(bits(found), bits(content))
    if padding is None:
        assert found is chunk
        assert shape == content.shape
        return
    assert (padding.shape, padding.value.dtype) == (shape, content.dtype)
    np.testing.assert_array_equal(bits(padding.restore(found)), bits(chunk))
    np.testing.assert_array_equal(bits(padding.restore(torch.from_numpy(found.copy())).numpy()), bits(chunk))
    if chunk.flags.f_contiguous and not chunk.flags.c_contiguous:
        assert found.flags.f_contiguous


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: case[0])
def test_every_case(case):
    found, padding = trim(chunk_of(case), axes_of(case))
    np.testing.assert_array_equal(bits(found), bits(case[1]))
    assert padding.shape == case[2]


def test_values_that_look_alike():
    """-0.0 is not 0.0, and one NaN not another."""
    chunk = np.zeros((4, 6), np.float32)
    chunk[0, 0] = 1
    chunk[2] = -0.0
    found, padding = trim(chunk, Axes.of(2, None))
    assert (found.shape, bits(padding.value).item()) == ((3, 6), 0)
    other = np.array([0x7FC00001], "u4").view(np.float32)[0]
    chunk[2], chunk[3] = other, np.nan
    found, padding = trim(chunk, Axes.of(2, None))
    assert found.shape == (3, 6)
    np.testing.assert_array_equal(bits(padding.restore(found)), bits(chunk))


def unpadded():
    flat = np.full((8, 9, 3), 200, np.uint8)
    rgb = np.moveaxis(picture(3, 8, 9), 0, -1)
    yield "one value", flat, -1
    yield "one colour", flat * np.arange(1, 4, dtype=np.uint8) // 4, -1
    yield "one colour of 16 bits", np.full((8, 9, 3), (4, 5, 6), np.uint16), -1
    yield "planes of one value", np.stack([np.zeros((4, 5)), np.full((4, 5), np.pi)]), None
    yield "no blue", rgb * np.uint8([1, 1, 0]), -1
    yield "a last channel of one value", np.concatenate([picture(1, 8, 9), np.full((1, 8, 9), 7, np.uint8)]), 0
    yield "a row", picture(1, 9), None
    yield "a pixel", picture(1, 1), None
    yield "a last row of two values", np.concatenate([rgb, np.full((1, 9, 3), (0, 0, 1), np.uint8)]), -1


@pytest.mark.parametrize(("array", "channel_axis"), [pytest.param(*case, id=name) for name, *case in unpadded()])
def test_what_is_no_padding(array, channel_axis):
    found, padding = trim(array, Axes.of(array.ndim, channel_axis))
    assert found is array
    assert padding is None


@pytest.mark.parametrize(("margin", "dtype"), [(2, "uint8"), (1, "float32"), (3, "int16")])
def test_channels(margin, dtype):
    content = picture(2, 8, 9, dtype=dtype)
    found, padding = trim(padded(content, (2 + margin, 8, 9), 5), Axes.of(3, 0))
    np.testing.assert_array_equal(found, content)
    assert padding.value == 5


def test_tensors():
    for chunk, shape in ((picture(3, 8, 9), (3, 8, 9)), (padded(picture(3, 5, 9), (3, 8, 9), 255), (3, 5, 9))):
        found, padding = trim_tensor(torch.from_numpy(chunk), Axes.of(3, 0))
        assert tuple(found.shape) == shape
        assert (padding is None) == (shape == chunk.shape)
