"""The network as it is trained: gradients, losses, starts."""

import numpy as np
import pytest
import torch
from helpers.training import each, photographs

from caecodec import weights
from caecodec.models import registry
from caecodec.models.factorized.training.backbone import TrainableGDN
from caecodec.models.factorized.training.normalise import EAGER, ModulatedNormalisation
from caecodec.training import initial
from caecodec.training.backbone import Backbone
from caecodec.training.crops import Crops
from caecodec.training.loss import ms_ssim, rate_distortion, squared_error
from caecodec.training.recipe import LMBDAS, Recipe

FACTORIZED = registry.by_name(registry.DEFAULT)


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
    layer, x, scale, shift = TrainableGDN(5), torch.randn(2, 5, 3, 4), torch.rand(2, 5), torch.randn(2, 5)
    beta, gamma = torch.ones(5), 0.002 * torch.eye(5) + 0.0004
    modulated = x * scale[:, :, None, None] + shift[:, :, None, None]
    norm = (beta[:, None, None] + torch.einsum("ij,njhw->nihw", gamma, modulated**2)).sqrt()
    torch.testing.assert_close(layer(x, scale, shift), modulated / norm)
    inverse = TrainableGDN(5, inverse=True)
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
    _, mse, distortion = rate_distortion(network, x, each(2), squared_error, torch.Generator())
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
    initial.klt(network, crops.draw(40, 128), recipe.lmbdas)
    initial.fit_rate(network, crops.draw(16, 64))
    x = crops.draw(3, 128)
    with torch.no_grad():
        points = [rate_distortion(network, x, each(3, index), squared_error, torch.Generator()) for index in range(5)]
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
            theirs = FACTORIZED.build(weights.load(source, 4).network.tensors)
            symbols = theirs.analysis(x)
            assert (y.round() != symbols).float().mean() < 1e-4
            torch.testing.assert_close(x_hat.clamp(0, 1), theirs.synthesis(symbols).clamp(0, 1), atol=2e-3, rtol=0)
        else:
            assert float((x_hat - x).square().mean()) < 10**-2.8


def test_a_checkpoint_is_what_was_trained():
    """The tensors of a weights file give the network that the loop computed."""
    network = perturbed((1, 3))
    tensors = FACTORIZED.trainer().tensors(network.state_dict())
    plain = FACTORIZED.build(FACTORIZED.fold(tensors, 3).tensors)
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        y = 4 * network.analysis(x, each(2, 1))
        torch.testing.assert_close(
            network.synthesis(y.round(), each(2, 1)), plain.synthesis(y.round().int()), atol=1e-3, rtol=1e-3
        )
