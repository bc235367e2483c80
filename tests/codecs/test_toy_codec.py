"""A codec that this file adds: registered, it goes through everything that the codecs of the package go through.

It drops low bits of integers and deflates the rest, and writes format version 4.
"""

import inspect
import json
import pickle
import zlib
from dataclasses import dataclass
from functools import partial

import numcodecs
import numpy as np
import pytest
import zarr
from helpers.images import random_image
from PIL import Image

import caecodec
from caecodec.bitstream import directory
from caecodec.bitstream.prefix import Prefix
from caecodec.chunks.axes import check_chunk
from caecodec.chunks.pending import Pending
from caecodec.cli.main import main
from caecodec.codecs import registry
from caecodec.codecs.base import Codec, Decoding, Description, Option, Parameters
from caecodec.codecs.reports import Report
from caecodec.evaluation import evaluate
from caecodec.ngff import Options, decode_paths, encode_paths

FAMILY = 251  # of those that FORMAT.md leaves to tests
VALUES, COMMENT = 0, 200


@dataclass(frozen=True)
class ToyParameters(Parameters):
    bits: int = 8
    channel_axis: int | None = -1

    @classmethod
    def parse(cls, **arguments):
        parsed = cls(**arguments)
        if not 1 <= parsed.bits <= 8:
            raise caecodec.ParameterError(f"bits is {parsed.bits} but must be 1 to 8")
        return parsed


class ToyArguments:
    def __init__(self, bits: int = 8, channel_axis: int | None = -1, gpu: bool | None = None) -> None:
        object.__setattr__(self, "parameters", ToyParameters.parse(bits=bits, channel_axis=channel_axis))
        object.__setattr__(self, "gpu", gpu)
        super().__init__()


@dataclass(frozen=True, kw_only=True)
class ToyReport(Report):
    value_bytes: int = 0
    kinds: tuple[str, ...] = ()

    def model(self):
        return {"model": f"toy, {', '.join(self.kinds)}", "asked for": self.asked}

    def parts(self):
        return {**super().parts(), "values": self.value_bytes}


class Toy(Codec[ToyParameters, directory.DirectoryPayload]):
    name = "toy"
    codec_id = "caecodec_toy"
    zarr_name = "caecodec.toy"
    report = ToyReport
    heading = "of codec toy"
    options = (Option("bits", "1 to 8; default 8", int),)

    def parse(self, **arguments):
        return ToyParameters.parse(**arguments)

    def owns(self, version, family):
        return (version, family) == (4, FAMILY)

    def encode(self, parameters, array, gpu=None):
        axes = check_chunk(array.shape, array.dtype, parameters.channel_axis)
        fortran = array.flags.f_contiguous and not array.flags.c_contiguous
        kept = array if array.dtype.kind == "f" else array >> (8 - parameters.bits) << (8 - parameters.bits)
        values = zlib.compress(np.ascontiguousarray(kept, kept.dtype.newbyteorder("<")).tobytes())
        sections = [directory.Section(COMMENT, b"toy"), directory.Section(VALUES, values)]
        return directory.pack(Prefix(FAMILY, array.shape, axes.channel, fortran, array.dtype.name), sections)

    def parse_payload(self, data):
        return directory.parse(data, {VALUES})

    def start_decode(self, payload, dependencies, gpu=None, keep=False):
        return Decoding(Pending(partial(self._decode, payload)), payload.header.fortran)

    def _decode(self, payload):
        header = payload.header
        values = np.frombuffer(zlib.decompress(payload.sections[0].data), header.numpy_dtype.newbyteorder("<"))
        return values.astype(header.dtype).reshape(header.shape)

    def describe(self, payload):
        values = len(payload.sections[0].data)
        size = len(directory.pack(payload.header, [directory.Section(COMMENT, b"toy"), *payload.sections]))
        parts = {"header_bytes": size - values, "value_bytes": values}
        return Description(payload.header.version, parts=parts, facts={"kinds": payload.header.dtype})

    def summary(self, parameters):
        return {"asked": f"{parameters.bits} bits"}

    def operating_points(self, qualities=None):
        return [(f"{bits} bits", ToyParameters(bits)) for bits in qualities or range(1, 9)]


TOY = Toy()


class ToyCompressor(ToyArguments, caecodec.numcodecs.Compressor):
    """For numcodecs."""

    codec_id = Toy.codec_id
    codec = TOY


class ToySerializer(ToyArguments, caecodec.zarr.Serializer):
    """For zarr."""

    codec = TOY


@pytest.fixture
def toy():
    """The codec, registered for the length of a test; zarr forgets none."""
    registry.register(TOY)
    numcodecs.register_codec(ToyCompressor)
    zarr.registry.register_codec(Toy.zarr_name, ToySerializer)
    yield TOY
    registry.unregister("toy")
    numcodecs.registry.codec_registry.pop(Toy.codec_id)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(random_image(48, 70, 3)).save(path)
    return path


def coarse(array, bits):
    return array >> (8 - bits) << (8 - bits)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_encode_and_decode(toy, dtype, order):
    array = np.asarray(random_image(20, 30, 3).astype(dtype), order=order)
    payload = toy.encode(toy.parse(), array)
    decoded = caecodec.decode(payload, expected_shape=array.shape, expected_dtype=dtype)
    np.testing.assert_array_equal(decoded, array)
    assert (decoded.dtype, decoded.flags.f_contiguous) == (array.dtype, order == "F")
    with pytest.raises(caecodec.CorruptionError, match="is expected here"):
        caecodec.decode(payload, expected_shape=(30, 20, 3))
    for damaged in (payload[:-1], payload[:40] + bytes((payload[40] ^ 1,)) + payload[41:]):
        with pytest.raises(caecodec.CorruptionError):
            caecodec.decode(damaged)


