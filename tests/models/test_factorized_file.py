"""The tensors of a weights file as the factorized network takes them."""

import numpy as np
import pytest
import torch
from helpers.networks import seeded_tensors

from caecodec.bitstream.autoencoder import FAMILIES
from caecodec.models import registry
from caecodec.models.family import FoldedNetwork

FACTORIZED = registry.by_name(registry.DEFAULT)


def test_names_and_ids():
    """Weights files and payloads keep what they have always said."""
    assert FAMILIES.name(1) == "cae"
    assert registry.by_stored_name("cae") is FACTORIZED
    assert (FACTORIZED.stride, FACTORIZED.halo({}), FACTORIZED.exact) == (16, 2, True)
    for find, unknown in ((registry.by_name, "cae"), (registry.by_stored_name, FACTORIZED.name)):
        with pytest.raises(KeyError):
            find(unknown)


def test_dequantised_latents_are_what_the_synthesis_begins_with():
    """FORMAT.md, 9: latents = (symbols + medians) latent_scale."""
    tensors = seeded_tensors(3)
    tensors["q4.medians"] = np.linspace(-0.4, 0.4, 12, dtype=np.float32)
    folded = FACTORIZED.fold(tensors, 4)
    symbols = np.random.default_rng(0).integers(-9, 9, (2, 12, 3, 4), np.int32)
    latents = folded.latents(symbols)
    medians, scale = tensors["q4.medians"][:, None, None], tensors["q4.latent_scale"][:, None, None]
    np.testing.assert_allclose(latents, (symbols + medians) * scale, rtol=1e-6)
    unscaled = {**tensors, "q4.latent_scale": np.ones(12, np.float32), "q4.medians": np.zeros(12, np.float32)}
    first = FACTORIZED.build(FACTORIZED.fold(unscaled, 4).tensors).g_s[0](torch.from_numpy(latents))
    network = FACTORIZED.build(folded.tensors)
    torch.testing.assert_close(
        network.g_s[0](torch.from_numpy(symbols.astype(np.float32) + medians)), first, rtol=1e-4, atol=1e-4
    )


def test_latents_of_networks_without_scale_and_medians_are_the_symbols():
    tensors = seeded_tensors(3)
    del tensors["q4.latent_scale"]
    folded = FACTORIZED.fold(tensors, 4)
    assert isinstance(folded, FoldedNetwork)
    assert folded.latent_channels == 12
    symbols = np.arange(12, dtype=np.int32).reshape(1, 12, 1, 1)
    np.testing.assert_array_equal(folded.latents(symbols), symbols)
