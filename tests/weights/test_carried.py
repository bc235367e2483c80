"""Groups that carry the weights they need."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from helpers import processes
from helpers.carried import DIGEST, KEY, PLACE, SMALL, converted, file_in, is_carried
from helpers.networks import save_seeded
from helpers.paths import TINY
from PIL import Image

import caecodec
from caecodec import engine, settings, weights
from caecodec.arrays.inspection import inspect
from caecodec.ngff import Options, decode_paths, encode_paths, read_group

pytestmark = pytest.mark.usefixtures("user")


def test_the_chunk_is_the_file(group):
    assert is_carried(group) == [KEY]
    assert file_in(group).read_bytes() == TINY.read_bytes()
    array = zarr.open_group(str(group), mode="r")[PLACE]
    assert array.attrs.asdict() == {
        "sha256": DIGEST, "name": "tiny", "family": "cae", "metric": "mse", "qualities": [1, 4]
    }  # fmt: skip


@pytest.mark.filterwarnings("error")
def test_other_tools_list_and_read_the_group(group):
    """Without a warning, which loose files in a group would cause."""
    import ome_zarr.io
    import ome_zarr.reader

    opened = zarr.open_group(str(group), mode="r")
    names = {name for name, _ in opened.members(max_depth=None)}
    assert {"s0", "s1", "caecodec_weights", PLACE} <= names
    (node,) = ome_zarr.reader.Reader(ome_zarr.io.parse_url(str(group)))()
    assert [level.shape for level in node.data] == [(3, 48, 60), (3, 24, 30)]


def test_decode_needs_no_installing(tmp_path, group, user):
    _, failed = decode_paths([group], tmp_path / "back.png")
    assert not failed
    assert not user.exists()
    with settings.using(weights=TINY.parent):
        expected = zarr.open_group(str(group), mode="r")["s0"][:]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "back.png")).transpose(2, 0, 1), expected)


def test_what_a_group_carries_is_known_while_it_is_used(group):
    """And not afterwards: whether an array can be read does not depend on what was read before."""
    read_group(group)
    with pytest.raises(caecodec.WeightsError, match=KEY):
        zarr.open_group(str(group), mode="r")["s0"][:]
    with weights.using(group):
        found = []
        worker = threading.Thread(target=lambda: found.append(zarr.open_group(str(group), mode="r")["s0"][:]))
        worker.start()
        worker.join()
        assert found[0].shape == (3, 48, 60)
    with weights.using(zarr.open_group(str(group), mode="r")):
        np.testing.assert_array_equal(zarr.open_group(str(group), mode="r")["s0"][:], found[0])
    assert not weights.known()[len(weights.installed()) :]


def test_an_open_slide_uses_them(group):
    """Until it is closed; one that cannot be opened does not."""
    with caecodec.open_slide(group) as slide:
        region = slide.read_region((0, 0), 0, (60, 48), as_array=True)
    np.testing.assert_array_equal(np.moveaxis(region, -1, 0), read_group(group).pixels)
    with pytest.raises(caecodec.ParameterError, match="layers is 1"):
        caecodec.open_slide(group, layers=1)
    with pytest.raises(caecodec.WeightsError, match=KEY):
        zarr.open_group(str(group), mode="r")["s0"][:]


def test_groups_are_read_side_by_side(tmp_path, picture):
    """By several threads, with weights of their own each, some of them the same."""
    paths = []
    for seed in (1, 2, 1):
        source = save_seeded(tmp_path / f"{seed}.safetensors", seed=seed)
        paths.append(tmp_path / f"{len(paths)}.zarr")
        converted(picture, paths[-1], replace(SMALL, weights=str(source.location)))
    expected = [read_group(path).pixels for path in paths]
    engine.engine.renew()
    found = {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: read_group(paths[i % 3]).pixels}), args=()) for i in range(9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(9):
        np.testing.assert_array_equal(found[i], expected[i % 3])
    assert weights.known() == weights.installed()


def test_a_read_only_group(tmp_path, group):
    for path in [group, *group.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert read_group(group).pixels.shape == (3, 48, 60)
    finally:
        for path in [group, *group.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_shards(tmp_path, picture):
    converted(picture, tmp_path / "a.zarr", replace(SMALL, shard_size=64))
    engine.engine.renew()
    assert read_group(tmp_path / "a.zarr").pixels.shape == (3, 48, 60)


def test_a_video(tmp_path):
    raw = tmp_path / "film_64x48_8bit.yuv"
    raw.write_bytes(np.random.default_rng(0).integers(0, 255, 64 * 48 * 3, np.uint8).tobytes())
    converted(raw, tmp_path / "film.zarr", SMALL)
    assert is_carried(tmp_path / "film.zarr") == [KEY]
    engine.engine.renew()
    _, failed = decode_paths([tmp_path / "film.zarr"], tmp_path / "film.y4m")
    assert not failed
    assert (tmp_path / "film.y4m").stat().st_size > 64 * 48 * 3


def test_shipped_weights_are_carried_when_asked_for(tmp_path, picture):
    for with_weights, count in ((None, 0), (False, 0), (True, 1)):
        path = tmp_path / f"{with_weights}.zarr"
        converted(picture, path, Options(quality=1, chunk_size=64, with_weights=with_weights))
        assert len(is_carried(path)) == count
    shipped = weights.resolve(weights.Spec("default"), "mse", 1)
    assert [source.sha256 for source in weights.carried(path).sources] == [shipped.sha256]


def test_without_weights(tmp_path, picture):
    converted(picture, tmp_path / "a.zarr", replace(SMALL, with_weights=False))
    assert is_carried(tmp_path / "a.zarr") == []


def test_every_file_that_a_target_may_need_is_carried(tmp_path, picture, monkeypatch):
    """Metadata of such arrays name no digest; yet who has the group can open them."""
    folder = tmp_path / "folder"
    folder.mkdir()
    saved = [save_seeded(folder / f"{q}.safetensors", seed=q, name="mine", qualities=(q,)) for q in (1, 4)]
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(folder))
    converted(picture, tmp_path / "a.zarr", Options(psnr=10, weights="mine", chunk_size=64))
    assert is_carried(tmp_path / "a.zarr") == sorted(source.sha256[:8] for source in saved)
    monkeypatch.delenv("CAECODEC_WEIGHTS")
    engine.engine.renew()
    assert read_group(tmp_path / "a.zarr").pixels.shape == (3, 48, 60)
    assert all(report.weights_carried for report in inspect(tmp_path / "a.zarr" / "s0"))
    with pytest.raises(caecodec.WeightsError, match="no weights 'mine' for.*caecodec weights install GROUP"):
        zarr.open_group(str(tmp_path / "a.zarr"), mode="r")["s0"]
    weights.install(tmp_path / "a.zarr" / "s0")
    assert zarr.open_group(str(tmp_path / "a.zarr"), mode="r")["s0"][:].shape == (3, 48, 60)


def test_arrays_that_need_no_weights_carry_none(tmp_path, picture):
    for name, options in {
        "bound": Options(max_error=2, weights=str(TINY)),
        "blosc": Options(codec="blosc"),
    }.items():
        converted(picture, tmp_path / f"{name}.zarr", options)
        assert is_carried(tmp_path / f"{name}.zarr") == []


def test_a_checkpoint_is_carried_as_what_it_is_converted_to(tmp_path, picture):
    from caecodec.models.factorized import compressai

    plain = weights.load(weights.resolve(weights.Spec.parse(TINY), "mse", 4), 4)
    tables = plain.tables["static"]
    state = compressai.to_state_dict(plain.network.tensors, tables.mass, tables.length, tables.offset)
    torch.save(state, tmp_path / "mine.pth")
    converted(picture, tmp_path / "a.zarr", replace(SMALL, weights=str(tmp_path / "mine.pth")))
    (source,) = weights.carried(tmp_path / "a.zarr").sources
    array = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")["s0"]
    assert array.serializer.parameters.weights.digest == source.sha256[:8]
    assert source.content[8:9] == b"{"
    (tmp_path / "mine.pth").unlink()
    engine.engine.renew()
    assert read_group(tmp_path / "a.zarr").pixels.shape == (3, 48, 60)


def test_codecs_without_weights_refuse_the_option():
    with pytest.raises(caecodec.ParameterError, match="with_weights is True but codec is 'blosc'"):
        Options(codec="blosc", with_weights=True)


def test_a_payload_carries_nothing(tmp_path, picture):
    with pytest.raises(caecodec.ParameterError, match="with_weights is for groups of chunks"):
        encode_paths([picture], tmp_path / "a.cae", replace(SMALL, with_weights=True))
    converted(picture, tmp_path / "a.cae", SMALL)


def test_resumed_conversions_keep_them(tmp_path, picture):
    options = replace(SMALL, resume=True)
    partial = tmp_path / ".a.partial.zarr"
    converted(picture, tmp_path / "a.zarr", options)
    before = file_in(tmp_path / "a.zarr").stat().st_mtime_ns
    (tmp_path / "a.zarr").rename(partial)
    shutil.rmtree(partial / "s1")
    converted(picture, tmp_path / "a.zarr", options)
    assert is_carried(tmp_path / "a.zarr") == [KEY]
    assert file_in(tmp_path / "a.zarr").stat().st_mtime_ns == before


def test_reencoding_carries_what_is_needed_now(tmp_path, group):
    """And into the other version of OME-NGFF."""
    ngff = "0.4" if (group / "zarr.json").exists() else "0.5"
    other = save_seeded(tmp_path / "other.safetensors", seed=3)
    cases = {
        "same": (replace(SMALL, ngff=ngff, quality=1), [KEY]),
        "other": (Options(quality=4, weights=str(other.location), ngff=ngff), [other.sha256[:8]]),
        "shipped": (Options(quality=1, ngff=ngff), []),
        "lossless": (Options(codec="blosc", ngff=ngff), []),
    }
    for name, (options, expected) in cases.items():
        engine.engine.renew()
        converted(group, tmp_path / f"{name}.zarr", options)
        assert is_carried(tmp_path / f"{name}.zarr") == expected
        assert read_group(tmp_path / f"{name}.zarr").pixels.shape == (3, 48, 60)
    assert file_in(tmp_path / "same.zarr").read_bytes() == TINY.read_bytes()


def test_carried_weights_are_there_to_encode_with(tmp_path, group):
    converted(group, tmp_path / "b.zarr", Options(quality=1, weights=f"tiny@{KEY}"))
    assert is_carried(tmp_path / "b.zarr") == [KEY]


def test_importing_loads_neither_torch_nor_zarr():
    script = "import caecodec.weights, sys; print({'torch', 'zarr', 'fsspec'} & set(sys.modules))"
    assert processes.run("-c", script).stdout == "set()\n"
    assert Path(weights.__file__).name == "__init__.py"
