import hashlib
import json

import numpy as np
import pytest
import safetensors.numpy
from helpers.images import random_image
from helpers.networks import save_seeded, seeded_tensors
from helpers.paths import TINY

import caecodec
from caecodec import weights
from caecodec.models import registry
from caecodec.weights import file as weights_file


def resolve(text, quality=4, metric="mse"):
    return weights.resolve(weights.Spec.parse(text), metric, quality)


def test_shipped_files_are_those_of_the_manifest():
    manifest = json.loads((weights.shipped_folder() / "manifest.json").read_text())
    for entry in manifest["files"]:
        data = (weights.shipped_folder() / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    files = {path.name for path in weights.shipped_folder().glob("*.safetensors")}
    assert files == {entry["file"] for entry in manifest["files"]}


def test_every_shipped_quality_loads():
    for source in weights.by_place()["shipped"]:
        for quality in source.qualities:
            loaded = weights.load(source, quality)
            assert set(loaded.tables) == ({"layers"} if source.name == "photo-layers" else {"static", "context"})


def test_default_is_pinned_to_a_digest():
    source = resolve("default")
    assert resolve(str(source.spec)) == source
    assert str(source.spec) == f"{source.name}@{source.sha256[:8]}"


def test_a_quality_without_weights_says_what_there_is():
    with pytest.raises(
        caecodec.WeightsError,
        match=r"quality 1, 4, but quality is 8, metric 'mse'; .* installed: photo@.*quality 1, 2.*weights='comp",
    ):
        caecodec.ConvolutionalAutoencoder(weights=TINY)


def test_unknown_name():
    with pytest.raises(caecodec.WeightsError, match="no weights 'slides' for"):
        resolve("slides")


def test_absent_file(tmp_path):
    with pytest.raises(caecodec.WeightsError, match="does not exist; installed"):
        resolve(tmp_path / "none.safetensors")


@pytest.mark.parametrize("value", ["", None, 3])
def test_weights_that_name_nothing(value):
    with pytest.raises(caecodec.WeightsError, match="must be a name, a path"):
        weights.Spec.parse(value)


def test_another_digest_than_pinned(tmp_path, monkeypatch):
    save_seeded(tmp_path / "mine.safetensors")
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(tmp_path))
    with pytest.raises(caecodec.WeightsError, match="were not found, only .*mine"):
        resolve(f"{tmp_path / 'mine.safetensors'}@00000000")
    with pytest.raises(caecodec.WeightsError, match="'mine.safetensors@00000000'"):
        resolve("mine.safetensors@00000000")


def test_a_folder_of_weights_is_found_by_name_and_digest(tmp_path, monkeypatch):
    source = save_seeded(tmp_path / "mine.safetensors", name="slides")
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(tmp_path))
    for text in ("slides", f"slides@{source.sha256[:8]}", f"renamed.safetensors@{source.sha256[:8]}"):
        assert resolve(text).sha256 == source.sha256


def test_absent_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(tmp_path / "none"))
    with pytest.raises(caecodec.WeightsError, match="CAECODEC_WEIGHTS"):
        weights.installed()


def test_a_path_is_used_and_then_known_to_the_process(tmp_path):
    source = save_seeded(tmp_path / "mine.safetensors", seed=7)
    image = random_image(20, 30, 3)
    payload = caecodec.encode(image, quality=4, weights=tmp_path / "mine.safetensors")
    assert caecodec.decode(payload).shape == image.shape
    codec = caecodec.ConvolutionalAutoencoder(4, weights=tmp_path / "mine.safetensors")
    assert codec.get_config()["weights"] == f"mine.safetensors@{source.sha256[:8]}"


def test_the_same_tensors_always_give_the_same_file(tmp_path):
    """Payloads name weights by digest, so the writer of the files must not vary."""
    tensors = {name: tensor.copy() for name, tensor in reversed(seeded_tensors(0).items())}
    data = weights_file.serialise(tensors, name="tiny", family="cae", metric="mse", qualities=(1, 4))
    assert data == weights_file.serialise(seeded_tensors(0), name="tiny", family="cae", metric="mse", qualities=(1, 4))
    stored = {name: np.array(value) for name, value in safetensors.numpy.load(TINY.read_bytes()).items()}
    assert weights_file.serialise(stored, name="tiny", family="cae", metric="mse", qualities=(1, 4)) == TINY.read_bytes()