def test_the_registry(toy):
    payload = toy.encode(toy.parse(), random_image(8, 8, 3))
    assert registry.owner(payload) is toy
    assert list(registry.codecs()) == ["cae", "overfitted", "sae", "toy"]
    with pytest.raises(ValueError, match="'toy' is registered already"):
        registry.register(TOY)
    registry.unregister("toy")
    with pytest.raises(caecodec.FormatVersionError, match=f"family {FAMILY} of format version 4"):
        caecodec.decode(payload)
    with pytest.raises(caecodec.CorruptionError):
        caecodec.decode(payload[:-1])
    registry.register(TOY)


def test_numcodecs(toy):
    codec, array = ToyCompressor(5), random_image(16, 24, 3)
    assert codec.get_config() == {"id": "caecodec_toy", "bits": 5, "channel_axis": -1}
    assert numcodecs.get_codec(codec.get_config()) == codec == pickle.loads(pickle.dumps(codec))
    assert repr(codec) == "ToyCompressor(bits=5, channel_axis=-1)"
    np.testing.assert_array_equal(codec.decode(codec.encode(array)), coarse(array, 5))
    out = np.empty_like(array)
    assert codec.decode(codec.encode(array), out=out) is out
    with pytest.raises(caecodec.ParameterError, match="bits is 9"):
        ToyCompressor(9)
    for surface in (ToyCompressor, ToySerializer):
        assert list(inspect.signature(surface).parameters) == ["bits", "channel_axis", "gpu"]


LAYOUTS = {
    "v2": {"zarr_format": 2, "compressors": ToyCompressor(5)},
    "v3": {"serializer": ToySerializer(5), "compressors": None},
    "v3 by the other class": {"serializer": ToyCompressor(5), "compressors": None},
    "shards": {"serializer": ToySerializer(5), "compressors": None, "shards": (64, 64, 3)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_zarr_and_inspection(toy, tmp_path, layout, capsys):
    image = random_image(96, 80, 3)
    path = tmp_path / "a.zarr"
    array = zarr.create_array(path, data=image, chunks=(32, 32, 3), **LAYOUTS[layout])
    np.testing.assert_array_equal(zarr.open_array(path, mode="r")[:], coarse(image, 5))
    tensor = caecodec.torch.read(array, np.s_[10:90, ::2], device="cpu")
    np.testing.assert_array_equal(tensor.numpy(), coarse(image, 5)[10:90, ::2])
    (report,) = caecodec.inspect(path)
    documents = sum((path / name).stat().st_size for name in ("zarr.json", ".zarray", ".zattrs") if (path / name).exists())
    indices = 4 * (4 * 16 + 4) if layout == "shards" else 0
    assert report.total_bytes == array.nbytes_stored() - documents - indices
    assert (report.family, report.format_versions, report.kinds, report.chunks) == ("toy", (4,), ("uint8",), 9)
    assert main(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "toy, uint8" in shown
    assert f"values {report.value_bytes})" in shown
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["value_bytes"] == report.value_bytes


def test_evaluation(toy, tmp_path, photo):
    results = evaluate([photo], tmp_path / "out", weights=(), codecs=("toy", "jpeg"), qualities=(3, 5, 7), chunk=32)
    ours, jpeg = results.curves
    assert (ours.name, ours.kind, jpeg.name) == ("caecodec toy", "caecodec", "JPEG")
    assert [point.setting for point in ours.points] == ["3 bits", "5 bits", "7 bits"]
    assert ours.points[0].psnr < ours.points[1].psnr < ours.points[2].psnr
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_conversion(toy, tmp_path, photo, ngff):
    options = Options(codec="toy", others={"bits": 6}, ngff=ngff, chunk_size=32)
    written, failed = encode_paths([photo], tmp_path / "photo.ome.zarr", options)
    assert not failed
    report = caecodec.inspect(written[0])[0]
    assert (report.family, report.asked) == ("toy", "6 bits")
    back, failed = decode_paths(written, tmp_path / "back.png")
    assert not failed
    np.testing.assert_array_equal(np.asarray(Image.open(back[0])), coarse(np.asarray(Image.open(photo)), 6))


def test_the_command_line(toy, tmp_path, photo, capsys):
    target = tmp_path / "photo.cae"
    assert main(["encode", "--codec", "toy", "--bits", "4", str(photo), "-o", str(target)]) == 0
    (report,) = caecodec.inspect(target)
    assert report.total_bytes == target.stat().st_size
    assert main(["decode", str(target), "-o", str(tmp_path / "back.png")]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "back.png")), coarse(np.asarray(Image.open(photo)), 4))
    with pytest.raises(SystemExit):
        main(["encode", "--help"])
    shown = capsys.readouterr().out
    assert "of codec toy" in shown
    assert "--bits" in shown


def test_options_of_other_codecs(toy):
    with pytest.raises(caecodec.ParameterError, match=r"bits is 4 but codec is 'cae', .* use codec 'toy'"):
        Options(others={"bits": 4})
    with pytest.raises(caecodec.ParameterError, match=r"quality is 4 but codec is 'toy', .* use codec 'cae'"):
        Options(codec="toy", quality=4)
    with pytest.raises(caecodec.ParameterError, match="no codec has an option 'colour'"):
        Options(codec="toy", others={"colour": 4})
