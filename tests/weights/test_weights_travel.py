"""Weights that travel with the data: groups that carry them, and bringing them into the user's folder."""

import hashlib
import json
import pickle
import shutil
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
import zarr
from helpers.images import random_image
from helpers.networks import save_seeded
from helpers.paths import TINY
from PIL import Image

import caecodec
from caecodec import engine, settings, weights
from caecodec.arrays.inspection import inspect
from caecodec.cli.main import main
from caecodec.ngff import Options, decode_paths, encode_paths, read_group

DIGEST = hashlib.sha256(TINY.read_bytes()).hexdigest()
KEY = DIGEST[:8]
PLACE = f"caecodec_weights/{KEY}"
SMALL = Options(quality=4, weights=str(TINY), chunk_size=32)
FORMATS = ("0.5", "0.4")


@pytest.fixture(autouse=True)
def user(tmp_path, monkeypatch):
    """A user who has installed nothing, in a process that has seen no weights yet."""
    monkeypatch.delenv("CAECODEC_WEIGHTS", raising=False)
    engine._reset()
    with settings.using(user_weights=tmp_path / "user"):
        yield tmp_path / "user"
    engine._reset()


@pytest.fixture
def picture(tmp_path):
    """The path of a small picture."""
    path = tmp_path / "picture.png"
    Image.fromarray(random_image(48, 60, 3)).save(path)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A group that carries the tiny weights, of each version."""
    folder = tmp_path_factory.mktemp("made")
    Image.fromarray(random_image(48, 60, 3)).save(folder / "picture.png")
    for ngff in FORMATS:
        converted(folder / "picture.png", folder / f"{ngff}.ome.zarr", replace(SMALL, ngff=ngff))
    return folder


@pytest.fixture(params=FORMATS)
def group(request, made, tmp_path):
    """A copy of one, in a process that has seen no weights."""
    engine._reset()
    return Path(shutil.copytree(made / f"{request.param}.ome.zarr", tmp_path / "a.ome.zarr"))


@pytest.fixture
def newer(made, tmp_path):
    """The same of 0.5 alone."""
    engine._reset()
    return Path(shutil.copytree(made / "0.5.ome.zarr", tmp_path / "a.ome.zarr"))


def converted(source, target, options):
    _, failed = encode_paths([source], target, options)
    assert not failed, failed[0].error


def is_carried(path):
    """The keys of the weights in a group."""
    holder = zarr.open_group(str(path), mode="r").get("caecodec_weights")
    if holder is None:
        return []
    assert holder.attrs["digests"] == sorted(name for name, _ in holder.members())
    return holder.attrs["digests"]


def file_in(group):
    """The file that holds the weights in a group."""
    (path,) = (path for path in (group / PLACE).rglob("0") if path.is_file())
    return path


def document(group):
    """The JSON file with the metadata of the array that holds the weights, and that with its attributes."""
    here = group / PLACE
    return (here / "zarr.json",) * 2 if (here / "zarr.json").exists() else (here / ".zarray", here / ".zattrs")


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def set_attributes(path, **changes):
    """Of a group or array of either format."""
    zarr.open(str(path), mode="r+").attrs.update(changes)


def exchange(group, data):
    """Another file in the place of the weights, which says the truth about itself, but for the key."""
    sha256 = hashlib.sha256(data).hexdigest()
    holder = zarr.open_group(str(group / "caecodec_weights"), mode="r+")
    array = holder.create_array(
        sha256[:8], shape=(len(data),), chunks=(len(data),), dtype="uint8", filters=None, compressors=None, fill_value=0
    )
    array.attrs["sha256"] = sha256
    array[:] = np.frombuffer(data, np.uint8)
    holder.attrs["digests"] = [sha256[:8]]
    return sha256[:8]


# a group that carries weights


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


def test_groups_are_read_side_by_side(tmp_path, picture):
    """By several threads, with weights of their own each, some of them the same."""
    paths = []
    for seed in (1, 2, 1):
        source = save_seeded(tmp_path / f"{seed}.safetensors", seed=seed)
        paths.append(tmp_path / f"{len(paths)}.zarr")
        converted(picture, paths[-1], replace(SMALL, weights=str(source.location)))
    expected = [read_group(path).pixels for path in paths]
    engine._reset()
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
    engine._reset()
    assert read_group(tmp_path / "a.zarr").pixels.shape == (3, 48, 60)


def test_a_video(tmp_path):
    raw = tmp_path / "film_64x48_8bit.yuv"
    raw.write_bytes(np.random.default_rng(0).integers(0, 255, 64 * 48 * 3, np.uint8).tobytes())
    converted(raw, tmp_path / "film.zarr", SMALL)
    assert is_carried(tmp_path / "film.zarr") == [KEY]
    engine._reset()
    _, failed = decode_paths([tmp_path / "film.zarr"], tmp_path / "film.y4m")
    assert not failed
    assert (tmp_path / "film.y4m").stat().st_size > 64 * 48 * 3


# which weights are carried


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
    engine._reset()
    assert read_group(tmp_path / "a.zarr").pixels.shape == (3, 48, 60)
    assert all(report.weights_carried for report in inspect(tmp_path / "a.zarr" / "s0"))
    with pytest.raises(caecodec.WeightsError, match="'mine' have none.*caecodec weights install GROUP"):
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
    state = compressai.to_state_dict(plain.tensors, plain.tables.mass, plain.tables.length, plain.tables.offset)
    torch.save(state, tmp_path / "mine.pth")
    converted(picture, tmp_path / "a.zarr", replace(SMALL, weights=str(tmp_path / "mine.pth")))
    (source,) = weights.carried(tmp_path / "a.zarr").sources
    array = zarr.open_group(str(tmp_path / "a.zarr"), mode="r")["s0"]
    assert array.serializer.parameters.weights.digest == source.sha256[:8]
    assert source.content[8:9] == b"{"
    (tmp_path / "mine.pth").unlink()
    engine._reset()
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
        engine._reset()
        converted(group, tmp_path / f"{name}.zarr", options)
        assert is_carried(tmp_path / f"{name}.zarr") == expected
        assert read_group(tmp_path / f"{name}.zarr").pixels.shape == (3, 48, 60)
    assert file_in(tmp_path / "same.zarr").read_bytes() == TINY.read_bytes()


def test_carried_weights_are_there_to_encode_with(tmp_path, group):
    converted(group, tmp_path / "b.zarr", Options(quality=1, weights=f"tiny@{KEY}"))
    assert is_carried(tmp_path / "b.zarr") == [KEY]


# zipped stores, URLs


def zipped(group, path):
    with zipfile.ZipFile(path, "w") as file:
        for one in sorted(group.rglob("*")):
            if one.is_file():
                file.write(one, one.relative_to(group))
    return path


@contextmanager
def served(folder):
    """The URL of a folder, by HTTP, which does not list what it has as Zarr would want it."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def elsewhere(kind, group, tmp_path):
    """The same group in another kind of store."""
    if kind == "zip":
        yield zipped(group, tmp_path / "b.ome.zarr.zip")
    elif kind == "file":
        yield group.as_uri()
    elif kind == "memory":
        memory = fsspec.filesystem("memory")
        memory.put(str(group), "/travel/a.ome.zarr", recursive=True)
        yield "memory://travel/a.ome.zarr"
        memory.rm("/travel", recursive=True)
    else:
        with served(group.parent) as url:
            yield f"{url}/{group.name}"


