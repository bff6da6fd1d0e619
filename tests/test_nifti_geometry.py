"""NIfTI: where voxels lie, which plane is upscaled, and the rest of the header."""

from __future__ import annotations

import numpy as np
import pytest
from nifti_files import (
    corners,
    extension,
    nib,
    random_affine,
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
from fastsr.medical.nifti_header import read_volume, slice_axis

# Networks of photographs are warned of wherever they are used here; tests/test_guard.py is about that.
pytestmark = pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")


# --- geometry ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
def test_field_of_view_is_kept(tmp_path, seed, scale, kind):
    """qform and sform, each on its own: the volume's corners move by less than 1e-4 mm."""
    plane = ("ij", "ik", "jk")[seed % 3]
    shape = (9, 6, 4)
    affine, other = random_affine(seed, seed % 2 == 0), random_affine(seed + 100, seed % 2 == 1)
    src = save(tmp_path / "a.nii", random_voxels(shape), affine, kind=kind)
    with src.open("r+b") as file:  # another sform than the qform
        header = kind.from_fileobj(file)
        header.set_sform(other, 4)
        file.seek(0)
        file.write(header.binaryblock)
    before = nib.load(src)
    after = nib.load(upscaled(src, plane=plane, scale=scale))
    for form in ("get_qform", "get_sform"):
        a, code = getattr(before, form)(coded=True)
        b, code_after = getattr(after, form)(coded=True)
        assert code_after == code > 0
        np.testing.assert_allclose(corners(b, after.shape), corners(a, before.shape), rtol=0, atol=1e-4)
        assert np.sign(np.linalg.det(b)) == np.sign(np.linalg.det(a))
    zooms = [z / scale if "ijk"[a] in plane else z for a, z in enumerate(before.header.get_zooms())]
    np.testing.assert_allclose(after.header.get_zooms(), zooms, rtol=1e-6)
    # the rule itself: A' = A [diag(1/s) | 1/(2s) - 1/2]
    step = np.diag([1 / scale if letter in plane else 1 for letter in "ijk"] + [1.0])
    step[:3, 3] = [1 / (2 * scale) - 0.5 if letter in plane else 0 for letter in "ijk"]
    np.testing.assert_allclose(after.get_sform(), before.get_sform() @ step, rtol=0, atol=1e-4)


PLACE, SIGMA = np.array([7.3, 6.6, 7.1]), 1.6  # of a blob, in voxels
NETWORKS = [("vdsr", 2), ("vdsr", 3), ("vdsr", 4), ("fmen", 2), ("fmen", 3), ("fmen", 4), ("fmen-medical", 2),
            ("fmen-medical", 4), ("srresnet", 4), ("srgan", 4)]  # fmt: skip


def saved_blob(path, turned=lambda x: x):
    grid = np.stack(np.meshgrid(*map(np.arange, (15, 15, 15)), indexing="ij"))
    blob = 1000 * np.exp(-((grid - PLACE[:, None, None, None]) ** 2).sum(0) / SIGMA**2 / 2)
    return save(path, turned(blob).astype(np.float32), random_affine(7, True))


def off_place(image, data, before):
    """Where the centroid of what lies within four sigma of the blob's place is, less that place: voxels of `before`."""
    to_source = np.linalg.inv(before.affine) @ image.affine
    where = np.stack([*np.meshgrid(*map(np.arange, data.shape), indexing="ij"), np.ones(data.shape)])
    apart = np.tensordot(to_source, where, 1)[:3] - PLACE[:, None, None, None]
    near = np.where((apart**2).sum(0) <= (4 * SIGMA) ** 2, data.astype(np.float64), 0)
    return (apart * near).sum((1, 2, 3)) / near.sum()


@pytest.mark.parametrize("plane", ["ij", "ik", "jk"])
@pytest.mark.parametrize(
    ("model", "scale"),
    [("nearest", 2), ("bilinear", 4), ("bicubic", 2), ("bicubic", 3)]
    + [network for network in NETWORKS if network not in (("fmen", 3), ("srresnet", 4), ("srgan", 4), ("vdsr", 4))],
)
def test_nothing_moves(tmp_path, plane, model, scale):
    """The centroid of a blob stays within 0.01 voxel of where it was."""
    src = saved_blob(tmp_path / "a.nii")
    after = nib.load(upscaled(src, plane=plane, model=model, scale=scale, value_range=(0, 1000)))
    assert np.abs(off_place(after, np.asanyarray(after.dataobj), nib.load(src))).max() < 0.01


@pytest.mark.parametrize(("model", "scale"), NETWORKS)
def test_nothing_moves_in_the_average_of_all_ways_to_lie(tmp_path, model, scale):
    """What a network moves by itself turns with the image, and is not in the average of its eight results.

    What the file's geometry moved would be. Slices lie in eight ways in their plane; their results are turned back.
    """
    results = []
    for i in range(8):

        def turned(x, i=i):
            return np.rot90(x if i < 4 else x[:, ::-1], i, axes=(1, 2))

        src = saved_blob(tmp_path / "a.nii", turned)
        after = nib.load(upscaled(src, plane="jk", model=model, scale=scale, value_range=(0, 1000)))
        back = np.rot90(np.asanyarray(after.dataobj).astype(np.float64), -i, axes=(1, 2))
        results.append(back if i < 4 else back[:, ::-1])
    assert np.abs(off_place(after, np.mean(results, axis=0), nib.load(src))).max() < 0.01


def test_numbers_that_no_code_vouches_for_may_be_anything(tmp_path):
    src = save(tmp_path / "a.nii", random_voxels((6, 7, 3)), codes=(1, 0), srow_x=[np.nan, np.inf, 0, 1])
    corner = corners(nib.load(src).affine, (6, 7, 3))
    after = nib.load(upscaled(src))
    np.testing.assert_allclose(corners(after.affine, after.shape), corner, atol=1e-4)


@pytest.mark.parametrize("qfac", [0, -1, 7, float("nan")])
def test_handedness_of_the_qform(tmp_path, qfac):
    """qfac (pixdim[0]) is -1 or 1; 0, which old files have, means 1."""
    src = save(tmp_path / "a.nii", random_voxels((6, 7, 3)), codes=(1, 0), pixdim0=qfac)
    after = nib.load(upscaled(src))
    assert float(after.header["pixdim"][0]) == (-1 if qfac == -1 else 1)
    assert (np.linalg.det(after.affine) < 0) == (qfac == -1)


@pytest.mark.parametrize(("codes"), [(0, 0), (1, 0), (0, 3), (4, 1)])
def test_codes_are_kept(tmp_path, codes):
    src = save(tmp_path / "a.nii", random_voxels((6, 7, 3)), codes=codes)
    before, after = voxels(src)[1], voxels(upscaled(src))[1]
    assert (int(after["qform_code"]), int(after["sform_code"])) == codes
    if codes == (0, 0):
        for key in ("quatern_b", "qoffset_x", "qoffset_y", "qoffset_z"):
            assert after[key] == before[key]
    for key in ("quatern_b", "quatern_c", "quatern_d"):
        assert after[key] == before[key]
    assert after["pixdim"][0] == before["pixdim"][0]  # the handedness of the qform


@pytest.mark.parametrize(
    ("spacing", "shape", "axis"),
    [
        ((1, 1, 3), (5, 6, 7), 2),
        ((1, 4, 1), (5, 6, 7), 1),
        ((3, 1, 1), (5, 6, 7), 0),
        ((2, 2, 2), (5, 6, 7), 2),
        ((2.4, 2.4, 2.3999999), (5, 6, 7), 2),  # equal, but for float32
        ((1, 1, 0.5), (5, 6, 7), 1),
        ((1, 1, 5), (1, 6, 7), 0),  # a single slice is the plane
        ((0.9, 1, 1), (5, 6, 7), 2),
    ],
)
def test_default_plane_is_of_the_two_finest_axes(tmp_path, spacing, shape, axis):
    volume = read_volume(save(tmp_path / "a.nii", random_voxels(shape), np.diag([*spacing, 1.0])))
    assert slice_axis(volume, "auto") == axis


def test_planes_by_their_names(tmp_path):
    axial = np.array(
        [[0, 0, 1, 0], [0, -2, 0, 0], [1.5, 0, 0, 0], [0, 0, 0, 1.0]]
    )  # i: superior, j: posterior, k: right
    src = save(tmp_path / "a.nii", random_voxels((5, 6, 7)), axial)
    volume = read_volume(src)
    assert volume.directions == "SPR"
    assert [slice_axis(volume, name) for name in ("axial", "Coronal", "sagittal", "ki")] == [0, 1, 2, 1]
    assert voxels(upscaled(src, plane="axial"))[0].shape == (5, 12, 14)
    with pytest.raises(OptionError, match="plane is 'upper'; auto, sagittal, coronal, axial, ij, ik or jk"):
        slice_axis(volume, "upper")
    with pytest.raises(OptionError, match="does not say how it is turned"):
        slice_axis(read_volume(save(tmp_path / "b.nii", random_voxels((5, 6, 7)), codes=(0, 0))), "axial")


# --- the rest of the header -------------------------------------------------------------------------------------


def test_header_fields_are_kept(tmp_path):
    fields = {
        "descrip": b"a scan of nobody", "aux_file": b"none", "intent_name": b"what", "intent_code": 3, "intent_p1": 5.5,
        "cal_min": 5.0, "cal_max": 900.0, "xyzt_units": 3 | 16, "toffset": 2.5, "slice_duration": 0.25,
        "slice_code": 3, "slice_start": 0, "slice_end": 4, "dim_info": 1 | 2 << 2 | 3 << 4,
    }  # fmt: skip
    src = save(tmp_path / "a.nii", random_voxels((6, 7, 5)), **fields)
    _, header = voxels(upscaled(src, plane="ij"))
    for key, value in fields.items():
        kept = header[key].item()
        assert kept == value or kept == pytest.approx(value), key
    _, header = voxels(upscaled(src, plane="jk"))  # the slices of the acquisition are cut up: their times mean nothing
    assert [float(header[k]) for k in ("slice_code", "slice_end", "slice_duration")] == [0, 0, 0]
    assert int(header["dim_info"]) == fields["dim_info"]


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32"])
@pytest.mark.parametrize(("slope", "inter"), [(2.0, -1024.0), (-0.5, 10.0), (0.0, 7.0), (float("nan"), float("nan"))])
def test_slope_and_intercept_are_kept(tmp_path, dtype, slope, inter):
    """Ranges are in scaled units; slope 0 and NaN mean unscaled. A negative slope makes no negative picture."""
    stored = random_voxels((8, 9, 3), dtype)
    src = save(tmp_path / "a.nii", stored, scl_slope=slope, scl_inter=inter)
    before = np.asanyarray(nib.load(src).dataobj).astype(float)
    ends = float(before.min()), float(before.max())
    out = upscaled(src, model="vdsr", value_range=ends)
    got, header = voxels(out)
    np.testing.assert_array_equal([header["scl_slope"], header["scl_inter"]], np.float32([slope, inter]))
    real = (slope, inter) if np.isfinite(slope) and slope else (1.0, 0.0)
    np.testing.assert_array_equal(got, twin(stored, 2, "vdsr", 2, Intensity(*ends, ""), *real))
    assert abs(np.mean(nib.load(out).dataobj) - before.mean()) < 0.02 * np.ptp(before)


@pytest.mark.parametrize("order", ["<"])
def test_extensions(tmp_path, order):
    """Notes are kept; what describes the old grid (2 DICOM, 4 AFNI) is not; what made the result is added."""
    extensions = b"\1\0\0\0" + extension(6, b"a note") + extension(4, b"<AFNI_attributes/>") + extension(34, b"1 2 3")
    src = save(tmp_path / "a.nii", random_voxels((6, 7, 5)), extensions=extensions)
    for suffix in ("nii", "nii.gz"):
        image = nib.load(upscaled(src, tmp_path / f"b.{suffix}"))
        found = [(e.get_code(), bytes(e.content).rstrip(b"\0")) for e in image.header.extensions]
        assert found[:2] == [(6, b"a note"), (34, b"1 2 3")]
        assert len(found) == 3
        note = found[2][1].decode()
        assert found[2][0] == 6
        for words in ("bicubic x2 in the plane ij", "percentiles 0.5 to 99.5", "sha256", "codes 4"):
            assert words in note
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), voxels(upscaled(src))[0])


def test_a_second_run_is_right_too(tmp_path):
    src = save(tmp_path / "a.nii.gz", random_voxels((6, 7, 5)))
    once = upscaled(src, tmp_path / "b.nii.gz", plane="ij")
    twice = nib.load(upscaled(once, tmp_path / "c.nii.gz", plane="ij"))
    assert twice.shape == (24, 28, 5)
    np.testing.assert_allclose(
        corners(twice.affine, twice.shape), corners(nib.load(src).affine, (6, 7, 5)), rtol=0, atol=1e-4
    )
