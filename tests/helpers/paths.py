"""Where the tests find files: their own, the repository's, and the package under test."""

from pathlib import Path

import caecodec

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
GOLDEN = TESTS / "golden"
TINY = GOLDEN / "tiny.safetensors"
TINY_CONTEXT = GOLDEN / "tiny-context.safetensors"
TINY_BINARY = GOLDEN / "tiny-binary.safetensors"
TINY_BINARY_CONTEXT = GOLDEN / "tiny-binary-context.safetensors"
TINY_DEPTHWISE = GOLDEN / "tiny-depthwise.safetensors"
TINY_LAYERS = GOLDEN / "tiny-layers.safetensors"
TINY_RESIDUAL_ATTENTION = GOLDEN / "tiny-residual-attention.safetensors"
PACKAGE = Path(caecodec.__file__).parent
FORMAT = PACKAGE / "FORMAT.md"
