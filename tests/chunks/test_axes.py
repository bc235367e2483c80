import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caecodec.chunks import planes
from caecodec.chunks.axes import Axes, check_chunk
from caecodec.chunks.planes import Layout
from caecodec.errors import ParameterError

RGB = Layout(separate=False)


@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.data())
def test_round_trip_of_any_layout(others, data):
    channel_axis = data.draw(st.integers(-len(others) - 1, len(others)))
    position = channel_axis % (len(others) + 1)
    shape = (*others[:position], 3, *others[position:])
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    axes = check_chunk(array.shape, array.dtype, channel_axis)
    images = planes.to_images(array, axes, RGB)
    assert images.shape == (np.prod(others[:-2], dtype=int), 3, *others[-2:])
    assert images.dtype == np.float32
    np.testing.assert_array_equal(planes.to_array(images, shape, array.dtype, axes, RGB), array)


def test_where_the_values_go():
    array = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    images = planes.to_images(array, Axes.of(4, -1), RGB)
    assert images[1, 2, 3, 4] == np.float32(array[1, 3, 4, 2]) / np.float32(255)


def test_pixels_are_rounded_and_limited():
    images = np.array([-0.1, 0.49 / 255, 0.51 / 255, 254.4 / 255, 254.6 / 255, 1.2], np.float32).repeat(3).reshape(1, 1, 6, 3)
    chunk = planes.to_array(images.transpose(0, 3, 1, 2), (1, 6, 3), np.dtype(np.uint8), Axes.of(3, -1), RGB)
    assert chunk[0, :, 0].tolist() == [0, 0, 1, 254, 255, 255]


@pytest.mark.parametrize(("shape", "dtype", "channel_axis", "match"), [
    ((8, 8, 3), np.uint32, -1, "dtype is uint32"),
    ((8, 8, 3), np.float16, -1, "dtype is float16.*astype"),
    ((8, 8, 3), np.complex64, -1, "dtype is complex64.*lossless"),
    ((8, 8, 3), object, -1, "dtype is object"),
    ((8, 8, 3), [("a", "u1")], -1, "dtype is "),
    ((8, 8, 3), ">u2", -1, "dtype is >u2"),
    ((8, 8, 3), bool, -1, "labels and masks.*lossless"),
    ((8, 8, 40), np.uint8, -1, "40 channels along axis -1"),
    ((64, 8, 3), np.uint8, 0, "64 channels along axis 0"),
    ((8, 3), np.uint8, -1, "2 axes.*channel_axis=None"),
    ((192,), np.uint8, -1, "1 axes"),
    ((1,) * 6 + (8, 8, 3), np.uint8, -1, "9 axes"),
    ((8, 8, 3), np.uint8, 3, "-3 to 2"),
    ((8,), np.uint8, None, "1 axes"),
    ((0, 8, 3), np.uint8, -1, "0 values"),
    ((2**16, 2**16, 3), np.uint8, -1, "smaller chunks"),
])  # fmt: skip
def test_chunks_it_cannot_take(shape, dtype, channel_axis, match):
    with pytest.raises(ParameterError, match=match):
        check_chunk(shape, np.dtype(dtype), channel_axis)


def test_constant():
    axes = Axes.of(3, 0)
    array = np.empty((3, 4, 5), np.uint8)
    array[:] = np.array([1, 2, 3])[:, None, None]
    colour = planes.constant(array, axes)
    assert colour.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(planes.fill(colour, array.shape, axes), array)
    array[1, 3, 4] += 1
    assert planes.constant(array, axes) is None
