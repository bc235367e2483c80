"""The scalable codec as its users reach it: parameters, arrays of every kind, fewer layers, zarr, inspection, damage."""

import copy
import json
import pickle
import tracemalloc
import zlib
from dataclasses import replace
from itertools import pairwise

import numcodecs
import numpy as np
import pytest
import zarr
from helpers import padding
from helpers.images import random_image
from helpers.networks import save_layers
from helpers.paths import TINY, TINY_CONTEXT, TINY_DEPTHWISE, TINY_LAYERS
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import caecodec
from caecodec import settings, weights
from caecodec.bitstream import directory, scalable, varint
from caecodec.bitstream.byte_order import as_big_endian
from caecodec.bitstream.scalable import BaseLayer
from caecodec.cli.main import main
from caecodec.codecs.decoding import parse_payload
from caecodec.codecs.scalable.parameters import ScalableParameters

LAYERS = 4
DTYPES = ("uint8", "uint16", "int16", "float32", "float64")


def codec(**parameters):
    return caecodec.ScalableAutoencoder(**{"weights": TINY_LAYERS, **parameters})


def encode(array, **parameters):
    return codec(**parameters).encode(array)


def ends(data):
    """Where a payload can be cut: at the ends of its layers."""
    return scalable.layer_ends(directory.parse_directory(data))


def forged(payload, **changes):
    """Another payload, with right checksums."""
    return scalable.pack(replace(payload, **changes))


IMAGE = random_image(40, 50, 3)


@pytest.fixture(scope="module")
def payload():
    return encode(IMAGE)


def test_parameters():
    one = codec()
    spec = f"{TINY_LAYERS.name}@{weights.open_file(TINY_LAYERS, 'mse', 1).digest.hex()}"
    assert one.get_config() == {"id": "caecodec_sae", "metric": "mse", "channel_axis": -1, "weights": spec}
    two = codec(layers=np.int64(2), channel_axis=None)
    assert two.get_config()["layers"] == 2
    for this in (one, two):
        copies = [numcodecs.get_codec(this.get_config()), pickle.loads(pickle.dumps(this)), copy.deepcopy(this)]
        assert copies == [this] * 3
        assert json.loads(json.dumps(this.get_config())) == this.get_config()
        assert eval(repr(this), {"ScalableAutoencoder": caecodec.ScalableAutoencoder}) == this
    assert one != two
    assert ScalableParameters.parse(weights=TINY_LAYERS) == one.parameters


@pytest.mark.parametrize(("parameters", "match"), [
    ({"layers": 0}, "layers is 0 but must be an integer from 1 to 8, or None"), ({"layers": 9}, "layers is 9"),
    ({"layers": True}, "layers is True"), ({"layers": 2.0}, "layers is 2.0"), ({"layers": "2"}, "layers is '2'"),
    ({"metric": "psnr"}, "metric"), ({"channel_axis": "c"}, "channel_axis"),
])  # fmt: skip
def test_parameters_that_are_refused(parameters, match):
    with pytest.raises(caecodec.ParameterError, match=match):
        codec(**parameters)


def test_weights_that_are_refused(tiny):
    for path in (TINY, TINY_CONTEXT, TINY_DEPTHWISE):
        with pytest.raises(caecodec.WeightsError, match="have no layers tables"):
            codec(weights=path)
    pinned = codec(weights=weights.open_file(TINY_DEPTHWISE, "mse", 1).spec)
    assert caecodec.decode(pinned.encode(np.full((9, 9, 3), 5, np.uint8))).max() == 5
    with pytest.raises(caecodec.WeightsError, match="have no layers tables"):
        pinned.encode(IMAGE)
    with pytest.raises(caecodec.WeightsError, match="5"):
        codec(layers=5)
    with pytest.raises(caecodec.WeightsError, match="ms-ssim"):
        codec(metric="ms-ssim")
    with pytest.raises(caecodec.WeightsError):
        codec(weights="nothing")


def test_other_codecs_refuse_weights_of_layers():
    with pytest.raises(caecodec.WeightsError, match="of layers; use ScalableAutoencoder"):
        caecodec.ConvolutionalAutoencoder(4, weights=TINY_LAYERS).encode(IMAGE)
    for entropy in ("context", "static"):
        with pytest.raises(caecodec.WeightsError, match=f"have no {entropy} tables"):
            caecodec.ConvolutionalAutoencoder(4, weights=TINY_LAYERS, entropy=entropy)


