"""`fastsr.upscale`, `load`, regions, tiles and streams, as a user meets them."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

import fastsr
from fastsr.graph import reference

DTYPES = ["uint8", "uint16", "int16", "float16", "float32", "float64"]


class ArraySource:
    def __init__(self, pixels):
        self.pixels = pixels
        self.shape = pixels.shape
        self.dtype = pixels.dtype
        self.seen = 0

    def read(self, y0, y1):
        assert y0 >= self.seen, "rows are read once, from top to bottom"
        self.seen = y1
        return self.pixels[y0:y1]


class ArraySink:
    def __init__(self, shape, dtype):
        self.pixels = np.empty(shape, dtype)
        self.next = 0

    def write(self, y0, rows):
        assert y0 == self.next, "rows come from top to bottom"
        self.next += len(rows)
        self.pixels[y0 : y0 + len(rows)] = rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [0, 1, 3, 4])
def test_kind_shape_and_dtype_are_kept(dtype, channels, random_image):
    x = random_image(7, 13, channels, dtype)
    y = fastsr.upscale(x)
    assert isinstance(y, np.ndarray)
    assert y.dtype == x.dtype
    assert y.shape == (28, 52, *x.shape[2:])


@pytest.mark.parametrize("model", ["fmen", "vdsr", "srresnet", "bicubic", "bilinear", "nearest"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 11), (11, 1), (2, 3)])
def test_smallest_images(model, shape, random_image):
    for channels in (0, 3, 4):
        assert fastsr.upscale(random_image(*shape, channels), model).shape[:2] == (4 * shape[0], 4 * shape[1])


def test_widest_row(random_image):
    x = random_image(1, 65535, 0)
    y = fastsr.upscale(x)
    assert y.shape == (4, 262140)
    sr = fastsr.load("fmen")
    assert np.array_equal(sr.region(x, (30000, 0, 30017, 1)), y[:, 120000:120068])


def test_value_range_is_in_the_pixels_units(random_image):
    """Nearest repeats pixels; the float result is the reference's in the pixels' own units."""
    x = random_image(5, 6, 3, "uint16")
    assert np.array_equal(fastsr.upscale(x, "nearest", scale=3), x.repeat(3, 0).repeat(3, 1))
    y = fastsr.load("fmen")
    model = y.model
    f = random_image(9, 8, 3, "float32")
    wanted = reference.run(model.graph(4, 3), model.tensors, f.transpose(2, 0, 1)).transpose(1, 2, 0)
    units = fastsr.upscale(f * 3000 - 1000, value_range=(-1000, 2000))
    assert np.abs((units + 1000) / 3000 - wanted).max() < 2e-5


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_integers_are_the_rounded_and_clamped_floats(dtype, random_image):
    x = random_image(12, 9, 3, dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    span = high - low
    floats = fastsr.upscale(((x.astype(np.float64) - low) / span).astype(np.float32))
    wanted = np.clip(floats.astype(np.float64) * span + low, low, high)
    assert np.abs(fastsr.upscale(x).astype(np.float64) - wanted).max() <= 0.5 + span * 2e-6


@pytest.mark.filterwarnings("ignore::fastsr.ValueRangeWarning")
def test_value_range_of_twelve_bits(random_image):
    x = random_image(12, 9, 0, "uint16") % 4096
    y = fastsr.upscale(x, value_range=(0, 4095))
    assert y.dtype == np.uint16
    assert y.max() <= 4095
    wanted = np.clip(np.rint(fastsr.upscale((x / 4095).astype(np.float32)) * 4095.0), 0, 4095)
    assert np.abs(y.astype(int) - wanted).max() <= 1
    assert not np.array_equal(y, fastsr.upscale(x))  # the range is not guessed


def test_narrow_16_bit_pixels_give_a_warning(random_image):
    x = random_image(40, 12, 3, "uint16") % 4096
    with pytest.warns(fastsr.ValueRangeWarning, match=r"value_range.*such as \d+ 40\d\d"):
        fastsr.upscale(x, "bicubic")
    sink = ArraySink((160, 48, 3), x.dtype)
    with pytest.warns(fastsr.ValueRangeWarning):
        fastsr.load("bicubic").stream(ArraySource(x), sink)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fastsr.upscale(x, "bicubic", value_range=(0, 4095))
        fastsr.upscale(random_image(9, 9, 3, "uint16"), "bicubic")
        fastsr.upscale(np.full((5, 5), 7, np.uint16), "bicubic")


def test_float_precisions_agree(random_image):
    x = random_image(10, 11, 3, "float16")
    y = fastsr.upscale(x.astype(np.float32))
    assert np.array_equal(fastsr.upscale(x.astype(np.float64)), y.astype(np.float64))
    assert np.array_equal(fastsr.upscale(x), y.astype(np.float16))


def test_byte_order_and_strides(random_image):
    x = random_image(9, 12, 3, "uint16")
    y = fastsr.upscale(x)
    swapped = fastsr.upscale(x.astype(">u2"))
    assert swapped.dtype == np.dtype(">u2")
    assert np.array_equal(swapped, y)
    transparent = np.dstack([x, x[:, :, :1] * (x[:, :, 1:2] > 30000)])
    assert np.array_equal(fastsr.upscale(transparent.astype(">u2")), fastsr.upscale(transparent))
    assert np.array_equal(fastsr.upscale(np.asfortranarray(x)), y)
    assert np.array_equal(fastsr.upscale(x[::-1, ::-1][::-1, ::-1]), y)
    assert np.array_equal(fastsr.upscale(np.repeat(x, 2, axis=1)[:, ::2]), y)


def test_grey_is_the_luma_of_the_colour_result(random_image):
    x = random_image(21, 17, 0, "float32")
    for model, scale in [("fmen", 4), ("vdsr", 3), ("srresnet", 4)]:
        colour = fastsr.upscale(np.repeat(x[:, :, None], 3, axis=2), model, scale=scale)
        grey = fastsr.upscale(x, model, scale=scale)
        assert np.abs(grey - colour @ np.array([0.299, 0.587, 0.114])).max() < 2e-5


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F"])
def test_pil(mode, random_image):
    if mode == "I;16":
        image = Image.fromarray(random_image(7, 9, 0, "uint16"))
    elif mode == "F":
        image = Image.fromarray(random_image(7, 9, 0, "float32"))
    else:
        image = Image.fromarray(random_image(7, 9, 4)).convert(mode)
    result = fastsr.upscale(image)
    assert isinstance(result, Image.Image)
    assert result.size == (36, 28)
    assert result.mode == {"1": "L", "P": "RGB"}.get(mode, mode)
    if mode in ("L", "RGB", "I;16", "F"):
        assert np.array_equal(np.asarray(result), fastsr.upscale(np.asarray(image)))


def test_alpha_has_no_dark_fringe():
    """A white disc on transparent black stays white on white."""
    y, x = np.mgrid[:40, :40]
    disc = ((y - 20) ** 2 + (x - 20) ** 2 < 150).astype(np.uint8)
    image = np.dstack([disc * 250, disc * 250, disc * 250, disc * 255])
    result = fastsr.upscale(image).astype(float)
    alpha = result[:, :, 3:] / 255
    shown = result[:, :, :3] * alpha + 250 * (1 - alpha)  # over white
    assert shown.min() > 240
    black = fastsr.upscale(image[:, :, :3]).astype(float)  # what ignoring alpha would do
    assert (black * alpha + 250 * (1 - alpha)).min() < 220
    assert np.count_nonzero((alpha > 0.1) & (alpha < 0.9)) > 5  # alpha itself is interpolated


@pytest.mark.parametrize("channels", [0, 1, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_region_equals_crop(channels, dtype, random_image):
    sr = fastsr.load("fmen")
    x = random_image(53, 61, channels, dtype)
    if channels == 4:
        x[10:40, 5:50, 3] = 0
    whole = sr.upscale(x)
    for left, top, right, bottom in [(0, 0, 61, 53), (60, 52, 61, 53), (3, 9, 40, 17), (25, 20, 26, 21)]:
        part = sr.region(x, (left, top, right, bottom))
        assert np.array_equal(part, whole[4 * top : 4 * bottom, 4 * left : 4 * right])


@pytest.mark.parametrize("channels", [0, 3, 4])
@pytest.mark.parametrize("size", [1000, 23, (7, 40)])
def test_tiles_in_any_order_are_the_whole(channels, size, random_image):
    sr = fastsr.load("vdsr", scale=3)
    x = random_image(45, 50, channels)
    if channels == 4:
        x[:, :, 3] *= random_image(45, 50, 0, "uint8", seed=1) > 100
        x[12:38, 8:44, 3] = 0
    tiles = list(sr.tiles(x.shape, size))
    result = np.zeros((135, 150, *x.shape[2:]), np.uint8)
    for tile in np.random.default_rng(0).permutation(len(tiles)):
        t = tiles[tile]
        left, top, right, bottom = t.read
        pixels = x[top:bottom, left:right].copy()  # nothing else of the image is at hand
        out = slice(t.sr[1], t.sr[3]), slice(t.sr[0], t.sr[2])
        result[out] = sr.upscale_tile(pixels, t)
    assert np.array_equal(result, sr.upscale(x))
    assert sum((t.lr[2] - t.lr[0]) * (t.lr[3] - t.lr[1]) for t in tiles) == 45 * 50


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64"])
@pytest.mark.parametrize("model", ["fmen", "bicubic"])
def test_stream_equals_whole(channels, dtype, model, random_image):
    sr = fastsr.load(model, scale=4)
    x = random_image(290, 9, channels, dtype)
    sink = ArraySink((1160, 36, channels), x.dtype)
    seen = []
    sr.stream(ArraySource(x), sink, progress=lambda done, total: seen.append((done, total)))
    assert sink.next == 1160
    assert seen[-1] == (1160, 1160)
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {1160}
    if channels == 2:
        whole = np.asarray(sr.upscale(Image.fromarray(x))) if dtype == "uint8" else None
    else:
        whole = sr.upscale(x)
    if whole is not None:
        assert np.array_equal(sink.pixels, whole)


@pytest.mark.parametrize("backend", ["torch", "onnx", "onnx-cuda", "tensorrt", "triton"])
def test_other_back_ends_give_the_same_picture(backend, random_image):
    reason = fastsr.backends()[backend]
    if reason:
        pytest.skip(reason)
    for model, scale in [("fmen", 4), ("vdsr", 2), ("srresnet", 4), ("bicubic", 3)]:
        for channels in (0, 3):
            x = random_image(19, 23, channels, "float32")
            native = fastsr.upscale(x, model, scale=scale)
            other = fastsr.load(model, scale=scale, backend=backend)
            assert other.backend == backend
            assert np.abs(other.upscale(x) - native).max() <= 2e-5
            assert (
                np.abs(other.region(x, (3, 2, 9, 8)) - native[2 * scale : 8 * scale, 3 * scale : 9 * scale]).max()
                <= 2e-5
            )
    x = random_image(19, 23, 4, "uint8")
    assert np.abs(fastsr.upscale(x, backend=backend).astype(int) - fastsr.upscale(x)).max() <= 1


def test_auto_says_what_it_took():
    sr = fastsr.load()
    assert (sr.backend, sr.name, sr.scale) == ("native", "fmen", 4)
    assert sr.isa in ("scalar", "avx2", "avx2_vnni", "avx512", "avx512_vnni", "avx512_bf16", "amx_bf16")
    assert fastsr.backends()["native"] is None


def test_progress_reaches_the_end(random_image):
    seen = []
    fastsr.upscale(random_image(100, 30), progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (400, 400)


def test_models_and_doctor():
    infos = {info.name: info for info in fastsr.models()}
    assert infos["fmen"].scales == (2, 3, 4)
    assert infos["vdsr"].scales == (2, 3, 4)
    assert fastsr.load("bicubic").scale == fastsr.load("vdsr").scale == 4
    assert {"srresnet", "bicubic", "bilinear", "nearest"} <= set(infos)
    assert fastsr.doctor() == (report := fastsr.doctor())
    assert report["self_test"].startswith("passed")
    assert report["version"] == fastsr.__version__


def test_import_is_light():
    """`import fastsr` loads NumPy and our own code, and neither PyTorch nor an image library."""
    code = (
        "import sys, fastsr\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'PIL', 'tifffile', 'click', 'tqdm', 'skimage'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "import numpy as np\n"
        "fastsr.upscale(np.random.default_rng(0).integers(0, 255, (5, 5, 3)).astype(np.uint8))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_fork_after_use(random_image):
    """A process that forks after upscaling (multiprocessing's old default) still works in the child."""
    code = (
        "import os, sys, numpy as np, fastsr\n"
        "x = np.random.default_rng(0).integers(0, 255, (40, 40, 3)).astype(np.uint8)\n"
        "y = fastsr.upscale(x, threads=2)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os._exit(0 if np.array_equal(fastsr.upscale(x, threads=2), y) else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)
