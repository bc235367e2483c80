"""What a payload or its parameters are is asked of their codec, nowhere else."""

import ast

import pytest
from helpers.paths import PACKAGE

FILES = sorted(PACKAGE.rglob("*.py"))
OF_ONE_CODEC = {"autoencoder", "overfitted", "prototype", "scalable"}
# Files outside codecs/ that name a codec, each with its reason.
MAY_NAME_ONE = {
    "__init__.py": "caecodec.encode",
    "numcodecs.py": "the public classes",
    "zarr.py": "the public classes",
    "latents.py": "reads what the networks of this codec made",
    "arrays/extract.py": "cuts the payloads of this codec",
    "evaluation/compared.py": "weights and presets are options of these codecs",
    "training/report.py": "measures the weights that it trained",
    "ngff/chunk_runner.py": "shows how far the fits of the overfitted codec are",
}


def kinds(path):
    """The names that isinstance compares with in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
            yield from (one.id for one in ast.walk(node.args[1]) if isinstance(one, ast.Name))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_isinstance_of_payloads_or_parameters(path):
    assert [name for name in kinds(path) if name.endswith(("Payload", "Parameters"))] == []


def test_few_files_name_a_codec():
    found = set()
    for path in FILES:
        name = path.relative_to(PACKAGE).as_posix()
        for node in ast.walk(ast.parse(path.read_text())):
            parts = (getattr(node, "module", None) or "").split(".") if isinstance(node, ast.ImportFrom) else []
            if "codecs" in parts and OF_ONE_CODEC & set(parts) and not name.startswith("codecs/"):
                found.add(name)
    assert found == set(MAY_NAME_ONE)
