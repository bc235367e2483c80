"""Weights in the user's folder: installed, found by name, told of by the command line."""

import json
import threading

import pytest
import zarr
from helpers.carried import DIGEST, KEY, PLACE, file_in, is_carried
from helpers.images import random_image
from helpers.networks import save_seeded
from helpers.paths import TINY

import caecodec
from caecodec import settings, weights
from caecodec.arrays.inspection import inspect
from caecodec.cli.main import main

pytestmark = pytest.mark.usefixtures("user")


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


def test_the_missing_say_where_they_were_looked_for_and_what_to_do(group, user, tmp_path, monkeypatch):
    array = zarr.open_group(str(group), mode="r")["s0"]
    with pytest.raises(caecodec.WeightsError) as raised:
        array[:]
    text = str(raised.value)
    for part in (
        f"weights of digest {KEY}", "CAECODEC_WEIGHTS (not set)", f"{weights.shipped_folder()} (shipped weights)",
        f"{user} (installed weights)", "caecodec weights install GROUP", "caecodec weights install FILE",
    ):  # fmt: skip
        assert part in text
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(tmp_path / "empty"))
    with pytest.raises(caecodec.WeightsError, match=r"CAECODEC_WEIGHTS \(.*empty\)"):
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


def test_commands(group, tmp_path, user, capsys):
    assert main(["weights", "path", KEY]) == 1
    assert f"weights of digest {KEY} were not found" in capsys.readouterr().err
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
