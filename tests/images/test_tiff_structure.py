"""TIFF files from which something is missing, by their structure and by what they say of their pages and files."""

import io
import logging
import struct
import threading
import warnings

import numpy as np
import pytest
import tifffile
from helpers.stacks import stack
from PIL import Image

import caecodec
from caecodec.images.files import read_image, read_rgb, read_size
from caecodec.images.tiff_structure import read_pages

PLANES = stack(4, 40, 50)


def written(path, pixels=PLANES, **options):
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **options})
    return path


def patched(path, tag, change, page=0):
    """Change the bytes of the values of a tag: `change` gets and returns its numbers."""
    with tifffile.TiffFile(path) as file:
        one = file.pages[page].tags[tag]
        values = one.value if isinstance(one.value, tuple) else (one.value,)
        form = file.byteorder + str(len(values)) + {3: "H", 4: "I", 16: "Q"}[int(one.dtype)]
        place = one.valueoffset
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, place, *change(values))
    path.write_bytes(data)


LAYOUTS = {
    "plain": {"metadata": None},
    "ome": {"ome": True},
    "imagej": {"imagej": True},
    "described": {"metadata": {"axes": "ZYX"}},
    "big, big-endian": {"bigtiff": True, "byteorder": ">"},
    "tiles": {"tile": (16, 16), "metadata": None},
    "compressed strips": {"compression": "zlib", "rowsperstrip": 7},
    "samples apart": {"planarconfig": "separate", "photometric": "rgb", "data": PLANES[:3]},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_whole_files(tmp_path, layout):
    options = dict(LAYOUTS[layout])
    pixels = options.pop("data", PLANES)
    path = written(tmp_path / "a.tif", pixels, **options)
    with path.open("rb") as stream:
        pages = read_pages(path, stream)
    with tifffile.TiffFile(path) as file:
        assert [page.offset for page in pages] == [page.offset for page in file.pages]
        assert [page.first for page in pages] == [page.dataoffsets[0] for page in file.pages]
    np.testing.assert_array_equal(read_image(path).pixels, pixels)
    np.testing.assert_array_equal(read_image(path, io.BytesIO(path.read_bytes())).pixels, pixels)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wherever_it_is_cut(tmp_path, layout):
    options = dict(LAYOUTS[layout])
    data = written(tmp_path / "a.tif", options.pop("data", PLANES), **options).read_bytes()
    for length in (5, 9, 100, *range(400, len(data) - 30, len(data) // 9), len(data) - 30):
        (tmp_path / "cut.tif").write_bytes(data[:length])
        with pytest.raises(caecodec.ParameterError, match=r"cut\.tif cannot be read as an image"):
            read_image(tmp_path / "cut.tif")


def test_other_formats_have_no_pages(tmp_path):
    assert read_pages(tmp_path / "a.png", io.BytesIO(b"\x89PNG\r\n")) == []


@pytest.mark.parametrize(("tag", "change", "match"), [
    ("StripByteCounts", lambda values: (0, *values[1:]), "strip 0 of 6 of page 0 is missing"),
    ("StripByteCounts", lambda values: (*values[:-1], 65000), "strip 5 of 6 of page 0 ends behind the file"),
    ("StripOffsets", lambda values: (*values[:2], 0, *values[3:]), "strip 2 of 6 of page 0 is missing"),
    ("StripOffsets", lambda values: (*values[:2], 10**8, *values[3:]), "strip 2 of 6 of page 0 ends behind the file"),
    ("StripByteCounts", lambda values: (*values[:-1], values[-1] - 2), "strip 5 of 6 of page 0 is too short"),
    ("ImageLength", lambda values: (90,), "page 0 lists 6 of its 13 strips"),
    ("ImageWidth", lambda values: (51,), "is too short"),
    ("ImageWidth", lambda values: (0,), "page 0 has 40 x 0 pixels"),
    ("BitsPerSample", lambda values: (32,), "is too short"),
])  # fmt: skip
@pytest.mark.parametrize("photograph", [False, True])
def test_strips_that_are_not_there(tmp_path, tag, change, match, photograph):
    """In files that tifffile reads and in photographs, which Pillow reads."""
    pixels = (PLANES[0] >> 8).astype(np.uint8) if photograph else PLANES[0]
    path = written(tmp_path / "a.tif", pixels, metadata=None, rowsperstrip=7)
    np.testing.assert_array_equal(read_image(path).pixels, pixels)
    patched(path, tag, change)
    for read in (read_image, read_rgb, read_size):
        with pytest.raises(caecodec.ParameterError, match=rf"a\.tif cannot be read as an image: .*{match}"):
            read(path)


def test_pages_in_a_circle(tmp_path):
    path = written(tmp_path / "a.tif", metadata=None)
    with path.open("rb") as stream:
        pages = read_pages(path, stream)
    data = bytearray(path.read_bytes())
    last = pages[-1].offset
    struct.pack_into("<I", data, last + 2 + 12 * struct.unpack_from("<H", data, last)[0], pages[1].offset)
    path.write_bytes(data)
    with pytest.raises(caecodec.ParameterError, match="page 4 is at byte .*, where an earlier page is"):
        read_image(path)


def test_tiles_that_are_left_out(tmp_path):
    """Only a file that says what they hold may lack them."""
    for name, extra in (("a", []), ("b", [(42113, 2, 2, "7", True)])):
        path = written(tmp_path / f"{name}.tif", PLANES[0], metadata=None, tile=(16, 16), extratags=extra)
        for tag in ("TileOffsets", "TileByteCounts"):
            patched(path, tag, lambda values: (*values[:-1], 0))
    with pytest.raises(caecodec.ParameterError, match="tile 11 of 12 of page 0 is missing"):
        read_image(tmp_path / "a.tif")
    found = read_image(tmp_path / "b.tif").pixels
    assert (found[32:, 48:] == 7).all()
    np.testing.assert_array_equal(found[:32], PLANES[0, :32])


def test_jpeg_streams_without_an_end(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, (PLANES[:2] >> 8).astype(np.uint8), photometric="minisblack", compression="jpeg", metadata=None)
    assert read_image(path).pixels.shape == (2, 40, 50)
    patched(path, "StripByteCounts", lambda values: (values[0] - 20, *values[1:]), page=1)
    with pytest.raises(caecodec.ParameterError, match="strip 0 of page 1 is a JPEG stream without an end"):
        read_image(path)


def test_tags_outside_the_file(tmp_path):
    """A private one costs nothing but itself."""
    path = written(tmp_path / "a.tif", PLANES[0], metadata=None, extratags=[(65000, 2, 20, "x" * 19, True)])
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        place = file.pages[0].tags[65000].offset + 8
    struct.pack_into("<I", data, place, 10**6)
    path.write_bytes(data)
    with pytest.warns(UserWarning, match=r"a\.tif is read without its tags 65000, which point outside the file"):
        found = read_image(path)
    np.testing.assert_array_equal(found.pixels, PLANES[0])


NAMES = ("left.ome.tif", "right.ome.tif")


def image_of_two_files(folder):
    """An OME-TIFF of two channels, each in a file of its own."""
    uuids = [f"urn:uuid:0000000{i}-0000-0000-0000-000000000000" for i in range(2)]
    blocks = "".join(
        f'<TiffData FirstC="{i}" IFD="0" PlaneCount="1"><UUID FileName="{name}">{uuid}</UUID></TiffData>'
        for i, (name, uuid) in enumerate(zip(NAMES, uuids, strict=True))
    )
    for i, (name, uuid) in enumerate(zip(NAMES, uuids, strict=True)):
        document = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuid}"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="50" SizeY="40" SizeZ="1" SizeC="2" SizeT="1">'
            f'<Channel ID="Channel:0:0" Name="a"/><Channel ID="Channel:0:1" Name="b"/>{blocks}</Pixels></Image></OME>'
        )
        tifffile.imwrite(folder / name, PLANES[i], description=document, metadata=None, photometric="minisblack")
    return folder / NAMES[0]


def test_files_that_belong_together(tmp_path):
    path = image_of_two_files(tmp_path)
    image = read_image(path)
    assert (image.axes, image.labels) == ("cyx", ("a", "b"))
    np.testing.assert_array_equal(image.pixels, PLANES[:2])
    other = (tmp_path / NAMES[1]).read_bytes()
    (tmp_path / NAMES[1]).write_bytes(other[:-200])
    with pytest.raises(caecodec.ParameterError, match="cannot be read as an image: .* (cut off|missing)"):
        read_image(path)
    (tmp_path / NAMES[1]).unlink()
    with pytest.raises(caecodec.ParameterError, match=r"left\.ome\.tif .*: right\.ome\.tif, which it belongs .* is missing"):
        read_image(path)
    with pytest.raises(caecodec.ParameterError, match=r"right\.ome\.tif, which it belongs"):
        read_image(path, io.BytesIO(path.read_bytes()))


def test_files_that_are_others_than_their_names_say(tmp_path):
    """A copy of another file, two that have changed places, one of another image, one without OME-XML of another size."""
    path = image_of_two_files(tmp_path)
    left, right = ((tmp_path / name).read_bytes() for name in NAMES)
    other = right.replace(
        b'urn:uuid:00000001-0000-0000-0000-000000000000"><Image', b'urn:uuid:99999999-0000-0000-0000-000000000000"><Image'
    )
    assert other != right
    for first, second, match in (
        (left, left, r"right\.ome\.tif, .* is another file than it says \(urn:uuid:00000000-.* instead of urn:uuid:00000001-"),
        (right, left, r"left\.ome\.tif, .* is another file than it says"),
        (left, other, r"right\.ome\.tif, .* is another file than it says \(urn:uuid:99999999-"),
        (left, b"", r"right\.ome\.tif, .* is another file than it says \(no TIFF file instead"),
    ):
        for name, data in zip(NAMES, (first, second), strict=True):
            (tmp_path / name).write_bytes(data)
        with pytest.raises(caecodec.ParameterError, match=rf"left\.ome\.tif cannot be read as an image: {match}"):
            read_image(path)
    tifffile.imwrite(tmp_path / NAMES[1], PLANES[1, :20], description="x", metadata=None, photometric="minisblack")
    with pytest.raises(caecodec.ParameterError, match=r"left\.ome\.tif .* its pages differ from those in .*right\.ome\.tif"):
        read_image(path)


@pytest.mark.parametrize("ome", [True, False])
def test_smaller_levels_that_are_not_there(tmp_path, ome):
    """Those in SubIFDs, which are not in the chain of pages: tifffile would fill their missing tiles with zeros."""
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=ome) as writer:
        options = {"tile": (16, 16), "photometric": "minisblack", "compression": "zlib"}
        writer.write(PLANES[0], subifds=1, **options)
        writer.write(PLANES[0, ::2, ::2], subfiletype=1, **options)
    np.testing.assert_array_equal(read_image(path).pixels, PLANES[0])
    whole = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        pointer, lengths = file.pages[0].tags[330].valueoffset, file.pages[0].pages[0].tags[325]
    width = {3: 2, 4: 4}[int(lengths.dtype)]
    for place, data, match in (
        (lengths.valueoffset + width, bytes(width), "tile 1 of 4 of page 0 below page 0 is missing"),
        (pointer, struct.pack("<I", 10**8), "the directory of page 0 below page 0 should be at bytes 100000000"),
        (pointer, bytes(4), "page 0 below page 0"),
    ):
        path.write_bytes(whole[:place] + data + whole[place + len(data) :])
        with pytest.raises(
            caecodec.ParameterError, match=rf"a\.ome\.tif cannot be read .*: it is cut off or damaged: .*{match}"
        ):
            read_image(path)