@pytest.mark.parametrize("kind", ["zip", "file", "memory", "http"])
def test_other_stores(tmp_path, group, kind, user):
    if kind == "http":
        pytest.importorskip("aiohttp")
    expected = read_group(group).pixels
    engine._reset()
    with elsewhere(kind, group, tmp_path) as place:
        np.testing.assert_array_equal(read_group(place).pixels, expected)
        engine._reset()
        out = tmp_path / "out"
        assert main(["decode", str(place), "-o", str(out), "--quiet"]) == 0
        (written,) = out.iterdir()
        assert written.name in ("a.png", "b.png")
        np.testing.assert_array_equal(np.asarray(Image.open(written)).transpose(2, 0, 1), expected)
        if kind != "http":  # which needs a store that lists its keys
            assert all(report.weights_carried and not report.weights_installed for report in inspect(place))
        assert not user.exists()
        (source,) = weights.install(place)
    assert source.location == user / f"{DIGEST}.safetensors"
    assert source.location.read_bytes() == TINY.read_bytes()
    engine._reset()
    np.testing.assert_array_equal(zarr.open_group(str(group), mode="r")["s0"][:], expected)


def test_a_folder_with_zipped_stores(tmp_path, group):
    folder = tmp_path / "folder"
    folder.mkdir()
    zipped(group, folder / "b.ome.zarr.zip")
    written, failed = decode_paths([folder], tmp_path / "out")
    assert not failed
    assert written == [tmp_path / "out" / "b.png"]


