"""Weights files, checkpoints and manifests that are damaged or forged: WeightsError, and nothing runs that they hold."""

import json
import pickle

import numpy as np
import pytest
import safetensors.numpy
import torch
from helpers.networks import save_seeded, seeded_tensors
from helpers.paths import TINY, TINY_CONTEXT, TINY_LAYERS

import caecodec
from caecodec import weights
from caecodec.models.factorized import compressai

ABOUT = {"format": 1, "name": "x", "family": "cae", "metric": "mse", "qualities": [4]}
RAN = []


def resolve(path, quality=4):
    return weights.resolve(weights.Spec.parse(path), "mse", quality)


def refused(path, match):
    with pytest.raises(caecodec.WeightsError, match=match):
        weights.load(resolve(path), 4)


def write(path, tensors, about=ABOUT):
    path.write_bytes(safetensors.numpy.save(tensors, metadata={"caecodec": json.dumps(about)}))
    return path


def with_header(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def forged(**tensors):
    """A safetensors header with these (dtype, shape, offsets), which describes itself well."""
    entries = {name: {"dtype": d, "shape": s, "data_offsets": o} for name, (d, s, o) in tensors.items()}
    return {"__metadata__": {"caecodec": json.dumps(ABOUT)}, **entries}


@pytest.mark.parametrize("data", [
    with_header(b"[" * 100_000),
    with_header(b'{"__metadata__": {"caecodec": "' + b"[" * 50_000 + b'"}}'),
    with_header({"__metadata__": {"caecodec": '{"format": Infinity}'}}),
    with_header({"__metadata__": {"caecodec": '{"format": ' + "9" * 5000 + "}"}}),
    with_header({"__metadata__": {"caecodec": json.dumps({**ABOUT, "qualities": 4})}}),
    with_header({"__metadata__": "caecodec"}),
    with_header([]),
    (2**63).to_bytes(8, "little") + b"{}",
    b"\x80\x04\x95" + bytes(100),
])  # fmt: skip
def test_headers_that_are_none(tmp_path, data):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    refused(path, "is not a caecodec weights file")


@pytest.mark.parametrize("changes", [{"name": 5}, {"name": None}, {"family": []}, {"metric": {}}, {"qualities": ["4"]}])
def test_descriptions_of_no_network(tmp_path, changes):
    refused(write(tmp_path / "x.safetensors", {}, {**ABOUT, **changes}), "describes no known network")


@pytest.mark.parametrize(("header", "data"), [
    (forged(a=("F32", [2], [0, 8]), b=("F32", [2], [4, 12])), bytes(12)),  # overlap
    (forged(a=("F32", [2], [0, 8]), b=("F32", [1], [12, 16])), bytes(16)),  # a hole
    (forged(a=("F32", [2], [0, 8])), bytes(4)),  # beyond the end
    (forged(a=("F32", [2**40, 2**40], [0, 8])), bytes(8)),
    (forged(a=("F32", [2**62, 4], [0, 0])), b""),  # the size wraps around
    (forged(a=("F32", [-1], [0, 8])), bytes(8)),
    (forged(a=("F32", [2], [8, 0])), bytes(8)),
    (forged(a=("F99", [2], [0, 8])), bytes(8)),
    (forged(a=("BF16", [2], [0, 4])), bytes(4)),
    (forged(a=("F8_E4M3", [2], [0, 2])), bytes(2)),
])  # fmt: skip
def test_forged_tensors(tmp_path, header, data):
    path = tmp_path / "x.safetensors"
    path.write_bytes(with_header(header, data))
    refused(path, "is damaged|lacks or garbles")


def test_a_header_longer_than_the_file(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes((2**40).to_bytes(8, "little") + with_header(forged())[8:])
    refused(path, "is damaged")


def _transposed(tensor):
    return np.ascontiguousarray(tensor.T)


@pytest.mark.parametrize(("name", "change"), [
    ("g_a.0.weight", lambda t: t[:, :2]), ("g_a.2.weight", lambda t: t[..., :3]), ("g_a.4.bias", lambda t: t[:1]),
    ("g_a.0.bias", lambda t: t[:0]), ("g_a.6.bias", lambda t: t[:, None]), ("g_s.6.weight", _transposed),
    ("g_a.1.gamma", lambda t: t[:1]), ("g_a.1.beta", lambda t: t * 0), ("g_s.1.beta", lambda t: -t),
    ("g_s.0.weight", lambda t: t * np.nan), ("g_s.0.bias", lambda t: t + np.float16(np.inf)),
    ("g_a.0.weight", lambda t: t.astype(np.float64)), ("g_a.0.weight", lambda t: t.astype(np.int32)),
    ("q4.g_a.0.scale", lambda t: t[:1]), ("q4.g_a.0.scale", lambda t: t + np.float32(np.inf)),
    ("q4.g_a.0.shift", lambda t: t[:1]), ("q4.latent_scale", lambda t: t[:1]), ("q4.static.mass", lambda t: t[1:]),
    ("q4.static.mass", lambda t: t + 1),
    ("q4.static.mass", lambda t: t * 0), ("q4.static.mass", lambda t: -t), ("q4.static.mass", lambda t: t.astype(np.float32)),
    ("q4.static.mass", lambda t: t.astype(np.int64)), ("q4.static.length", lambda t: t * 0 + 1),
    ("q4.static.length", lambda t: -t),
    ("q4.static.length", lambda t: t[:1]), ("q4.static.length", lambda t: t * 2**24), ("q4.static.offset", lambda t: t + 2**30),
    ("q4.static.offset", lambda t: t[:, None]),
])  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_tensors_of_no_network(tmp_path, name, change):
    tensors = seeded_tensors(0, qualities=(4,))
    with np.errstate(all="ignore"):
        tensors[name] = np.ascontiguousarray(change(tensors[name]))
    refused(write(tmp_path / "x.safetensors", tensors), "lacks or garbles quality 4|probability tables")


@pytest.mark.parametrize("name", sorted(seeded_tensors(0, qualities=(4,))))
def test_each_tensor_is_missed(tmp_path, name):
    tensors = seeded_tensors(0, qualities=(4,))
    tensors.pop(name)
    path = write(tmp_path / "x.safetensors", tensors)
    if name.endswith(("latent_scale", ".scale")):  # absent scales are 1, but a shift without its scale is ignored
        assert weights.load(resolve(path), 4)
    else:
        refused(path, "lacks or garbles quality 4")


@pytest.mark.parametrize("part", ["order", "difference", "radius", "weight", "threshold", "table", "mass"])
@pytest.mark.parametrize("change", [lambda t: t[:1], lambda t: t[..., None], lambda t: t.astype(np.int64), lambda t: t[:0]])
def test_context_tables_of_no_network(tmp_path, part, change):
    tensors = {name: np.array(value) for name, value in safetensors.numpy.load(TINY_CONTEXT.read_bytes()).items()}
    tensors[f"q4.context.{part}"] = np.ascontiguousarray(change(tensors[f"q4.context.{part}"]))
    refused(write(tmp_path / "x.safetensors", tensors), "context tables|lacks or garbles")


@pytest.mark.parametrize(("part", "value"), [
    ("order", 0), ("difference", 3), ("radius", 127), ("threshold", 2**24), ("table", 255), ("mass", 0), ("mass", 2**24),
])  # fmt: skip
def test_context_tables_of_values_that_no_encoder_has(tmp_path, part, value):
    tensors = {name: np.array(tensor) for name, tensor in safetensors.numpy.load(TINY_CONTEXT.read_bytes()).items()}
    tensors[f"q4.context.{part}"][...] = value
    refused(write(tmp_path / "x.safetensors", tensors), f"values of .*{part}")


def layered():
    """The tensors of weights of four layers."""
    return {name: np.array(tensor) for name, tensor in safetensors.numpy.load(TINY_LAYERS.read_bytes()).items()}


ABOUT_LAYERS = {**ABOUT, "family": "depthwise-residual", "qualities": [1, 2, 3, 4]}
OF_BASE = ("order", "difference", "radius", "weight", "threshold", "table", "mass")
OF_OTHERS = ("order", "group", "below", "before", "threshold", "zero", "steady", "mass")


@pytest.mark.parametrize("name", [*(f"q1.layers.{part}" for part in OF_BASE), *(f"q4.layers.{part}" for part in OF_OTHERS)])
@pytest.mark.parametrize("change", [
    lambda t: t[:1], lambda t: t[..., None], lambda t: t.astype(np.int64), lambda t: t[:0], lambda t: t.reshape(-1)[0],
])  # fmt: skip
def test_tables_of_layers_of_no_network(tmp_path, name, change):
    tensors = layered()
    tensors[name] = np.array(change(tensors[name]), order="C")
    refused(write(tmp_path / "x.safetensors", tensors, ABOUT_LAYERS), "tables|lacks or garbles")


@pytest.mark.parametrize(("name", "value"), [
    ("q1.layers.order", 0), ("q1.layers.radius", 127), ("q1.layers.mass", 0), ("q3.layers.order", 0), ("q4.layers.order", -1),
    ("q2.layers.below", -(2**15)), ("q4.layers.before", 2**15 - 1), ("q3.layers.threshold", 2**24), ("q2.layers.zero", 255),
    ("q3.layers.steady", 255), ("q4.layers.mass", 0), ("q4.layers.mass", 2**24), ("q4.layers.mass", -2), ("q2.layers.mass", 3),
])  # fmt: skip
def test_tables_of_layers_of_values_that_no_encoder_has(tmp_path, name, value):
    tensors = layered()
    tensors[name][...] = value
    refused(write(tmp_path / "x.safetensors", tensors, ABOUT_LAYERS), f"values of .*{name.split('.')[-1]}")


@pytest.mark.parametrize("value", [0, 5, -1, 12, 2**15 - 1, -(2**15)])
def test_groups_of_no_layer(tmp_path, value):
    tensors = layered()
    tensors["q2.layers.group"][...] = value
    refused(write(tmp_path / "x.safetensors", tensors, ABOUT_LAYERS), "inconsistent shapes")


def test_more_layers_than_there_can_be(tmp_path):
    """Tables of a ninth layer are ignored, and so is a layer behind one that is missing."""
    tensors = layered()
    for layer in range(5, 12):
        tensors[f"q{layer}.layers.order"] = np.zeros(1, np.int16)
    assert weights.load(resolve(write(tmp_path / "x.safetensors", tensors, ABOUT_LAYERS)), 4).tables["layers"].above == 4
    del tensors["q1.layers.order"]
    refused(write(tmp_path / "y.safetensors", tensors, ABOUT_LAYERS), "lacks or garbles quality 4: .*q4.static.mass")


def test_a_folder_in_the_place_of_a_file(tmp_path):
    for name in ("x.safetensors", "x.pth"):
        (tmp_path / name).mkdir()
        refused(tmp_path / name, "cannot be read")


@pytest.mark.parametrize("text", [
    "", "{", "[]", "{}", "[" * 100_000, '{"format": 1}', '{"format": 1, "files": [{"name": "x"}]}', '{"format": 1, "files": 3}',
    '{"format": 1, "files": [{"name": "x", "family": "cae", "metric": "mse", "qualities": [4], "sha256": "ab", "file": "x"}]}',
    '{"format": 1, "files": [{"name": "x", "family": "cae", "metric": "mse", "qualities": [4], "sha256": 7, "file": "x"}]}',
])  # fmt: skip
def test_manifests(tmp_path, monkeypatch, text):
    (tmp_path / "manifest.json").write_text(text)
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(tmp_path))
    with pytest.raises(caecodec.WeightsError, match="manifest.json is damaged"):
        weights.installed()


def test_a_manifest_does_not_make_a_file_another(tmp_path, monkeypatch):
    """The digest is of the manifest, so a file that was exchanged is refused when it is loaded."""
    source = save_seeded(tmp_path / "mine.safetensors")
    entry = {
        "name": "mine",
        "family": "cae",
        "metric": "mse",
        "qualities": [4],
        "sha256": source.sha256,
        "file": "mine.safetensors",
    }
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "files": [entry]}))
    (tmp_path / "mine.safetensors").write_bytes(TINY.read_bytes()[:-1] + b"\1")
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(tmp_path))
    with pytest.raises(caecodec.WeightsError, match="does not have SHA-256"):
        weights.load(resolve("mine"), 4)


