"""An entropy model from outside: registered, and then as good as one of caecodec's. It has no tables and no coder for a GPU."""

import zlib

import numpy as np
import pytest
import zarr
from helpers.images import random_image
from helpers.networks import save_seeded
from PIL import Image

import caecodec
from caecodec import engine, settings, weights
from caecodec.arrays.inspection import inspect
from caecodec.bitstream import autoencoder
from caecodec.bitstream.codings import ENTROPY_MODELS, PREDICTED, Body, BoundKind
from caecodec.chunks.axes import Axes
from caecodec.chunks.planes import Layout
from caecodec.chunks.spec import ChunkSpec
from caecodec.cli.main import main
from caecodec.codecs.autoencoder import bounded, codec
from caecodec.engine.cuda import CudaLine
from caecodec.entropy import registry
from caecodec.entropy.model import EntropyModel
from caecodec.entropy.streams import CodedSymbols
from caecodec.errors import CorruptionError
from caecodec.evaluation import evaluate
from caecodec.ngff import Options, decode_paths, encode_paths

IMAGE = random_image(100, 120, 3, seed=4)


class ToyModel(EntropyModel[None]):
    """Deflate of the symbols' bytes, in one stream."""

    name = "deflate"
    wire_id = next(number for number in range(ENTROPY_MODELS.largest, 0, -1) if number not in ENTROPY_MODELS)

    def parse(self, tensors, quality, channels):
        return ()

    def store(self, tables, quality):
        return {}

    def fit(self, batches):
        return ()

    def encode(self, symbols, tables):
        data = zlib.compress(symbols.astype("<i4").tobytes())
        return CodedSymbols((), data)

    def decode(self, coded, tables, shape):
        try:
            data = zlib.decompress(coded.escapes)
            return np.frombuffer(data, "<i4").astype(np.int32).reshape(shape)
        except (zlib.error, ValueError) as error:
            raise CorruptionError(f"payload holds no deflated symbols of shape {shape} ({error}): it is damaged") from error


@pytest.fixture(scope="module", autouse=True)
def model():
    model = ToyModel()
    registry.register(model)
    yield model
    registry.unregister(model.name)


@pytest.fixture(scope="module")
def tiny(model, tmp_path_factory):
    """Weights that nothing has loaded before the model was registered."""
    path = tmp_path_factory.mktemp("weights") / "fresh.safetensors"
    save_seeded(path, seed=77)
    with settings.using(weights=path.parent, precision="fp32"):
        yield path


@pytest.fixture(scope="module")
def expected(tiny):
    """The pixels do not depend on the entropy model."""
    return caecodec.decode(caecodec.encode(IMAGE, 4, weights=tiny, entropy="static"))


def options(path):
    return {"quality": 4, "weights": path, "entropy": "deflate"}


def test_payloads(tiny, model, expected):
    payload = caecodec.encode(IMAGE, **options(tiny))
    header = autoencoder.parse(payload).header
    assert (header.body, header.entropy) == (Body.SYMBOLS, "deflate")
    np.testing.assert_array_equal(caecodec.decode(payload), expected)
    assert autoencoder.parse(caecodec.encode(IMAGE, 4, weights=tiny)).header.entropy == "static"  # unless it is asked for
    planes = IMAGE.astype(np.float32)
    decoded = caecodec.decode(caecodec.encode(planes, **options(tiny)))
    np.testing.assert_array_equal(decoded, caecodec.decode(caecodec.encode(planes, 4, weights=tiny, entropy="static")))
    symbols = np.arange(-6, 6, dtype=np.int32).reshape(1, 12, 1, 1)
    assert model.code_length(symbols, ()) == 8 * len(model.encode(symbols, ()).escapes)


def test_bounds(tiny):
    payload = caecodec.encode(IMAGE, **options(tiny), max_error=1)
    assert np.abs(caecodec.decode(payload).astype(int) - IMAGE).max() <= 1
    parameters = caecodec.ConvolutionalAutoencoder(**options(tiny), max_error=1).parameters
    spec = ChunkSpec(IMAGE.shape, "uint8", Axes.of(3, -1), Layout(separate=False))
    chunk = codec.Chunk(IMAGE, spec, parameters, False)
    payload = chunk.on_grid(parameters.sources()[4], 4, bounded.Grid.of(IMAGE, 1), BoundKind(PREDICTED, "deflate"))
    assert np.abs(caecodec.decode(autoencoder.pack(payload)).astype(int) - IMAGE).max() <= 1


def test_damage(tiny):
    payload = autoencoder.parse(caecodec.encode(IMAGE, **options(tiny)))
    forged = autoencoder.AutoencoderPayload(payload.header, (), payload.escapes[:-3], planes=payload.planes)
    with pytest.raises(caecodec.CorruptionError, match="no deflated symbols"):
        caecodec.decode(autoencoder.pack(forged))


