"""Latents of stored arrays: those that the synthesis takes, from any store, and as datasets."""

import pickle
import sys
from collections import Counter

import dask.array as da
import numpy as np
import pytest
import torch
import zarr
from helpers import processes
from helpers.images import random_image
from helpers.paths import TINY, TINY_CONTEXT
from test_torch import LAYOUTS
from zarr.storage import MemoryStore, WrapperStore

import caecodec
from caecodec import weights
from caecodec.cli.main import main
from caecodec.codecs.decoding import parse_payload
from caecodec.latents import Latents
from caecodec.models import registry

STRIDE = 16


def synthesised(latents, path=TINY, quality=4):
    """Images (n, 3, height, width) that the network makes of latents (n, M, rows, columns)."""
    loaded = weights.load(weights.open_file(path, "mse", quality), quality)
    symbols = np.rint(latents / loaded.network.scale[:, None, None] - loaded.network.offset[:, None, None])
    np.testing.assert_allclose(loaded.network.latents(symbols.astype(np.int32)), latents, atol=1e-4)  # they are quantised
    network = loaded.family.build(loaded.network.tensors)
    with torch.inference_mode():
        return network.synthesis(torch.from_numpy(symbols.astype(np.int32))).numpy()


def levels(images):
    return np.clip(np.rint(255 * images), 0, 255)


@pytest.mark.parametrize("entropy", ["static", "context"])
def test_the_synthesis_makes_the_pixels_of_them(entropy):
    image = random_image(40, 50, 3)
    payload = caecodec.encode(image, 4, weights=TINY_CONTEXT, entropy=entropy)
    latents = caecodec.decode_latents(payload, weights=TINY_CONTEXT)
    assert latents.dtype == np.float32
    assert latents.shape[1:] == (3, 4)
    decoded = caecodec.decode(payload, weights=TINY_CONTEXT)
    made = levels(synthesised(latents[None], TINY_CONTEXT))[0, :, :40, :50].transpose(1, 2, 0)
    assert np.abs(made - decoded).max() <= 1  # of the batch, whose sums may be ordered otherwise


def test_planes_and_leading_axes():
    """Channels that are coded one by one are an axis; a plane of one value has latents 0."""
    data = random_image(2, 40, 50, 5).transpose(0, 3, 1, 2).astype(np.uint16) * 100
    data[1, 2] = 7
    latents = caecodec.decode_latents(caecodec.encode(data, 4, channel_axis=1, weights=TINY), weights=TINY)
    assert latents.shape[:2] == (2, 5)
    assert latents.shape[3:] == (3, 4)
    assert not latents[1, 2].any()
    assert latents[1, 1].any()
    alone = caecodec.decode_latents(caecodec.encode(data[1, 4], 4, channel_axis=None, weights=TINY), weights=TINY)
    np.testing.assert_array_equal(latents[1, 4], alone)


def test_what_is_not_coded_is_zero():
    image = random_image(64, 64, 3)
    image[30:, :] = image[:, 40:] = 9
    padded = caecodec.decode_latents(caecodec.encode(image, 4, weights=TINY), weights=TINY)
    content = caecodec.decode_latents(caecodec.encode(image[:30, :40].copy(), 4, weights=TINY), weights=TINY)
    assert padded.shape[1:] == (4, 4)
    np.testing.assert_array_equal(padded[:, :2, :3], content)
    assert not padded[:, 2:].any()
    assert not padded[:, :, 3:].any()
    constant = caecodec.encode(np.full((20, 20, 3), 5, np.uint8), 4, weights=TINY)
    assert caecodec.decode_latents(constant, weights=TINY).shape == (len(padded), 2, 2)