def ran():
    """What a malicious pickle would call."""
    RAN.append(True)


class Malicious:
    def __reduce__(self):
        return ran, ()


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"state_dict": x}, lambda x: {"state_dict": {"g_a.0.weight": x}}])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("suffix", weights.CHECKPOINT_SUFFIXES)
def test_a_malicious_pickle_is_refused(tmp_path, wrap, zipped, suffix):
    path = tmp_path / f"x{suffix}"
    torch.save(wrap(Malicious()), path, _use_new_zipfile_serialization=zipped)
    refused(path, "cannot be read with weights_only=True")
    path.write_bytes(pickle.dumps(wrap(Malicious())))
    refused(path, "cannot be read with weights_only=True")
    path.rename(tmp_path / "x.safetensors")
    refused(tmp_path / "x.safetensors", "is not a caecodec weights file")
    assert not RAN


def test_the_pickle_above_would_run():
    pickle.loads(pickle.dumps(Malicious()))
    assert RAN.pop()


@pytest.mark.parametrize("state", [
    {"a": torch.zeros(1)}, {0: torch.zeros(1)}, {}, [], torch.zeros(3),
    {"g_a.0.weight": torch.zeros(2, 2, dtype=torch.complex64)}, {"g_a.0.weight": torch.zeros(3).to_sparse()},
])  # fmt: skip
def test_checkpoints_of_something_else(tmp_path, state):
    torch.save(state, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "checkpoint")