def test_qualities_that_are_not_the_layers(tmp_path):
    """A file with tables of more layers than it has qualities could not say what its last layer is."""
    tensors = weights.read_tensors(weights.open_file(TINY_LAYERS, "mse", 1))
    about = {"name": "x", "family": "depthwise-residual", "metric": "mse", "qualities": (1, 2, 3)}
    weights.save(tmp_path / "x.safetensors", tensors, **about)
    with pytest.raises(caecodec.WeightsError, match="tables of 4 layers but 3 qualities"):
        encode(IMAGE, weights=tmp_path / "x.safetensors")


@pytest.mark.parametrize("shape", [(40, 56, 3), (1, 2, 3), (2, 3, 17, 5, 3)], ids=str)
@pytest.mark.parametrize("channel_axis", [-1, -3, 0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_three_channels(tiny, shape, channel_axis, dtype):
    array = np.ascontiguousarray(np.moveaxis(random_image(*shape, seed=2), -1, channel_axis), dtype)
    data = encode(array, channel_axis=channel_axis)
    header = parse_payload(data).header
    assert (header.version, header.family, header.dtype, header.shape) == (4, 6, dtype, array.shape)
    for end in ends(data):
        decoded = caecodec.decode(data[:end], expected_shape=array.shape, expected_dtype=dtype)
        assert (decoded.shape, decoded.dtype) == (array.shape, array.dtype)
        assert decoded.flags.c_contiguous
        assert decoded.flags.writeable
    swapped = encode(array.astype(array.dtype.newbyteorder(">")), channel_axis=channel_axis)
    assert swapped == (data if dtype == "uint8" else as_big_endian(data))


@pytest.mark.parametrize(("shape", "channel_axis"), [
    ((40, 56), None), ((4, 40, 56), None), ((2, 40, 56), 0), ((40, 56, 5), -1), ((3, 4, 9, 7), 1),
], ids=str)  # fmt: skip
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
def test_planes(tiny, shape, channel_axis, dtype):
    array = padding.picture(*shape, dtype=dtype)
    decoded = caecodec.decode(encode(array, channel_axis=channel_axis))
    assert (decoded.shape, decoded.dtype) == (array.shape, array.dtype)


def test_memory_order_and_strides(tiny, payload):
    assert caecodec.decode(encode(np.asfortranarray(IMAGE))).flags.f_contiguous
    np.testing.assert_array_equal(caecodec.decode(encode(np.asfortranarray(IMAGE))), caecodec.decode(payload))
    assert encode(IMAGE[::-1, ::-1][::-1, ::-1]) == payload == encode(np.repeat(IMAGE, 2, axis=1)[:, ::2])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "channel_axis"), [((16, 9, 3), -1), ((2, 16, 9), 0), ((16, 9), None)], ids=str)
def test_constant_chunks_are_exact(dtype, shape, channel_axis):
    array = np.full(shape, 77.25 if dtype.startswith("f") else 77, dtype)
    if channel_axis is not None:
        array.swapaxes(0, channel_axis)[0] = 3
    data = encode(array, channel_axis=channel_axis)
    assert (parse_payload(data).layers, ends(data)) == ((), [])
    decoded = caecodec.decode(data)  # without its weights
    assert (decoded.tobytes(), decoded.dtype) == (array.tobytes(), array.dtype)


def test_constant_planes_are_exact(tiny):
    array = np.stack([np.full((20, 30), value, np.float64) for value in (np.pi, -1e300, 0)])
    data = encode(array, channel_axis=None)
    assert parse_payload(data).layers == (b"\0", b"", b"", b"")
    for layers in range(1, LAYERS + 1):
        with settings.using(layers=layers):
            np.testing.assert_array_equal(caecodec.decode(data), array)
    for changes in ({"layers": (b"\0", b"\0")}, {"layers": (b"\1\0",)}, {"layers": (b"\0\0",)}):
        with pytest.raises(caecodec.CorruptionError, match="all its planes have one value"):
            caecodec.decode(forged(parse_payload(data), **changes))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers(value):
    array = padding.picture(20, 30, dtype="float32")
    array[3, 4] = value
    with pytest.raises(caecodec.ParameterError, match="finite"):
        encode(array, channel_axis=None)


