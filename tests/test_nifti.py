"""NIfTI volumes through `upscale_file`: every type, odd shapes, time series, colours, real volumes; intensities."""

from __future__ import annotations

import gzip
import itertools
import shutil
import warnings

import numpy as np
import pytest
from nifti_files import (
    DTYPES,
    corners,
    nib,
    random_voxels,
    save,
    twin,
    upscaled,
    voxels,
)

import fastsr
from fastsr.errors import (
    OptionError,
    TrainedRangeWarning,
)
from fastsr.medical.intensity import Intensity
from fastsr.medical.nifti_header import read_volume, slice_axis

# Networks of photographs are warned of wherever they are used here; tests/test_guard.py is about that.
pytestmark = pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")


# --- voxels -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("suffix", "plane"), [(".nii", "ij"), (".nii.gz", "ik"), (".nii", "jk")])
def test_every_type_is_kept_and_equals_the_twin(tmp_path, dtype, order, suffix, plane):
    stored = random_voxels((7, 13, 5), dtype)
    src = save(tmp_path / f"a{suffix}", stored, order=order)
    out = upscaled(src, tmp_path / f"b{suffix}", plane=plane, value_range=(10, 2000))
    got, header = voxels(out)
    assert header.endianness == order
    assert header.get_data_dtype() == np.dtype(dtype).newbyteorder(order)
    axis = 3 - sum("ijk".index(letter) for letter in plane)
    np.testing.assert_array_equal(got, twin(stored, axis, "bicubic", 2, Intensity(10, 2000, "given")))
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a{suffix}", f"b{suffix}"]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 2), (31, 1, 3), (2, 3, 7), (11, 17, 1), (5, 7, 40)])
@pytest.mark.parametrize("plane", ["ij", "ik", "jk"])
@pytest.mark.parametrize(("model", "scale"), [("bicubic", 3), ("vdsr", 2)])
def test_odd_shapes(tmp_path, shape, plane, model, scale):
    stored = random_voxels(shape, "int16")
    out = upscaled(save(tmp_path / "a.nii", stored), plane=plane, model=model, scale=scale, value_range=(0, 3000))
    axis = 3 - sum("ijk".index(letter) for letter in plane)
    got, _ = voxels(out)
    assert got.shape == tuple(n if a == axis else n * scale for a, n in enumerate(shape))
    np.testing.assert_array_equal(got, twin(stored, axis, model, scale, Intensity(0, 3000, "given")))


@pytest.mark.parametrize(("plane", "block"), [("ik", 1), ("jk", 1), ("jk", 700), ("ik", 1500)])
def test_blocks_of_turned_planes_do_not_matter(tmp_path, monkeypatch, plane, block):
    """A volume is turned a few planes at a time; whatever their number, ragged ends included."""
    stored = random_voxels((6, 7, 11), "float32")
    src = save(tmp_path / "a.nii", stored)
    whole = upscaled(src, tmp_path / "b.nii", plane=plane).read_bytes()
    monkeypatch.setattr("fastsr.medical.turning._BLOCK_BYTES", block)
    assert upscaled(src, tmp_path / "c.nii", plane=plane).read_bytes() == whole


@pytest.mark.parametrize(("model", "scale"), [("fmen", 4), ("srresnet", 4), ("vdsr", 3)])
def test_networks_run_on_volumes(tmp_path, model, scale):
    stored = random_voxels((20, 14, 2), "int16")
    out = upscaled(save(tmp_path / "a.nii.gz", stored), tmp_path / "b.nii.gz", model=model, scale=scale)
    low, high = np.percentile(stored, (0.5, 99.5))
    np.testing.assert_array_equal(voxels(out)[0], twin(stored, 2, model, scale, Intensity(low, high, "")))


