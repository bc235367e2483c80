"""Convert a folder of photographs to OME-NGFF Zarr and back: python examples/quickstart.py [FOLDER].

Writes photographs of scikit-image into FOLDER (default: quickstart), converts them to OME-NGFF groups, checks that plain zarr
and dask read these, converts them back, prints sizes and PSNR, and draws a picture of before and after. Needs the extra ngff
and scikit-image.
"""

import sys
from pathlib import Path

import dask.array as da
import numpy as np
import skimage.data
import zarr
from PIL import Image

import caecodec
from caecodec.evaluation import psnr
from caecodec.ngff import Options, decode_paths, encode_paths

QUALITY = 5


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart")
    photos = folder / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    for name in ("astronaut", "chelsea", "coffee", "immunohistochemistry"):
        Image.fromarray(getattr(skimage.data, name)()).save(photos / f"{name}.png")

    groups, failed = encode_paths([photos], folder / "zarr", Options(quality=QUALITY, overwrite=True))
    images, undecoded = decode_paths([folder / "zarr"], folder / "decoded", overwrite=True)
    for failure in failed + undecoded:
        print(failure.error, file=sys.stderr)

    print(f"quality {QUALITY}: {'image':22} {'size':>10} {'bpp':>6} {'ratio':>6} {'PSNR':>6}")
    for path, image in zip(groups, images, strict=True):
        original = np.asarray(Image.open(photos / f"{image.stem}.png"))
        level = zarr.open_group(path, mode="r")["s0"]  # plain zarr
        lazy = da.from_zarr(str(path), component="s0")  # plain dask
        assert (np.moveaxis(level[:], 0, -1) == np.asarray(Image.open(image))).all()
        assert lazy.mean().compute() == level[:].mean()
        report = caecodec.inspect(path)[0]
        size = f"{original.shape[1]}x{original.shape[0]}"
        decoded = np.asarray(Image.open(image))
        print(f"{'':11}{image.stem:22} {size:>10} {report.bpp:6.3f} {report.ratio:6.1f} {psnr(original, decoded):6.2f}")

    before, after = (np.asarray(Image.open(folder / kind / "astronaut.png"))[:256, 100:356] for kind in ("photos", "decoded"))
    Image.fromarray(np.hstack([before, after])).resize((1024, 512), Image.Resampling.NEAREST).save(folder / "before_after.png")
    print(f"before and after: {folder / 'before_after.png'}")
    return 1 if failed or undecoded else 0


if __name__ == "__main__":
    sys.exit(main())
