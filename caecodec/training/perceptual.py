"""LPIPS (Zhang et al. 2018, https://arxiv.org/abs/1801.03924): how far apart images are in the features of AlexNet."""

import warnings
from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from ..errors import ParameterError, WeightsError
from ..models.factorized import compressai

FILE = "alexnet-owt-7be5be79.pth"  # torchvision's name


def lpips(backbone: Path | None = None, device: str = "cpu") -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS (n,) of images (n, 3, h, w) in [0, 1], as a function on this device.

    backbone : a state dict of torchvision's AlexNet; None: torchvision downloads it, once

    Raises
    ------
    ParameterError
        The package lpips is not installed, or the download failed.
    WeightsError
        The file is not of AlexNet.
    """
    try:
        import lpips as package
    except ImportError as error:
        raise ParameterError(
            f"LPIPS in the loss needs {error.name}, which is not installed: pip install 'caecodec[lpips]'"
        ) from error
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision")  # lpips calls it in a deprecated way
        try:
            network = package.LPIPS(net="alex", pnet_rand=backbone is not None, verbose=False)
        except (OSError, RuntimeError) as error:
            raise ParameterError(
                f"LPIPS needs the weights of AlexNet, whose download failed ({error}); "
                f"fetch torchvision's {FILE} elsewhere and pass it (--lpips-backbone)"
            ) from error
    if backbone is not None:
        _load(network.net, backbone)
    network.requires_grad_(False).to(device)

    def measure(x_hat: Tensor, x: Tensor) -> Tensor:
        distance: Tensor = network(x_hat, x, normalize=True)
        return distance.flatten()

    return measure


def _load(slices: nn.Module, path: Path) -> None:
    """Load AlexNet, which lpips has cut into slices: its layers keep their numbers."""
    state = compressai.read(path)
    try:
        slices.load_state_dict({name: state[f"features.{name.partition('.')[2]}"] for name in slices.state_dict()})
    except (KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise WeightsError(
            f"{path} is not a state dict of torchvision's AlexNet: {why}; pass its file, {FILE} (--lpips-backbone)"
        ) from error
