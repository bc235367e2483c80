"""Entropy coding on a GPU; the kernels run in Triton's interpreter too, where there is no GPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import processes

from caecodec.entropy import context_numpy, device, device_lists
from caecodec.entropy.context_tables import LEFT, UP


@pytest.mark.skipif(not device.available(), reason="Triton is not installed: it comes with PyTorch for CUDA on Linux")
@pytest.mark.parametrize("on", ["cuda"] if torch.cuda.is_available() else [pytest.param("cpu", marks=pytest.mark.slow)])
def test_kernels(on):
    environment = processes.environment(**({} if on == "cuda" else {"TRITON_INTERPRET": "1"}))
    script = Path(__file__).with_name("check_kernels.py")
    assert processes.run(script, on, env=environment).stdout == "same bytes\n"


@pytest.mark.skipif(not device.available(), reason="Triton is not installed: it comes with PyTorch for CUDA on Linux")
@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile(capability, tmp_path):
    """For GPUs that need not be here."""
    environment = processes.environment(TRITON_CACHE_DIR=str(tmp_path))
    script = Path(__file__).with_name("check_compile.py")
    assert processes.run(script, capability, env=environment).stdout == "compiled\n"


@pytest.mark.parametrize("kind", [LEFT, UP])
def test_differences(kind):
    values = np.random.default_rng(0).integers(-99, 99, (2, 3, 5, 7), np.int32)
    expected = context_numpy.difference(values, kind)
    found = device.difference(torch.from_numpy(values), kind)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(device.integrate(found.long(), kind), context_numpy.integrate(expected, kind))


@pytest.mark.parametrize("share", [0, 0.002, 0.9])
def test_what_payloads_are_made_of_is_fetched(share, monkeypatch):
    """Two payloads of three streams each, with few words and escapes, or with more than are fetched at once."""
    rng = np.random.default_rng(0)
    room, symbols = 1002, 6 * 1000
    written = rng.binomial(room, share, 6).astype(np.int32)
    written[1] = 0
    words = rng.integers(-(2**31), 2**31, 6 * room, np.int64).astype(np.int32)
    number, escaped = rng.integers(0, 2**25, symbols, np.int32), rng.random(symbols) < share
    rank = np.cumsum(escaped, dtype=np.int32)
    begin = np.arange(6, dtype=np.int64) * room
    waits, fetch = [], device_lists.fetch
    monkeypatch.setattr(device_lists, "fetch", lambda tensor: waits.append(len(tensor)) or fetch(tensor))
    counts, lengths, ends, found, numbers = device_lists.fetch_coded(
        torch.tensor([7, 9], dtype=torch.int32),
        device_lists.Words(*map(torch.from_numpy, (words, begin, written))),
        device_lists.Escapes(*map(torch.from_numpy, (number, rank, rank[[symbols // 2 - 1, symbols - 1]]))),
    )
    assert counts.tolist() == [7, 9]
    np.testing.assert_array_equal(lengths, written)
    np.testing.assert_array_equal(found, np.concatenate([words[b : b + n] for b, n in zip(begin, written, strict=True)]))
    np.testing.assert_array_equal(numbers, number[escaped])
    assert ends.tolist() == [escaped[: symbols // 2].sum(), escaped.sum()]
    assert len(waits) == (2 if share == 0.9 else 1)
