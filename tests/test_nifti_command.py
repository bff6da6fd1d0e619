"""NIfTI: the command, and bounded memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from nifti_files import (
    ENVIRONMENT,
    nib,
    patched,
    random_voxels,
    save,
    upscaled,
    voxels,
)

from fastsr.errors import (
    OptionError,
)
from fastsr.io import write_image

# Networks of photographs are warned of wherever they are used here; tests/test_guard.py is about that.
pytestmark = pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")


# --- the command ------------------------------------------------------------------------------------------------


def test_command(tmp_path, run):
    src = patched(tmp_path / "scan.nii.gz")
    quick = ("--model", "bicubic", "--scale", "2")
    code, out, err = run("upscale", src, *quick)
    assert (code, err) == (0, "")
    assert out.startswith(f"{tmp_path / 'scan_x2.nii.gz'}\nresidual of block means: mean ")
    assert nib.load(tmp_path / "scan_x2.nii.gz").shape == (12, 14, 5)
    assert run("upscale", src, "-o", tmp_path / "b.nii", "--plane", "coronal", "--window", "40", "400", *quick)[0] == 0
    code, _, err = run("upscale", src, "-o", tmp_path / "c.nii", "--model", "vdsr", "--scale", "2")
    assert code == 0
    assert err.count("fastsr: warning: ") == 1
    assert "not on medical images" in err
    code, _, err = run("upscale", src, "-o", tmp_path / "d.nii", "--model", "vdsr", "--scale", "2", "--strict")
    assert code == 1
    assert err.startswith("fastsr: error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "d.nii").exists()


def test_folder_of_volumes_and_pictures(tmp_path, run):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    patched(folder / "a.nii.gz")
    patched(folder / "deep" / "b.NII")
    write_image(folder / "c.png", random_voxels((6, 5), "uint8"))
    (folder / "notes.txt").write_text("nothing")
    patched(folder / "bad.nii", pixdim1=0)
    arguments = ("upscale", folder, "-o", tmp_path / "out", "--model", "vdsr", "--scale", "2")
    code, _, err = run(*arguments)
    assert code == 1
    assert "pixdim[1] is 0" in err
    assert err.count("fastsr: warning: ") == 1  # once for all volumes
    assert "4 files: 3 done, 1 failed" in err
    files = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*"))
    assert files == ["a.nii.gz", "c.png", "deep/b.nii"]
    (folder / "bad.nii").unlink()
    assert run(*arguments) == (0, "3 files: 3 skipped\n", "")


def test_medical_options_need_medical_files(tmp_path, run):
    write_image(tmp_path / "c.png", random_voxels((6, 5), "uint8"))
    code, _, err = run("upscale", tmp_path / "c.png", "--model", "bicubic", "--plane", "ij")
    assert code == 2
    assert "--plane is for medical files, and there is none" in err
    code, _, err = run("upscale", patched(tmp_path / "a.nii"), "--model", "bicubic", "--normalize", "zscore")
    assert code == 2
    assert "normalize is 'zscore'" in err


def test_medical_options_of_the_function_need_medical_files(tmp_path):
    write_image(tmp_path / "c.png", random_voxels((6, 5), "uint8"))
    with pytest.raises(OptionError, match=r"c\.png is no medical file"):
        upscaled(tmp_path / "c.png", tmp_path / "d.png", strict=True)
    assert upscaled(tmp_path / "c.png", tmp_path / "d.png").is_file()


def test_info(tmp_path, run):
    code, out, _ = run("info", patched(tmp_path / "a.nii.gz", order=">", scl_slope=2, scl_inter=1))
    assert code == 0
    for words in ("NIfTI-1, big endian, gzip", "6 x 7 x 5", "int16, times 2 plus 1", "LAS", "ij by default"):
        assert words in out
    assert "labels" in run("info", patched(tmp_path / "b.nii", intent_code=1002))[1]
    assert "RGB of uint8" in run("info", save(tmp_path / "c.nii", np.zeros((2, 3, 1), [(n, "u1") for n in "RGB"])))[1]
    code, _, err = run("info", tmp_path / "none.nii")
    assert code == 1
    assert "does not exist" in err


def test_the_command_says_the_residual_in_the_units_of_the_source(tmp_path, run):
    stored = random_voxels((9, 8, 3), "int16")
    src = save(tmp_path / "a.nii", stored, scl_slope=0.5, scl_inter=0.0)
    code, out, _ = run("upscale", src, "-o", tmp_path / "b.nii", "--model", "vdsr", "--scale", "2")
    assert code == 0
    got, _ = voxels(tmp_path / "b.nii")
    means = got.astype(float).reshape(9, 2, 8, 2, 3).mean(axis=(1, 3))
    most = np.abs(means - stored).max() * 0.5
    assert f"max {most:.3g}" in out


# --- memory -----------------------------------------------------------------------------------------------------


MEASURE = """
import sys, fastsr
from fastsr.medical import Options

def status(key):
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1]) * 1024

small, src, dst, plane = sys.argv[1:]
def run(src):
    fastsr.upscale_file(src, dst, model="nearest", scale=2, threads=1, overwrite=True, medical=Options(plane=plane))
run(small)  # what loads on first use
with open("/proc/self/clear_refs", "w") as f:
    f.write("5")
run(src)
print(status("VmHWM"))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_memory_does_not_grow_with_the_slices(tmp_path, suffix):
    """512 x 512 x 200 goes through in the memory of 512 x 512 x 20, within 5 %."""
    plane = random_voxels((512, 512), "int16") // 256  # packs fast
    peaks = []
    small = save(tmp_path / "small.nii", random_voxels((16, 16, 3)), np.eye(4))
    for n in (20, 200):
        src = save(tmp_path / f"a{n}{suffix}", np.stack([plane] * n, -1), np.diag([0.5, 0.5, 0.5, 1]))
        command = [sys.executable, "-c", MEASURE, str(small), str(src), str(tmp_path / f"b{suffix}"), "ij"]
        result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        peaks.append(int(result.stdout))
        src.unlink()
    assert peaks[1] <= 1.05 * peaks[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("plane", ["ik", "jk"])
def test_memory_of_turned_planes_does_not_grow_with_the_slices(tmp_path, plane):
    """The slices of another plane: ten times as many of them. Whole volumes differ by 14 and 58 MB."""
    peaks = []
    small = save(tmp_path / "small.nii", random_voxels((16, 16, 3)), np.eye(4))
    for n in (40, 400):
        stored = np.tile(random_voxels((100, 1, 200), "int16"), (1, n, 1))
        src = save(tmp_path / "a.nii", stored if plane == "ik" else stored.swapaxes(0, 1), np.eye(4))
        command = [sys.executable, "-c", MEASURE, str(small), str(src), str(tmp_path / "b.nii"), plane]
        result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        peaks.append(int(result.stdout))
    assert peaks[1] <= 1.05 * peaks[0]
