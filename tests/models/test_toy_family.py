"""A family of networks from outside: registered, and then as good as one of caecodec's, which knows nothing of it."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import zarr
from helpers.images import random_image
from PIL import Image
from torch import nn

import caecodec
from caecodec import settings, weights
from caecodec.arrays.inspection import inspect
from caecodec.bitstream import autoencoder
from caecodec.bitstream.autoencoder import FAMILIES
from caecodec.cli.main import main
from caecodec.entropy import static
from caecodec.entropy.streams import narrow
from caecodec.evaluation import evaluate
from caecodec.images.metrics import psnr
from caecodec.models import registry
from caecodec.models.family import Family, FoldedNetwork, Trainer
from caecodec.ngff import Options, decode_paths, encode_paths
from caecodec.training.recipe import Recipe
from caecodec.training.train import train

STRIDE, FREQUENCIES = 8, 4
LATENT = 3 * FREQUENCIES**2
IMAGE = random_image(150, 170, 3, seed=3)


def cosines():
    """The lowest 16 functions of the discrete cosine transform of 8x8 blocks of each colour (48, 3, 8, 8)."""
    position = (2 * np.arange(STRIDE) + 1) * math.pi / (2 * STRIDE)
    basis = np.cos(np.arange(FREQUENCIES)[:, None] * position) * np.where(np.arange(FREQUENCIES) == 0, 1, math.sqrt(2))[:, None]
    blocks = np.einsum("uy,vx->uvyx", basis, basis).reshape(-1, STRIDE, STRIDE) / STRIDE
    return np.einsum("cd,kyx->ckdyx", np.eye(3), blocks).reshape(LATENT, 3, STRIDE, STRIDE).astype(np.float32)


class ToyNetwork(nn.Module):
    """A block transform, its coefficients divided by a step and rounded."""

    def __init__(self, blocks, step):
        super().__init__()
        self.register_buffer("blocks", torch.from_numpy(blocks))
        self.register_buffer("step", torch.from_numpy(step)[:, None, None])

    def analysis(self, images):
        return (F.conv2d(images - 0.5, self.blocks, stride=STRIDE) / self.step).round().to(torch.int32)

    def synthesis(self, symbols):
        return F.conv_transpose2d(symbols.float() * self.step, self.blocks, stride=STRIDE) + 0.5


class ToyFamily(Family):
    """Another stride, another latent width, no reduced precision and no exact synthesis."""

    name = "toy-blocks"
    stored_name = "toy-blocks"
    wire_id = 200
    stride = STRIDE

    def check(self, tensors, quality):
        for name, shape in (("blocks", (LATENT, 3, STRIDE, STRIDE)), (f"q{quality}.step", (LATENT,))):
            if tensors[name].shape != shape or tensors[name].dtype != np.float32:
                raise ValueError(f"{name} is {tensors[name].dtype} {tensors[name].shape} but must be float32 {shape}")

    def fold(self, tensors, quality):
        step = tensors[f"q{quality}.step"]
        return FoldedNetwork({"blocks": tensors["blocks"], "step": step}, np.zeros(LATENT, np.float32), step)

    def halo(self, tensors):
        return 1

    def build(self, tensors):
        return ToyNetwork(tensors["blocks"], tensors["step"])

    def pixel_bytes(self, tensors, device, exact=False):
        return 4 * LATENT

    def trainer(self):
        return ToyTrainer()


class ToyTrainable(nn.Module):
    """The blocks, and a step for each quality."""

    def __init__(self, qualities):
        super().__init__()
        self.blocks = nn.Parameter(torch.from_numpy(cosines()))
        self.log_step = nn.Parameter(torch.tensor([[math.log(step_of(quality))] * LATENT for quality in qualities]))
        self.register_buffer("qualities", torch.tensor(qualities))

    def _step(self, quality):
        return self.log_step[quality].exp()[:, :, None, None]

    def analysis(self, x, quality):
        return F.conv2d(x - 0.5, self.blocks, stride=STRIDE) / self._step(quality)

    def synthesis(self, y, quality):
        return F.conv_transpose2d(y * self._step(quality), self.blocks, stride=STRIDE) + 0.5

    def bits(self, y, quality):
        return 0.1 + 2 * torch.log2(1 + y.abs())

    def learning_groups(self):
        return [(1.0, [self.blocks]), (3.0, [self.log_step])]

    def use_compiled(self, compiled):
        pass


class ToyTrainer(Trainer):
    """Any qualities go together."""

    def check_qualities(self, qualities):
        pass

    def network(self, qualities, metric, dtype):
        return ToyTrainable(qualities)

    def start_from_images(self, network, images, lmbdas):
        pass

    def start_from_weights(self, network, tensors, lmbdas):
        network.blocks.data.copy_(torch.from_numpy(tensors["blocks"]))

    def recognises(self, state):
        return "log_step" in state

    def qualities(self, state):
        return tuple(state["qualities"].tolist())

    def tensors(self, state):
        steps = {
            f"q{quality}.step": step.exp().numpy()
            for quality, step in zip(self.qualities(state), state["log_step"], strict=True)
        }
        return {"blocks": state["blocks"].numpy(), **steps}


def step_of(quality):
    return 2.0 ** (-2 - quality / 2)


@pytest.fixture(scope="module", autouse=True)
def family():
    family = ToyFamily()
    registry.register(family)
    yield family
    registry.unregister(family.name)


@pytest.fixture(scope="module")
def toy(family, tmp_path_factory):
    """A weights file of two qualities."""
    tensors = {"blocks": cosines()}
    images = torch.from_numpy(IMAGE[:144, :168]).permute(2, 0, 1)[None].float() / 255
    for quality in (1, 4):
        step = tensors[f"q{quality}.step"] = np.full(LATENT, step_of(quality), np.float32)
        symbols = ToyNetwork(tensors["blocks"], step).analysis(images).numpy()
        tensors.update(static.MODEL.store(static.MODEL.fit([narrow(symbols)]), quality))
    path = tmp_path_factory.mktemp("toy") / "toy.safetensors"
    weights.save(path, tensors, name="toy", family=family.stored_name, metric="mse", qualities=(1, 4))
    with settings.using(weights=path.parent):
        yield path


def close(array, image):
    return array.shape == image.shape and array.dtype == image.dtype and psnr(image, np.asarray(array)) > 24


def test_payloads(toy):
    assert registry.by_stored_name(FAMILIES.name(200)) is weights.load(weights.open_file(toy, "mse", 4), 4).family
    sizes = []
    for quality in (1, 4):
        payload = caecodec.encode(IMAGE, quality, weights=toy)
        header = autoencoder.parse(payload).header
        assert (header.family, header.entropy, payload[3]) == ("toy-blocks", "static", 200)
        assert close(caecodec.decode(payload), IMAGE)
        sizes.append(len(payload))
    assert sizes[0] < sizes[1] < IMAGE.size
    planes = (IMAGE.astype(np.uint16) * 9).transpose(2, 0, 1)[:2]
    assert psnr(planes, caecodec.decode(caecodec.encode(planes, 4, channel_axis=0, weights=toy))) > 20


def test_tiles_make_no_difference(toy):
    with settings.using(precision="fp32"):
        image = np.tile(IMAGE, (3, 3, 1))
        payload = caecodec.encode(image, 4, weights=toy)
        decoded = caecodec.decode(payload)
        with settings.using(memory="16M"):
            assert caecodec.encode(image, 4, weights=toy) == payload
            assert np.abs(caecodec.decode(payload).astype(int) - decoded).max() <= 1


def test_bounds_need_an_exact_synthesis(toy):
    with pytest.raises(caecodec.ParameterError, match=r"'toy-blocks' have no exact synthesis.*leave quality out"):
        caecodec.encode(IMAGE, 4, weights=toy, max_error=2)
    assert np.abs(caecodec.decode(caecodec.encode(IMAGE, weights=toy, max_error=2)).astype(int) - IMAGE).max() <= 2
    for target in (20, 60):  # the second is beyond the best quality
        assert psnr(IMAGE, caecodec.decode(caecodec.encode(IMAGE, weights=toy, psnr=target))) >= target


def test_a_payload_of_another_family_is_refused(toy):
    payload = autoencoder.parse(caecodec.encode(IMAGE, 4, weights=toy))
    header = autoencoder.AutoencoderHeader(
        payload.header.quality, "mse", payload.header.body, payload.header.digest, IMAGE.shape, 2, entropy="static"
    )  # fmt: skip
    forged = autoencoder.AutoencoderPayload(header, payload.streams, payload.escapes)
    with pytest.raises(caecodec.CorruptionError, match="of family 'cae' but its weights"):
        caecodec.decode(autoencoder.pack(forged))


@pytest.mark.parametrize("kind", ["v2", "v3", "shards"])
def test_zarr(toy, kind):
    options = {"chunks": (64, 64, 3)}
    if kind == "v2":
        options |= {"zarr_format": 2, "compressors": caecodec.ConvolutionalAutoencoder(4, weights=toy)}
    else:
        options |= {"serializer": caecodec.zarr.ConvolutionalAutoencoder(4, weights=toy), "compressors": None}
        options |= {"shards": (192, 192, 3)} if kind == "shards" else {}
    array = zarr.create_array({}, data=IMAGE, **options)
    assert close(array[:], IMAGE)
    assert close(array[10:90, 20:110], IMAGE[10:90, 20:110])


def test_numcodecs(toy):
    codec = caecodec.ConvolutionalAutoencoder(1, weights=toy)
    again = caecodec.ConvolutionalAutoencoder(**{key: value for key, value in codec.get_config().items() if key != "id"})
    assert close(again.decode(codec.encode(IMAGE)), IMAGE)


def test_inspection(toy, tmp_path):
    serializer = caecodec.zarr.ConvolutionalAutoencoder(4, weights=toy)
    zarr.create_array(tmp_path / "a.zarr", data=IMAGE, chunks=(64, 64, 3), serializer=serializer, compressors=None)
    (report,) = inspect(tmp_path / "a.zarr")
    assert (report.qualities, report.entropy, report.weights_installed) == ((4,), ("static",), True)
    assert main(["inspect", str(tmp_path / "a.zarr")]) == 0


def test_conversion(toy, tmp_path, capsys):
    """The group carries the weights."""
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    encode_paths([tmp_path / "a.png"], tmp_path / "a.ome.zarr", Options(quality=4, weights=str(toy), chunk_size=64))
    decode_paths([tmp_path / "a.ome.zarr"], tmp_path / "b.png")
    assert close(np.asarray(Image.open(tmp_path / "b.png")), IMAGE)
    assert [source.family for source in weights.carried(tmp_path / "a.ome.zarr").sources] == ["toy-blocks"]
    assert main(["encode", str(tmp_path / "a.png"), "-o", str(tmp_path / "a.cae"), "-q", "1", "--weights", str(toy)]) == 0
    assert main(["weights", "show", str(toy)]) == 0
    assert f"{LATENT} latent" in capsys.readouterr().out


def test_evaluation(toy, tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    results = evaluate([tmp_path / "a.png"], tmp_path / "out", weights=[toy], metrics=["mse"], codecs=[], chunk=64, samples=0)
    (curve,) = results.curves
    assert [point.setting for point in curve.points] == ["quality 1", "quality 4"]


def test_training(toy, tmp_path):
    """Two steps, a checkpoint, entropy tables, and a weights file that works."""
    for number in range(3):
        Image.fromarray(random_image(272, 288, 3, seed=number)).save(tmp_path / f"{number}.png")
    recipe = Recipe(qualities=(2, 7), steps=2, crop=64, batch=2, family="toy-blocks")
    output = tmp_path / "mine.safetensors"
    source = train([tmp_path], output, recipe, init=str(toy), validation=0)
    assert (source.family, source.qualities) == ("toy-blocks", (2, 7))
    assert "context" in weights.load(source, 7).tables
    payload = caecodec.encode(IMAGE, 7, weights=output)
    assert autoencoder.parse(payload).header.entropy == "context"
    assert close(caecodec.decode(payload, weights=output), IMAGE)
    with pytest.raises(caecodec.ParameterError, match="of family 'bmshj2018-factorized', but the recipe's"):
        train([tmp_path], tmp_path / "other.safetensors", recipe, init="default")


@pytest.mark.parametrize("change", [{"wire_id": 1}, {"name": "cae"}, {"stored_name": "bmshj2018-factorized"}])
def test_names_and_ids_are_taken_once(change):
    other = type("Other", (ToyFamily,), {"name": "other", "stored_name": "other", "wire_id": 201, **change})
    with pytest.raises(ValueError, match="has a name or id of 'bmshj2018-factorized'"):
        registry.register(other())
