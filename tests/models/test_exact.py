import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import processes
from helpers.networks import seeded_tensors
from helpers.paths import TINY
from reference.exact import reference as exact_reference

from caecodec import weights
from caecodec.errors import WeightsError
from caecodec.models import registry
from caecodec.models.factorized import exact
from caecodec.models.factorized.exact import ExactSynthesis
from caecodec.models.factorized.network import FactorizedPrior

TENSORS = registry.by_name(registry.DEFAULT).fold(seeded_tensors(0), 4).tensors
TENSORS["medians"] = np.linspace(-0.5, 0.5, 12, dtype=np.float32)


@pytest.fixture(scope="module")
def network():
    return ExactSynthesis.build(TENSORS)


def symbols(*shape, spread=40, seed=0):
    return np.random.default_rng(seed).integers(-spread, spread, shape, np.int32, endpoint=True)


@pytest.mark.parametrize(("size", "levels"), [((1, 1), 1), ((1, 1), 65535), ((2, 2), 255)])
def test_equals_python_integers(network, size, levels):
    latents = symbols(12, *size)
    found = network.run(latents[None], levels)
    assert found.shape == (1, 3, 16 * size[0], 16 * size[1])
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found[0], exact_reference(TENSORS, latents, levels))


def test_extreme_symbols_saturate_as_specified(network):
    """Every limit is reached, and the sums stay exact."""
    latents = symbols(12, 1, 1, spread=2**24)
    np.testing.assert_array_equal(network.run(latents[None], 65535)[0], exact_reference(TENSORS, latents, 65535))


def test_is_the_float_synthesis(network):
    latents = symbols(2, 12, 5, 4)
    floats = FactorizedPrior.build(TENSORS).synthesis(torch.from_numpy(latents)).clamp(0, 1).numpy()
    assert ((floats > 0) & (floats < 1)).mean() > 0.1
    np.testing.assert_allclose(network.run(latents, 65535) / 65535, floats, atol=2e-3)


@pytest.mark.parametrize("tile", [1, 2, 5])
def test_tiles_change_nothing(network, monkeypatch, tile):
    latents = symbols(1, 12, 9, 7)
    whole = network.run(latents, 255)
    monkeypatch.setattr(exact.tiling, "tile_positions", lambda *_: tile)
    np.testing.assert_array_equal(network.run(latents, 255), whole)


@pytest.mark.parametrize("strip", [1, 50, 10**9])
def test_strips_change_nothing(network, monkeypatch, strip):
    latents = symbols(2, 12, 4, 5)
    expected = network.run(latents, 255)
    monkeypatch.setattr(exact, "STRIP_POSITIONS", strip)
    np.testing.assert_array_equal(network.run(latents, 255), expected)


def test_batches_and_memory_layout_change_nothing(network):
    latents = symbols(4, 12, 3, 5)
    together = network.run(latents, 255)
    for image, expected in zip(latents, together, strict=True):
        np.testing.assert_array_equal(network.run(image[None], 255)[0], expected)
    last = np.ascontiguousarray(latents.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(network.run(last, 255), together)
    np.testing.assert_array_equal(network.run(np.asfortranarray(latents), 255), together)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_equals_library_convolutions(network, memory_format):
    """The same integers from conv_transpose2d and einsum in float64."""
    latents = symbols(2, 12, 5, 4, spread=300)

    def integers(name, bits):
        return torch.from_numpy(np.rint(TENSORS[name].astype(np.float64) * 2.0**bits))

    x = torch.from_numpy(latents).double() * 1024 + integers("medians", 10)[:, None, None]
    for i in range(4):
        weight, bias = integers(f"g_s.{2 * i}.weight", 18 if i else 22), integers(f"g_s.{2 * i}.bias", 32)
        x = x.clamp(-(2**24), 2**24).contiguous(memory_format=memory_format)
        x = F.conv_transpose2d(x, weight, bias, stride=2, padding=2, output_padding=1)
        if i < 3:
            x = torch.floor((x + 2**17) / 2**18).clamp(-(2**22), 2**22)
            gamma, beta = integers(f"g_s.{2 * i + 1}.gamma", 16)[:, :, 0, 0], integers(f"g_s.{2 * i + 1}.beta", 30)
            beta += torch.floor(gamma.sum(1) / 2)
            root = torch.einsum("ij,njyx->niyx", gamma, torch.floor(x * x / 2**14)).add(beta[:, None, None]).sqrt().floor()
            x = torch.floor((x * (2 * root + 1) + 2**15) / 2**16)
    x = torch.floor((x.clamp(0, 2**32) * 255 + 2**31) / 2**32)
    np.testing.assert_array_equal(network.run(latents, 255), x.int().numpy())


def test_threads_and_instruction_sets_change_nothing():
    """In processes of their own, with the network of stored weights."""
    script = (
        "import sys, zlib, numpy, torch\n"
        "from caecodec import weights\n"
        "from caecodec.models.factorized.exact import ExactSynthesis\n"
        "source = weights.resolve(weights.Spec.parse(sys.argv[1]), 'mse', 4)\n"
        "network = ExactSynthesis.build(weights.load(source, 4).network.tensors)\n"
        "latents = numpy.random.default_rng(5).integers(-9, 9, (2, 12, 9, 8), numpy.int32)\n"
        "for threads in map(int, sys.argv[2:]):\n"
        "    torch.set_num_threads(threads)\n"
        "    print(zlib.crc32(network.run(latents, 65535).astype('<i4').tobytes()))"
    )
    plain = {"ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "OPENBLAS_CORETYPE": "Prescott"}
    for threads, extra in (((1, 2, 4), {}), ((1,), plain)):
        found = processes.run("-c", script, TINY, *threads, env=processes.environment(**extra)).stdout.split()
        assert found == ["4257831381"] * len(threads)  # on every machine


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu(network):
    latents = symbols(2, 12, 9, 7)
    np.testing.assert_array_equal(ExactSynthesis.build(TENSORS, "cuda").run(latents, 65535), network.run(latents, 65535))


@pytest.mark.parametrize(("name", "value"), [
    ("g_s.0.weight", 1e4), ("g_s.4.weight", 1e4), ("g_s.6.bias", 1e7), ("g_s.3.gamma", 100.0), ("g_s.1.beta", -1.0),
    ("g_s.5.gamma", -1.0), ("g_s.2.weight", np.nan), ("g_s.2.bias", np.inf), ("g_s.1.beta", np.nan), ("medians", 1e30),
    ("medians", np.nan),
])  # fmt: skip
def test_refuses_weights_whose_sums_may_not_be_exact(name, value):
    with pytest.raises(WeightsError, match="too large"):
        ExactSynthesis.build({**TENSORS, name: np.full_like(TENSORS[name], value)})


def test_shipped_weights_fit():
    """All that are of a family with an exact synthesis: sixteen qualities."""
    found = [weights.load(source, quality) for source in weights.installed() for quality in source.qualities]
    exact = [loaded for loaded in found if loaded.family.exact]
    assert len(exact) >= 16
    for loaded in exact:
        loaded.family.build_exact(loaded.network.tensors, "cpu")
