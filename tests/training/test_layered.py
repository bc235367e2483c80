"""Weights of layers made of one quality of other weights: their last layer is that quality."""

import numpy as np
import pytest
import safetensors.numpy
from helpers.networks import save_binary
from helpers.paths import TINY, TINY_BINARY, TINY_CONTEXT, TINY_DEPTHWISE, TINY_LAYERS, TINY_RESIDUAL_ATTENTION
from PIL import Image

import caecodec
from caecodec import weights
from caecodec.training.layered import fit_layers


@pytest.fixture(scope="module")
def images(tmp_path_factory, photograph):
    path = tmp_path_factory.mktemp("images") / "a.png"
    Image.fromarray(photograph[:280, :300]).save(path)
    return [path]


@pytest.mark.parametrize("path", [TINY, TINY_CONTEXT, TINY_DEPTHWISE, TINY_RESIDUAL_ATTENTION], ids=lambda path: path.stem)
def test_the_last_layer_is_the_quality(tmp_path, photograph, images, path, fp32):
    output, image = tmp_path / "layers.safetensors", photograph[100:180, 150:250]
    source, _ = fit_layers(path, images, output, quality=4, layers=3, crops=1)
    assert (source.name, source.qualities, source.family) == ("layers", (1, 2, 3), weights.open_file(path, "mse", 4).family)
    codec = caecodec.ScalableAutoencoder(weights=output)
    payload = codec.encode(image)
    expected = caecodec.decode(caecodec.encode(image, quality=4, weights=path), weights=path)
    np.testing.assert_array_equal(codec.decode(payload), expected)
    stored = safetensors.numpy.load(output.read_bytes())
    assert not [name for name in stored if ".static." in name or ".context." in name]


@pytest.mark.parametrize(("changes", "match"), [
    ({"layers": 1}, "layers is 1 but must be 2 to 8"), ({"layers": 9}, "layers is 9"),
    ({"path": TINY_BINARY}, "family is 'binary', whose latents are bits"),
    ({"output": "x.pth"}, "NAME.safetensors"), ({"output": TINY_LAYERS}, "exists already"),
])  # fmt: skip
def test_what_is_refused(tmp_path, images, changes, match):
    arguments = {"path": TINY, "output": "x.safetensors", "layers": 2, **changes}
    path, output = arguments.pop("path"), tmp_path / arguments.pop("output")
    with pytest.raises(caecodec.ParameterError, match=match):
        fit_layers(path, images, output, quality=4, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_weights_without_this_quality(tmp_path, images):
    save_binary(tmp_path / "one.safetensors", qualities=(1,))
    with pytest.raises(caecodec.CaeCodecError):
        fit_layers(tmp_path / "one.safetensors", images, tmp_path / "x.safetensors", quality=4)