@pytest.mark.parametrize("array", [np.zeros((4, 4, 3), np.int64), np.zeros((4, 4, 3), bool), np.zeros(4, np.uint8)])
def test_arrays_that_are_refused(array):
    with pytest.raises(caecodec.ParameterError):
        encode(array)


@pytest.mark.parametrize("case", list(padding.cases()), ids=lambda case: case[0])
def test_padding(tiny, case):
    """What is behind the content is exact; the content is what it is by itself."""
    _, content, _, _, channel_axis = case
    chunk = padding.chunk_of(case)
    data, alone = encode(chunk, channel_axis=channel_axis), encode(content, channel_axis=channel_axis)
    parsed = parse_payload(data)
    assert (parsed.header.shape, parsed.layers) == (chunk.shape, parse_payload(alone).layers)
    for whole, inside in zip([*ends(data), len(data)], [*ends(alone), len(alone)], strict=True):
        decoded = caecodec.decode(data[:whole], expected_shape=chunk.shape)
        np.testing.assert_array_equal(padding.inside(decoded, content), caecodec.decode(alone[:inside]))
        np.testing.assert_array_equal(padding.behind(decoded, content), padding.behind(chunk, content))
        assert decoded.flags.f_contiguous == (case[0] == "fortran")
    assert len(data) - len(alone) <= 6 + chunk.ndim + chunk.itemsize + 1  # a section, its margins and value, a longer axis


def test_one_colour_inside_padding():
    chunk = padding.padded(np.full((20, 30, 3), (1, 200, 3), np.uint8), (32, 32, 3), 255)
    data = encode(chunk)
    assert (len(data) < 60, parse_payload(data).layers) == (True, ())
    np.testing.assert_array_equal(caecodec.decode(data), chunk)


@pytest.mark.parametrize(("around", "match"), [
    (b"\x00\x00\x00", "around uint8 content"), (b"\x08\x00\x00\x00", "1 bytes for the value"),
    (b"\x08\x00\x00\x01\x01", "2 bytes for the value"), (b"\x28\x00\x00", "content of shape"), (b"\x08\x00", "cut short"),
    (b"\xff\xff\xff\xff\x0f\x00\x00", "content of shape"),
])  # fmt: skip
def test_padding_that_no_chunk_has(tiny, payload, around, match):
    with pytest.raises(caecodec.CorruptionError, match=match):
        caecodec.decode(forged(parse_payload(payload), padding=around))


def test_fewer_layers(tiny, payload, monkeypatch):
    """Written, cut, or asked for by the settings: the same image."""
    parsed = parse_payload(payload)
    assert len(parsed.layers) == LAYERS
    images = [caecodec.decode(payload[:end]) for end in ends(payload)]
    assert all((one != other).any() for one, other in pairwise(images))
    for layers, image in enumerate(images, 1):
        written = encode(IMAGE, layers=layers)
        assert written == scalable.first_layers(payload, layers)
        np.testing.assert_array_equal(caecodec.decode(written), image)
        with settings.using(layers=layers):
            np.testing.assert_array_equal(caecodec.decode(payload), image)
            np.testing.assert_array_equal(codec().decode(payload), image)
    with settings.using(layers=7):
        np.testing.assert_array_equal(caecodec.decode(payload[: ends(payload)[1]]), images[1])
    monkeypatch.setenv("CAECODEC_LAYERS", "1")
    np.testing.assert_array_equal(caecodec.decode(payload), images[0])
    monkeypatch.setenv("CAECODEC_LAYERS", "-1")
    with pytest.raises(caecodec.ParameterError, match="CAECODEC_LAYERS"):
        caecodec.decode(payload)


def test_damage_in_layers_that_are_not_asked_for(tiny, payload):
    """The checksums of all layers that are there are verified, whatever is decoded; what they hold is not."""
    parsed = parse_payload(payload)
    other = forged(parsed, layers=(*parsed.layers[:2], b"nonsense", parsed.layers[3]))
    with settings.using(layers=2):
        np.testing.assert_array_equal(caecodec.decode(other), caecodec.decode(payload))
        with pytest.raises(caecodec.CorruptionError, match="section 4"):
            caecodec.decode(payload[: ends(payload)[2] - 1] + b"?" + payload[ends(payload)[2] :])
    with pytest.raises(caecodec.CorruptionError):
        caecodec.decode(other)


