"""One object for both formats: the numcodecs class as `serializer=` of Zarr v3; and one signature for both classes."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import zarr
from helpers.images import random_image
from helpers.networks import save_layers
from helpers.paths import TINY, TINY_LAYERS
from zarr.codecs import ShardingCodec

import caecodec
from caecodec.codecs.autoencoder.parameters import AutoencoderParameters
from caecodec.codecs.overfitted.parameters import OverfittedParameters
from caecodec.codecs.scalable.parameters import LAYERED, ScalableParameters

IMAGE = random_image(64, 64, 3)
CODEC = caecodec.ConvolutionalAutoencoder(4, weights=TINY)
CHUNK = (32, 32, 3)


def create(**options):
    return zarr.create_array({}, **{"data": IMAGE, "chunks": CHUNK, "compressors": None, **options})


@pytest.mark.parametrize("options", [
    {"serializer": CODEC},
    {"serializer": CODEC, "shards": (64, 64, 3)},
    {"serializer": ShardingCodec(chunk_shape=CHUNK, codecs=[CODEC]), "chunks": (64, 64, 3)},
])  # fmt: skip
def test_as_serializer(options):
    """It becomes the class of caecodec.zarr, in metadata and payloads alike."""
    other = caecodec.zarr.ConvolutionalAutoencoder(4, weights=TINY)
    expected = create(serializer=other)
    array = create(**options)
    np.testing.assert_array_equal(array[:], expected[:])
    if "shards" not in options and options["serializer"] is CODEC:
        assert array.serializer == other
        assert array.metadata.to_dict() == expected.metadata.to_dict()
        assert array.store_path.store._store_dict.keys() == expected.store_path.store._store_dict.keys()


def test_the_same_object_as_compressor():
    v2 = create(zarr_format=2, compressors=CODEC)
    assert v2.metadata.compressor is CODEC
    assert v2.metadata.to_dict()["compressor"] == CODEC.get_config()
    np.testing.assert_array_equal(v2[:], create(serializer=CODEC)[:])
    old = zarr.create(shape=IMAGE.shape, chunks=CHUNK, dtype="uint8", codecs=[CODEC], zarr_format=3)
    old[:] = IMAGE
    np.testing.assert_array_equal(old[:], v2[:])


def test_overfitted():
    codec = caecodec.OverfittedAutoencoder(2, preset="instant", seed=4)
    serializer = create(serializer=codec, shape=IMAGE.shape, dtype="uint8", data=None).serializer
    assert serializer == caecodec.zarr.OverfittedAutoencoder(2, preset="instant", seed=4)


def test_scalable():
    codec = caecodec.ScalableAutoencoder(2, weights=TINY_LAYERS)
    serializer = create(serializer=codec, shape=IMAGE.shape, dtype="uint8", data=None).serializer
    assert serializer == caecodec.zarr.ScalableAutoencoder(2, weights=TINY_LAYERS)


def test_gpu_goes_along_and_is_not_stored():
    array = create(serializer=caecodec.ConvolutionalAutoencoder(4, weights=TINY, gpu=False))
    assert array.serializer.gpu is False
    assert array.metadata.to_dict()["codecs"][0]["configuration"] == CODEC.parameters.config()
    assert create(serializer=CODEC).serializer.gpu is None


def test_copies_keep_it():
    for other in (pickle.loads(pickle.dumps(CODEC)), copy.copy(CODEC), copy.deepcopy(CODEC)):
        assert other == CODEC
        assert create(serializer=other).serializer.parameters == CODEC.parameters


@pytest.mark.parametrize(("options", "match"), [
    ({"compressors": CODEC, "serializer": "auto"}, r"BytesBytesCodec.*caecodec\.zarr\.ConvolutionalAutoencoder"),
    ({"filters": [CODEC]}, r"ArrayArrayCodec.*caecodec\.zarr\.ConvolutionalAutoencoder"),
    (
        {"zarr_format": 2, "compressors": caecodec.zarr.ConvolutionalAutoencoder(4, weights=TINY)},
        r"numcodecs\.abc\.Codec.*caecodec\.zarr\.ConvolutionalAutoencoder",
    ),
])  # fmt: skip
def test_other_places_are_refused(options, match):
    with pytest.raises((TypeError, ValueError), match=match):
        create(**options)


def defaults(function):
    return {name: one.default for name, one in inspect.signature(function).parameters.items() if name != "array"}


@pytest.fixture
def layered(tmp_path, monkeypatch):
    """Weights of layers with the name of the default ones."""
    save_layers(tmp_path / f"{LAYERED}.safetensors")
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(tmp_path))


@pytest.mark.usefixtures("layered")
@pytest.mark.parametrize(("surfaces", "parameters"), [
    ((caecodec.ConvolutionalAutoencoder, caecodec.zarr.ConvolutionalAutoencoder, caecodec.encode), AutoencoderParameters),
    ((caecodec.OverfittedAutoencoder, caecodec.zarr.OverfittedAutoencoder), OverfittedParameters),
    ((caecodec.ScalableAutoencoder, caecodec.zarr.ScalableAutoencoder), ScalableParameters),
])  # fmt: skip
def test_signatures_agree(surfaces, parameters):
    first, *others = map(defaults, surfaces)
    for other in others:
        assert list(other.items()) == list(first.items())
    stored = {name: value for name, value in first.items() if name != "gpu"}
    assert set(stored) == set(parameters().arguments())
    assert parameters.parse(**stored) == parameters.parse()