@pytest.mark.parametrize(
    ("above", "pixels"),
    [(np.s_[::4, ::4], 130), (np.s_[:], 2000)],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_images_below_others(tmp_path, above, pixels, dtype):
    """As cameras put the photograph into a SubIFD of its thumbnail, or programs another picture of the same size."""
    photograph = PLANES[0].astype(dtype)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        options = {"photometric": "minisblack", "metadata": None}
        writer.write(photograph[above], subifds=1, subfiletype=1, **options)
        writer.write(photograph, **options)
    match = f"holds several images: page 0 below page 0 has 2000 pixels .* above it, which has {pixels}; save the image"
    with pytest.raises(caecodec.ParameterError, match=match):
        read_image(tmp_path / "a.tif")


def described(path, document):
    tifffile.tiffcomment(path, document if isinstance(document, bytes) else document.encode())
    return path


def test_pages_and_ome_xml_that_differ(tmp_path):
    """Planes without a page, pages without a plane, and parts of an image that another file describes."""
    path = written(tmp_path / "a.ome.tif", ome=True, metadata={"axes": "ZYX"})
    said = tifffile.tiffcomment(path)
    for old, new, match in (
        ('SizeZ="4"', 'SizeZ="5"', "1 of its 5 planes, or of its pages, are missing"),
        ('SizeZ="4"', 'SizeZ="3"', "1 of its 4 pages are not in the image"),
        ('PlaneCount="4"', 'PlaneCount="2"', "2 of its 4 planes, or of its pages, are missing"),
        (
            "<Image ",
            '<BinaryOnly MetadataFile="all.companion.ome" UUID="urn:uuid:0"/><Image ',
            "a part of an image that all.comp",
        ),
        ("</OME>", "", "4 pages are not what its OME-XML say"),
        ("<Pixels ", "<Pixels <", "4 pages are not what its OME-XML say .*well-formed"),
    ):
        assert old in said
        with pytest.raises(caecodec.ParameterError, match=rf"a\.ome\.tif.* {match}"):
            read_image(described(path, said.replace(old, new)))
    np.testing.assert_array_equal(read_image(described(path, said)).pixels, PLANES)


def test_pages_and_imagej_metadata_that_differ(tmp_path):
    path = written(tmp_path / "a.tif", imagej=True)
    said = tifffile.tiffcomment(path)
    for new in ("images=9\nchannels=9", "images=4\nchannels=x", "images=4\nchannels=0"):
        with pytest.raises(caecodec.ParameterError, match=r"a\.tif cannot be read .*: its 4 pages are not what its ImageJ"):
            read_image(described(path, said.replace("images=4\nchannels=4", new)))


def test_descriptions_of_more_than_there_is(tmp_path):
    for compression in (None, "zlib"):
        path = written(tmp_path / "a.tif", compression=compression, metadata={"axes": "ZYX"})
        with pytest.raises(caecodec.ParameterError, match=r"a\.tif cannot be read as an image: .*"):
            read_image(described(path, '{"shape": [9, 40, 50], "axes": "ZYX"}'))


@pytest.mark.parametrize("document", [
    "<OME", "<OME></OME", '<?xml version="1.0"?><OME><Image/>', "ImageJ=1.53\nimages=x", '{"shape": [1, 2', '{"shape": "x"}',
])  # fmt: skip
def test_metadata_that_cannot_be_understood(tmp_path, document):
    """They do not cost a single page."""
    path = described(written(tmp_path / "a.tif", PLANES[0], description="x", metadata=None), document)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = read_image(path)
    np.testing.assert_array_equal(found.pixels, PLANES[0])
    assert found.sizes == {}


def test_sizes_that_are_no_numbers(tmp_path):
    path = written(tmp_path / "a.ome.tif", ome=True, metadata={"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25})
    said = tifffile.tiffcomment(path)
    for new in ("wide", "", "nan", "inf", "-1", "0"):
        image = read_image(described(path, said.replace('PhysicalSizeX="0.5"', f'PhysicalSizeX="{new}"')))
        assert set(image.sizes) == {"y"}
        np.testing.assert_array_equal(image.pixels, PLANES)


@pytest.mark.parametrize("level", [logging.DEBUG, logging.CRITICAL, logging.CRITICAL + 1])
def test_threads_and_levels_of_logging(tmp_path, level):
    """Sound files are read and others refused, whatever is read beside them and whatever is logged."""
    sound = written(tmp_path / "sound.tif", metadata=None)
    cut = written(tmp_path / "cut.ome.tif", ome=True)
    cut.write_bytes(cut.read_bytes()[:-3000])
    faults = []

    def read(path, whole):
        for _ in range(20):
            try:
                np.testing.assert_array_equal(read_image(path).pixels, PLANES)
                faults.extend([] if whole else [path])
            except caecodec.ParameterError as error:
                faults.extend([error] if whole else [])

    logger = logging.getLogger("tifffile")
    before = logger.level
    logger.setLevel(level)
    try:
        threads = [threading.Thread(target=read, args=args) for args in ((sound, True), (cut, False), (sound, True))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        logger.setLevel(before)
    assert faults == []


def test_photographs_are_read_as_before(tmp_path, photograph):
    for options in ({}, {"compression": "tiff_lzw"}, {"compression": "jpeg", "quality": 95}, {"compression": "packbits"}):
        Image.fromarray(photograph[:60, :70]).save(tmp_path / "a.tif", **options)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif").picture(), np.asarray(Image.open(tmp_path / "a.tif")))