@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("plane", ["ij", "ik"])
def test_time_series_have_one_range(tmp_path, kind, order, plane):
    """The range is that of all volumes together, so that a slow change of intensity survives."""
    stored = np.stack([random_voxels((8, 9, 4), "int16") // (t + 1) for t in range(3)], -1)
    src = save(tmp_path / "a.nii", stored, kind=kind, order=order, pixdim4=2.5, xyzt_units=2 | 8, toffset=0.75)
    got, header = voxels(upscaled(src, plane=plane))
    assert isinstance(header, kind)
    assert (float(header["pixdim"][4]), int(header["xyzt_units"]), float(header["toffset"])) == (2.5, 10, 0.75)
    intensity = Intensity(*np.percentile(stored, (0.5, 99.5)), "")
    axis = 2 if plane == "ij" else 1
    for t in range(3):
        np.testing.assert_array_equal(got[..., t], twin(stored[..., t], axis, "bicubic", 2, intensity))


@pytest.mark.parametrize("shape", [(9, 14), (9, 14, 1), (9, 14, 1, 1), (9, 14, 1, 2)])
def test_single_slices(tmp_path, shape):
    stored = random_voxels(shape, "uint16")
    got, header = voxels(upscaled(save(tmp_path / "a.nii", stored)))
    assert got.shape == (18, 28, *shape[2:])
    assert int(header["dim"][0]) == len(shape)
    if len(shape) == 2:
        with pytest.raises(OptionError, match="one slice, of two axes"):
            upscaled(tmp_path / "a.nii", plane="ik")
    flat = stored.reshape(9, 14, -1)
    intensity = Intensity(*np.percentile(stored, (0.5, 99.5)), "")
    np.testing.assert_array_equal(got.reshape(18, 28, -1), twin(flat, 2, "bicubic", 2, intensity))


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("plane", ["ij", "jk"])
def test_colours(tmp_path, channels, plane):
    rng = np.random.default_rng(0)
    names = "RGBA"[:channels]
    stored = np.zeros((6, 5, 4), [(n, "u1") for n in names])
    for n in names:
        stored[n] = rng.integers(0, 255, stored.shape)
    src = save(tmp_path / "a.nii", stored)
    got, header = voxels(upscaled(src, plane=plane))
    assert int(header["datatype"]) == {3: 128, 4: 2304}[channels]
    axis = {"ij": 2, "jk": 0}[plane]
    for i in range(stored.shape[axis]):
        image = np.stack([np.take(stored[n], i, axis).T for n in names], -1)
        expected = fastsr.upscale(image, "bicubic", scale=2)
        np.testing.assert_array_equal(np.stack([np.take(got[n], i, axis).T for n in names], -1), expected)
    with pytest.raises(OptionError, match="holds colours"):
        upscaled(src, normalize="percentile")


def test_compressed_or_not_the_voxels_are_the_same(tmp_path):
    stored = random_voxels((12, 10, 6), "int16")
    plain = save(tmp_path / "a.nii", stored)
    packed = save(tmp_path / "a.nii.gz", stored)
    shutil.copy(packed, tmp_path / "misnamed.nii")  # content counts, not the name
    results = [
        upscaled(src, tmp_path / f"{i}{suffix}")
        for i, (src, suffix) in enumerate(
            itertools.product((plain, packed, tmp_path / "misnamed.nii"), (".nii", ".nii.gz"))
        )
    ]
    assert len({(gzip.decompress(r.read_bytes()) if r.name.endswith(".gz") else r.read_bytes()) for r in results}) == 1
    assert results[1].read_bytes() == results[3].read_bytes()
    assert results[1].read_bytes()[4:8] == bytes(4)  # no time of day: the same bytes each time, compressed too


# --- intensities ------------------------------------------------------------------------------------------------


def test_float_in_float_out_in_the_same_units(tmp_path):
    """Units of 1e-9 or offsets of 1e6 come back; what is beyond the percentiles is kept."""
    base = random_voxels((24, 20, 3), "float64")
    base[5:15, 5:15] = 9000.0  # a third of all: within the percentiles
    base[10, 10, 1] = 50000.0
    for times, plus in ((1.0, 0.0), (1e-9, 0.0), (1.0, 1e6), (-3.0, 0.0)):
        src = save(tmp_path / "a.nii", base * times + plus)
        got = voxels(upscaled(src, model="bicubic"))[0]
        assert got.dtype == np.float64
        unit = (got - plus) / times
        np.testing.assert_allclose(unit[16:22, 16:22, 0], 9000, rtol=1e-4)
        assert unit.max() > 35000
        assert abs(np.median(unit) - np.median(base)) < 30


def test_the_card_s_percentiles_are_used(tmp_path):
    """A model whose card asks for percentiles 10 to 90 gets them; the result is that of the range in the open."""
    from fastsr.graph.model import CompiledModel
    from fastsr.models import open_model

    base = open_model("vdsr", 2)
    card = {
        "normalization": {"kind": "percentile", "low": 10, "high": 90},
        "trained_on": {"modalities": ["MR"], "spacing_mm": [0.1, 9]},
    }
    model = CompiledModel("medical", base.graphs, base.tensors, card)
    stored = random_voxels((20, 21, 3), "float32")
    src = save(tmp_path / "a.nii", stored)
    low, high = np.percentile(stored.astype(np.float64), (10, 90))
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainedRangeWarning)  # spacing and modality are known
        by_card = upscaled(src, model=model).read_bytes()
        told = upscaled(src, model=model, strict=True, normalize="percentile:10,90").read_bytes()
    assert by_card == told
    np.testing.assert_allclose(
        voxels(src.with_name("out.nii"))[0], twin(stored, 2, "vdsr", 2, Intensity(low, high, "")), atol=1e-2
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"value_range": (-5, 700)}, "-5 to 700 (given)"),
        ({"window": (40, 400)}, "-160 to 239 (window 40 width 400)"),
        ({"normalize": "percentile:0,100"}, "0 to 3000 (percentiles 0 to 100)"),
    ],
)
def test_ranges_can_be_given(tmp_path, options, words):
    stored = random_voxels((6, 7, 5))
    stored[0, 0, 0], stored[1, 1, 1] = 0, 3000
    image = nib.load(upscaled(save(tmp_path / "a.nii", stored), **options))
    assert words in image.header.extensions[-1].text


