"""NIfTI: gaps, values beyond the range, and consistency."""

from __future__ import annotations

import numpy as np
import pytest
from nifti_files import (
    random_voxels,
    save,
    twin,
    upscaled,
    voxels,
)

from fastsr.errors import (
    OptionError,
)
from fastsr.medical.intensity import Intensity

# Networks of photographs are warned of wherever they are used here; tests/test_guard.py is about that.
pytestmark = pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")


def dtype_of(name):
    return np.dtype(name).type


# --- gaps, and values beyond the range --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("order", "plane"), [("<", "ij"), (">", "jk")])
@pytest.mark.parametrize(("model", "scale"), [("nearest", 3), ("vdsr", 2)])
def test_nan_and_infinity_stay_and_nothing_else_becomes_it(tmp_path, dtype, order, plane, model, scale):
    """A background of NaN, as masked volumes have it: neighbours are computed without it, whatever it is."""
    stored = random_voxels((13, 11, 9), dtype)
    outside = np.linalg.norm(np.indices(stored.shape).T - [6, 5, 4], axis=-1).T > 5
    axis = 3 - sum("ijk".index(letter) for letter in plane)
    results = []
    for value in (np.nan, np.inf, -np.inf):
        masked = np.where(outside, dtype_of(dtype)(value), stored)
        src = save(tmp_path / "a.nii", masked, order=order)
        got, _ = voxels(upscaled(src, plane=plane, model=model, scale=scale))
        intensity = Intensity(*np.percentile(stored[~outside].astype(np.float32), (0.5, 99.5)), "")
        np.testing.assert_array_equal(got, twin(masked, axis, model, scale, intensity))
        big = outside
        for a in {0, 1, 2} - {axis}:
            big = big.repeat(scale, axis=a)
        np.testing.assert_array_equal(got[big], np.full(big.sum(), value, dtype))
        assert np.isfinite(got[~big]).all()
        results.append(got[~big])
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()
    assert results[0].min() > stored[~outside].min() - 200  # nothing of the background bleeds in


@pytest.mark.parametrize(("model", "scale"), [("fmen", 4), ("srresnet", 4), ("vdsr", 2)])
def test_metal_comes_back_as_interpolation_has_it(tmp_path, model, scale):
    """A few voxels at ten times the range: not clipped, and not for a network to ring around."""
    stored = random_voxels((30, 28, 2), "int16") // 3  # 0 to 1000
    stored[12:18, 10:16] = 10000
    src = save(tmp_path / "a.nii", stored)
    got, _ = voxels(upscaled(src, model=model, scale=scale, value_range=(0, 1000), threads=2))
    inside = got[14 * scale : 16 * scale, 12 * scale : 14 * scale].astype(int)
    assert np.abs(inside - 10000).max() <= 60  # the network's own error on flat ground, of a range of 1000
    bicubic, _ = voxels(upscaled(src, tmp_path / "c.nii", scale=scale))
    beside = np.zeros(got.shape, bool)
    beside[7 * scale : 23 * scale, 5 * scale : 21 * scale] = True
    assert np.abs(got.astype(int) - bicubic)[beside].max() <= 800  # the part that it sees, not the 10000 of the edges


def test_nifti_and_dicom_have_one_rule(tmp_path):
    """The same slice, range and network: the same pixels, whatever lies beyond the range."""
    dicom_objects = pytest.importorskip("dicom_objects", reason="pydicom is not installed")
    import pydicom

    hu = np.random.default_rng(0).integers(-1500, 9000, (17, 14)).astype(np.int16)
    src = save(tmp_path / "a.nii", hu.T[:, :, None].copy())
    dicom_objects.save(dicom_objects.ct(hu, bits=16, RescaleIntercept=0), tmp_path / "a.dcm")
    for model, scale in (("fmen", 4), ("vdsr", 2)):
        got, _ = voxels(upscaled(src, model=model, scale=scale, window=(40, 400)))
        made = upscaled(tmp_path / "a.dcm", tmp_path / "b.dcm", model=model, scale=scale, window=(40, 400))
        np.testing.assert_array_equal(got[:, :, 0].T, pydicom.dcmread(made).pixel_array)


# --- consistency ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
@pytest.mark.parametrize("plane", ["ij", "ik"])
def test_block_means_are_exact_in_stored_voxels(tmp_path, dtype, plane):
    """Values beyond the range, and what is clamped to the type, included."""
    stored = random_voxels((9, 7, 6), dtype)
    if np.dtype(dtype).kind != "f":
        stored[2:4, 3:5] = np.iinfo(dtype).max
    else:
        stored[4, 4, 4] = np.nan
    src = save(tmp_path / "a.nii", stored)
    got, _ = voxels(upscaled(src, plane=plane, model="vdsr", value_range=(10, 100), consistency="block-mean"))
    if plane == "ik":
        got, stored = got.swapaxes(1, 2), stored.swapaxes(1, 2)
    wide = np.float64 if np.dtype(dtype).kind == "f" else np.int64
    sums = got.astype(wide).reshape(stored.shape[0], 2, stored.shape[1], 2, -1).sum(axis=(1, 3))
    if wide is np.int64:
        np.testing.assert_array_equal(sums, 4 * stored.astype(np.int64))
    else:
        np.testing.assert_allclose(sums, 4 * stored.astype(np.float64), rtol=4 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize(
    ("dtype", "consistency", "would_do"),
    [("int64", "block-mean", "no consistency"), ("int32", "back-projection", "block-mean")],
)
def test_consistency_that_cannot_be_exact(tmp_path, dtype, consistency, would_do):
    src = save(tmp_path / "a.nii", random_voxels((6, 7, 5), dtype))
    with pytest.raises(OptionError, match=rf"the pixels are {dtype}.*{would_do} would do"):
        upscaled(src, consistency=consistency)
    assert list(tmp_path.iterdir()) == [src]