def checkpoint():
    """The state dict of a small network as CompressAI has it."""
    plain = weights.load(resolve(TINY), 4)
    tables = plain.tables["static"]
    return compressai.to_state_dict(plain.network.tensors, tables.mass, tables.length, tables.offset)


@pytest.mark.parametrize(("key", "change"), [
    ("g_a.0.weight", lambda t: t[:1]), ("g_a.1.beta", lambda t: t * float("nan")), ("g_a.1.gamma", lambda t: t[0]),
    ("entropy_bottleneck.quantiles", lambda t: t[:, 0]), ("entropy_bottleneck.quantiles", lambda t: t[:2]),
    ("entropy_bottleneck._quantized_cdf", lambda t: t[:2]), ("entropy_bottleneck._quantized_cdf", lambda t: t * 3),
    ("entropy_bottleneck._quantized_cdf", lambda t: t / 2), ("entropy_bottleneck._cdf_length", lambda t: t * 0),
    ("entropy_bottleneck._cdf_length", lambda t: t * 100), ("entropy_bottleneck._offset", lambda t: t[:1]),
    ("entropy_bottleneck._quantized_cdf", lambda t: t[0, 0]),
])  # fmt: skip
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_checkpoints_of_another_shape(tmp_path, key, change):
    state = checkpoint()
    torch.save(state, tmp_path / "good.pth")
    assert weights.load(resolve(tmp_path / "good.pth"), 4)
    torch.save({**state, key: change(state[key]).clone()}, tmp_path / "x.pth")
    refused(tmp_path / "x.pth", "checkpoint|lacks or garbles|probability tables")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol:UserWarning")  # PyTorch's, of a damaged version byte
def test_damaged_checkpoints(tmp_path):
    """Whatever PyTorch's reader stumbles over."""
    rng = np.random.default_rng(0)
    path = tmp_path / "x.pth"
    for zipped in (True, False):
        torch.save({"state_dict": {"a": torch.zeros(3)}}, path, _use_new_zipfile_serialization=zipped)
        data = path.read_bytes()
        for _ in range(300):
            damaged = bytearray(data[: rng.integers(1, len(data))] if rng.random() < 0.2 else data)
            for position in rng.integers(0, len(damaged), 4):
                damaged[position] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                compressai.read(path)
            except caecodec.WeightsError:
                continue