def test_8_bits_have_their_whole_range(tmp_path):
    image = nib.load(upscaled(save(tmp_path / "a.nii", random_voxels((6, 7, 5), "uint8"), scl_slope=2, scl_inter=1)))
    assert "1 to 511 (8 stored bits)" in image.header.extensions[-1].text


def test_labels_are_not_interpolated(tmp_path):
    labels = np.random.default_rng(0).integers(0, 5, (7, 8, 3)).astype(np.int16) * 1000
    src = save(tmp_path / "a.nii", labels, intent_code=1002)
    with pytest.raises(OptionError, match=r"holds labels.*--model nearest would do"):
        upscaled(src)
    np.testing.assert_array_equal(voxels(upscaled(src, model="nearest"))[0], labels.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32"])
def test_overshoot_is_clamped_to_the_type(tmp_path, dtype):
    info = np.iinfo(dtype)
    stored = np.full((12, 12, 2), info.max // 2, dtype)
    stored[:6], stored[6:] = info.min, info.max
    got = voxels(upscaled(save(tmp_path / "a.nii", stored), value_range=(float(info.min), float(info.max))))[0]
    assert got[:9].max() < info.max // 2  # nothing wrapped round
    assert got[15:].min() > info.max // 2
    assert (int(got.min()), int(got.max())) == (info.min, info.max)


def test_progress_counts_the_rows_of_all_slices(tmp_path):
    seen = []
    src = save(tmp_path / "a.nii", random_voxels((6, 7, 5, 2)))
    upscaled(src, progress=lambda *rows: seen.append(rows))
    assert seen[-1][0] == seen[-1][1] == 14 * 5 * 2
    assert [rows[0] for rows in seen] == sorted(rows[0] for rows in seen)


# --- real volumes -----------------------------------------------------------------------------------------------


REAL = ("CT_AVM", "CT_pitch", "MNI152_T1_2mm", "MR_Gd", "chris_PD", "fmri")


@pytest.mark.parametrize(
    ("name", "scale", "plane", "model"),
    [(name, 2, "auto", "bicubic") for name in REAL]
    + [(name, 4, "coronal", "nearest") for name in ("CT_pitch", "MNI152_T1_2mm", "fmri")]
    + [(name, 3, "sagittal", "nearest") for name in ("chris_PD", "MNI152_T1_2mm")],
)
def test_real_volumes(tmp_path, data, name, scale, plane, model):
    src = data / "medical" / "nifti" / f"{name}.nii.gz"
    before = nib.load(src)
    after = nib.load(upscaled(src, tmp_path / "out.nii.gz", scale=scale, plane=plane, model=model))
    np.testing.assert_allclose(
        corners(after.affine, after.shape), corners(before.affine, before.shape), rtol=0, atol=1e-4
    )
    for form in ("get_qform", "get_sform"):
        a, b = getattr(before, form)(), getattr(after, form)()
        np.testing.assert_allclose(corners(b, after.shape), corners(a, before.shape), rtol=0, atol=1e-4)
    assert after.get_data_dtype() == before.get_data_dtype()
    x, y = before.dataobj.get_unscaled(), after.dataobj.get_unscaled()
    # sums of the blocks that the result has for each voxel: nothing moved, nothing changed its units
    axis = slice_axis(read_volume(src), plane)
    for a in range(3):
        if a != axis:
            y = np.add.reduceat(y, np.arange(0, y.shape[a], scale), axis=a, dtype=np.int32)
    apart = np.abs(y - x.astype(np.int32) * scale**2)
    assert apart.mean() <= (0 if model == "nearest" else 0.02) * scale**2 * int(x.max())


def test_a_network_on_a_real_volume(tmp_path, data):
    """Part of a scan: the result looks like it, and beats nothing it should not."""
    image = nib.load(data / "medical" / "nifti" / "MR_Gd.nii.gz")
    part = image.slicer[40:120, 60:130, 70:72]
    part.to_filename(tmp_path / "a.nii.gz")
    after = nib.load(upscaled(tmp_path / "a.nii.gz", tmp_path / "b.nii.gz", model="fmen", scale=4, threads=2))
    bicubic = nib.load(upscaled(tmp_path / "a.nii.gz", tmp_path / "c.nii.gz", scale=4))
    assert after.shape == (320, 280, 2)
    x, y = np.asanyarray(bicubic.dataobj), np.asanyarray(after.dataobj)
    assert np.corrcoef(x.ravel(), y.ravel())[0, 1] > 0.97
    assert not np.array_equal(x, y)