def test_payloads_without_latents():
    image = random_image(20, 20, 3)
    with pytest.raises(caecodec.ParameterError, match="bounded and no network predicts"):
        caecodec.decode_latents(caecodec.encode(image, max_error=0))
    fitted = caecodec.OverfittedAutoencoder(quality=1, preset="instant").encode(image)
    with pytest.raises(caecodec.ParameterError, match="is of codec 'overfitted'"):
        caecodec.decode_latents(fitted)
    payload = caecodec.encode(image, 4, weights=TINY)
    with pytest.raises(caecodec.CorruptionError):
        caecodec.decode_latents(payload[:-1], weights=TINY)


def test_bounded_payloads_that_a_network_predicts(photograph):
    crop = photograph[:64, 200:264].copy()
    payload = caecodec.encode(crop, 4, max_error=12)
    assert parse_payload(payload).bound_kind.entropy == "context"
    np.testing.assert_array_equal(caecodec.decode_latents(payload), caecodec.decode_latents(caecodec.encode(crop, 4)))


@pytest.fixture(params=LAYOUTS)
def image_and_array(request):
    """An image, and an array of it in chunks of 32x48, one of one colour, some not stored, those at the edges cut off."""
    array = zarr.create_array({}, shape=(100, 110, 3), dtype="uint8", fill_value=9, **LAYOUTS[request.param])
    image = random_image(100, 110, 3)
    image[:32, :48] = 77
    array[:64] = image[:64]
    array[64:96, 96:] = image[64:96, 96:]
    return array, image


def test_a_view_stitches_the_latents_of_chunks(image_and_array):
    array, image = image_and_array
    latents = caecodec.open_latents(array)
    assert latents.shape[1:] == (7, 7)  # 32 = 2 x 16 rows a chunk and 4 at the end; 48 = 3 x 16 columns and 14 at the end
    assert latents.chunks == (latents.shape[0], 2, 3)
    assert (latents.ndim, len(latents), latents.size) == (3, latents.shape[0], latents.shape[0] * 49)
    whole = latents[...]
    assert whole.shape == latents.shape
    assert whole.dtype == latents.dtype == np.float32
    path = TINY_CONTEXT if "serializer" in array.metadata.to_dict() or array.metadata.zarr_format == 3 else TINY
    payload = caecodec.encode(image[32:64, 48:96].copy(), 4, weights=path)
    np.testing.assert_array_equal(whole[:, 2:4, 3:6], caecodec.decode_latents(payload, weights=path))
    assert not whole[:, :2, :3].any()
    assert not whole[:, 4:, :6].any()
    assert whole[:, 4:6, 6].any()
    for selection in (np.s_[3], np.s_[:, 1:5, 2:7], np.s_[..., -1], np.s_[::2, ::3, 4], np.s_[1:3, -2, ...], ()):
        np.testing.assert_array_equal(latents[selection], whole[selection])
    np.testing.assert_array_equal(np.asarray(latents, np.float64), whole)
    np.testing.assert_array_equal(da.from_array(latents, chunks=latents.chunks).compute(), whole)
    together = np.full(latents.shape, np.nan, np.float32)
    for region, values in latents.blocks():
        together[region] = values
    np.testing.assert_array_equal(together, whole)
    assert latents.pixels(np.s_[:, 2:4, 3:7]) == np.s_[32:64, 48:110, :]
    assert latents.pixels(np.s_[:, 3:5, 0:1]) == np.s_[48:80, 0:16, :]


class Counting(WrapperStore):
    """A store that counts how often each key is read."""

    def __init__(self, store):
        super().__init__(store)
        self.counts = Counter()

    async def get(self, key, prototype, byte_range=None):
        self.counts[key] += 1
        return await super().get(key, prototype, byte_range)


def test_bytes_of_chunks_are_read_once():
    codec = caecodec.zarr.ConvolutionalAutoencoder(4, weights=TINY)
    store = Counting(MemoryStore())
    array = zarr.create_array(store, data=random_image(64, 64, 3), chunks=(32, 32, 3), serializer=codec, compressors=None)
    latents = caecodec.open_latents(array)
    store.counts.clear()
    latents[:, 1:4, 1:2]
    assert store.counts == {"c/0/0/0": 1, "c/1/0/0": 1}


