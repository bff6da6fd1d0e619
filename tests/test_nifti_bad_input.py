"""NIfTI: damaged files and what cannot be done give clear errors, and nothing half-written."""

from __future__ import annotations

import errno
import gzip
import os
import shlex
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
from nifti_files import (
    ENVIRONMENT,
    extension,
    nib,
    patched,
    random_voxels,
    save,
    upscaled,
    voxels,
)

import fastsr
from fastsr.errors import (
    DtypeError,
    ImageFileError,
    MissingExtraError,
    OptionError,
    OutputError,
    PixelValueError,
    TrainedRangeError,
)
from fastsr.medical.nifti_header import read_volume

# Networks of photographs are warned of wherever they are used here; tests/test_guard.py is about that.
pytestmark = pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")


@pytest.mark.parametrize(
    ("fields", "error", "words"),
    [
        ({"dim": [3, 6, 7, 0, 1, 1, 1, 1]}, ImageFileError, "shape 6 x 7 x 0; 2 to 4 axes of one voxel or more"),
        ({"dim": [3, 6, -7, 5, 1, 1, 1, 1]}, ImageFileError, "shape 6 x -7 x 5"),
        ({"dim": [1, 6, 1, 1, 1, 1, 1, 1]}, ImageFileError, "2 to 4 axes"),
        ({"dim": [5, 6, 7, 1, 1, 5, 1, 1]}, ImageFileError, "up to 4 axes can be upscaled"),
        ({"dim": [3, 30000, 30000, 2, 1, 1, 1, 1]}, ImageFileError, "30000"),
        ({"pixdim1": 0}, ImageFileError, r"pixdim\[1\] is 0; a spacing above 0"),
        ({"pixdim3": -2}, ImageFileError, r"pixdim\[3\] is -2"),
        ({"pixdim2": float("nan")}, ImageFileError, r"pixdim\[2\] is nan"),
        ({"srow_x": [1, 0, float("inf"), 0]}, ImageFileError, "sform has NaN or infinite numbers; set sform_code to 0"),
        ({"srow_x": [0, 1, 0, 0], "srow_y": [0, 1, 0, 0], "srow_z": [0, 0, 1, 0]}, ImageFileError, "no length"),
        ({"qoffset_y": float("nan")}, ImageFileError, "qform's numbers"),
        ({"quatern_b": 3.0}, ImageFileError, "are no rotation"),
        ({"sizeof_hdr": 347}, ImageFileError, "is no NIfTI file"),
        ({"scl_slope": 2, "scl_inter": float("inf")}, ImageFileError, "scl_inter is inf"),
        ({"datatype": 32, "bitpix": 64}, DtypeError, r"type 32 \(complex64\).*real and imaginary"),
        ({"datatype": 1792, "bitpix": 128}, DtypeError, "complex128"),
        ({"datatype": 1536, "bitpix": 128}, DtypeError, "float128"),
        ({"datatype": 1, "bitpix": 1}, DtypeError, "binary"),
        ({"datatype": 77}, DtypeError, r"type 77 \(unknown\)"),
        ({"bitpix": 32}, ImageFileError, "datatype 4 has 16 bits, and bitpix says 32"),
        ({"vox_offset": 10}, ImageFileError, "voxels begin at byte 10; 352 to"),
        ({"vox_offset": 1e30}, ImageFileError, "voxels begin at byte 1e\\+30"),
        ({"vox_offset": float("nan")}, ImageFileError, "voxels begin at byte nan"),
        ({"magic": b"ni1"}, ImageFileError, "header of a pair of files"),
        ({"magic": b"old"}, ImageFileError, "is no NIfTI file"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_bad_headers_are_named(tmp_path, fields, error, words, suffix):
    src = patched(tmp_path / f"a{suffix}", **fields)
    before = src.read_bytes()
    with pytest.raises(error, match=words) as raised:
        upscaled(src, tmp_path / "b.nii.gz")
    assert str(src) in str(raised.value)
    assert src.read_bytes() == before
    assert list(tmp_path.iterdir()) == [src]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kept", [0, 1, 100, 348, 351, 352, 500, -1])
@pytest.mark.parametrize("given", [None, (0, 3000)])
def test_truncated_files(tmp_path, suffix, kept, given):
    src = patched(tmp_path / f"a{suffix}")
    src.write_bytes(src.read_bytes()[:kept])
    with pytest.raises(ImageFileError, match=r"truncated|empty|no NIfTI file"):
        upscaled(src, tmp_path / "b.nii", value_range=given)
    assert list(tmp_path.iterdir()) == [src]


@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
def test_damaged_headers_give_typed_errors(tmp_path, kind):
    """Random bytes of the header are overwritten: it goes through, or a FastSRError says why not."""
    note = b"\1\0\0\0" + extension(6, b"a note")
    good = save(tmp_path / "a.nii", random_voxels((6, 7, 5), "float32"), kind=kind, extensions=note).read_bytes()
    rng = np.random.default_rng(0)
    went = {True: 0, False: 0}
    for i in range(150):
        data = bytearray(good)
        for at in rng.integers(0, len(good) - 4 * 6 * 7 * 5, 1 + i % 3):
            data[at] = rng.choice([0, 1, 127, 128, 255, rng.integers(256)])
        (tmp_path / "a.nii").write_bytes(data)
        try:
            out = upscaled(tmp_path / "a.nii", tmp_path / "b.nii", plane=("auto", "jk")[i % 2])
        except fastsr.FastSRError:
            went[False] += 1
        else:
            went[True] += 1
            assert read_volume(out).shape[:3] != (6, 7, 5)
    assert min(went.values()) > 10


def test_truncation_says_how_much_is_there(tmp_path):
    src = patched(tmp_path / "a.nii")
    src.write_bytes(src.read_bytes()[:-10])
    with pytest.raises(ImageFileError, match="410 bytes of voxels are there, 420 are needed"):
        upscaled(src)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(src.read_bytes()))
    with pytest.raises(ImageFileError, match="410 bytes of voxels are there, 420 are needed"):
        upscaled(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("given", [None, (0, 3000)])
@pytest.mark.parametrize("at", [0.5, -6])
def test_damage_in_a_compressed_file_is_found(tmp_path, given, at):
    """In the middle, and in the checksum at the end, which is looked at before the output appears."""
    src = patched(tmp_path / "a.nii.gz", random_voxels((20, 20, 9)))
    data = bytearray(src.read_bytes())
    data[int(len(data) * at) if at > 0 else at] ^= 0xFF
    src.write_bytes(data)
    with pytest.raises(ImageFileError, match=r"damaged|truncated"):
        upscaled(src, tmp_path / "b.nii", value_range=given)
    assert list(tmp_path.iterdir()) == [src]


@pytest.mark.parametrize("extra", [struct.pack("<ii", 4, 6), struct.pack("<ii", 4000, 6), struct.pack("<ii", -16, 6)])
def test_bad_extensions(tmp_path, extra):
    src = patched(tmp_path / "a.nii", extensions=b"\1\0\0\0" + extra + bytes(8))
    with pytest.raises(ImageFileError, match="header extension of"):
        upscaled(src)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", [None, (0, 3000)])
def test_a_volume_without_a_finite_voxel(tmp_path, dtype, given):
    src = save(tmp_path / "a.nii", np.full((6, 7, 5), np.nan, dtype))
    if given is None:
        with pytest.raises(PixelValueError, match=r"a\.nii has no finite voxel"):
            upscaled(src, tmp_path / "b.nii")
        assert list(tmp_path.iterdir()) == [src]
    else:
        assert np.isnan(voxels(upscaled(src, value_range=given))[0]).all()


def test_values_that_float32_cannot_hold(tmp_path):
    stored = random_voxels((6, 7, 5), "float64")
    stored[3, 4, 2] = 1e60
    src = save(tmp_path / "a.nii", stored)
    for options, words in (({}, "beyond float32"), ({"value_range": (0, 3000)}, r"1e\+60 \(as stored\) is beyond")):
        with pytest.raises(PixelValueError, match=rf"a\.nii.*{words}"):
            upscaled(src, tmp_path / "b.nii", **options)
    assert list(tmp_path.iterdir()) == [src]


def test_sizes_that_the_format_cannot_say(tmp_path):
    src = save(tmp_path / "a.nii", random_voxels((20000, 1, 1), "uint8"))
    with pytest.raises(OutputError, match="20000 voxels times 2 are more than the 32767 that NIfTI-1 can say"):
        upscaled(src)
    src = save(tmp_path / "a.nii", random_voxels((20000, 1, 1), "uint8"), kind=nib.Nifti2Header)
    assert nib.load(upscaled(src)).shape == (40000, 2, 1)


@pytest.mark.parametrize(
    ("dst", "options", "error", "words"),
    [
        ("b.png", {}, OutputError, "ends with .nii or .nii.gz"),
        ("a.nii", {}, OutputError, "is the input itself"),
        ("b.nii", {"format": "tiff"}, OptionError, "is a NIfTI volume.*'tiff' is for images"),
        ("missing/b.nii", {}, OutputError, "does not exist"),
        ("b.nii", {"plane": "ii"}, OptionError, "plane is 'ii'"),
        ("b.nii", {"normalize": "max"}, OptionError, "normalize is 'max'"),
        ("b.nii", {"normalize": "stored"}, OptionError, "does not state its range"),
        ("b.nii", {"value_range": (5, 5)}, OptionError, "low < high"),
        ("b.nii", {"value_range": (0, 9), "window": (4, 9)}, OptionError, "one is needed"),
        ("b.nii", {"max_memory": 1000}, fastsr.MemoryBudgetError, "at least"),
        ("b.nii", {"model": "vdsr", "strict": True}, TrainedRangeError, "photographs"),
    ],
)
def test_what_cannot_be_done(tmp_path, dst, options, error, words):
    src = patched(tmp_path / "a.nii")
    with pytest.raises(error, match=words):
        upscaled(src, tmp_path / dst, **options)
    assert list(tmp_path.iterdir()) == [src]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind this user")
def test_folder_without_permission(tmp_path):
    src = patched(tmp_path / "a.nii")
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(OutputError, match="permission denied"):
        upscaled(src, folder / "b.nii")
    folder.chmod(0o700)
    assert list(folder.iterdir()) == []


def test_read_only_target(tmp_path, monkeypatch):
    """Stands in for a file system that is mounted read-only."""

    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    src = patched(tmp_path / "a.nii")
    monkeypatch.setattr("fastsr.io.atomic.os.open", refuse)
    with pytest.raises(OutputError, match="the file system is read-only"):
        upscaled(src, tmp_path / "b.nii")
    assert list(tmp_path.iterdir()) == [src]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts a file system, as Linux does")
def test_a_file_system_that_is_read_only(tmp_path):
    """A real one, which binds root too."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed (util-linux)")
    src, folder = patched(tmp_path / "a.nii"), tmp_path / "mounted"
    folder.mkdir()
    command = [sys.executable, "-m", "fastsr.cli", "upscale", "a.nii", "--model", "bicubic", "--scale", "2"]
    script = (
        f"mount -t tmpfs none {folder} && cd {folder} && cp {src} a.nii && mount -o remount,ro {folder} || exit 77; "
        f"{shlex.join(command)}; echo $?; ls -A"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script],
        env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    assert "cannot be written: the file system is read-only" in done.stderr
    assert done.stdout.split() == ["1", "a.nii"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    """Stands in for ENOSPC in a temporary file of turned planes."""

    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("fastsr.medical.turning.write_all", full)
    src = patched(tmp_path / "a.nii")
    with pytest.raises(OutputError, match="no space is left"):
        upscaled(src, tmp_path / "b.nii.gz", plane="ik")
    assert list(tmp_path.iterdir()) == [src]


def test_an_existing_output_is_kept_when_the_input_is_bad(tmp_path):
    good = patched(tmp_path / "a.nii")
    out = upscaled(good, tmp_path / "b.nii")
    before = out.read_bytes()
    good.write_bytes(good.read_bytes()[:-1])
    with pytest.raises(ImageFileError):
        upscaled(good, out)
    assert out.read_bytes() == before


def test_missing_package_is_named(tmp_path, monkeypatch):
    src = patched(tmp_path / "a.nii")
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fastsr\[medical\]'"):
        upscaled(src)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
@pytest.mark.parametrize(("suffix", "plane"), [(".nii.gz", "ij"), (".nii", "jk")])
def test_killed_in_the_middle(tmp_path, number, code, suffix, plane):
    """What can be caught leaves nothing; what cannot leaves a hidden half, never the name, and no temporary files."""
    src = save(tmp_path / "a.nii", random_voxels((120, 110, 60), "int16"))
    before = src.read_bytes()
    command = [sys.executable, "-m", "fastsr.cli", "upscale", "a.nii", "-o", f"b{suffix}", "--scale", "4", "-q"]
    command += ["--plane", plane, "--threads", "1"]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(f".b{suffix}.partial-*")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    left = [p for p in tmp_path.iterdir() if p != src]
    assert all(p.name.startswith(f".b{suffix}.partial-") for p in left)
    assert len(left) == (1 if number == signal.SIGKILL else 0)
    assert src.read_bytes() == before
