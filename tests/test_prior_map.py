"""The map of what a prior added, as an array and as a file."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image
from test_cli import image, run  # noqa: F401

import fastsr
from fastsr.compare import enlarge_bicubic
from fastsr.consistency.prior import PriorMap
from fastsr.consistency.resample import sharpen_taps
from fastsr.errors import ImageFileError, OutputError
from fastsr.imresize import downscale
from fastsr.io import read_image, write_image
from fastsr.io.prior import picture


def slow_map(sr, scale):
    """sr: (H, W, C) float64. Each pixel of K's result is a weighted sum of 9 x 9 LR pixels."""
    lr = downscale(sr, scale)
    padded = np.pad(lr, ((4, 4), (4, 4), (0, 0)), mode="edge")
    weights = np.outer(sharpen_taps(scale), sharpen_taps(scale))[:, :, None]
    sharp = np.empty_like(lr)
    for y, x in np.ndindex(lr.shape[:2]):
        sharp[y, x] = (weights * padded[y : y + 9, x : x + 9]).sum(axis=(0, 1))
    return sr - enlarge_bicubic(sharp, scale)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", ">u2", "float32", "float64"])
@pytest.mark.parametrize(("shape", "scale"), [((1, 1), 2), ((7, 13), 3), ((70, 5), 2), ((3, 1), 4)])
@pytest.mark.parametrize("channels", [0, 1, 3, 4])
def test_map_equals_the_slow_twin(dtype, shape, scale, channels, random_image):
    sr = random_image(shape[0] * scale, shape[1] * scale, channels, np.dtype(dtype).newbyteorder("=").name)
    colours = sr.astype(np.float64)[:, :, :3] if channels else sr.astype(np.float64)
    wanted = slow_map(colours.reshape(*colours.shape[:2], -1), scale).reshape(colours.shape)
    result = fastsr.prior_map(sr.astype(dtype), scale)
    assert result.dtype == (np.float64 if dtype == "float64" else np.float32)
    assert result.shape == colours.shape
    span = 1.0 if sr.dtype.kind == "f" else float(np.iinfo(sr.dtype).max)
    assert np.abs(result - wanted).max() <= span * (1e-12 if dtype == "float64" else 2e-6)
    assert np.abs(wanted).max() > (0 if shape == (1, 1) else 0.05 * span)


def test_what_the_lr_image_tells_is_not_in_the_map(random_image):
    """Neither a flat image nor a bicubic enlargement has anything in its map; and no map has anything in LR."""
    assert np.abs(fastsr.prior_map(np.full((12, 16), 77, np.uint8), 4)).max() < 1e-4
    enlarged = enlarge_bicubic(random_image(20, 20, 0, "float64"), 4)
    detail = random_image(80, 80, 0, "float64", seed=1) - 0.5
    nothing, added = fastsr.prior_map(enlarged, 4), fastsr.prior_map(enlarged + detail, 4)
    assert np.abs(nothing[36:-36, 36:-36]).max() < 0.01
    assert np.abs(nothing).mean() < 0.01 * np.abs(enlarged).mean()
    assert np.abs(added).mean() > 0.9 * np.abs(detail).mean()
    assert np.abs(downscale(added, 4)).mean() < 0.05 * np.abs(downscale(enlarged, 4)).mean()


@pytest.mark.parametrize("pieces", [1, 3, 8, 13, 500])
def test_map_by_rows(pieces, random_image):
    sr = random_image(201, 15, 4)
    whole = fastsr.prior_map(sr, 3)
    rows = PriorMap(sr.shape, sr.dtype, 3)
    parts = [part for y in range(0, 201, pieces) for part in rows.push(sr[y : y + pieces])]
    assert np.array_equal(np.concatenate(parts), whole)
    assert (whole.shape, whole.dtype) == (rows.shape, rows.dtype)


@pytest.mark.parametrize(
    ("sr", "scale", "error"),
    [
        (np.ones((8, 9)), 4, fastsr.ShapeError),
        (np.ones((8, 8, 2)), 4, fastsr.ShapeError),
        (np.ones((0, 8)), 4, fastsr.ShapeError),
        (np.ones(8), 4, fastsr.ShapeError),
        (np.ones((8, 8), complex), 4, fastsr.DtypeError),
        (np.ones((8, 8), bool), 4, fastsr.DtypeError),
        ([[1]], 1, fastsr.DtypeError),
        (np.ones((8, 8)), 0, fastsr.OptionError),
        (np.ones((8, 8)), 2.0, fastsr.OptionError),
        (np.ones((8, 8)), True, fastsr.OptionError),
    ],
)
def test_bad_input(sr, scale, error):
    with pytest.raises(error):
        fastsr.prior_map(sr, scale)


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("channels", [0, 3, 4])
@pytest.mark.filterwarnings("ignore::fastsr.ValueRangeWarning")
def test_files_hold_the_map_of_the_result(dtype, channels, tmp_path, random_image):
    x = random_image(90, 11, channels, dtype)
    write_image(tmp_path / "a.tif", x)
    for suffix in ("npy", "tif", "png"):
        target = tmp_path / f"map.{suffix}"
        fastsr.upscale_file(tmp_path / "a.tif", tmp_path / "b.tif", model="bicubic", prior_map=target, overwrite=True)
        wanted = fastsr.prior_map(read_image(tmp_path / "b.tif").pixels, 4)
        if suffix == "png":
            span = 1.0 if x.dtype.kind == "f" else np.iinfo(dtype).max - np.iinfo(dtype).min
            wanted = np.rint(128 + 127 * np.clip(wanted.astype(float) / (span / 8), -1, 1)).astype(np.uint8)
        stored = read_image(target).pixels
        assert stored.dtype == wanted.dtype
        assert np.array_equal(stored, wanted)


