"""Image files in and out: every format, mode and bad input."""

from __future__ import annotations

import errno
import io
import os
import struct
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from fastsr.errors import ImageFileError, OptionError, OutputError
from fastsr.io import ImageInfo, atomic_output, formats, open_image, open_sink, open_source, read_image, write_image
from fastsr.io import image as image_module
from fastsr.io import tiff as tiff_module

SHAPES = {1: (7, 13), 2: (7, 13, 2), 3: (7, 13, 3), 4: (7, 13, 4)}
needs_permissions = pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may do anything")


def random_pixels(shape, dtype="uint8", seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def smooth_pixels(h, w, c, dtype):
    """Make a picture on which each PNG filter is the best one somewhere."""
    y, x = np.mgrid[:h, :w]
    planes = [np.sin(y / 9 + i) + np.cos(x / 7) * (y % 40 > 20) for i in range(c)]
    picture = np.stack(planes, -1)
    picture = (picture - picture.min()) / np.ptp(picture)
    picture[h // 3 : h // 2] = np.linspace(0, 1, w)[None, :, None]
    return (picture * np.iinfo(dtype).max).astype(dtype)


def leftovers(folder):
    return [p.name for p in folder.iterdir() if ".partial-" in p.name]


# --- round trips ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", image_module.DTYPES)
@pytest.mark.parametrize("name", ["png", "tiff", "npy", "webp", "bmp"])
def test_what_is_written_is_read_back_or_refused(tmp_path, name, dtype, channels):
    entry = formats.format_named(name)
    pixels = random_pixels(SHAPES[channels], dtype)
    path = tmp_path / f"x{entry.suffixes[0]}"
    if dtype in entry.dtypes and channels in entry.channels:
        write_image(path, pixels)
        back = read_image(path)
        assert back.info.format == name
        assert back.pixels.dtype == pixels.dtype
        np.testing.assert_array_equal(back.pixels, pixels)
        assert back.pixels.flags.c_contiguous
    else:
        with pytest.raises(OutputError, match="would do"):
            write_image(path, pixels)
        assert not path.exists()


@pytest.mark.parametrize("shape", [(1, 1), (1, 300, 3), (300, 1, 4), (64, 65, 2)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_png_of_any_shape_agrees_with_another_reader(tmp_path, shape, dtype):
    pixels = random_pixels(shape, dtype)
    write_image(tmp_path / "x.png", pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png").pixels, pixels)
    with Image.open(tmp_path / "x.png") as image:
        image.load()
        seen = np.asarray(image)
    seen = seen[:, :, [0, 3]] if shape[2:] == (2,) and seen.shape[2] == 4 else seen  # to Pillow, grey+alpha is RGBA
    shift = 8 if dtype == "uint16" and len(shape) == 3 else 0  # Pillow keeps the high byte of 16-bit colour
    np.testing.assert_array_equal(seen, pixels >> shift)


def test_png_filters_are_all_used_and_undone(tmp_path):
    pixels = smooth_pixels(200, 150, 3, "uint16")
    path = tmp_path / "x.png"
    write_image(path, pixels)
    raw = zlib.decompress(b"".join(data for kind, data in png_chunks(path.read_bytes()) if kind == b"IDAT"))
    used = set(raw[:: 1 + 150 * 6])
    assert used <= {0, 1, 2, 3, 4}
    assert len(used) >= 3
    np.testing.assert_array_equal(read_image(path).pixels, pixels)
    assert len(raw) == 200 * (1 + 150 * 6)


@pytest.mark.parametrize("name", ["png", "tiff", "npy"])
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_file_does_not_depend_on_how_its_rows_come(tmp_path, name, step, monkeypatch):
    monkeypatch.setattr(tiff_module, "STRIP_BYTES", 1000)
    pixels = smooth_pixels(50, 40, 3, "uint16")
    info = ImageInfo(compression="deflate")
    path = tmp_path / ("x" + formats.format_named(name).suffixes[0])
    with open_sink(path, pixels.shape, pixels.dtype, info) as sink:
        for y in range(0, 50, step):
            sink.write(y, pixels[y : y + step])
    with open_source(path) as source:
        assert source.shape == pixels.shape
        np.testing.assert_array_equal(source.read(0, 50), pixels)
        np.testing.assert_array_equal(source.read(17, 18), pixels[17:18])
        np.testing.assert_array_equal(source.read(5, 33), pixels[5:33])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg_keeps_full_colour_resolution(tmp_path, mode):
    pixels = smooth_pixels(64, 48, 3, "uint8")
    pixels = pixels[:, :, 0] if mode == "L" else pixels
    write_image(tmp_path / "x.jpg", pixels)
    back = read_image(tmp_path / "x.jpg")
    assert back.pixels.shape == pixels.shape
    assert np.abs(back.pixels.astype(int) - pixels).mean() < 2
    with Image.open(tmp_path / "x.jpg") as image:
        layers = getattr(image, "layer", [])
        assert all(layer[1:3] == (1, 1) for layer in layers)


# --- PNG modes --------------------------------------------------------------------------------------------------


def png_chunks(data):
    at = 8
    while at < len(data):
        (size,) = struct.unpack_from(">L", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        at += 12 + size


def png_bytes(width, height, depth, colour_type, scanlines, extra=(), interlaced=0):
    """Assemble a PNG by hand from filtered scanlines."""
    chunks = [(b"IHDR", struct.pack(">2L5B", width, height, depth, colour_type, 0, 0, interlaced)), *extra]
    chunks += [(b"IDAT", zlib.compress(scanlines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(d)) + k + d + struct.pack(">L", zlib.crc32(k + d)) for k, d in chunks
    )


def adam7(raw):
    """Split an image (H, W, bytes) into Adam7's seven passes of unfiltered scanlines."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [raw[y::dy, x::dx] for y, x, dy, dx in passes]
    return b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)


@pytest.mark.parametrize(("channels", "colour_type"), [(1, 0), (2, 4), (3, 2), (4, 6)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_interlaced_png_keeps_every_bit(tmp_path, channels, colour_type, dtype):
    pixels = random_pixels((11, 9, channels), dtype)
    raw = pixels.astype(pixels.dtype.newbyteorder(">")).view(np.uint8)
    depth = 8 * pixels.dtype.itemsize
    (tmp_path / "x.png").write_bytes(png_bytes(9, 11, depth, colour_type, adam7(raw), interlaced=1))
    back = read_image(tmp_path / "x.png").pixels
    np.testing.assert_array_equal(back.reshape(pixels.shape), pixels)


@pytest.mark.parametrize("filter_type", [0, 1, 2, 3, 4])
@pytest.mark.parametrize(("channels", "colour_type"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_every_filter_of_16_bit_png_is_undone(tmp_path, filter_type, channels, colour_type):
    pixels = smooth_pixels(9, 8, channels, "uint16")
    raw = pixels.astype(">u2").view(np.uint8).reshape(9, -1).astype(int)
    n = 2 * channels
    a, b, c = (np.zeros_like(raw) for _ in range(3))
    a[:, n:], b[1:], c[1:, n:] = raw[:, :-n], raw[:-1], raw[:-1, :-n]
    p = a + b - c
    nearest = np.stack([np.abs(p - a), np.abs(p - b), np.abs(p - c)]).argmin(axis=0)
    guess = [0, a, b, (a + b) // 2, np.choose(nearest, [a, b, c])][filter_type]
    lines = ((raw - guess) % 256).astype(np.uint8)
    scanlines = b"".join(bytes([filter_type]) + line.tobytes() for line in lines)
    (tmp_path / "x.png").write_bytes(png_bytes(8, 9, 16, colour_type, scanlines))
    back = read_image(tmp_path / "x.png").pixels
    np.testing.assert_array_equal(back.reshape(pixels.shape), pixels)


@pytest.mark.parametrize("name", ["png", "tiff", "npy"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_rows_come_in_any_parts_and_from_the_top_again(tmp_path, name, dtype):
    pixels = random_pixels((53, 1201, 3), dtype)  # more than is read at once
    write_image(tmp_path / f"x.{name}", pixels)
    with open_source(tmp_path / f"x.{name}") as source:
        for y0, y1 in [(0, 1), (1, 8), (20, 53), (3, 4), (4, 5), (0, 53), (52, 53)]:
            np.testing.assert_array_equal(source.read(y0, y1), pixels[y0:y1])


def test_pixels_of_a_png_that_end_early_or_have_an_unknown_filter(tmp_path):
    lines = (b"\0" + bytes(range(15))) * 7
    (tmp_path / "x.png").write_bytes(png_bytes(5, 8, 8, 2, lines))
    with pytest.raises(ImageFileError, match=r"truncated: its pixels end in row 0 of 8 or soon after"):
        read_image(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes(png_bytes(5, 8, 8, 2, lines + b"\5" + bytes(15)))
    with pytest.raises(ImageFileError, match=r"damaged: row 7 has filter 5; there are 0 to 4"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("transparent", [False, True])
def test_grey_png_of_few_bits_becomes_8(tmp_path, depth, transparent):
    values = np.arange(8) % 2**depth
    packed = 0
    for value in values:
        packed = packed << depth | int(value)
    extra = [(b"tRNS", struct.pack(">H", 1))] if transparent else []
    data = png_bytes(8, 1, depth, 0, b"\0" + packed.to_bytes(depth, "big"), extra)
    (tmp_path / "x.png").write_bytes(data)
    back = read_image(tmp_path / "x.png")
    expected = (values * 255 // (2**depth - 1)).astype(np.uint8)
    grey = back.pixels[0, :, 0] if transparent else back.pixels[0]
    np.testing.assert_array_equal(grey, expected)
    if transparent:
        np.testing.assert_array_equal(back.pixels[0, :, 1], np.where(values == 1, 0, 255))
    assert back.info.stored == f"{depth} bit"


@pytest.mark.parametrize("alpha", [False, True])
def test_palette_png_becomes_colour(tmp_path, alpha):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "x.png", **({"transparency": bytes([0, 128, 255])} if alpha else {}))
    back = read_image(tmp_path / "x.png")
    np.testing.assert_array_equal(back.pixels[0, :, :3], [[10, 20, 30], [40, 50, 60], [70, 80, 90]])
    assert back.pixels.shape[2] == (4 if alpha else 3)
    assert not alpha or list(back.pixels[0, :, 3]) == [0, 128, 255]
    assert back.info.stored == "palette"


def test_transparent_colour_of_16_bit_rgb_is_compared_in_all_bits(tmp_path):
    pixels = np.array([[[256, 512, 768], [257, 512, 768]]], np.uint16)
    extra = [(b"tRNS", struct.pack(">3H", 256, 512, 768))]
    (tmp_path / "x.png").write_bytes(png_bytes(2, 1, 16, 2, b"\0" + pixels.astype(">u2").tobytes(), extra))
    back = read_image(tmp_path / "x.png").pixels
    np.testing.assert_array_equal(back[:, :, :3], pixels)
    assert list(back[0, :, 3]) == [0, 65535]


# --- TIFF -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["plain", "deflate", "predictor", "tiled", "tiled deflate", "planar", "bigtiff"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_tiff_of_other_writers_is_read(tmp_path, layout, byteorder, dtype):
    pixels = random_pixels((70, 50, 3), dtype)
    options = {
        "plain": {},
        "deflate": {"compression": "zlib", "rowsperstrip": 16},
        "predictor": {"compression": "zlib", "predictor": True, "rowsperstrip": 7},
        "tiled": {"tile": (16, 32)},
        "tiled deflate": {"tile": (32, 16), "compression": "zlib"},
        "planar": {"planarconfig": "separate", "rowsperstrip": 9, "compression": "zlib"},
        "bigtiff": {},
    }[layout]
    if layout == "predictor" and dtype == "float32":
        pytest.skip("differencing of floats needs imagecodecs to write")
    stored = np.moveaxis(pixels, 2, 0) if layout == "planar" else pixels
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, stored, photometric="rgb", byteorder=byteorder, bigtiff=layout == "bigtiff", **options)
    with open_source(path) as source:
        assert source.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(source.read(0, 70), pixels)
        np.testing.assert_array_equal(source.read(15, 18), pixels[15:18])
        np.testing.assert_array_equal(source.read(69, 70), pixels[69:])


@pytest.mark.parametrize("compression", ["none", "deflate"])
@pytest.mark.parametrize("big", [False, True])
def test_tiff_agrees_with_other_readers(tmp_path, compression, big, monkeypatch):
    monkeypatch.setattr(tiff_module, "BIGTIFF_BYTES", 0 if big else 2**32)
    pixels = smooth_pixels(300, 400, 3, "uint16")
    info = ImageInfo(compression=compression, resolution=(300.0, 150.5), icc=b"profile")
    write_image(tmp_path / "x.tif", pixels, info)
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        page = file.pages[0]
        assert file.is_bigtiff == big
        np.testing.assert_array_equal(page.asarray(), pixels)
        assert page.iccprofile == b"profile"
        assert page.get_resolution() == (300.0, 150.5)
        assert (page.compression == 8) == (compression == "deflate")
    grey = (pixels[:, :, 0] >> 8).astype(np.uint8)
    write_image(tmp_path / "y.tif", grey, info)
    if not big:
        with Image.open(tmp_path / "y.tif") as image:
            np.testing.assert_array_equal(np.asarray(image), grey)


def test_tiff_pages_may_differ(tmp_path):
    pages = [random_pixels((5, 6), "uint16"), random_pixels((9, 4, 3), "uint8"), random_pixels((3, 3), "float64")]
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        for page in pages:
            file.write(page)
    with open_image(tmp_path / "x.tif") as reader:
        assert [p.info.pages for p in reader.pages] == [3, 3, 3]
    for i, page in enumerate(pages):
        np.testing.assert_array_equal(read_image(tmp_path / "x.tif", i).pixels, page)
    with pytest.raises(ImageFileError, match="3 pages"):
        read_image(tmp_path / "x.tif", 3)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_white_is_zero_is_inverted(tmp_path, compression):
    pixels = random_pixels((8, 9), "uint16")
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="miniswhite", compression=compression)
    back = read_image(tmp_path / "x.tif")
    np.testing.assert_array_equal(back.pixels, 65535 - pixels)
    assert back.info.stored == "white is zero"


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "group4", "packbits"])
def test_bilevel_tiff_becomes_8_bit_grey(tmp_path, compression):
    bits = random_pixels((20, 33)) > 127
    Image.fromarray(bits).save(tmp_path / "x.tif", compression=compression)
    back = read_image(tmp_path / "x.tif").pixels
    np.testing.assert_array_equal(back, bits.astype(np.uint8) * 255)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_lzw_tiff_is_read_where_no_bit_is_lost(tmp_path, mode):
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "I;16": 1}[mode]
    pixels = random_pixels(SHAPES[channels], "uint16" if mode == "I;16" else "uint8")
    Image.fromarray(pixels).save(tmp_path / "x.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(read_image(tmp_path / "x.tif").pixels, pixels)


def test_palette_tiff_becomes_colour(tmp_path):
    colours = np.zeros((3, 256), np.uint16)
    colours[:, :2] = [[257, 514], [771, 1028], [1285, 65535]]
    tifffile.imwrite(tmp_path / "x.tif", np.array([[0, 1]], np.uint8), photometric="palette", colormap=colours)
    assert read_image(tmp_path / "x.tif").pixels.tolist() == [[[1, 3, 5], [2, 4, 255]]]


def test_tiff_stack_without_pages_is_refused(tmp_path):
    stack = random_pixels((4, 8, 9), "uint16")
    tifffile.imwrite(tmp_path / "x.tif", stack, imagej=True, truncate=False)
    count = len(open_image(tmp_path / "x.tif").pages)
    assert count == 4
    tifffile.imwrite(tmp_path / "y.tif", stack, truncate=True, photometric="minisblack")
    with pytest.raises(ImageFileError, match="one page an image"):
        open_image(tmp_path / "y.tif")


@pytest.mark.parametrize("dtype", ["uint32", "int8", "complex64"])
def test_tiff_of_unsupported_type_is_refused(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((4, 4), dtype))
    with pytest.raises(ImageFileError, match=f"{dtype}.*uint16"):
        read_image(tmp_path / "x.tif")


# --- NPY --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_npy_of_any_order_is_read(tmp_path, order, byteorder):
    pixels = random_pixels((6, 5, 3), "int16")
    np.save(tmp_path / "x.npy", np.asarray(pixels.astype(f"{byteorder}i2"), order=order))
    back = read_image(tmp_path / "x.npy").pixels
    assert back.dtype.isnative
    np.testing.assert_array_equal(back, pixels)


def test_npy_keeps_its_axes(tmp_path):
    for shape in [(4, 5), (4, 5, 1)]:
        write_image(tmp_path / "x.npy", np.ones(shape), ImageInfo(grey_axis=len(shape) == 3))
        assert np.load(tmp_path / "x.npy").shape == shape
        assert read_image(tmp_path / "x.npy").pixels.shape == shape
        (tmp_path / "x.npy").unlink()


@pytest.mark.parametrize(
    "array", [np.zeros(3), np.zeros((2, 3, 5)), np.zeros((0, 3)), np.zeros((2, 2), bool), np.array([[{}]])]
)
def test_npy_that_is_no_image_is_refused(tmp_path, array):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(ImageFileError):
        read_image(tmp_path / "x.npy")


# --- what is carried over ---------------------------------------------------------------------------------------


def exif_block(orientation=6, **_):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Maker"
    exif[0x011A], exif[0x011B], exif[0x0128] = 72.0, 72.0, 2
    exif.get_ifd(0x8769).update({0xA002: 13, 0xA003: 7, 0x9003: "2026:01:02 03:04:05"})
    exif.get_ifd(0x8825).update({1: "N"})
    return exif.tobytes()


@pytest.mark.parametrize("name", ["png", "tiff", "jpeg", "webp"])
def test_profile_exif_and_resolution_survive(tmp_path, name):
    entry = formats.format_named(name)
    info = ImageInfo(icc=b"a profile" * 40, exif=exif_block()[6:], resolution=(300.0, 150.0)).scaled(4, 28, 52)
    path = tmp_path / f"x{entry.suffixes[0]}"
    write_image(path, random_pixels((28, 52, 3)), info)
    back = read_image(path).info
    assert back.icc == b"a profile" * 40
    assert back.orientation == 6
    if name != "webp":
        assert back.dpi == pytest.approx((1200, 600), rel=1e-4)
    with Image.open(path) as image:
        exif = image.getexif()
        camera, place = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
    assert exif[0x010F] == "Maker"
    assert (camera[0xA002], camera[0xA003], camera[0x9003]) == (52, 28, "2026:01:02 03:04:05")
    assert place[1] == "N"
    if name != "tiff":  # TIFF's own tags say it
        assert exif[0x011A] == 288


def test_big_endian_exif_is_read():
    blob = exif_block()[6:]
    assert blob[:2] in (b"II", b"MM")
    big = b"MM\0*" + struct.pack(">LH", 8, 1) + struct.pack(">HHLHH", 274, 3, 1, 8, 0) + bytes(4)
    assert ImageInfo(exif=big).orientation == 8
    assert ImageInfo(exif=b"Exif\0\0" + big).scaled(2, 4, 4).orientation == 8


@pytest.mark.parametrize("blob", [b"", b"nonsense", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff"])
def test_damaged_exif_is_left_out(blob):
    info = ImageInfo(exif=blob)
    assert info.orientation == 1
    assert info.scaled(2, 4, 4).exif is None


def test_png_text_and_gamma_survive(tmp_path):
    path, again = tmp_path / "x.png", tmp_path / "y.png"
    aspect = struct.pack(">2LB", 3, 1, 0)
    chunks = [(b"gAMA", struct.pack(">L", 45455)), (b"tEXt", b"Comment\0a scan"), (b"pHYs", aspect)]
    path.write_bytes(png_bytes(1, 1, 8, 0, b"\0\x07", chunks))
    back = read_image(path)
    assert back.info.dpi is None
    write_image(again, back.pixels, back.info.scaled(1, 1, 1))
    written = dict(png_chunks(again.read_bytes()))
    assert written[b"tEXt"] == b"Comment\0a scan"
    assert written[b"gAMA"] == struct.pack(">L", 45455)
    assert written[b"pHYs"] == aspect


def test_ome_description_grows_with_the_picture(tmp_path):
    tifffile.imwrite(
        tmp_path / "x.ome.tif",
        random_pixels((8, 9), "uint16"),
        metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"},
    )
    description = read_image(tmp_path / "x.ome.tif").info.scaled(4, 32, 36).description
    assert b'SizeX="36"' in description
    assert b'SizeY="32"' in description
    assert b'PhysicalSizeX="0.125"' in description


def test_alpha_of_tiff_keeps_its_meaning(tmp_path):
    pixels = random_pixels((4, 5, 4))
    tifffile.imwrite(tmp_path / "x.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    back = read_image(tmp_path / "x.tif")
    assert back.info.alpha == "premultiplied"
    write_image(tmp_path / "y.tif", back.pixels, back.info)
    assert tifffile.TiffFile(tmp_path / "y.tif").pages[0].extrasamples == (1,)
    with pytest.raises(OutputError, match="premultiplied"):
        write_image(tmp_path / "y.png", back.pixels, back.info)


# --- bad input --------------------------------------------------------------------------------------------------


def encoded(name, tmp_path):
    path = tmp_path / f"whole{formats.format_named(name).suffixes[0]}"
    write_image(path, smooth_pixels(64, 64, 3, "uint8"), ImageInfo(compression="deflate"))
    return path.read_bytes()


@pytest.mark.parametrize("name", ["png", "tiff", "npy", "jpeg", "webp", "bmp"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.9])
def test_truncated_file_is_refused(tmp_path, name, kept):
    data = encoded(name, tmp_path)
    path = tmp_path / "cut"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(ImageFileError, match="cut"):
        read_image(path)


@pytest.mark.parametrize("name", ["png", "tiff", "npy", "jpeg", "webp", "bmp"])
def test_damaged_file_raises_nothing_but_a_typed_error(tmp_path, name):
    data = encoded(name, tmp_path)
    rng = np.random.default_rng(1)
    for _ in range(60):
        damaged = bytearray(data)
        for at in rng.integers(0, min(len(data), 400), 4):
            damaged[at] = rng.integers(256)
        (tmp_path / "bad").write_bytes(damaged)
        with suppress(ImageFileError):
            read_image(tmp_path / "bad")


def test_single_wrong_bit_in_png_pixels_is_found(tmp_path):
    data = bytearray(encoded("png", tmp_path))
    data[len(data) // 2] ^= 1
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(ImageFileError, match="checksum"):
        read_image(tmp_path / "x.png")


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("This is not a picture.")
    for path, words in [
        (tmp_path / "none.png", "does not exist"),
        (tmp_path, "folder"),
        (tmp_path / "empty.png", "empty"),
        (tmp_path / "text.png", "no format that can be read; one of png"),
    ]:
        with pytest.raises(ImageFileError, match=words):
            read_image(path)


@needs_permissions
def test_unreadable_file(tmp_path):
    write_image(tmp_path / "x.png", np.zeros((2, 2), np.uint8))
    (tmp_path / "x.png").chmod(0)
    with pytest.raises(ImageFileError, match="permission denied"):
        read_image(tmp_path / "x.png")


def test_content_counts_and_not_the_suffix(tmp_path):
    pixels = random_pixels((4, 4, 3))
    write_image(tmp_path / "x.dat", pixels, format="png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.dat").pixels, pixels)
    with pytest.raises(OutputError, match="names no format"):
        write_image(tmp_path / "y.dat", pixels)
    with pytest.raises(OptionError, match="png, tiff"):
        write_image(tmp_path / "y.dat", pixels, format="gif")


def test_cmyk_is_refused(tmp_path):
    Image.new("CMYK", (8, 8)).save(tmp_path / "x.jpg")
    with pytest.raises(ImageFileError, match=r"mode CMYK.*RGB"):
        read_image(tmp_path / "x.jpg")
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((8, 8, 4), np.uint8), photometric="separated")
    with pytest.raises(ImageFileError, match="SEPARATED"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_animation_is_refused(tmp_path, suffix):
    frames = [Image.fromarray(random_pixels((8, 8, 3), seed=i)) for i in range(3)]
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageFileError, match=r"anim.*single picture"):
        read_image(tmp_path / f"x.{suffix}")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
def test_more_pixels_than_the_limit_are_refused(tmp_path, suffix, monkeypatch):
    write_image(tmp_path / f"x.{suffix}", np.zeros((50, 40, 3), np.uint8))
    monkeypatch.setenv("FASTSR_MAX_PIXELS", "1999")
    with pytest.raises(ImageFileError, match=r"40x50 = 2000 pixels.*FASTSR_MAX_PIXELS=2000"):
        read_image(tmp_path / f"x.{suffix}")
    monkeypatch.setenv("FASTSR_MAX_PIXELS", "2000")
    read_image(tmp_path / f"x.{suffix}")
    monkeypatch.setenv("FASTSR_MAX_PIXELS", "many")
    with pytest.raises(ImageFileError, match="'many'"):
        read_image(tmp_path / f"x.{suffix}")


def test_bomb_is_refused_before_it_is_decoded(tmp_path):
    lines = zlib.compress(b"\0" * 1000)
    (tmp_path / "x.png").write_bytes(png_bytes(100_000, 100_000, 8, 2, lines))
    with pytest.raises(ImageFileError, match="FASTSR_MAX_PIXELS"):
        read_image(tmp_path / "x.png")


# --- outputs ----------------------------------------------------------------------------------------------------


class FullDisk(io.RawIOBase):
    """A disk that is full after some bytes."""


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError, OutputError])
def test_interrupted_output_leaves_what_was_there(tmp_path, error):
    path = tmp_path / "x.png"
    path.write_bytes(b"before")
    pixels = random_pixels((9, 9))
    with pytest.raises(error), open_sink(path, (9, 9), "u1", overwrite=True) as sink:  # noqa: PT012
        sink.write(0, pixels[:4])
        assert len(leftovers(tmp_path)) == 1
        raise error
    assert path.read_bytes() == b"before"
    assert not leftovers(tmp_path)


def test_incomplete_output_does_not_appear(tmp_path):
    for suffix in ("png", "tif", "npy", "bmp"):
        with pytest.raises(OutputError, match="4 of 9 rows"), open_sink(tmp_path / f"x.{suffix}", (9, 9), "u1") as sink:
            sink.write(0, np.zeros((4, 9), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("y0", "rows"), [(1, np.zeros((1, 9), "u1")), (0, np.zeros((1, 8), "u1")), (0, np.zeros((1, 9), "f4"))]
)
def test_rows_out_of_place_are_refused(tmp_path, y0, rows):
    with pytest.raises(OutputError, match="row 0"), open_sink(tmp_path / "x.png", (9, 9), "u1") as sink:
        sink.write(y0, rows)


def test_existing_output_is_kept_unless_asked(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="overwrite"):
        write_image(path, random_pixels((3, 3)))
    assert path.read_bytes() == b"mine"
    path.chmod(0o640)
    write_image(path, random_pixels((3, 3)), overwrite=True)
    assert read_image(path).pixels.shape == (3, 3)
    assert path.stat().st_mode & 0o777 == 0o640


def test_output_that_appears_meanwhile_is_kept(tmp_path):
    path = tmp_path / "x.png"
    with pytest.raises(OutputError, match="meanwhile"), atomic_output(path) as file:  # noqa: PT012
        file.write(b"late")
        path.write_bytes(b"first")
    assert path.read_bytes() == b"first"
    assert not leftovers(tmp_path)


def test_link_goes_on_pointing_to_what_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "x.png").write_bytes(b"old")
    (tmp_path / "x.png").symlink_to(tmp_path / "real" / "x.png")
    write_image(tmp_path / "x.png", random_pixels((3, 3)), overwrite=True)
    assert (tmp_path / "x.png").is_symlink()
    assert read_image(tmp_path / "real" / "x.png").pixels.shape == (3, 3)


def test_outputs_that_cannot_be(tmp_path):
    pixels = random_pixels((3, 3))
    (tmp_path / "folder.png").mkdir()
    for path, words in [
        (tmp_path / "missing" / "x.png", "does not exist; create it"),
        (tmp_path / "folder.png", "is a folder"),
        (Path(os.devnull).with_name("null"), "names no format"),
        (tmp_path / ("x" * 300 + ".png"), "longer than 255"),
    ]:
        with pytest.raises(OutputError, match=words):
            write_image(path, pixels)
    with pytest.raises(OutputError, match="not a regular file"):
        write_image(os.devnull, pixels, format="png", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.png"]


@needs_permissions
def test_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="permission denied"):
            write_image(tmp_path / "x.png", random_pixels((3, 3)))
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="no file size limits")
@pytest.mark.parametrize("suffix", ["png", "tif", "npy", "jpg", "bmp", "webp"])
def test_file_beyond_the_size_limit_leaves_nothing(tmp_path, suffix):
    import resource

    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, old[1]))
    try:
        with pytest.raises(OutputError, match="larger than the system allows"):
            write_image(tmp_path / f"x.{suffix}", random_pixels((200, 200, 3)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert not list(tmp_path.iterdir())


def test_full_disk_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="no space is left"), atomic_output(tmp_path / "x") as file:  # noqa: PT012
        file.write(b"some")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_webp_and_jpeg_have_a_largest_side(tmp_path):
    for suffix, side in [("webp", 16384), ("jpg", 65536)]:
        pixels = np.zeros((1, side, 3), np.uint8)
        with pytest.raises(OutputError, match=f"{side}x1.*{side - 1} pixels a side"):
            write_image(tmp_path / f"x.{suffix}", pixels)
    assert not list(tmp_path.iterdir())


def test_importing_io_loads_no_decoder():
    import subprocess

    code = "import sys, fastsr.io; print([m for m in ('PIL', 'tifffile', 'tqdm', 'click') if m in sys.modules])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
