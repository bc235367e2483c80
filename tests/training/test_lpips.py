"""LPIPS in the loss, where its package is installed: the network from a file, and training with it."""

import urllib.error

import pytest
import torch
from helpers.training import photographs

import caecodec
from caecodec import weights
from caecodec.cli.main import main
from caecodec.training import perceptual
from caecodec.training.crops import Crops

lpips = pytest.importorskip("lpips", reason="LPIPS is not installed (extra lpips)")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A file as torchvision's, of random weights, without the layers that LPIPS does not use."""
    from torchvision.models import alexnet

    torch.manual_seed(0)
    state = {name: value for name, value in alexnet(weights=None).state_dict().items() if name.startswith("features.")}
    path = tmp_path_factory.mktemp("backbone") / perceptual.FILE
    torch.save(state, path)
    return path


def test_it_is_that_of_the_package(backbone):
    """With the network of the file, and the package's own weights of its layers."""
    reference = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    features = torch.load(backbone, weights_only=True)
    for layer in (reference.net.slice1, reference.net.slice2, reference.net.slice3, reference.net.slice4, reference.net.slice5):
        for number, module in layer.named_children():
            for part, parameter in module.named_parameters():
                parameter.data.copy_(features[f"features.{number}.{part}"])
    x = Crops(photographs(), 128, "cpu", 0).draw(3, 128)
    x_hat = (x + 0.1 * torch.randn_like(x)).requires_grad_()
    measured = perceptual.lpips(backbone)(x_hat, x)
    assert measured.shape == (3,)
    torch.testing.assert_close(measured, reference(2 * x_hat - 1, 2 * x - 1).flatten())
    assert measured.detach().min() > 0
    assert not perceptual.lpips(backbone)(x, x).any()
    measured.sum().backward()
    assert x_hat.grad.abs().max() > 0


def test_training_with_it(backbone, folder, tmp_path, short_start):
    output = tmp_path / "mine.safetensors"
    command = [
        "train",
        str(folder),
        "-o",
        str(output),
        "--qualities",
        "3",
        "--crop",
        "192",
        "--batch",
        "1",
        "--validation",
        "0",
    ]
    loss = ["--loss", "bpp+mae+ms-ssim+lpips=0.5", "--lpips-backbone", str(backbone)]
    assert main([*command, *loss, "--steps", "2", "--init", "default", "--quiet"]) == 0
    assert weights.open_file(output, "ms-ssim", 3).metric == "ms-ssim"
    assert (
        "| loss | bits per pixel + lmbda (MAE + (1 - MS-SSIM) + 0.5 LPIPS), lmbda 8.73 |"
        in output.with_suffix(".md").read_text()
    )


def test_files_that_are_not_alexnet(backbone, tmp_path):
    cut = tmp_path / "cut.pth"
    state = torch.load(backbone, weights_only=True)
    torch.save({**state, "features.0.weight": state["features.0.weight"][:7]}, cut)
    other = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(3)}, other)
    for path in (cut, other):
        with pytest.raises(
            caecodec.WeightsError, match=f"{path} is not a state dict of torchvision's AlexNet.*--lpips-backbone"
        ):
            perceptual.lpips(path)


def test_without_a_network_connection(monkeypatch, tmp_path):
    """The download fails as it does on a machine that is not connected."""

    def unreachable(*arguments, **options):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", unreachable)
    with pytest.raises(caecodec.ParameterError, match=r"download failed.*no route to host.*--lpips-backbone"):
        perceptual.lpips()