@pytest.mark.parametrize("place", ["memory://travel/none", "nonsense://a", "none.zarr", "none.zip", "http://127.0.0.1:9/a"])
def test_places_that_hold_nothing(place):
    for function in (read_group, weights.install, inspect):
        with pytest.raises(caecodec.ParameterError, match=place):
            function(place)


def test_a_file_that_is_no_zip(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(caecodec.ParameterError, match="is not a zip file"):
        weights.install(tmp_path / "a.zip")


def test_a_folder_within_a_zip(tmp_path, newer):
    with zipfile.ZipFile(tmp_path / "b.zarr.zip", "w") as file:
        file.write(newer / "zarr.json", "a.ome.zarr/zarr.json")
    with pytest.raises(caecodec.ParameterError, match="is no Zarr group with what is in its folder at the top of the zip"):
        read_group(tmp_path / "b.zarr.zip")


def test_urls_without_fsspec():
    script = """if True:
        import sys
        sys.modules["fsspec"] = None
        import importlib.util, caecodec
        importlib.util.find_spec = lambda name, find=importlib.util.find_spec: None if name == "fsspec" else find(name)
        for call in (caecodec.ngff.read_group, caecodec.weights.install):
            for url in ("memory://a.zarr", "memory://a.safetensors"):
                try:
                    call(url)
                except caecodec.ParameterError as error:
                    print(error)
    """
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.count("needs fsspec, which is not installed: pip install fsspec") == 4


# inspect


def test_inspect_says_what_is_carried(group, capsys):
    assert main(["inspect", str(group)]) == 0
    text = capsys.readouterr().out
    assert f"@{KEY} (carried by the group)" in text
    assert f"group carries   tiny@{KEY} (mse, quality 1, 4)" in text
    assert "caecodec_weights" not in text
    reports = inspect(group / "s0")
    assert [report.carried for report in reports] == [(f"tiny@{KEY} (mse, quality 1, 4)",)]
    weights.install(group)
    assert main(["inspect", str(group), "--json"]) == 0
    (first, *_) = json.loads(capsys.readouterr().out)
    assert (first["weights_installed"], first["weights_carried"]) == (True, True)


def test_inspect_says_what_is_refused(group, capsys):
    file_in(group).write_bytes(b"\1" * TINY.stat().st_size)
    assert main(["inspect", str(group)]) == 0
    text = capsys.readouterr().out
    assert "(NOT installed: `caecodec weights install" in text
    assert f"REFUSED: {group}/{PLACE} has SHA-256" in text


# the user's folder


def test_the_missing_say_where_they_were_looked_for_and_what_to_do(group, user, tmp_path, monkeypatch):
    array = zarr.open_group(str(group), mode="r")["s0"]
    with pytest.raises(caecodec.WeightsError) as raised:
        array[:]
    text = str(raised.value)
    for part in (
        f"weights of digest {KEY}", "CAECODEC_WEIGHTS being unset", f"{weights.shipped_folder()}, where the shipped ones are",
        f"{user}, for installed ones", "caecodec weights install GROUP", "caecodec weights install FILE",
    ):  # fmt: skip
        assert part in text
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(tmp_path / "empty"))
    with pytest.raises(caecodec.WeightsError, match="empty as CAECODEC_WEIGHTS says"):
        array[:]
    weights.install(group)
    assert array[:].shape == (3, 48, 60)


