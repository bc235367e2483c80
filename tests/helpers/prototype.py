"""What the archived prototype did, with CompressAI, to write and read a chunk; and a tiny network to do it with."""

import json
import struct

import numpy as np

from caecodec import weights

from .networks import seeded_tensors

QUALITY = 4


def tiny_weights(path):
    """A weights file of a small random network with tables of CompressAI's 16 bits."""
    tensors = seeded_tensors(5, qualities=(QUALITY,))
    length = tensors[f"q{QUALITY}.static.length"]
    mass = []
    for table in np.split(tensors[f"q{QUALITY}.static.mass"], np.cumsum(length)[:-1]):
        short = np.maximum(1, table >> 8)
        short[short.argmax()] += 2**16 - short.sum()
        mass.append(short << 8)
    tensors[f"q{QUALITY}.static.mass"] = np.concatenate(mass).astype(np.int32)
    return weights.save(path, tensors, name="prototype", family="cae", metric="mse", qualities=(QUALITY,))


def compressai_network(source):
    """CompressAI's own network with the parameters of a weights file."""
    from compressai.models import FactorizedPrior

    from caecodec.models.factorized import compressai

    plain = weights.load(source, QUALITY)
    tables = plain.tables["static"]
    state = compressai.to_state_dict(plain.network.tensors, tables.mass, tables.length, tables.offset)
    return FactorizedPrior.from_state_dict(state).eval()


def encode(network, chunk, patch):
    """The payload of a chunk (height, width, 3): patches with 16 reflected pixels around them, one string for all."""
    import torch

    height, width = chunk.shape[:2]
    below, right = -height % patch, -width % patch
    around = np.pad(chunk, ((16, below + 16), (16, right + 16), (0, 0)), mode="reflect")
    x = torch.from_numpy(around).permute(2, 0, 1)[None].float().div(255)
    side = patch // 16
    rows = []
    with torch.no_grad():
        for top in range(0, height, patch):
            patches = [x[..., top : top + patch + 32, left : left + patch + 32] for left in range(0, width, patch)]
            rows.append(torch.cat([network.g_a(p)[..., 1 : side + 1, 1 : side + 1] for p in patches], dim=3))
        (string,) = network.entropy_bottleneck.compress(torch.cat(rows, dim=2))
    return struct.pack(">QQQQ", height, width, below, right) + string


def decode(network, payload, patch):
    """The chunk in a payload: patches of latents with one reflected around them; truncated to integers."""
    import torch

    height, width, below, right = struct.unpack(">QQQQ", payload[:32])
    rows, columns, side = (height + below) // 16, (width + right) // 16, patch // 16
    with torch.no_grad():
        y = network.entropy_bottleneck.decompress([payload[32:]], (rows, columns))
        y = torch.nn.functional.pad(y, (1, 1 - columns % -side, 1, 1 - rows % -side), mode="reflect")
        image = []
        for top in range(0, rows, side):
            patches = [y[..., top : top + side + 2, left : left + side + 2] for left in range(0, columns, side)]
            image.append(torch.cat([network.g_s(p)[..., 16 : patch + 16, 16 : patch + 16] for p in patches], dim=3))
        x = torch.cat(image, dim=2)[0, :, :height, :width]
    return x.mul(255).clip(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()


def write_array(path, payloads, shape, chunks, **compressor):
    """A Zarr v2 array on disk as the prototype left it; `payloads` by chunk key."""
    path.mkdir()
    metadata = {
        "zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": "|u1", "fill_value": 0, "order": "C",
        "filters": None, "compressor": {"id": "cae", "quality": QUALITY, "metric": "mse", "gpu": False, **compressor},
    }  # fmt: skip
    (path / ".zarray").write_text(json.dumps(metadata))
    for key, payload in payloads.items():
        (path / key).write_bytes(payload)