def test_numcodecs(tiny, payload):
    one = codec()
    out = np.empty_like(IMAGE)
    assert one.decode(payload, out=out) is out
    np.testing.assert_array_equal(out, caecodec.decode(payload))
    with pytest.raises(caecodec.CorruptionError, match="is expected here"):
        one.decode(payload, out=np.empty((50, 40, 3), np.uint8))


LAYOUTS = {
    "v2": lambda: {"zarr_format": 2, "compressors": codec()},
    "v3": lambda: {"serializer": caecodec.zarr.ScalableAutoencoder(weights=TINY_LAYERS), "compressors": None},
    "v3 by the other class": lambda: {"serializer": codec(), "compressors": None},
    "shards": lambda: {"serializer": codec(), "compressors": None, "shards": (64, 64, 3)},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_zarr_and_inspection(tiny, tmp_path, layout, capsys):
    image, path = random_image(72, 80, 3), tmp_path / "a.zarr"
    array = zarr.create_array(path, data=image, chunks=(32, 32, 3), **LAYOUTS[layout]())
    again = zarr.open_array(path, mode="r")
    chunk = caecodec.decode(encode(image[:32, 32:64]))
    np.testing.assert_array_equal(again[:32, 32:64], chunk)
    with settings.using(layers=1):
        np.testing.assert_array_equal(again[:32, 32:64], caecodec.decode(encode(image[:32, 32:64], layers=1)))
    (report,) = caecodec.inspect(path)
    documents = sum((path / name).stat().st_size for name in ("zarr.json", ".zarray", ".zattrs") if (path / name).exists())
    indices = 4 * (4 * 16 + 4) if layout == "shards" else 0
    assert report.total_bytes == array.nbytes_stored() - documents - indices
    sizes = [report.layer_1_bytes, report.layer_2_bytes, report.layer_3_bytes, report.layer_4_bytes]
    assert min(sizes) > 0
    assert report.header_bytes + sum(sizes) == report.total_bytes
    assert (report.layers, report.asked, report.chunks, report.chunks_constant) == ((4,), "all layers", 9, 0)
    assert main(["inspect", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "4 layers, mse" in shown
    assert f"layer 1 {sizes[0]}" in shown
    assert main(["inspect", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["layer_4_bytes"] == sizes[3]


def test_a_configuration_of_a_newer_version():
    stored = {**codec().get_config(), "overlap": 4}
    with pytest.raises(caecodec.FormatVersionError, match="overlap=4.*upgrade caecodec"):
        numcodecs.get_codec(stored)


def test_inspection_of_a_file(tiny, tmp_path, payload, capsys):
    for name, data, layers in (("all.cae", payload, 4), ("two.cae", payload[: ends(payload)[1]], 2)):
        (tmp_path / name).write_bytes(data)
        (report,) = caecodec.inspect(tmp_path / name)
        assert (report.layers, report.asked, report.layer_3_bytes > 0) == ((layers,), f"{layers} layers", layers > 2)
        assert (report.weights.startswith("tiny-layers@"), report.weights_installed) == (True, True)
    constant = encode(np.full((9, 9, 3), 5, np.uint8))
    (tmp_path / "one.cae").write_bytes(constant)
    (report,) = caecodec.inspect(tmp_path / "one.cae")
    assert (report.layers, report.chunks_constant, report.header_bytes) == ((), 1, len(constant))


def test_the_command_line(tiny, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.fromarray(IMAGE).save(photo)
    target = tmp_path / "photo.ome.zarr"
    options = ["--codec", "sae", "--layers", "3", "--weights", str(TINY_LAYERS), "--chunk-size", "32"]
    assert main(["encode", *options, str(photo), "-o", str(target)]) == 0
    report = caecodec.inspect(target)[0]
    assert (report.family, report.layers, report.asked, report.weights_carried) == ("sae", (3,), "3 layers", True)
    assert main(["decode", str(target), "-o", str(tmp_path / "back.png")]) == 0
    assert np.asarray(Image.open(tmp_path / "back.png")).shape == IMAGE.shape


def test_latents_are_those_of_the_other_codec(tiny, payload):
    with pytest.raises(caecodec.ParameterError, match="of codec 'sae'"):
        caecodec.decode_latents(payload)


def test_truncated_at_every_byte(tiny):
    """An error or, at the ends of layers, the image of these layers."""
    data = encode(random_image(24, 20, 3))
    for length in range(len(data)):
        if length in ends(data):
            expected = caecodec.decode(scalable.first_layers(data, ends(data).index(length) + 1))
            np.testing.assert_array_equal(caecodec.decode(data[:length]), expected)
        else:
            with pytest.raises(caecodec.CorruptionError):
                caecodec.decode(data[:length])
    with pytest.raises(caecodec.CorruptionError):
        caecodec.decode(data + b"\0")


def test_every_flipped_bit(tiny):
    data = encode(random_image(24, 20, 3))
    for whole in (data, data[: ends(data)[1]]):
        for position in range(len(whole)):
            for bit in range(8):
                damaged = bytearray(whole)
                damaged[position] ^= 1 << bit
                with pytest.raises(caecodec.CorruptionError):
                    caecodec.decode(bytes(damaged))


@given(st.data())
def test_damage_behind_right_checksums(data):
    """An adversary can fix the checksums: then an array of the stated shape, or an error of ours, and nothing else."""
    original = parse_payload(encode(random_image(24, 40, 3)))
    layers = [bytearray(layer) for layer in original.layers]
    for _ in range(data.draw(st.integers(1, 4))):
        layer = data.draw(st.sampled_from(layers))
        layer[data.draw(st.integers(0, len(layer) - 1))] = data.draw(st.integers(0, 255))
    mutated = forged(original, layers=tuple(map(bytes, layers)))
    try:
        array = caecodec.decode(mutated, weights=TINY_LAYERS)
    except caecodec.CaeCodecError:
        return
    assert array.shape == original.header.shape


def test_forged_payloads(tiny, payload, tmp_path):
    parsed = parse_payload(payload)
    with pytest.raises(caecodec.CorruptionError, match="family 'cae' but its weights .* are of 'depthwise-residual'"):
        caecodec.decode(forged(parsed, family="cae"))
    with pytest.raises(caecodec.WeightsError, match="deadbeef"):
        caecodec.decode(forged(parsed, digest=bytes.fromhex("deadbeef")))
    plain = weights.open_file(TINY_DEPTHWISE, "mse", 1).digest
    with pytest.raises(caecodec.CorruptionError, match="its weights have no layers tables"):
        caecodec.decode(forged(parsed, digest=plain, layers=parsed.layers[:1]))
    with pytest.raises(caecodec.WeightsError, match="5"):
        caecodec.decode(forged(parsed, layers=(*parsed.layers, b"")))
    for planes in (b"", b"\x04", b"\x02", b"\0\0"):
        with pytest.raises(caecodec.CorruptionError, match="planes"):
            caecodec.decode(forged(parsed, planes=planes))
    other = save_layers(tmp_path / "other.safetensors", seed=1)
    with pytest.raises(caecodec.CaeCodecError):
        caecodec.decode(forged(parsed, digest=other.digest), weights=other.location)


def test_version_5_is_not_used_around_layers(tiny, payload):
    body = b"\xca\xec\x05" + varint.pack(4) + b"\x01\x00\x00\x07" + payload[2:-4]
    with pytest.raises(caecodec.CorruptionError):
        caecodec.decode(body + zlib.crc32(body).to_bytes(4, "little"))


def test_huge_geometry_is_refused_before_it_is_allocated(tiny, payload):
    parsed = parse_payload(payload)
    header = replace(parsed.header, shape=(20000, 20000, 3))
    base = BaseLayer((b"\1\2\3\4",), b"\0")
    tracemalloc.start()
    with pytest.raises(caecodec.CorruptionError, match="streams"):
        caecodec.decode(forged(parsed, header=header, layers=(base.pack(), b"\0")))
    with pytest.raises(caecodec.CorruptionError, match=r"\(20000, 20000, 3\) but \(40, 50, 3\) is expected"):
        caecodec.decode(forged(parsed, header=header, layers=(), planes=b"", colour=b"abc"), expected_shape=(40, 50, 3))
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