def test_install_a_file_and_again(user, tmp_path):
    for place in (TINY, TINY.as_uri()):
        (source,) = weights.install(place)
        assert source.location == user / f"{DIGEST}.safetensors"
    assert [path.name for path in user.iterdir()] == [f"{DIGEST}.safetensors"]
    assert weights.installed()[-1] == source
    assert (source.name, source.metric, source.qualities, source.sha256) == ("tiny", "mse", (1, 4), DIGEST)
    assert caecodec.decode(caecodec.encode(random_image(20, 20, 3), quality=4, weights=f"tiny@{KEY}")).shape == (20, 20, 3)


def test_the_user_folder_is_among_the_users_data(monkeypatch):
    monkeypatch.delenv("CAECODEC_USER_WEIGHTS")
    folder = weights.user_folder()
    assert folder.parts[-2:] == ("caecodec", "weights")
    assert "cache" not in str(folder).lower()


def test_several_install_at_once(user):
    threads = [threading.Thread(target=weights.install, args=(TINY,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.name for path in user.iterdir()] == [f"{DIGEST}.safetensors"]
    assert weights.file_bytes(weights.by_digest(KEY)) == TINY.read_bytes()


def test_a_name_never_becomes_a_path(user, tmp_path):
    source = save_seeded(tmp_path / "x.safetensors", name="../../../evil.safetensors")
    weights.install(source.location)
    assert [path.name for path in user.iterdir()] == [f"{source.sha256}.safetensors"]
    assert not list(tmp_path.parent.rglob("evil*"))


def test_installed_weights_never_take_the_place_of_shipped_ones(tmp_path):
    shipped = weights.resolve(weights.Spec("default"), "mse", 4)
    source = save_seeded(tmp_path / "photo.safetensors", name=shipped.name)
    weights.install(source.location)
    for name in ("default", shipped.name):
        assert weights.resolve(weights.Spec.parse(name), "mse", 4) == shipped
    assert weights.resolve(source.spec, "mse", 4).sha256 == source.sha256
    only = save_seeded(tmp_path / "slides.safetensors", seed=1, name="slides")
    weights.install(only.location)
    assert weights.resolve(weights.Spec("slides"), "mse", 4).sha256 == only.sha256


def test_of_one_name_the_latest_installed_is_taken(tmp_path):
    saved = [save_seeded(tmp_path / f"{seed}.safetensors", seed=seed, name="slides") for seed in (1, 2)]
    for source in (*saved, *saved[:1], *saved[1:]):
        (installed,) = weights.install(source.location)
        assert installed.sha256 == source.sha256
        assert weights.resolve(weights.Spec("slides"), "mse", 4) == installed
    for source in saved:
        assert weights.resolve(source.spec, "mse", 4).sha256 == source.sha256


def test_damaged_files_there_break_nothing_else(user, group, capsys):
    (installed,) = weights.install(TINY)
    installed.location.write_bytes(TINY.read_bytes()[:-1] + b"\1")  # the body
    (user / "notes.safetensors").write_bytes(b"no weights")
    (user / f"{'ab' * 32}.safetensors").write_bytes(b"\xff" * 50)
    assert main(["weights", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("DAMAGED: ") for line in lines) == 3
    assert caecodec.decode(caecodec.encode(random_image(16, 16, 3), quality=1)).shape == (16, 16, 3)
    with pytest.raises(caecodec.WeightsError, match="does not have SHA-256"):
        zarr.open_group(str(group), mode="r")["s0"][:]
    with pytest.raises(caecodec.WeightsError, match="refused: .*not a caecodec weights file"):
        weights.by_digest("ab" * 4)
    weights.install(group)  # repairs it
    assert zarr.open_group(str(group), mode="r")["s0"][:].shape == (3, 48, 60)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        settings.using(user_weights=tmp_path / "file" / "weights"),
        pytest.raises(caecodec.WeightsError, match="CAECODEC_USER_WEIGHTS"),
    ):
        weights.install(TINY)


# the commands


def test_commands(group, tmp_path, user, capsys):
    assert main(["weights", "path", KEY]) == 1
    assert f"weights of digest {KEY} are not here" in capsys.readouterr().err
    assert main(["weights", "show", str(group)]) == 0
    shown = capsys.readouterr().out
    assert main(["weights", "install", str(group)]) == 0
    path = user / f"{DIGEST}.safetensors"
    assert capsys.readouterr().out == f"{path}: tiny@{KEY} (mse, quality 1, 4)\n"
    assert main(["weights", "path", DIGEST[:12].upper()]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert main(["weights", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"tiny@{KEY} (mse, quality 1, 4), installed, {TINY.stat().st_size} bytes" in lines
    assert sum(", shipped, " in line for line in lines) == len(weights.by_place()["shipped"]) > 0
    for what in (KEY, f"tiny@{KEY}", str(TINY)):
        assert main(["weights", "show", what]) == 0
        text = capsys.readouterr().out
        for part in (f"tiny@{KEY}\n", DIGEST, "mse", "1, 4", "8 hidden, 12 latent", "static", str(TINY.stat().st_size)):
            assert part in text
            assert part in shown
    assert main(["weights", "show", TINY.as_uri()]) == 0
    assert DIGEST in capsys.readouterr().out
    for bad in ("xyz", "0123", "none.safetensors", "none.zarr", "none.zip"):
        assert main(["weights", "show", bad]) == 1
        assert bad in capsys.readouterr().err


def test_the_options_of_encode(tmp_path, picture):
    how = ["encode", str(picture), "-q", "1", "--quiet", "--chunk-size", "64", "-o"]
    assert main([*how, str(tmp_path / "a.zarr"), "--with-weights"]) == 0
    assert len(is_carried(tmp_path / "a.zarr")) == 1
    assert main([*how, str(tmp_path / "b.zarr"), "--weights", str(TINY), "--without-weights"]) == 0
    assert is_carried(tmp_path / "b.zarr") == []
    with pytest.raises(SystemExit):
        main([*how, str(tmp_path / "c.zarr"), "--with-weights", "--without-weights"])


def test_a_model_card_in_the_file_is_shown_on_one_line(tmp_path, capsys):
    import safetensors.numpy

    with safetensors.safe_open(TINY, "np") as file:
        metadata = {**file.metadata(), "card": "of tissue\n\x1b[31mred"}
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors.numpy.save(safetensors.numpy.load_file(TINY), metadata=metadata))
    assert main(["weights", "show", str(path)]) == 0
    assert "  card            of tissue  [31mred\n" in capsys.readouterr().out


# hostile or wrong


def refused(group, user, match):
    """Neither decoding nor installing takes it, and nothing is written."""
    engine._reset()
    for function in (read_group, weights.install):
        with pytest.raises(caecodec.WeightsError, match=match):
            function(group)
    assert not user.exists()


def test_damaged_bytes(newer, user):
    data = bytearray(TINY.read_bytes())
    data[-1] ^= 1
    file_in(newer).write_bytes(data)
    refused(newer, user, f"has SHA-256 [0-9a-f]* but must have {DIGEST}")


@pytest.mark.parametrize(("change", "match"), [
    (lambda path: path.unlink(), "not whole: its chunk is missing"),
    (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not whole: its chunk has"),
    (lambda path: path.write_bytes(b""), "not whole: its chunk has 0 bytes"),
])  # fmt: skip
def test_chunks_that_are_not_whole(group, user, change, match):
    change(file_in(group))
    refused(group, user, match)


def test_no_more_is_read_than_there_should_be(newer):
    with file_in(newer).open("ab") as file:
        file.truncate(2**40)
    assert read_group(newer).pixels.shape == (3, 48, 60)


@pytest.mark.parametrize("sha256", [None, 5, "", "../../../etc", KEY, "0" * 64, DIGEST.upper()])
def test_digests_that_cannot_be(newer, user, sha256):
    set_attributes(newer / PLACE, sha256=sha256)
    refused(newer, user, "in its attributes, which cannot be")


def test_a_digest_that_is_another(newer, user):
    set_attributes(newer / PLACE, sha256=KEY + "0" * 56)
    refused(newer, user, "but must have")


@pytest.mark.parametrize("shape", [[0], [2**28 + 1], [2**50]])
def test_declared_sizes(group, user, shape):
    path, _ = document(group)
    chunks = {"chunks": [max(1, *shape)]}
    if path.name == "zarr.json":
        chunks = {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [max(1, *shape)]}}}
    edit(path, shape=shape, **chunks)
    refused(group, user, "bytes but a weights file at most|not whole|but weights are uint8")


@pytest.mark.parametrize("how", [
    {"dtype": "uint16"}, {"dtype": "int8"}, {"shape": (10, 10), "chunks": (10, 10)}, {"chunks": (10,)},
    {"compressors": "auto"}, {"shape": (), "chunks": ()},
])  # fmt: skip
def test_arrays_of_another_kind(group, user, how):
    holder = zarr.open_group(str(group / "caecodec_weights"), mode="r+")
    layout = {"shape": (100,), "chunks": (100,), "dtype": "uint8", "filters": None, "compressors": None, "fill_value": 0, **how}
    array = holder.create_array(KEY, overwrite=True, **layout)
    array.attrs["sha256"] = DIGEST
    array[...] = 1
    refused(group, user, "but weights are uint8 of one dimension, one chunk and no codec")


def test_a_group_in_the_place_of_the_array(newer, user):
    shutil.rmtree(newer / PLACE)
    zarr.open_group(str(newer / "caecodec_weights"), mode="r+").create_group(KEY)
    refused(newer, user, "cannot be opened as a Zarr array")


def test_an_array_in_the_place_of_the_group(newer, user):
    shutil.rmtree(newer / "caecodec_weights")
    zarr.open_group(str(newer), mode="r+").create_array("caecodec_weights", shape=(3,), dtype="uint8")
    with pytest.raises(caecodec.WeightsError, match="is an array but must be a group"):
        weights.install(newer)
    with pytest.raises(caecodec.WeightsError, match=f"digest {KEY}"):
        read_group(newer)


def test_metadata_that_are_none(group, user):
    document(group)[0].write_text('{"zarr_format": 9, "shape": "x"}')
    refused(group, user, "cannot be opened as a Zarr array|damaged")


@pytest.mark.parametrize("digests", [
    None, "abc", 7, ["../../../../etc/passwd"], ["/etc/passwd"], [3], [KEY.upper()], [KEY] * 65, ["."],
])  # fmt: skip
def test_lists_of_digests(newer, user, digests):
    set_attributes(newer / "caecodec_weights", digests=digests)
    with pytest.raises(caecodec.WeightsError, match="its attribute 'digests'"):
        weights.install(newer)
    with pytest.raises(caecodec.WeightsError, match=f"digest {KEY}"):
        read_group(newer)
    assert not user.exists()


@pytest.mark.parametrize("what", ["pickle", "checkpoint", "text", "picture", "truncated", "empty header"])
def test_files_of_another_kind(newer, user, what, tmp_path):
    """Their digest is right, but they are no weights."""
    torch.save({"a": torch.zeros(3)}, tmp_path / "x.pth")
    data, match = {
        "pickle": (pickle.dumps({"a": 1}), "but a pickle, or a checkpoint of PyTorch's, which can run code"),
        "checkpoint": ((tmp_path / "x.pth").read_bytes(), "but a pickle, or a checkpoint of PyTorch's, which can run code"),
        "picture": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" * 10_000, "is not a caecodec weights file"),
        "text": (b"a text, and no weights", "is not a caecodec weights file"),
        "truncated": (TINY.read_bytes()[:-200], "is damaged"),
        "empty header": (b"\2" + bytes(7) + b"{}", "is not a caecodec weights file"),
    }[what]
    exchange(newer, data)
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    for source in (newer, path):
        with pytest.raises(caecodec.WeightsError, match=match) as raised:
            weights.install(source)
        assert len(str(raised.value)) < 600
    with pytest.raises(caecodec.WeightsError, match=f"digest {KEY}"):
        read_group(newer)
    assert not user.exists()


def test_checkpoints_are_not_installed(tmp_path, user):
    torch.save({"a": torch.zeros(3)}, tmp_path / "x.pth")
    with pytest.raises(caecodec.WeightsError, match="caecodec export .*x.pth -o NAME.safetensors"):
        weights.install(tmp_path / "x.pth")
    assert not user.exists()


def test_a_network_that_does_not_load_is_not_installed(tmp_path, user):
    import safetensors.numpy

    with safetensors.safe_open(TINY, "np") as file:
        metadata = file.metadata()
    tensors = safetensors.numpy.load_file(TINY)
    del tensors["q1.static.mass"]
    (tmp_path / "x.safetensors").write_bytes(safetensors.numpy.save(tensors, metadata=metadata))
    with pytest.raises(caecodec.WeightsError, match="lacks or garbles quality 1"):
        weights.install(tmp_path / "x.safetensors")
    assert not user.exists()


def test_all_or_none_of_a_group_is_installed(newer, user, tmp_path):
    other = save_seeded(tmp_path / "other.safetensors", seed=3)
    weights.carry(zarr.open_group(str(newer), mode="r+"), [other])
    assert is_carried(newer) == sorted([KEY, other.sha256[:8]])
    file_in(newer).write_bytes(b"\1" * TINY.stat().st_size)
    with pytest.raises(caecodec.WeightsError, match="but must have"):
        weights.install(newer)
    assert not user.exists()


def test_a_damaged_file_that_is_not_needed_harms_nobody(newer):
    weights.install(newer)
    file_in(newer).write_bytes(b"\1" * TINY.stat().st_size)
    assert read_group(newer).pixels.shape == (3, 48, 60)


def test_digests_that_start_alike_are_refused(tmp_path, user, monkeypatch):
    """Payloads could not tell them apart. Two such files cannot be made here, so a manifest claims that there is one."""
    folder = tmp_path / "folder"
    folder.mkdir()
    entry = {"name": "x", "family": "cae", "metric": "mse", "qualities": [4], "sha256": KEY + "0" * 56, "file": "x.safetensors"}
    (folder / "manifest.json").write_text(json.dumps({"format": 1, "files": [entry]}))
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(folder))
    with pytest.raises(caecodec.WeightsError, match="which starts like that of x@"):
        weights.install(TINY)
    assert not user.exists()


def test_a_group_that_carries_none(tmp_path, picture):
    converted(picture, tmp_path / "a.zarr", replace(SMALL, with_weights=False))
    with pytest.raises(caecodec.WeightsError, match="carries no weights; encode with --with-weights"):
        weights.install(tmp_path / "a.zarr")


def test_importing_loads_neither_torch_nor_zarr():
    script = "import caecodec.weights, sys; print({'torch', 'zarr', 'fsspec'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
    assert Path(weights.__file__).name == "__init__.py"
