"""Training: the network's gradients and start, the loop, the command, and that it gives weights that work."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import zarr
from helpers.images import psnr, random_image
from helpers.paths import ROOT
from PIL import Image

import caecodec
from caecodec import settings, weights
from caecodec.cli.main import main
from caecodec.cli.train import parse_qualities
from caecodec.codecs.autoencoder.codec import encode
from caecodec.models.registry import FAMILIES
from caecodec.training import initial
from caecodec.training.backbone import GDN, Backbone
from caecodec.training.crops import Crops
from caecodec.training.export import conditional, export
from caecodec.training.loop import Training
from caecodec.training.loss import ms_ssim, rate_distortion
from caecodec.training.normalise import EAGER, ModulatedNormalisation
from caecodec.training.recipe import LMBDAS, Recipe

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six small images."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(6):
        Image.fromarray(random_image(272, 288, 3, seed=number)).save(folder / f"{number}.png")
    return folder


def photographs():
    import skimage.data

    return [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]


def each(n, index=0):
    """The same quality for n images."""
    return torch.full((n,), index)


@pytest.mark.parametrize("inverse", [False, True])
def test_gradients_of_gdn(inverse):
    torch.manual_seed(0)
    shapes = ((2, 7, 4), (2, 4), (2, 4), (4,), (4, 4))
    rows, scale, shift, beta, gamma = (torch.rand(*shape, dtype=torch.double, requires_grad=True) for shape in shapes)

    def apply(r, s, t, b, g):
        return ModulatedNormalisation.apply(r - 0.5, s + 0.1, t, b, g, inverse, EAGER)

    # the gradients of scale, shift and beta are summed in float32
    assert torch.autograd.gradcheck(apply, (rows, scale, shift, beta, gamma), eps=1e-3, atol=1e-4, rtol=1e-3)


def test_gdn_is_what_it_says():
    torch.manual_seed(0)
    layer, x, scale, shift = GDN(5), torch.randn(2, 5, 3, 4), torch.rand(2, 5), torch.randn(2, 5)
    beta, gamma = torch.ones(5), 0.002 * torch.eye(5) + 0.0004
    modulated = x * scale[:, :, None, None] + shift[:, :, None, None]
    norm = (beta[:, None, None] + torch.einsum("ij,njhw->nihw", gamma, modulated**2)).sqrt()
    torch.testing.assert_close(layer(x, scale, shift), modulated / norm)
    inverse = GDN(5, inverse=True)
    torch.testing.assert_close(inverse(x, scale, shift), modulated * norm)


def perturbed(qualities):
    torch.manual_seed(0)
    network = Backbone(qualities, dtype=torch.float32)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return network


def test_every_sample_has_its_own_quality():
    """A batch of several qualities gives what each of its images gives alone."""
    network, x = perturbed((1, 3, 5)), torch.rand(3, 3, 64, 64)
    quality = torch.tensor([2, 0, 1])
    y = network.analysis(x, quality)
    together = (y, network.bits(y, quality), network.synthesis(y, quality))
    for number in range(3):
        one = y[number : number + 1]
        alone = quality[number : number + 1]
        apart = (network.analysis(x[number : number + 1], alone), network.bits(one, alone), network.synthesis(one, alone))
        for whole, part in zip(together, apart, strict=True):
            torch.testing.assert_close(whole[number], part[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(y, network.analysis(x, torch.zeros(3, dtype=torch.long)))


def test_synthesis_learns_from_rounded_latents():
    """The image is that of the latents that are coded, and the analysis learns through the rounding."""
    network, x = perturbed((3,)), torch.rand(2, 3, 64, 64)
    _, mse, distortion = rate_distortion(network, x, each(2), "mse", torch.Generator())
    with torch.no_grad():
        decoded = network.synthesis(network.analysis(x, each(2)).round(), each(2))
    torch.testing.assert_close(mse, (decoded - x).square().mean((1, 2, 3)))
    distortion.sum().backward()
    assert network.ga[0].weight.grad.abs().max() > 0


def reference_ms_ssim(a, b):
    """MS-SSIM of images (3, h, w) in float64, by scipy: windows are cut off at the border of the image."""
    from scipy.ndimage import correlate1d

    kernel = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    smooth = lambda v: correlate1d(correlate1d(v, kernel, 1, mode="constant"), kernel, 2, mode="constant")  # noqa: E731
    result = np.ones(3)
    for scale, power in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        area = smooth(np.ones_like(a))
        mean_a, mean_b = smooth(a) / area, smooth(b) / area
        variance_a, variance_b = smooth(a * a) / area - mean_a**2, smooth(b * b) / area - mean_b**2
        similarity = (2 * (smooth(a * b) / area - mean_a * mean_b) + 0.03**2) / (variance_a + variance_b + 0.03**2)
        if scale == 4:
            similarity *= (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        result *= similarity.mean((1, 2)) ** power
        a, b = ((v[:, ::2, ::2] + v[:, 1::2, ::2] + v[:, ::2, 1::2] + v[:, 1::2, 1::2]) / 4 for v in (a, b))
    return result.mean()


def test_ms_ssim_agrees_with_its_definition():
    torch.manual_seed(0)
    b = torch.nn.functional.avg_pool2d(torch.rand(2, 3, 192, 192), 5, 1, 2)
    a = b + 0.05 * torch.randn_like(b)
    expected = [reference_ms_ssim(*(v.double().numpy() for v in pair)) for pair in zip(a, b, strict=True)]
    torch.testing.assert_close(ms_ssim(a, b), torch.tensor(expected, dtype=torch.float32), atol=1e-5, rtol=0)


def test_errors_at_a_border_count_as_much_as_others_for_ms_ssim():
    """A chunk is coded alone: where its border counted less, it would be seen in the image."""
    torch.manual_seed(0)
    image = torch.nn.functional.interpolate(torch.rand(1, 3, 24, 24), size=192, mode="bilinear")
    noise = 0.05 * torch.randn(1, 3, 4, 192)
    losses = []
    for row in (0, 94):
        damaged = image.clone()
        damaged[:, :, row : row + 4] += noise
        losses.append(1 - ms_ssim(damaged, image).item())
    assert 0.5 < losses[0] / losses[1] < 2  # windows within the image alone: 0.04


def test_principal_components_code_already():
    """The untrained start reconstructs photographs, better at higher quality."""
    torch.manual_seed(0)
    crops = Crops(photographs(), 128, "cpu", 0)
    recipe = Recipe(steps=1)
    network = Backbone(recipe.qualities, dtype=torch.float32)
    initial.klt(network, crops.draw(100, 128), recipe.lmbdas)
    initial.fit_rate(network, crops.draw(32, 128))
    x = crops.draw(8, 128)
    with torch.no_grad():
        points = [rate_distortion(network, x, each(8, index), "mse", torch.Generator()) for index in range(5)]
    bpp, mse = [float(p[0].mean()) for p in points], [float(p[1].mean()) for p in points]
    assert mse == sorted(mse, reverse=True)
    assert bpp == sorted(bpp)
    assert -10 * np.log10(mse[-1]) > 25
    assert bpp[-1] < 3


@pytest.mark.parametrize("qualities", [(2, 4), (6, 8)])
def test_start_from_weights_keeps_or_widens_them(qualities):
    """At a quality of the file the network is that of the file; for a wider one, near it."""
    source = weights.resolve(weights.Spec("default"), "mse", 4)
    stored = weights.read_tensors(source)
    torch.manual_seed(0)
    network = Backbone(qualities, dtype=torch.float32)
    initial.from_weights(network, stored, dict(enumerate(LMBDAS["mse"], 1)))
    x = Crops(photographs(), 128, "cpu", 0).draw(4, 128)
    with torch.no_grad():
        y = network.analysis(x, each(4, 1))
        x_hat = network.synthesis(y.round(), each(4, 1))
        if qualities == (2, 4):
            theirs = FAMILIES["cae"].build(weights.load(source, 4).tensors)
            symbols = theirs.analysis(x)
            assert (y.round() != symbols).float().mean() < 1e-4
            torch.testing.assert_close(x_hat.clamp(0, 1), theirs.synthesis(symbols).clamp(0, 1), atol=2e-3, rtol=0)
        else:
            assert float((x_hat - x).square().mean()) < 10**-2.8


def test_a_checkpoint_is_what_was_trained():
    """The tensors of a weights file give the network that the loop computed."""
    network = perturbed((1, 3))
    tensors = conditional(network.state_dict())
    plain = FAMILIES["cae"].build(weights.file.fold(tensors, 3))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        y = 4 * network.analysis(x, each(2, 1))
        torch.testing.assert_close(
            network.synthesis(y.round(), each(2, 1)), plain.synthesis(y.round().int()), atol=1e-3, rtol=1e-3
        )


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))]


def small_run(steps, state=None, device="cpu", compiled=False):
    """Sixty steps from the principal components of photographs, or as many of them."""
    torch.manual_seed(1)
    recipe = Recipe(qualities=(2, 4), steps=60, crop=64, batch=3, lr=1e-3)
    crops = Crops(photographs(), 64, device, recipe.seed)
    network = Backbone(recipe.qualities, dtype=torch.float32)
    initial.klt(network, crops.draw(50, 64).cpu(), recipe.lmbdas)
    training = Training(network, recipe, crops, device, compiled)
    if state:
        training.resume(state)
    while training.step < steps:
        training.take_step()
    return training


def loss_of(training):
    """On crops that are always the same, of the lower quality."""
    x = Crops(photographs(), 64, "cpu", 7).draw(8, 64).to(training.device)
    with torch.no_grad():
        bpp, _, distortion = rate_distortion(
            training.backbone, x, each(8).to(x.device), "mse", torch.Generator(x.device).manual_seed(0)
        )
    return float((bpp + LMBDAS["mse"][1] * distortion).mean())


@pytest.mark.parametrize("device", DEVICES)
def test_training_learns_and_resumes(tmp_path, device):
    """The loss falls; and a run that was stopped and resumed takes the same steps as one that was not."""
    whole, half = small_run(60, device=device), small_run(30, device=device)
    torch.save(half.state(), tmp_path / "half.ckpt")
    resumed = small_run(60, torch.load(tmp_path / "half.ckpt", weights_only=True, map_location=device), device)
    for name, value in whole.backbone.state_dict().items():
        torch.testing.assert_close(
            resumed.backbone.state_dict()[name], value, rtol=1e-4, atol=1e-5 if device == "cpu" else 1e-2
        )
    assert loss_of(whole) < 0.85 * loss_of(small_run(0, device=device))
    assert loss_of(resumed) == pytest.approx(loss_of(whole), rel=1e-3 if device == "cpu" else 0.05)
    if device == "cuda":
        assert whole.advance._graph is not None


@pytest.mark.parametrize("there", DEVICES)
def test_checkpoints_resume_on_another_kind_of_device(tmp_path, there):
    """Of random numbers it has others; all else goes on."""
    state = small_run(20, device=there).state()
    state["steps"]["device"] = "another"
    torch.save(state, tmp_path / "half.ckpt")
    resumed = small_run(21, torch.load(tmp_path / "half.ckpt", weights_only=True, map_location="cpu"))
    before = state["network"]["ga.1.weight"].cpu()
    change = (resumed.backbone.ga[1].weight.detach() - before).abs().max()
    assert 0 < change < 0.01
    moments = resumed.advance.state()["optimiser"]
    assert {float(one["step"]) for one in moments.values()} == {21.0}


def test_training_says_so_where_there_is_no_graph():
    """A machine without CUDA cannot have one; training goes on."""
    training = small_run(0)
    training.advance._graphs, training.advance._taken = True, 3
    with pytest.warns(UserWarning, match="without a CUDA graph"):
        training.take_step()
    training.take_step()
    assert (training.step, training.advance._graph) == (2, None)
    assert training.advance.sums[:, 3].tolist() == [2, 2]


def test_training_says_so_where_nothing_compiles():
    with (
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}),
        pytest.warns(UserWarning, match=r"without torch\.compile"),
    ):
        training = small_run(1, compiled=True)
    assert training.backbone.parts is EAGER


def test_a_step_that_is_not_finite_changes_nothing_for_good():
    training = small_run(3)
    training.crops.pixels = training.crops.pixels.float().fill_(float("nan"))
    before = {name: value.clone() for name, value in training.advance.state()["optimiser"][0].items()}
    training.take_step()
    assert training.advance.sums[:, 3].tolist() == [3, 3]
    assert all(parameter.isfinite().all() for parameter in training.backbone.parameters())
    after = training.advance.state()["optimiser"][0]
    torch.testing.assert_close(after["exp_avg"], 0.9 * before["exp_avg"])


def test_checkpoints_of_earlier_versions_are_refused():
    with pytest.raises(caecodec.ParameterError, match="earlier version"):
        small_run(0, {"network": {}, "optimiser": {}})


def test_command_trains_weights_that_work(folder, tmp_path, capsys, monkeypatch):
    output = tmp_path / "mine.safetensors"
    command = ["train", str(folder), "-o", str(output), "--qualities", "2,4", "--steps", "3", "--crop", "64", "--batch", "4"]
    assert main([*command, "--validation", "0.34", "--init", "default"]) == 0
    printed = capsys.readouterr().out
    assert "step 3" in printed
    assert "q4" in printed
    source = weights.open_file(output, "mse", 2)
    assert source.qualities == (2, 4)
    assert source.name == "mine"
    card = output.with_suffix(".md").read_text()
    assert source.sha256 in card
    assert "4 images" in card
    assert card.count("\n| 2 | ") == 1  # measured on the two images held out
    with Image.open(output.with_suffix(".png")) as curves:
        assert curves.size == (1200, 400)
    image = random_image(100, 120, 3, seed=9)
    array = zarr.create_array(
        tmp_path / "a.zarr", data=image, chunks=(64, 64, 3), compressors=None,
        serializer=caecodec.zarr.ConvolutionalAutoencoder(quality=4, weights=output),
    )  # fmt: skip
    assert psnr(array[...], image) > 20
    recorded = dict(array.metadata.codecs[0].to_dict())["configuration"]["weights"]
    assert recorded == f"mine.safetensors@{source.sha256[:8]}"
    read = [sys.executable, "-c", f"import zarr; zarr.open_array({str(tmp_path / 'a.zarr')!r})[...]"]
    elsewhere = subprocess.run(read, capture_output=True, text=True, timeout=120, cwd="/")
    assert f"digest {source.sha256[:8]}" in elsewhere.stderr
    assert "WeightsError" in elsewhere.stderr
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(tmp_path))
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "a.zarr")[...], array[...])

    assert main([*command, "--init", "klt"]) == 1  # exists
    assert "exists already" in capsys.readouterr().err
    longer = [*command[:6], "--steps", "5", "--crop", "64", "--batch", "4"]
    assert main([*longer, "--resume", "--overwrite", "--quiet"]) == 0
    state = torch.load(output.with_suffix(".ckpt"), weights_only=True)
    assert (state["step"], state["recipe"]["qualities"]) == (5, (2, 4))


def test_ms_ssim_from_mse_weights(tmp_path):
    for number, photograph in enumerate(photographs()):
        Image.fromarray(photograph[:256, :256]).save(tmp_path / f"{number}.png")
    output = tmp_path / "similar.safetensors"
    start = str(weights.resolve(weights.Spec("default"), "mse", 3).location)
    assert main(["train", str(tmp_path), "-o", str(output), "-m", "ms-ssim", "--qualities", "3", "--steps", "2",
                 "--init", start, "--validation", "0", "--quiet"]) == 0  # fmt: skip
    assert weights.open_file(output, "mse", 3).metric == "ms-ssim"
    payload = encode(photographs()[0], quality=3, metric="ms-ssim", weights=output)
    assert psnr(caecodec.decode(payload, weights=output), photographs()[0]) > 22
    exported = tmp_path / "again.safetensors"
    assert main(["export", str(output.with_suffix(".ckpt")), str(tmp_path), "-o", str(exported), "--crops", "2"]) == 0
    assert weights.open_file(exported, "mse", 3).metric == "ms-ssim"
    few, all_of_them = (weights.read_tensors(weights.open_file(path, "mse", 3)) for path in (exported, output))
    assert not np.array_equal(few["q3.static.mass"], all_of_them["q3.static.mass"])
    with pytest.raises(caecodec.ParameterError, match="crops is 0"):
        export(output.with_suffix(".ckpt"), tmp_path / "none.safetensors", [tmp_path], crops=0)


def test_example_of_ones_own_images(tmp_path):
    """It trains, and compares what it trained with what it began with and with JPEG 2000."""
    for name, photograph in zip(("train", "test"), photographs()[:2], strict=True):
        (tmp_path / name).mkdir()
        Image.fromarray(photograph[:256, :256]).save(tmp_path / name / "one.png")
    script = ROOT / "examples" / "own_images.py"
    command = [sys.executable, script, tmp_path / "train", tmp_path / "test", "-o", tmp_path / "out"]
    environment = {**os.environ, "PYTHONPATH": str(script.parent.parent)}
    command = [*map(str, command), "--minutes", "0.01", "--qualities", "2-4"]
    output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, env=environment).stdout
    assert "own.safetensors mse against" in output
    assert "% of the bits at equal PSNR" in output
    assert (tmp_path / "out" / "own.md").exists()
    assert (tmp_path / "out" / "evaluation" / "report.html").exists()


def test_interrupt_leaves_a_checkpoint(folder, tmp_path):
    output = tmp_path / "mine.safetensors"
    command = [sys.executable, "-m", "caecodec", "train", str(folder), "-o", str(output), "--qualities", "1",
               "--crop", "64", "--batch", "4", "--minutes", "10", "--init", "default", "--save-every", "0.01"]  # fmt: skip
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout.readline().startswith("step 50")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "--resume" in error
    state = torch.load(output.with_suffix(".ckpt"), weights_only=True)
    assert state["step"] >= 50
    assert not output.exists()
    assert main(["export", str(output.with_suffix(".ckpt")), str(folder), "-o", str(output)]) == 0
    assert weights.open_file(output, "mse", 1).qualities == (1,)


def test_crops_are_parts_of_images():
    image = random_image(70, 80, 3)
    drawn = (Crops([image, image[:30]], 64, "cpu", 0).draw(50, 64) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    places = {
        (y, x, mirrored, turned)
        for crop in drawn
        for y in range(7)
        for x in range(17)
        for mirrored in (False, True)
        for turned in (False, True)
        if np.array_equal(image[y : y + 64, x : x + 64][:: -1 if turned else 1, :: -1 if mirrored else 1], crop)
    }
    assert len(places) > 20
    assert {place[2:] for place in places} == {(True, False), (False, False), (True, True), (False, True)}
    with pytest.raises(caecodec.ParameterError, match="no training image has 128x128"):
        Crops([image], 128, "cpu", 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"qualities": (5, 6), "steps": 1}, "one network has"),
        ({"qualities": (), "steps": 1}, "one network has"),
        ({"qualities": (2, 2), "steps": 1}, "each once"),
        ({}, "one of them must be above 0"),
        ({"steps": 3, "minutes": 1}, "one of them must be above 0"),
        ({"steps": 1, "crop": 100}, "multiple of 32"),
        ({"steps": 1, "metric": "ms-ssim", "crop": 128}, "at least 192 for ms-ssim"),
        ({"steps": 1, "metric": "psnr"}, "metric is 'psnr'"),
        ({"steps": 1, "batch": -1}, "batch is -1"),
        ({"steps": 1, "batch": 4}, "each of the 5 qualities"),
        ({"steps": 1, "lr": 0.0}, "lr is 0.0"),
    ],
)
def test_recipes_that_do_not_fit(arguments, message):
    with pytest.raises(caecodec.ParameterError, match=message):
        Recipe(**arguments)


@pytest.mark.parametrize(
    ("arguments", "memory", "crop", "batch"),
    [
        ({}, None, 128, 10),
        ({"metric": "ms-ssim"}, None, 192, 5),
        ({"qualities": (6, 7, 8)}, None, 128, 9),
        ({}, 16 * 2**30, 192, 50),
        ({"qualities": (6, 7, 8)}, 16 * 2**30, 192, 54),
        ({}, 4 * 2**30, 192, 25),
        ({"crop": 256}, 2**20, 256, 5),
        ({"batch": 7, "crop": 64}, 16 * 2**30, 64, 7),
    ],
)
def test_crops_and_batches_suit_the_device(arguments, memory, crop, batch):
    chosen = Recipe(steps=1, **arguments).on(memory)
    assert (chosen.size, chosen.crops) == (crop, batch)


def test_bad_requests(folder, tmp_path, capsys):
    output = tmp_path / "mine.safetensors"
    command = ["train", str(folder), "-o", str(output), "--qualities", "1", "--crop", "64", "--batch", "4", "--quiet"]
    for more, message in (
        (["--steps", "1", "--resume"], "there is no checkpoint"),
        (["--steps", "1", "--validation", "0.9"], "validation is 0.9"),
        (["--steps", "1", "--init", "nothing"], "have none for quality 1"),
        (["--steps", "1", "--crop", "512"], "no training image has 512x512"),
        (["--steps", "100", "--lr", "1e6", "--init", "default"], "no longer finite"),
    ):
        assert main([*command, *more]) == 1
        assert message in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(caecodec.ParameterError, match="'1-b'"):
        parse_qualities("1-b")
    assert parse_qualities("1-3,5") == (1, 2, 3, 5)


def test_precision_follows_the_settings():
    from caecodec.training.train import _dtype

    with settings.using(precision="fp32"):
        assert _dtype("cpu") == torch.float32
    with settings.using(precision="bf16"):
        assert _dtype("cpu") == torch.bfloat16
