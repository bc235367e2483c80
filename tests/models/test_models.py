import pytest
import torch
import torch.nn.functional as F
from torch import nn

from caecodec.models import bfloat16
from caecodec.models.factorized import network as factorized
from caecodec.models.factorized import precision
from caecodec.models.factorized.network import GDN, FactorizedPrior, sub_pixel


@pytest.fixture(scope="module")
def network():
    """A random network of odd widths, its latents of several units."""
    torch.manual_seed(0)
    network = FactorizedPrior(7, 5).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, GDN):
            module.beta.uniform_(0.5, 1.5)
            module.gamma.uniform_(0, 0.1)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.bias.uniform_(-1, 1)
    network.g_a[6].weight.mul_(50)
    network.medians.uniform_(-0.5, 0.5)
    return network


def formula(gdn, x):
    """GDN as Ballé et al. (2016) write it, in new memory."""
    norm = gdn.beta[:, None, None] + torch.einsum("ij,njyx->niyx", gdn.gamma[:, :, 0, 0], x**2)
    return x * norm.sqrt() if gdn.inverse else x / norm.sqrt()


def plain(layers, x):
    """The layers one after the other, as they are defined."""
    for layer in layers:
        x = formula(layer, x) if isinstance(layer, GDN) else layer(x)
    return x


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (2, 8, 5, 3), (1, 8, 65, 67)])
def test_gdn_is_its_formula(inverse, memory_format, shape):
    torch.manual_seed(1)
    gdn = GDN(8, inverse).requires_grad_(False)
    gdn.beta.uniform_(0.5, 1.5)
    gdn.gamma.uniform_(0, 0.1)
    x = torch.randn(shape).contiguous(memory_format=memory_format)
    expected = formula(gdn, x)
    torch.testing.assert_close(gdn(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(1, 6, 1, 1), (2, 6, 4, 7)])
def test_sub_pixel_is_the_transposed_conv(shape):
    torch.manual_seed(2)
    deconv = nn.ConvTranspose2d(6, 3, 5, stride=2, padding=2, output_padding=1).requires_grad_(False)
    x = torch.randn(shape)
    bias = deconv.bias.repeat_interleave(4)
    wide = F.conv2d(x, sub_pixel(deconv.weight), bias, padding=1)
    torch.testing.assert_close(F.pixel_shuffle(wide, 2), deconv(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("rows", "pixels"), [(4, 10**6), (12, 10**6), (40, 3 * 2**13), (64, 1)])
def test_strips_cover_once(rows, pixels):
    cut = list(factorized.strips(rows, pixels))
    assert [row for start, stop in cut for row in range(start, stop)] == list(range(rows))
    assert all(stop - start >= 4 for start, stop in cut)


@pytest.mark.parametrize("strip", [1, 200, 10**9, None])
@pytest.mark.parametrize("size", [(1, 16, 16), (1, 80, 48), (3, 112, 16)])
def test_strips_equal_the_plain_network(network, monkeypatch, strip, size):
    """From the narrowest strips to one of all rows, and without any; batches and borders included."""
    monkeypatch.setattr(factorized, "STRIP_PIXELS", strip)
    if strip is None:  # as on a GPU without Triton
        monkeypatch.setattr(factorized, "in_parts", lambda device: False)
        monkeypatch.setattr(factorized.fused, "available", lambda: False)
    monkeypatch.setattr(factorized, "BLOCK_PIXELS", 100)
    torch.manual_seed(3)
    images = torch.rand(size[0], 3, *size[1:]).contiguous(memory_format=torch.channels_last)
    latents = plain(network.g_a, images) - network.medians[:, None, None]
    symbols = network.analysis(images)
    assert symbols.abs().max() > 5
    tie = (latents - latents.floor() - 0.5).abs() < 1e-4
    assert ((symbols == latents.round()) | tie).all()
    symbols = torch.randint(-2, 3, symbols.shape, dtype=torch.int32)
    expected = plain(network.g_s, symbols.float() + network.medians[:, None, None])
    torch.testing.assert_close(network.synthesis(symbols), expected, atol=1e-5, rtol=1e-5)


def test_input_is_left_as_it_is(network):
    """GDN works in place, but never in the caller's memory."""
    images = torch.rand(1, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    before = images.clone()
    symbols = network.analysis(images)
    again = symbols.clone()
    network.synthesis(symbols)
    assert torch.equal(images, before)
    assert torch.equal(symbols, again)


@pytest.mark.parametrize(("stride", "shape"), [(1, (4, 3, 5, 5)), (2, (3, 4, 5, 5))])
def test_rounded_weights_keep_the_sums_of_taps(stride, shape):
    torch.manual_seed(4)
    weight = torch.randn(shape)
    low = precision.rounded(weight, stride)
    assert low.dtype == torch.bfloat16
    assert ((low.float() - weight).abs() <= 2.0**-7 * weight.abs().amax((-1, -2), keepdim=True)).all()
    for row in range(stride):
        for column in range(stride):
            taps = (..., slice(row, None, stride), slice(column, None, stride))
            off = (low.float() - weight)[taps].sum((-1, -2)).abs()
            assert (off <= 2.0**-8 * weight[taps].abs().amax((-1, -2)) + 1e-6).all()


def test_precision_is_a_choice_by_quality(monkeypatch):
    for has, chosen in ((True, precision.LAYERS), (False, frozenset())):
        monkeypatch.setattr(bfloat16, "processor_has_bfloat16", lambda has=has: has)
        assert precision.layers("auto", 4, "cpu") == chosen
        assert precision.layers("auto", 8, "cpu") < precision.LAYERS
        assert precision.layers("fp32", 4, "cpu") == frozenset()
        assert precision.layers("bf16", 8, "cpu") == precision.LAYERS


def test_gdn_in_another_precision():
    torch.manual_seed(5)
    gdn = GDN(8).requires_grad_(False)
    gdn.gamma.uniform_(0, 0.1)
    x, bias = torch.randn(1, 8, 4, 8).bfloat16(), torch.randn(8)
    expected = formula(gdn, x.float() + bias[:, None, None])
    torch.testing.assert_close(gdn(x, bias, torch.float32), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gdn(x, bias), expected.bfloat16(), atol=1e-2, rtol=1e-2)