def test_leading_axes_and_channels_of_arrays():
    data = random_image(3, 40, 60, 4).transpose(0, 3, 1, 2).copy()
    codec = caecodec.zarr.ConvolutionalAutoencoder(4, channel_axis=1, weights=TINY)
    array = zarr.create_array({}, data=data, chunks=(2, 3, 16, 32), serializer=codec, compressors=None)
    latents = caecodec.open_latents(array)
    whole = latents[...]
    payload = caecodec.encode(data[:2, :3, 16:32, 32:60].copy(), 4, channel_axis=1, weights=TINY)
    np.testing.assert_array_equal(whole[:2, :1, :, 1:2, 2:4][:, 0], caecodec.decode_latents(payload, weights=TINY))
    assert latents.pixels((slice(1, 3), slice(None), slice(None), slice(0, 1), slice(1, 3))) == np.s_[1:3, :, 0:16, 16:48]


@pytest.mark.parametrize("alike", [True, False])
def test_three_planes_of_other_dtypes(alike):
    """They are one image where they are alike, else one by one; a view takes an array that has either."""
    grey, *others = (random_image(32, 64, 1, seed=seed)[..., 0].astype(np.uint16) * 200 for seed in (0, 5, 6))
    data = np.stack([grey, grey + 3, grey + 9] if alike else [grey, *others])
    codec = caecodec.zarr.ConvolutionalAutoencoder(4, channel_axis=0, weights=TINY)
    array = zarr.create_array({}, data=data, chunks=(3, 32, 32), serializer=codec, compressors=None)
    latents = caecodec.open_latents(array)
    assert latents.ndim == (3 if alike else 4)
    array[:, :, 32:] = np.stack([grey, *others] if alike else [grey, grey + 3, grey + 9])[:, :, 32:]
    with pytest.raises(caecodec.ParameterError, match="chunk .* codes its channels"):
        latents[...]


def test_other_families():
    for family in ("photo-fast",):
        codec = caecodec.zarr.ConvolutionalAutoencoder(2, weights=family)
        array = zarr.create_array({}, data=random_image(48, 40, 3), chunks=(32, 32, 3), serializer=codec, compressors=None)
        latents = caecodec.open_latents(array)
        assert latents.stride == registry.by_name("depthwise-residual").stride
        assert latents.shape == (192, 3, 3)
        assert latents[...].any()


def test_targets_and_arrays_without_chunks():
    codec = caecodec.zarr.ConvolutionalAutoencoder(bpp=8, weights=TINY)
    array = zarr.create_array({}, shape=(32, 32, 3), dtype="uint8", chunks=(32, 32, 3), serializer=codec, compressors=None)
    with pytest.raises(caecodec.ParameterError, match="has no chunk with latents"):
        caecodec.open_latents(array)
    array[:] = random_image(32, 32, 3)
    assert caecodec.open_latents(array)[...].shape[1:] == (2, 2)


def test_what_has_no_latents(tmp_path):
    plain = zarr.create_array(tmp_path / "a.zarr/plain", data=random_image(32, 32, 3))
    zarr.create_group(tmp_path / "a.zarr", overwrite=False)
    with pytest.raises(caecodec.ParameterError, match="is not coded by caecodec"):
        caecodec.open_latents(plain)
    with pytest.raises(caecodec.ParameterError, match="is a group .* name one of its arrays: plain"):
        caecodec.open_latents(tmp_path / "a.zarr")
    with pytest.raises(caecodec.ParameterError, match=r"none\.zarr"):
        caecodec.open_latents(tmp_path / "none.zarr")
    fitted = caecodec.zarr.OverfittedAutoencoder(quality=1, preset="instant")
    other = zarr.create_array({}, shape=(32, 32, 3), dtype="uint8", chunks=(32, 32, 3), serializer=fitted, compressors=None)
    with pytest.raises(caecodec.ParameterError, match="which has no latents of a shared network"):
        caecodec.open_latents(other)


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.setenv("CAECODEC_WEIGHTS", str(TINY.parent))
    return store(tmp_path / "a.zarr", random_image(70, 64, 3))


