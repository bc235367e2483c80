"""Some thousands of the mutated payloads of fuzz.py; python tests/fuzz.py --count 100000 for more."""

import re
from functools import cache

import fuzz
import fuzz_sections
import pytest
from helpers import processes
from hypothesis import given, settings
from hypothesis import strategies as st

import caecodec
from caecodec.bitstream import padded
from caecodec.weights import file as weights_file


@pytest.fixture(scope="module")
def originals():
    return fuzz.originals()


@settings(max_examples=10 * settings.default.max_examples)
@given(rng=st.randoms(use_true_random=False))
@pytest.mark.filterwarnings("error")
def test_a_mutated_payload(originals, rng):
    original = rng.choice(originals)
    fuzz.check(original, *fuzz.mutate(rng, original.data))


@pytest.mark.filterwarnings("error")
def test_a_payload_that_is_not_mutated(originals):
    for original in originals:
        if isinstance(original, fuzz_sections.SectionsOriginal):
            assert fuzz.check(original, original.data, False) == "original sections"
            assert fuzz_sections.SectionParts(original.data).pack(sealed=True) == original.data
            continue
        assert fuzz.check(original, original.data, False) == "original pixels"
        if original.name.startswith("v4"):
            assert fuzz_sections.SectionParts(original.data).pack(sealed=True) == original.data
            continue
        parts = fuzz.apart(original.data)
        content = padded.parse(original.data).content if original.name.startswith("v5") else original.data
        assert parts.pack() == content[:-4]


def test_the_script():
    result = processes.run(fuzz.__file__, "--count", 500, "--seed", 3)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("500 payloads mutated")
    assert lines[-2].startswith("slowest: ")
    assert int(re.search(r"(\d+) MiB above", lines[-1])[1]) < 100


WEIGHTS = ["tiny.safetensors", "tiny-context.safetensors", "tiny-layers.safetensors", "tiny-binary-context.safetensors"]


@pytest.mark.parametrize("name", WEIGHTS)
@settings(max_examples=2 * settings.default.max_examples)
@given(rng=st.randoms(use_true_random=False))
def test_a_mutated_weights_file(name, rng):
    """A network that can be built, or an error of ours."""
    body = bytearray(_file(name))
    header = 8 + int.from_bytes(body[:8], "little")
    for _ in range(rng.randint(1, 4)):
        where = rng.choice([rng.randrange(8), rng.randrange(8, header), rng.randrange(header), rng.randrange(len(body))])
        body[where] = rng.choice([body[where] ^ 1 << rng.randint(0, 7), rng.randint(0, 255), ord("0"), ord("9")])
    try:
        loaded = weights_file.quality_weights(bytes(body), 4, name)
    except (caecodec.WeightsError, caecodec.FormatVersionError):
        return
    loaded.family.build(loaded.network.tensors)


@cache
def _file(name):
    return (fuzz.GOLDEN / name).read_bytes()
