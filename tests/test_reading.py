"""caecodec.read: parts of arrays, and of arrays in layers only the bytes of the layers that are wanted."""

import numpy as np
import pytest
import zarr
from helpers.images import random_image
from helpers.paths import TINY, TINY_LAYERS
from zarr.storage import MemoryStore, WrapperStore

import caecodec
from caecodec import settings
from caecodec.bitstream import directory, scalable
from caecodec.bitstream.first_layers import HEAD_BYTES

CHUNK = 48
INDEX_ENTRY, INDEX_CHECKSUM = 16, 4  # bytes of the index of a shard
LAYOUTS = {
    "v2": {"zarr_format": 2},
    "v3": {"zarr_format": 3},
    "shards": {"zarr_format": 3, "shards": (2 * CHUNK, 2 * CHUNK, 3)},
}


class CountingStore(WrapperStore):
    """Counts the bytes of chunks that are fetched, not those of documents."""

    fetched = 0

    async def get(self, key, prototype, byte_range=None):
        found = await super().get(key, prototype, byte_range)
        if found is not None and not key.endswith(("zarr.json", ".zarray", ".zattrs")):
            CountingStore.fetched += len(found)
        return found


def create(layout, image, codec, store):
    kinds = {2: {"compressors": codec}, 3: {"serializer": codec, "compressors": None}}
    extra = {**LAYOUTS[layout], **kinds[LAYOUTS[layout]["zarr_format"]]}
    array = zarr.create_array(store, shape=image.shape, dtype=image.dtype, chunks=(CHUNK, CHUNK, 3), **extra)
    array[...] = image
    return array


@pytest.fixture(scope="module")
def image():
    return random_image(3 * CHUNK, 2 * CHUNK, 3, seed=3)


@pytest.fixture(scope="module")
def codec():
    return caecodec.ScalableAutoencoder(weights=TINY_LAYERS)


def first_layers(codec, image, layers):
    """The image from the first layers of each chunk, and the bytes of these layers by chunk."""
    rows, ends = [], []
    for y in range(0, image.shape[0], CHUNK):
        row = [codec.encode(image[y : y + CHUNK, x : x + CHUNK]) for x in range(0, image.shape[1], CHUNK)]
        rows.append(np.concatenate([codec.decode(scalable.first_layers(payload, layers)) for payload in row], axis=1))
        ends += [scalable.layer_ends(directory.parse_directory(payload))[layers - 1] for payload in row]
    return np.concatenate(rows), np.array(ends)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_only_the_bytes_of_layers_are_fetched(layout, layers, image, codec):
    store = MemoryStore()
    create(layout, image, codec, store)
    array = zarr.open_array(CountingStore(store), mode="r+")
    expected, ends = first_layers(codec, image, layers)
    CountingStore.fetched = 0
    np.testing.assert_array_equal(caecodec.read(array, layers=layers), expected)
    index = 2 * (4 * INDEX_ENTRY + INDEX_CHECKSUM) if layout == "shards" else 0
    assert ends.sum() <= CountingStore.fetched - index <= np.maximum(ends, HEAD_BYTES).sum()
    part = np.s_[10:70:3, 50, 1:]
    np.testing.assert_array_equal(caecodec.read(array, part, layers=layers), expected[part])
    with settings.using(layers=layers):
        CountingStore.fetched = 0
        np.testing.assert_array_equal(array[part], expected[part])
        np.testing.assert_array_equal(caecodec.read(array), expected)
    np.testing.assert_array_equal(caecodec.read(array), array[...])


def test_zarr_fetches_only_layers_of_chunks_outside_shards(image, codec):
    store = MemoryStore()
    create("v3", image, codec, store)
    array = zarr.open_array(CountingStore(store), mode="r+")
    expected, ends = first_layers(codec, image, 1)
    with settings.using(layers=1):
        CountingStore.fetched = 0
        np.testing.assert_array_equal(array[...], expected)
    assert CountingStore.fetched <= np.maximum(ends, HEAD_BYTES).sum()


def test_more_layers_than_there_are(image, codec):
    array = create("v3", image, codec, MemoryStore())
    np.testing.assert_array_equal(caecodec.read(array, layers=8), array[...])


def test_chunks_that_are_not_stored_and_of_one_colour(codec):
    image = np.zeros((2 * CHUNK, CHUNK, 3), np.uint8)
    image[CHUNK:] = 77
    array = create("v3", image, codec, MemoryStore())
    np.testing.assert_array_equal(caecodec.read(array, layers=1), image)


def test_directories_longer_than_the_first_request(monkeypatch, image, codec):
    monkeypatch.setattr("caecodec.bitstream.first_layers.HEAD_BYTES", 7)
    array = create("v3", image, codec, MemoryStore())
    expected, _ = first_layers(codec, image, 2)
    np.testing.assert_array_equal(caecodec.read(array, layers=2), expected)


def test_paths_and_other_codecs(tmp_path, image):
    array = create("v3", image, caecodec.ConvolutionalAutoencoder(quality=4, weights=TINY), tmp_path / "a.zarr")
    np.testing.assert_array_equal(caecodec.read(tmp_path / "a.zarr", np.s_[:50]), array[:50])
    with pytest.raises(caecodec.ParameterError, match="layers is 2 but arrays of codec 'cae' have no layers"):
        caecodec.read(array, layers=2)
    with settings.using(layers=1):
        np.testing.assert_array_equal(caecodec.read(array), array[...])
    zarr.create_group(tmp_path / "g.zarr")
    with pytest.raises(caecodec.ParameterError, match="is a group but an array is needed"):
        caecodec.read(tmp_path / "g.zarr")


@pytest.mark.parametrize("layers", [0, -1, 9, True, "2"])
def test_numbers_of_layers_that_cannot_be(layers, image, codec):
    with pytest.raises(caecodec.ParameterError, match="layers is .* but must be an integer from 1 to 8"):
        caecodec.read(create("v3", image, codec, MemoryStore()), layers=layers)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_damage_in_a_layer_that_is_read(layout, image, codec):
    store = MemoryStore()
    array = create(layout, image, codec, store)
    key = next(key for key in store._store_dict if not key.endswith(("zarr.json", ".zarray", ".zattrs")))
    data = bytearray(store._store_dict[key].to_bytes())
    data[directory.parse_directory(data).entries[1].start] ^= 4  # of layer 1, of the first chunk of a shard
    store._store_dict[key] = type(store._store_dict[key]).from_bytes(bytes(data))
    with pytest.raises(caecodec.CorruptionError):
        caecodec.read(array, layers=1)
