"""Bad input: each case a typed error that names the value and what would work."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import fastsr


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((0, 5, 3), "5 x 0"),
        ((5, 0), "0 x 5"),
        ((5, 5, 0), r"\(5, 5, 0\)"),
        ((5, 5, 2), r"\(5, 5, 2\)"),
        ((5, 5, 5), r"\(5, 5, 5\)"),
        ((5,), r"\(5,\)"),
        ((2, 5, 5, 3), r"\(2, 5, 5, 3\)"),
        ((), r"\(\)"),
    ],
)
def test_shapes(shape, names):
    with pytest.raises(fastsr.ShapeError, match=names):
        fastsr.upscale(np.ones(shape, np.uint8))


@pytest.mark.parametrize("dtype", ["bool", "complex64", "int8", "int32", "uint32", "int64", "U3", "datetime64[s]"])
def test_dtypes(dtype):
    with pytest.raises(fastsr.DtypeError, match="uint8, uint16, int16, float16, float32, float64 are possible"):
        fastsr.upscale(np.zeros((4, 4), dtype))


@pytest.mark.parametrize("image", [None, "photo.png", [[1, 2], [3, 4]], 7, np.array([[object()]])])
def test_no_images(image):
    with pytest.raises(fastsr.DtypeError):
        fastsr.upscale(image)


def test_pil_modes_that_hold_no_plain_pixels():
    for mode in ("CMYK", "HSV", "LAB", "I"):
        with pytest.raises(fastsr.DtypeError, match=rf"'{mode}'.*RGB"):
            fastsr.upscale(Image.new(mode, (4, 4)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_not_finite(bad, dtype, random_image):
    x = random_image(9, 9, 3, dtype)
    x[4, 5, 1] = bad
    with pytest.raises(fastsr.PixelValueError, match="NaN or infinite"):
        fastsr.upscale(x)


def test_float64_beyond_float32(random_image):
    x = random_image(4, 4, 3, "float64")
    x[0, 0, 0] = 1e300
    with pytest.raises(fastsr.PixelValueError):
        fastsr.upscale(x)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"scale": 5}, r"no scale 5; it has 2, 3, 4"),
        ({"scale": 0}, "scale 0"),
        ({"scale": 2.5}, "2.5"),
        ({"scale": True}, "True"),
        ({"model": "esrgan"}, "no model 'esrgan'; fmen, fmen-medical, vdsr"),
        ({"model": 7}, "no model 7"),
        ({"model": "vdsr", "scale": 8}, "it has 2, 3, 4"),
        ({"backend": "abacus"}, "'abacus'; one of auto, .*native"),
        ({"threads": True}, "threads is True; a whole number"),
        ({"threads": "2"}, "threads is '2'"),
        ({"backend": ["native"]}, "one of auto, .*native"),
        ({"threads": 0}, "threads is 0; 1 to"),
        ({"threads": -2}, "threads is -2"),
        ({"threads": 100000}, "100000"),
        ({"max_memory": "64 parsecs"}, "'64MB'"),
        ({"max_memory": 0}, "more than 0"),
        ({"max_memory": -5}, "-5"),
        ({"value_range": (1, 1)}, "low < high"),
        ({"value_range": (0, np.nan)}, "finite"),
        ({"value_range": (-500, -100)}, "uint8 pixels hold 0 to 255"),
        ({"value_range": (0, 1e39)}, "float32"),
        ({"value_range": (0, 10**400)}, r"\(low, high\)"),
        ({"value_range": 7}, r"\(low, high\)"),
    ],
)
def test_options(options, names, random_image):
    with pytest.raises(fastsr.OptionError, match=names):
        fastsr.upscale(random_image(4, 4), **options)


@pytest.mark.parametrize("shape", [5, "ab", (8.5, 8, 3), None, (8,), (8, 8, 2), (8, 8, 7)])
def test_tile_shapes(shape):
    with pytest.raises(fastsr.ShapeError):
        fastsr.load().tiles(shape, 4)


def test_arguments_in_the_wrong_order(random_image):
    with pytest.raises(fastsr.FastSRError):
        fastsr.upscale("fmen", random_image(4, 4))
    with pytest.raises(fastsr.OptionError, match="of type ndarray"):
        fastsr.upscale(random_image(4, 4), random_image(4, 4))


def test_truncated_file_that_pil_opened(tmp_path, random_image):
    Image.fromarray(random_image(64, 64)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    with pytest.raises(fastsr.ImageFileError, match="decoded"):
        fastsr.upscale(Image.open(tmp_path / "cut.png"))


def test_masked_array(random_image):
    with pytest.raises(fastsr.DtypeError, match="filled"):
        fastsr.upscale(np.ma.masked_less(random_image(4, 4), 100))


def test_wrong_isa_level_is_an_error_and_not_another_back_end(monkeypatch, random_image):
    monkeypatch.setenv("FASTSR_ISA", "sse9")
    with pytest.raises(fastsr.OptionError, match="sse9"):
        fastsr.load()
    assert "sse9" in fastsr.doctor()["self_test"]


@pytest.mark.parametrize(
    "box",
    [
        "0044",
        (0.9, 0.9, 4.7, 4),
        (0, 0, float("inf"), 4),
        (0, 0, 0, 5),
        (3, 3, 2, 5),
        (-1, 0, 4, 4),
        (0, 0, 9, 4),
        (0, 0, 4),
        "abcd",
        None,
    ],
)
def test_boxes(box, random_image):
    with pytest.raises(fastsr.OptionError, match="box"):
        fastsr.load().region(random_image(8, 8), box)


def test_tiles(random_image):
    sr = fastsr.load()
    with pytest.raises(fastsr.OptionError, match="tile size is 0"):
        next(sr.tiles((8, 8, 3), 0))
    with pytest.raises(fastsr.OptionError, match=r"size is 2\.5"):
        next(sr.tiles((8, 8, 3), 2.5))
    with pytest.raises(fastsr.ShapeError):
        next(sr.tiles((0, 8, 3), 4))
    tile = next(sr.tiles((8, 8, 3), 4))
    with pytest.raises(fastsr.ShapeError, match="read box"):
        sr.upscale_tile(random_image(3, 3), tile)


def test_missing_model_file(tmp_path):
    with pytest.raises(fastsr.ModelFileError, match=r"none\.fsr"):
        fastsr.load(tmp_path / "none.fsr")


def test_native_engine_refuses_damaged_models(random_image):
    """The C++ loader checks for itself: it is what embedders use without Python."""
    from fastsr import _native
    from fastsr.models import open_model

    good = open_model("fmen", 4).to_bytes()
    _native.Model(good)
    rng = np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(good)
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        with pytest.raises(fastsr.ModelFileError):
            _native.Model(bytes(data))
    for size in [0, 1, 7, 8, 9, 100, len(good) // 2, len(good) - 1]:
        with pytest.raises(fastsr.ModelFileError):
            _native.Model(good[:size])
    with pytest.raises(fastsr.ModelFileError):
        _native.Model(good + b"\0\0\0\0")
    newer = good.replace(b'"fastsr.format":"1"', b'"fastsr.format":"2"')
    with pytest.raises(fastsr.ModelVersionError, match="reads version 1"):
        _native.Model(newer)


def test_error_in_a_stream_comes_through(random_image):
    class Source:
        shape = (50, 8, 3)
        dtype = np.dtype("uint8")

        def read(self, y0, y1):
            if y1 > 20:
                raise OSError("the scanner stopped")
            return random_image(y1 - y0, 8)

    class Sink:
        def write(self, y0, rows):
            pass

    with pytest.raises(OSError, match="the scanner stopped"):
        fastsr.load().stream(Source(), Sink())


def test_stream_of_another_shape_than_it_says(random_image):
    class Source:
        shape = (50, 8, 3)
        dtype = np.dtype("uint8")

        def read(self, y0, y1):
            return random_image(y1 - y0, 9)

    class Sink:
        def write(self, y0, rows):
            pass

    with pytest.raises(fastsr.ShapeError, match="read"):
        fastsr.load().stream(Source(), Sink())
