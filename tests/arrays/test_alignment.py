import numpy as np
import pytest
import zarr
from helpers.images import random_image
from hypothesis import example, given
from hypothesis import strategies as st

import caecodec
from caecodec.arrays import payloads
from caecodec.arrays.alignment import check_aligned


class Grid:
    """The shape and chunks of an array."""

    def __init__(self, shape, chunks):
        self.shape, self.chunks = shape, chunks


@st.composite
def selections(draw):
    """A grid and a selection of it."""
    axes = draw(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 5)), min_size=1, max_size=3))
    parts = []
    for length, _ in axes:
        cut = st.slices(length).filter(lambda s: s.step in (None, 1))
        parts.append(draw(st.one_of(st.integers(-length, length - 1), cut, st.just(slice(None)))))
    keep = draw(st.integers(0, len(parts)))
    selection = tuple(parts[:keep]) + ((...,) if keep < len(parts) and draw(st.booleans()) else ())
    return Grid(*zip(*axes, strict=True)), selection


@given(selections())
@example((Grid((8,), (3,)), (slice(6, 8),)))
@example((Grid((8,), (3,)), (slice(3, 6),)))
def test_it_refuses_just_what_writes_parts_of_chunks(case):
    grid, selection = case
    written = np.zeros(grid.shape, bool)
    written[selection] = True
    blocks = [
        written[tuple(slice(i * c, (i + 1) * c) for i, c in zip(at, grid.chunks, strict=True))]
        for at in np.ndindex(*(-(-n // c) for n, c in zip(grid.shape, grid.chunks, strict=True)))
    ]
    touched = sum(block.any() for block in blocks)
    parts = sum(block.any() and not block.all() for block in blocks)
    if not parts:
        check_aligned(grid, selection)
    else:
        with pytest.raises(caecodec.ParameterError, match=f"a part of {parts} of the {touched} chunks"):
            check_aligned(grid, selection)


@given(st.integers(1, 12), st.integers(1, 5), st.slices(12))
def test_steps_are_refused_but_for_chunks_of_one_position(length, chunk, part):
    written = np.zeros(length, bool)
    written[part] = True
    blocks = np.split(written, range(chunk, length, chunk))
    try:
        check_aligned(Grid((length,), (chunk,)), part)
    except caecodec.ParameterError:
        return
    assert all(block.all() or not block.any() for block in blocks)


def test_what_it_suggests_is_aligned():
    grid = Grid((100, 90, 3), (32, 32, 3))
    with pytest.raises(caecodec.ParameterError, match=r"part of 2 of the 2 chunks .* such as \[32:96, 64:90, 0:3\]"):
        check_aligned(grid, np.s_[40:90, 64:90, 1])
    check_aligned(grid, np.s_[32:96, 64:90, 0:3])
    check_aligned(grid, np.s_[32:96, 64:90])
    check_aligned(grid, ...)
    check_aligned(grid, ())
    check_aligned(grid, np.s_[5:5])


@pytest.mark.parametrize("selection", [
    np.s_[::-1], np.s_[100], np.s_[-101], np.s_[0, 0, 0, 0], np.s_[..., ...], [1, 2], np.array([True]), 1.5, "a",
    slice("a", "b"),
])  # fmt: skip
def test_other_selections(selection):
    with pytest.raises(caecodec.ParameterError):
        caecodec.check_aligned(Grid((100, 90, 3), (32, 32, 3)), selection)


@pytest.mark.parametrize("options", [
    {"chunks": (32, 32, 3)}, {"chunks": (32, 32, 3), "shards": (64, 64, 3)}, {"chunks": (32, 32, 3), "zarr_format": 2},
])  # fmt: skip
def test_zarr_leaves_other_chunks_alone_where_it_passes(tiny, options):
    """In shards too, though they are written anew: the payloads of their other chunks are copied."""
    image = random_image(90, 100, 3)
    if "zarr_format" in options:
        codecs = {"compressors": caecodec.ConvolutionalAutoencoder(quality=4, weights=tiny)}
    else:
        codecs = {"serializer": caecodec.zarr.ConvolutionalAutoencoder(quality=4, weights=tiny), "compressors": None}
    array = zarr.create_array({}, data=image, **codecs, **options)
    before, pixels = set(payloads.payloads(array)), array[:]
    whole = np.s_[32:90, 64:100]
    caecodec.check_aligned(array, whole)
    array[whole] = 255 - image[whole]
    after = set(payloads.payloads(array))
    assert len(before & after) == 12 - 4
    for row, column in np.ndindex(3, 4):
        if row == 0 or column < 2:
            part = np.s_[32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
            np.testing.assert_array_equal(array[part], pixels[part])
    part = np.s_[:33, :32]
    with pytest.raises(caecodec.ParameterError, match="part of 1 of the 2 chunks"):
        caecodec.check_aligned(array, part)
    array[part] = 0
    assert len(after & set(payloads.payloads(array))) == 12 - 2