def test_scales_fold_into_the_network():
    """A folded network gives what scale, shift and latent_scale say, layer by layer."""
    import torch

    tensors = seeded_tensors(3)
    plain = registry.by_name(registry.DEFAULT).fold(tensors, 4).tensors
    x = torch.rand(1, 3, 16, 16)

    def convolve(x, source, prefix):
        weight, bias = (torch.tensor(np.asarray(source[f"{prefix}.{part}"], np.float32)) for part in ("weight", "bias"))
        if prefix.startswith("g_a"):
            return torch.nn.functional.conv2d(x, weight, bias, 2, 2)
        return torch.nn.functional.conv_transpose2d(x, weight, bias, 2, 2, 1)

    def film(x, prefix):
        scale, shift = (torch.tensor(tensors[f"q4.{prefix}.{part}"])[:, None, None] for part in ("scale", "shift"))
        return x * scale + shift

    torch.testing.assert_close(convolve(x, plain, "g_a.0"), film(convolve(x, tensors, "g_a.0"), "g_a.0"))
    y = torch.rand(1, 12, 2, 2)
    scaled = y * torch.tensor(tensors["q4.latent_scale"])[:, None, None]
    torch.testing.assert_close(convolve(y, plain, "g_s.0"), film(convolve(scaled, tensors, "g_s.0"), "g_s.0"))


def write(path, tensors, metadata):
    path.write_bytes(safetensors.numpy.save(tensors, metadata=metadata))
    return path


def about(**changes):
    fields = {"format": 1, "name": "x", "family": "cae", "metric": "mse", "qualities": [4]}
    return {"caecodec": json.dumps({**fields, **changes})}


@pytest.mark.parametrize(("metadata", "error", "match"), [
    (None, caecodec.WeightsError, "is not a caecodec weights file"),
    ({"caecodec": "[]"}, caecodec.WeightsError, "is not a caecodec weights file"),
    (about(format=2), caecodec.FormatVersionError, "format 2 .* upgrade"),
    (about(family="vae"), caecodec.WeightsError, "describes no known network"),
    (about(qualities=[9]), caecodec.WeightsError, "describes no known network"),
    (about(qualities=[]), caecodec.WeightsError, "describes no known network"),
])  # fmt: skip
def test_files_of_another_kind(tmp_path, metadata, error, match):
    path = write(tmp_path / "x.safetensors", {"a": np.zeros(3, np.float32)}, metadata)
    with pytest.raises(error, match=match):
        resolve(path)


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 8, b"\xff" * 100, (2**40).to_bytes(8, "little") + b"{}", b"\x02" + bytes(7) + b"{}"]
)
def test_hostile_files(tmp_path, data):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(caecodec.WeightsError, match="is not a caecodec weights file"):
        resolve(path)


def test_missing_tensors(tmp_path):
    source = resolve(write(tmp_path / "x.safetensors", {"a": np.zeros(3, np.float32)}, about()))
    with pytest.raises(caecodec.WeightsError, match="lacks or garbles quality 4"):
        weights.load(source, 4)


def test_a_file_that_changed_since(tmp_path):
    source = save_seeded(tmp_path / "mine.safetensors")
    data = bytearray(source.location.read_bytes())
    data[-1] ^= 1
    source.location.write_bytes(data)
    with pytest.raises(caecodec.WeightsError, match="does not have SHA-256"):
        weights.load(source, 4)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x80\x04K\x01."])
def test_checkpoints_that_are_none(tmp_path, content):
    path = tmp_path / "x.pth.tar"
    path.write_bytes(content)
    with pytest.raises(caecodec.WeightsError, match="cannot be read with weights_only=True|holds no state dict"):
        resolve(path)


def test_pickled_code_is_never_run(tmp_path):
    import torch

    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    torch.save({"state_dict": Evil()}, tmp_path / "x.pth")
    with pytest.raises(caecodec.WeightsError, match="weights_only=True"):
        resolve(tmp_path / "x.pth")
