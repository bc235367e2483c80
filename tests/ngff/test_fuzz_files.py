"""Some hundreds of the mutated files of fuzz_files.py, and thousands as a slow test."""

import collections

import fuzz_files
import pytest


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("count", "seed"), [(300, 0), pytest.param(600, 1, marks=pytest.mark.slow)])
def test_folders_of_mutated_files(count, seed):
    outcomes = collections.Counter()
    fuzz_files.run(count, seed, outcomes)
    assert {kind for kind, outcome in outcomes if outcome == "converted"} == {kind for kind, _ in outcomes}
    for kind in ("jpeg with EXIF", "png with EXIF", "webp with EXIF"):
        assert outcomes[kind, "converted"] > 9 * outcomes[kind, "refused"]  # metadata alone are odd


@pytest.mark.filterwarnings("ignore")
def test_what_no_library_should_raise(tmp_path, monkeypatch):
    """It becomes the line of one file."""
    from caecodec.ngff import convert

    class UnforeseenError(Exception):
        pass

    read = convert.open_image

    def failing(path):
        if path.name == "b.png":
            raise UnforeseenError("of a library")
        return read(path)

    monkeypatch.setattr(convert, "open_image", failing)
    for name in "abc":
        fuzz_files.Image.fromarray(fuzz_files.PICTURE).save(tmp_path / f"{name}.png")
    written, failed = convert.encode_paths([tmp_path], tmp_path / "out", fuzz_files.EXACT)
    assert [path.name for path in written] == ["a.ome.zarr", "c.ome.zarr"]
    assert [str(failure.error) for failure in failed] == [
        f"{tmp_path / 'b.png'} cannot be converted: UnforeseenError: of a library"
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.ome.zarr", "c.ome.zarr"]