def test_picture_is_symmetric():
    values = np.array([-9.0, -4, -2, 0, 2, 4, 9])
    assert picture(values, 4.0).tolist() == [1, 1, 64, 128, 192, 255, 255]


def test_value_range_scales_the_picture(tmp_path, random_image):
    write_image(tmp_path / "a.png", random_image(9, 9, 0, "uint16") % 4096)
    options = {"model": "bicubic", "value_range": (0, 4095), "prior_map": tmp_path / "m.png"}
    fastsr.upscale_file(tmp_path / "a.png", tmp_path / "b.png", **options)
    exact = fastsr.prior_map(read_image(tmp_path / "b.png").pixels, 4)
    assert np.array_equal(read_image(tmp_path / "m.png").pixels, picture(exact, 4095 / 8))


def test_pages_have_a_map_each(tmp_path, random_image):
    pages = [Image.fromarray(random_image(9, 7 + i, 0, seed=i)) for i in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    fastsr.upscale_file(tmp_path / "a.tif", tmp_path / "b.tif", prior_map=tmp_path / "m.tif")
    for i, page in enumerate(pages):
        wanted = fastsr.prior_map(fastsr.upscale(np.asarray(page)), 4)
        assert np.array_equal(read_image(tmp_path / "m.tif", i).pixels, wanted)
    with pytest.raises(ImageFileError, match=r"3 pages.*\.tif holds them"):
        fastsr.upscale_file(tmp_path / "a.tif", tmp_path / "c.tif", prior_map=tmp_path / "m.png")
    assert sorted(os.listdir(tmp_path)) == ["a.tif", "b.tif", "m.tif"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.png", "is the input itself"),
        ("b.png", "is the image's own name"),
        ("old.png", "old.png exists"),
        ("m.jpg", r"\.png, \.tif or \.npy would do"),
        ("m.xyz", "names no format"),
        ("none/m.png", "folder .*none does not exist"),
    ],
)
def test_bad_names_are_known_before_the_work(name, words, tmp_path, random_image):
    write_image(tmp_path / "a.png", random_image(5, 5))
    write_image(tmp_path / "old.png", random_image(5, 5))
    with pytest.raises(OutputError, match=words):
        fastsr.upscale_file(tmp_path / "a.png", tmp_path / "b.png", prior_map=tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["a.png", "old.png"]


def test_failing_in_the_middle_leaves_nothing(tmp_path, random_image):
    x = random_image(300, 5, 3, "float32")
    x[280] = np.nan
    write_image(tmp_path / "a.npy", x)
    with pytest.raises(fastsr.PixelValueError):
        fastsr.upscale_file(tmp_path / "a.npy", tmp_path / "b.npy", prior_map=tmp_path / "m.npy")
    assert os.listdir(tmp_path) == ["a.npy"]


# --- the command -------------------------------------------------------------------------------------------------


def test_command(tmp_path, run):  # noqa: F811
    source = image(tmp_path / "a.png", (20, 30, 3))
    options = ["--consistency", "block-mean", "--strength", "0.5", "--prior-map", tmp_path / "m.npy"]
    code, out, err = run("upscale", source, "-o", tmp_path / "b.png", *options, load=None)
    assert (code, err) == (0, "")
    path, residual = out.splitlines()
    assert path == str(tmp_path / "b.png")
    assert residual.startswith("residual of block means: mean ")
    assert residual.endswith(" -> mean 0, rms 0, max 0")
    expected = fastsr.upscale(read_image(source).pixels, consistency="block-mean", strength=0.5)
    assert np.array_equal(read_image(tmp_path / "b.png").pixels, expected)
    assert np.array_equal(np.load(tmp_path / "m.npy"), fastsr.prior_map(expected, 4))
    assert run("upscale", source, "-o", tmp_path / "c.png", "-q", load=None) == (0, "", "")


def test_command_joins_the_residual_of_many_files(tmp_path, run):  # noqa: F811
    rng = np.random.default_rng(0)
    reports = []
    sr = fastsr.load("nearest", consistency="back-projection")
    for i in range(3):
        x = rng.integers(60, 200, (8 + i, 9), np.uint8)
        write_image(tmp_path / f"in{i}.png", x)
        sr.upscale(x)
        reports.append(sr.last_report)
    inputs = [tmp_path / f"in{i}.png" for i in range(3)]
    options = ["--model", "nearest", "--consistency", "back-projection"]
    code, out, err = run("upscale", *inputs, "-o", tmp_path / "out", *options, load=None)
    assert (code, err) == (0, "")
    assert out == f"3 files: 3 done\nresidual of {fastsr.join_reports(reports).residual_text()}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.png", "--consistency", "mean"], 2, "'mean' is not one of"),
        (["a.png", "--strength", "2"], 2, "2.0 is not in the range"),
        (["a.png", "b.png", "-o", "out", "--prior-map", "m.png"], 2, "takes one input"),
        (["a.png", "--prior-map", "a.png"], 1, "is the input itself"),
    ],
)
def test_command_errors(arguments, code, words, tmp_path, run, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "a.png")
    image(tmp_path / "b.png")
    got, out, err = run("upscale", *arguments, load=None)
    assert (got, out) == (code, "")
    assert words in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]