def store(path, image):
    codec = caecodec.zarr.ConvolutionalAutoencoder(4, weights=TINY)
    zarr.create_array(path, data=image, chunks=(32, 32, 3), serializer=codec, compressors=None)
    return path


def mean(region):
    return region[0].start + region[1].start / 1000


def test_a_dataset_of_windows(stored):
    latents = caecodec.open_latents(stored)
    dataset = caecodec.torch.LatentDataset(latents, (2, 3), mean)
    assert len(dataset) == 3 * 2
    item, label = dataset[3]
    assert label == mean(latents.pixels(np.s_[:, 2:4, 3:4]))
    np.testing.assert_array_equal(item[:, :, :1].numpy(), latents[:, 2:4, 3:4])
    assert not item[:, :, 1:].any()
    assert pickle.loads(pickle.dumps(dataset))[3][1] == label
    chunks = caecodec.torch.LatentDataset(latents)
    assert len(chunks) == 6
    np.testing.assert_array_equal(chunks[5][:, :1].numpy(), latents[:, 4:, 2:])
    with pytest.raises(IndexError, match="there are 6 items"):
        chunks[6]
    for window in ((0, 2), 8, (2.5, 2), (2, 2, 2)):
        with pytest.raises(caecodec.ParameterError, match="window is"):
            caecodec.torch.LatentDataset(latents, window)
    with pytest.raises(caecodec.ParameterError, match=r"pass caecodec\.open_latents\(array\)"):
        caecodec.torch.LatentDataset(str(stored))


LOADING = """
import sys
import torch
import caecodec

def main():
    dataset = caecodec.torch.LatentDataset(caecodec.open_latents(sys.argv[1]))
    alone = torch.stack([dataset[i] for i in range(len(dataset))])
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, num_workers=2, multiprocessing_context=sys.argv[2])
    assert torch.equal(torch.cat(list(loader)), alone)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers(stored, start, tmp_path):
    (tmp_path / "loading.py").write_text(LOADING)
    processes.run(tmp_path / "loading.py", stored, start)


@pytest.mark.parametrize("name", ["a.npy", "out.zarr"])
def test_command(stored, tmp_path, name, capsys):
    assert main(["latents", str(stored), "-o", str(tmp_path / name)]) == 0
    latents = caecodec.open_latents(stored)
    assert capsys.readouterr().out == f"{tmp_path / name}: float32 {latents.shape}\n"
    written = np.load(tmp_path / name) if name == "a.npy" else zarr.open_array(tmp_path / name)
    np.testing.assert_array_equal(written[...], latents[...])
    assert main(["latents", str(stored), "-o", str(tmp_path / name)]) == 1
    assert "exists already" in capsys.readouterr().err
    assert main(["latents", str(stored), "-o", str(tmp_path / "a.bin")]) == 1
    assert "must be named NAME.npy or NAME.zarr" in capsys.readouterr().err
    assert main(["latents", str(tmp_path / "none"), "-o", str(tmp_path / "b.npy")]) == 1
    assert not (tmp_path / "b.npy").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing reserves space for a file that is mapped into memory")
def test_room_on_the_disk_is_reserved(stored, tmp_path, monkeypatch):  # stored: for its weights
    """A disk that is full is an error at once; later, the system would end the process."""
    real, reserved = Latents.blocks, []

    def blocks(latents):
        (partial,) = tmp_path.glob(".a.partial-*.npy")
        reserved.append((512 * partial.stat().st_blocks, partial.stat().st_size))
        return real(latents)

    monkeypatch.setattr(Latents, "blocks", blocks)
    large = store(tmp_path / "large.zarr", np.resize(random_image(70, 64, 3), (1024, 1024, 3)))
    assert main(["latents", str(large), "-o", str(tmp_path / "a.npy")]) == 0
    ((bytes_on_disk, size),) = reserved
    assert bytes_on_disk >= size > 2**16