def test_a_device_leaves_it_to_the_cpu(tiny, model, expected):
    """The line of a device takes chunks in this coding; there is nothing that it could begin."""
    source = weights.open_file(tiny, "mse", 4)
    network = engine.PlacedNetwork(source, 4, engine.DevicePlacement("cpu", "fp32"))
    task = engine.ChunkTask(network, model, ChunkSpec(IMAGE.shape, "uint8", Axes.of(3, -1), Layout(separate=False)))
    line = CudaLine("cpu", engine.engine().load, engine.engine().cpu)
    encoding = line.encode(task, IMAGE)
    assert encoding.begun is None
    decoding = line.decode(task, encoding.result())
    assert decoding.begun is None
    np.testing.assert_array_equal(decoding.result(), expected)
    kept = line.decode(task, encoding.result(), keep=True).result()
    np.testing.assert_array_equal(kept.numpy(), expected)


def test_without_its_registration_payloads_say_that_they_are_newer(tiny, model):
    payload = caecodec.encode(IMAGE, **options(tiny))
    registry.unregister(model.name)
    try:
        with pytest.raises(caecodec.FormatVersionError, match=f"entropy model id of the payload is {model.wire_id}"):
            caecodec.decode(payload)
        with pytest.raises(
            caecodec.ParameterError, match="entropy is 'deflate' but must be 'binary-context', 'context', 'static'"
        ):
            caecodec.encode(IMAGE, **options(tiny))
    finally:
        registry.register(model)


@pytest.mark.parametrize("kind", ["v2", "v3", "shards"])
def test_zarr(tiny, kind):
    if kind == "v2":
        array = zarr.create_array(
            {}, data=IMAGE, chunks=(48, 48, 3), zarr_format=2, compressors=caecodec.ConvolutionalAutoencoder(**options(tiny))
        )
    else:
        array = zarr.create_array(
            {}, data=IMAGE, chunks=(48, 48, 3), shards=(96, 144, 3) if kind == "shards" else None,
            serializer=caecodec.zarr.ConvolutionalAutoencoder(**options(tiny)), compressors=None,
        )  # fmt: skip
    chunk = np.ascontiguousarray(IMAGE[:48, 48:96])
    found = caecodec.decode(caecodec.encode(chunk, 4, weights=tiny, entropy="static"))
    np.testing.assert_array_equal(array[:48, 48:96], found)
    assert array[:].shape == IMAGE.shape


def test_numcodecs(tiny, expected):
    codec = caecodec.ConvolutionalAutoencoder(**options(tiny))
    assert codec.get_config()["entropy"] == "deflate"
    np.testing.assert_array_equal(codec.decode(codec.encode(IMAGE)), expected)


def test_inspection(tiny, tmp_path):
    serializer = caecodec.zarr.ConvolutionalAutoencoder(**options(tiny))
    zarr.create_array(tmp_path / "a.zarr", data=IMAGE, chunks=(48, 48, 3), serializer=serializer, compressors=None)
    (report,) = inspect(tmp_path / "a.zarr")
    assert report.entropy == ("deflate",)


def test_conversion(tiny, tmp_path, expected):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    chosen = Options(quality=4, weights=str(tiny), entropy="deflate", chunk_size=128)
    encode_paths([tmp_path / "a.png"], tmp_path / "a.ome.zarr", chosen)
    (report, *_) = inspect(tmp_path / "a.ome.zarr")
    assert report.entropy == ("deflate",)
    decode_paths([tmp_path / "a.ome.zarr"], tmp_path / "b.png")
    assert np.asarray(Image.open(tmp_path / "b.png")).shape == expected.shape
    command = ["encode", str(tmp_path / "a.png"), "-o", str(tmp_path / "a.cae"), "-q", "4", "--weights", str(tiny)]
    assert main([*command, "--entropy", "deflate"]) == 0
    np.testing.assert_array_equal(caecodec.decode((tmp_path / "a.cae").read_bytes()), expected)


def test_evaluation(tiny, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    measured = evaluate(
        [tmp_path / "a.png"],
        tmp_path / "out",
        weights=[tiny],
        metrics=["mse"],
        entropy="deflate",
        codecs=[],
        chunk=64,
        samples=0,
    )
    assert len(measured.curves[0].points) == 2


@pytest.mark.parametrize("change", [{"wire_id": 1}, {"name": "static"}, {"wire_id": 99}])
def test_names_and_ids_are_taken_once(change):
    other = type("Other", (ToyModel,), {"name": "other", "wire_id": ToyModel.wire_id - 1, **change})
    with pytest.raises(ValueError, match="choose another|a free number"):
        registry.register(other())
    assert "other" not in [model.name for model in registry.models()]
