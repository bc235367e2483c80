"""What importing costs, and that imports point one way (DESIGN: one direction)."""

import ast
import sys

import pytest
from helpers import processes
from helpers.paths import PACKAGE

# Each layer imports only from those before it and from itself, where no two packages import each other (DESIGN: layout).
LAYERS = [
    {"errors", "settings", "storage"},
    {"chunks", "entropy", "bitstream", "models", "images"},
    {"weights", "engine"},
    {"codecs"},
    {"numcodecs", "zarr", "torch", "arrays", "latents", "reading"},
    {"inspection", "ngff", "training", "evaluation", "serving"},
    {"cli"},
    {"__main__"},
]
PLACE = {name: i for i, layer in enumerate(LAYERS) for name in layer}
FILES = sorted(PACKAGE.rglob("*.py"))
# Names of several classes, each with the reason why it may stand for all of them.
HOMONYMS = {
    "ConvolutionalAutoencoder": "one codec, as numcodecs and as zarr take it",
    "OverfittedAutoencoder": "one codec, as numcodecs and as zarr take it",
    "ScalableAutoencoder": "one codec, as numcodecs and as zarr take it",
}


def imports(path):
    """The modules of the package that a file imports, wherever in it."""
    package = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            names = [part for part in base if part][:1] or [alias.name for alias in node.names]
            yield from names


def package_of(path):
    """The package or top-level module that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def classes(path):
    """The classes that a file defines at its top level."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            yield node.name


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    if path == PACKAGE / "__init__.py":
        return
    name = package_of(path)
    for imported in imports(path):
        if imported != "__version__":
            assert PLACE[imported] <= PLACE[name], f"{name} imports {imported}"


def test_no_two_packages_import_each_other():
    pairs = {(package_of(path), imported) for path in FILES if path != PACKAGE / "__init__.py" for imported in imports(path)}
    assert [pair for pair in sorted(pairs) if pair[0] < pair[1] and pair[::-1] in pairs] == []


def test_no_two_classes_have_one_name():
    """What a name stands for does not depend on where it is read."""
    found = {}
    for path in FILES:
        for name in classes(path):
            found.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1 and name not in HOMONYMS} == {}
    assert all(len(found.get(name, ())) > 1 for name in HOMONYMS)


def test_the_check_above_sees_imports():
    assert set(imports(PACKAGE / "codecs" / "autoencoder" / "codec.py")) >= {"chunks", "bitstream", "engine", "entropy"}
    assert set(imports(PACKAGE / "cli" / "encode.py")) >= {"ngff", "codecs"}


def loaded_after(code):
    script = f"import sys\n{code}\nprint(' '.join(m for m in ('torch', 'zarr', 'numcodecs', 'PIL') if m in sys.modules))"
    return processes.run("-c", script).stdout.split()


def test_importing_loads_nothing_large():
    assert loaded_after("import caecodec") == []
    assert loaded_after("import caecodec; caecodec.settings.current()") == []
    assert loaded_after("import caecodec; caecodec.CorruptionError") == []
    assert loaded_after("import caecodec; assert 'torch' in dir(caecodec)") == []


def test_metadata_opens_without_torch():
    assert "torch" not in loaded_after("import caecodec; caecodec.ConvolutionalAutoencoder(quality=4).get_config()")
    assert "torch" not in loaded_after("import caecodec; caecodec.zarr.ConvolutionalAutoencoder(quality=4).to_dict()")
    assert "torch" not in loaded_after("import caecodec; caecodec.ScalableAutoencoder(weights='layers@0123abcd').get_config()")


def test_importing_loads_the_standard_library_alone():
    """Of the package itself a few small modules: what takes time is loaded where it is used."""
    script = "import sys; before = set(sys.modules); import caecodec; print(*sorted(set(sys.modules) - before))"
    loaded = processes.run("-c", script).stdout.split()
    own = [name for name in loaded if name.startswith("caecodec")]
    assert {name.split(".")[0] for name in loaded} - {"caecodec"} <= sys.stdlib_module_names
    assert len(own) < 8
    assert len(loaded) < 100


@pytest.mark.parametrize("name", [
    "cli.main.main", "cli.train.Progress", "cli.train.parse_qualities", "evaluation.evaluate", "inspection.inspect",
    "evaluation.psnr", "ngff.files.read_image", "training.backbone.Backbone", "training.data.count", "training.data.files",
    "training.data.held_out", "training.data.images", "training.data.sizes", "training.data.spread", "training.initial",
])  # fmt: skip
def test_names_that_others_import(name):
    """Scripts outside this repository and examples rely on them."""
    module, _, last = f"caecodec.{name}".rpartition(".")
    exec(f"from {module} import {last}", {})


def test_public_names():
    import caecodec

    for name in caecodec.__all__:
        assert getattr(caecodec, name) is not None
        assert name in dir(caecodec)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        caecodec.nothing  # noqa: B018  # the access is the test
