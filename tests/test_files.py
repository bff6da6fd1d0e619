"""Upscaling files into files with a stand-in for the engine: what is carried over, and what failures leave."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from fastsr.errors import ImageFileError, OptionError, OutputError
from fastsr.io import open_sink, open_source, read_image, upscale_file, write_image
from fastsr.io.files import output_path
from fastsr.io.jobs import plan_jobs, run_job


class Repeat:
    """Repeat every pixel, a few rows at a time; `fail_at` is the input row at which `error` is raised."""

    def __init__(self, scale=4, rows=5, fail_at=None, error=KeyboardInterrupt):
        self.scale = scale
        self.rows = rows
        self.fail_at = fail_at
        self.error = error
        self.ranges = []

    def stream(self, source, sink, *, value_range=None, progress=None):
        self.ranges.append(value_range)
        H = source.shape[0]
        for y in range(0, H, self.rows):
            if self.fail_at is not None and y >= self.fail_at:
                raise self.error
            rows = source.read(y, min(H, y + self.rows))
            assert rows.dtype == source.dtype
            assert rows.shape[1:] == source.shape[1:]
            sink.write(y * self.scale, rows.repeat(self.scale, 0).repeat(self.scale, 1))
            if progress:
                progress(min(H, y + self.rows), H)


def random_pixels(shape, dtype="uint8", seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    return rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def repeated(pixels, scale=4):
    return pixels.repeat(scale, 0).repeat(scale, 1)


@pytest.mark.parametrize(
    ("suffix", "dtype"), [("png", "uint16"), ("tif", "int16"), ("npy", "float32"), ("bmp", "uint8")]
)
@pytest.mark.parametrize("shape", [(7, 13), (13, 7, 3)])
def test_file_is_upscaled_in_its_own_type(tmp_path, suffix, dtype, shape):
    pixels = random_pixels(shape, dtype)
    src, dst = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    write_image(src, pixels)
    assert upscale_file(src, dst, Repeat()) == dst
    np.testing.assert_array_equal(read_image(dst).pixels, repeated(pixels))
    assert sorted(p.name for p in tmp_path.iterdir()) == [src.name, dst.name]


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_and_16_bits_go_from_png_to_tiff(tmp_path, channels):
    pixels = random_pixels((6, 5, channels), "uint16")
    write_image(tmp_path / "a.png", pixels)
    upscale_file(tmp_path / "a.png", tmp_path / "b.tif", Repeat())
    np.testing.assert_array_equal(read_image(tmp_path / "b.tif").pixels, repeated(pixels))
    assert tifffile.TiffFile(tmp_path / "b.tif").pages[0].extrasamples == (2,)


def test_every_page_is_upscaled(tmp_path):
    pages = [random_pixels((5, 6), "uint16"), random_pixels((8, 4, 3), "uint8"), random_pixels((3, 3), "float32")]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in pages:
            file.write(page, compression="zlib", resolution=(100, 200), resolutionunit="CENTIMETER")
    seen = []
    upscale_file(tmp_path / "a.tif", tmp_path / "b.tif", Repeat(), progress=lambda *rows: seen.append(rows))
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert len(file.pages) == 3
        for page, pixels in zip(file.pages, pages, strict=True):
            np.testing.assert_array_equal(page.asarray(), repeated(pixels))
            assert page.compression == 8
            assert page.get_resolution("CENTIMETER") == (400, 800)
    assert all(done <= total for done, total in seen)
    assert seen[-1][0] == seen[-1][1]
    with pytest.raises(ImageFileError, match=r"3 pages; png holds one; tiff would do"):
        upscale_file(tmp_path / "a.tif", tmp_path / "b.png", Repeat())


def test_profile_and_resolution_go_along(tmp_path):
    exif = Image.Exif()
    exif[0x0131] = "Scanner"
    exif.get_ifd(0x8769)[0xA002] = 6
    Image.fromarray(random_pixels((5, 6, 3))).save(
        tmp_path / "a.jpg", dpi=(72, 72), icc_profile=b"profile" * 30, exif=exif.tobytes()
    )
    for suffix in ("jpg", "png", "tif", "webp"):
        upscale_file(tmp_path / "a.jpg", tmp_path / f"b.{suffix}", Repeat())
        info = read_image(tmp_path / f"b.{suffix}").info
        assert info.icc == b"profile" * 30
        assert suffix == "webp" or info.dpi == pytest.approx((288, 288), rel=1e-3)
        with Image.open(tmp_path / f"b.{suffix}") as image:
            assert image.getexif()[0x0131] == "Scanner"
            assert image.getexif().get_ifd(0x8769)[0xA002] == 24


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "bmp", "npy", "webp", "jpg", "tif"])
def test_orientation_is_applied_once(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(random_pixels((5, 7, 3)).repeat(8, 0).repeat(8, 1))
    picture.save(tmp_path / "a.jpg", exif=exif.tobytes(), quality=100, subsampling=0)
    with Image.open(tmp_path / "a.jpg") as image:
        upright = np.asarray(ImageOps.exif_transpose(image)).astype(int)
    upscale_file(tmp_path / "a.jpg", tmp_path / f"b.{suffix}", Repeat(2))
    if suffix == "npy":
        seen = np.load(tmp_path / "b.npy")
    else:
        with Image.open(tmp_path / f"b.{suffix}") as image:
            assert image.getexif().get(0x0112, 1) == (orientation if suffix in ("jpg", "tif", "webp") else 1)
            seen = np.asarray(ImageOps.exif_transpose(image))
    assert seen.shape == (upright.shape[0] * 2, upright.shape[1] * 2, 3)
    assert np.abs(seen[::2, ::2] - upright).mean() < 3


def test_png_keeps_its_orientation_tag_and_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = random_pixels((5, 7, 3))
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    upscale_file(tmp_path / "a.png", tmp_path / "b.png", Repeat())
    np.testing.assert_array_equal(read_image(tmp_path / "b.png").pixels, repeated(pixels))
    assert read_image(tmp_path / "b.png").info.orientation == 6


@pytest.mark.parametrize(
    ("pixels", "dst", "words"),
    [
        (random_pixels((3, 3), "float32"), "b.png", r"float32 grey; png holds uint8/uint16.*tiff or npy would do"),
        (random_pixels((3, 3, 3), "uint16"), "b.jpg", r"uint16 RGB; jpeg holds uint8.*png or tiff or npy would do"),
        (random_pixels((3, 3, 4)), "b.jpg", r"RGBA; jpeg holds uint8 grey, RGB; .*webp would do"),
        (random_pixels((3, 3, 4)), "b.bmp", r"RGBA; bmp holds"),
        (random_pixels((3, 3)), "b.xyz", r"'.xyz', which names no format; one of .png"),
    ],
)
def test_nothing_is_lost_silently(tmp_path, pixels, dst, words):
    np.save(tmp_path / "a.npy", pixels)
    upscaler = Repeat()
    with pytest.raises(OutputError, match=words):
        upscale_file(tmp_path / "a.npy", tmp_path / dst, upscaler)
    assert upscaler.ranges == []  # refused before the work
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.parametrize("suffix", ["png", "tif", "npy", "jpg"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError, RuntimeError("engine")])
def test_failure_in_the_middle_leaves_nothing(tmp_path, suffix, error):
    np.save(tmp_path / "a.npy", random_pixels((50, 40, 3)))
    with pytest.raises(type(error) if isinstance(error, Exception) else error):
        upscale_file(tmp_path / "a.npy", tmp_path / f"b.{suffix}", Repeat(fail_at=20, error=error))
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


def test_input_is_never_the_output(tmp_path):
    write_image(tmp_path / "a.png", random_pixels((3, 3)))
    before = (tmp_path / "a.png").read_bytes()
    os.link(tmp_path / "a.png", tmp_path / "hard.png")
    (tmp_path / "soft.png").symlink_to("a.png")
    for name in ("a.png", "hard.png", "soft.png"):
        with pytest.raises(OutputError, match="is the input itself"):
            upscale_file(tmp_path / "a.png", tmp_path / name, Repeat(), overwrite=True)
    assert (tmp_path / "a.png").read_bytes() == before


def test_truncated_rows_of_a_tiff_leave_no_output(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, random_pixels((300, 200, 3)), compression="zlib", rowsperstrip=10)
    with tifffile.TiffFile(path) as file:
        last = file.pages[0].dataoffsets[-1]
    data = bytearray(path.read_bytes())
    data[last : last + 8] = bytes(8)
    path.write_bytes(data)
    with pytest.raises(ImageFileError, match="damaged"):
        upscale_file(path, tmp_path / "b.png", Repeat())
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


@pytest.mark.parametrize("suffix", ["npy", "tif", "png"])
@pytest.mark.parametrize("out", ["npy", "tif", "png"])
def test_memory_does_not_grow_with_the_height(tmp_path, suffix, out):
    write_image(tmp_path / f"a.{suffix}", np.zeros((4000, 500), np.uint16))
    tracemalloc.start()
    upscale_file(tmp_path / f"a.{suffix}", tmp_path / f"b.{out}", Repeat(2))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6e6  # the output is 16 MB
    with open_source(tmp_path / f"b.{out}") as source:
        assert source.shape == (8000, 1000, 1)


def test_value_range_reaches_the_upscaler(tmp_path):
    np.save(tmp_path / "a.npy", random_pixels((3, 3), "int16"))
    upscaler = Repeat()
    upscale_file(tmp_path / "a.npy", tmp_path / "b.npy", upscaler, value_range=(-1000, 3000))
    assert upscaler.ranges == [(-1000, 3000)]


# --- names and folders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "format_", "expected"),
    [
        ("a.png", None, "a_x4.png"),
        ("a.TIFF", None, "a_x4.TIFF"),
        ("a.jpg", None, "a_x4.png"),
        ("a.jpg", "jpg", "a_x4.jpg"),
        ("a.b.npy", "tif", "a.b_x4.tif"),
    ],
)
def test_names_of_outputs(tmp_path, name, format_, expected):
    assert output_path(tmp_path / name, None, 4, format_) == tmp_path / expected
    folder = tmp_path / "out"
    folder.mkdir()
    assert output_path(tmp_path / name, folder, 4, format_) == folder / expected.replace("_x4", "")


def tree(tmp_path):
    source = tmp_path / "in"
    (source / "deep" / "er").mkdir(parents=True)
    for name in ("a.png", "b.tif", "deep/c.npy", "deep/er/d.jpg"):
        write_image(source / name, random_pixels((4, 5, 3)))
    (source / "notes.txt").write_text("not an image")
    (source / ".hidden.png").write_bytes(b"")
    return source


def relative_names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def run_all(inputs, output, **options):
    return [run_job(job, Repeat(), **options) for job in plan_jobs(inputs, output, 4)]


def test_tree_is_mirrored_and_resumed(tmp_path):
    source, out = tree(tmp_path), tmp_path / "out"
    assert [o.state for o in run_all([source], out)] == ["done"] * 4
    assert relative_names(out) == ["a.png", "b.tif", "deep/c.npy", "deep/er/d.png"]
    (out / "b.tif").unlink()
    assert sorted(o.state for o in run_all([source], out)) == ["done", "skipped", "skipped", "skipped"]
    os.utime(out / "a.png", (0, 0))
    outcome = run_all([source], out)[0]
    assert outcome.state == "failed"
    assert "older" in outcome.message
    assert [o.state for o in run_all([source], out, overwrite=True)] == ["done"] * 4


def test_bad_file_does_not_stop_the_others(tmp_path):
    source = tree(tmp_path)
    (source / "b.tif").write_bytes(b"II*\0nonsense")
    outcomes = run_all([source, tmp_path / "none.png"], tmp_path / "out")
    assert [o.state for o in outcomes] == ["done", "failed", "done", "done", "failed"]
    assert "b.tif" in outcomes[1].message
    assert "does not exist" in outcomes[4].message


def test_two_inputs_with_one_output_are_told(tmp_path):
    write_image(tmp_path / "a.png", random_pixels((3, 3, 3)))
    write_image(tmp_path / "a.jpg", random_pixels((3, 3, 3)))
    outcomes = run_all([tmp_path / "a.png", tmp_path / "a.jpg"], tmp_path / "out")
    assert [o.state for o in outcomes] == ["done", "failed"]
    assert "a.png already" in outcomes[1].message


def test_output_folder_inside_the_input_is_left_alone(tmp_path):
    source = tree(tmp_path)
    assert len(run_all([source], source / "out")) == 4
    assert [o.state for o in run_all([source], source / "out")] == ["skipped"] * 4
    with pytest.raises(OptionError, match="both the input and the output"):
        plan_jobs([source], source, 4)


def test_what_cannot_be_planned(tmp_path):
    source = tree(tmp_path)
    with pytest.raises(OptionError, match="-o OUT is needed"):
        plan_jobs([source], None, 4)
    with pytest.raises(OptionError, match="is a file; several inputs need a folder"):
        plan_jobs([source / "a.png", source / "b.tif"], source / "a.png", 4)


def test_output_without_suffix_is_a_folder(tmp_path):
    write_image(tmp_path / "a.png", random_pixels((3, 3)))
    (outcome,) = run_all([tmp_path / "a.png"], tmp_path / "new" / "folder")
    assert outcome.state == "done"
    assert (tmp_path / "new" / "folder" / "a.png").is_file()


def test_sink_of_a_wide_image(tmp_path):
    with open_sink(tmp_path / "x.tif", (2, 100_000, 3), "uint8") as sink:  # a row is larger than a strip
        sink.write(0, np.ones((2, 100_000, 3), np.uint8))
    assert read_image(tmp_path / "x.tif").pixels.all()
