"""NIfTI volumes through `upscale_file`: geometry, units, every type, bounded memory, and what damaged files do."""

from __future__ import annotations

import errno
import gzip
import itertools
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from stored_twin import upscale_stored

import fastsr
from fastsr.cli import main
from fastsr.errors import (
    DtypeError,
    ImageFileError,
    MissingExtraError,
    OptionError,
    OutputError,
    PixelValueError,
    TrainedRangeError,
    TrainedRangeWarning,
)
from fastsr.io import write_image
from fastsr.medical import Options
from fastsr.medical.intensity import Intensity, UnitMap
from fastsr.medical.nifti_header import read_volume, slice_axis

nib = pytest.importorskip("nibabel")

ROOT = Path(fastsr.__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
OBLIQUE = np.array([[-0.7, 0.1, 0.3, 20], [0.2, 0.8, -0.4, -31.5], [0.1, -0.2, 2.5, 7.25], [0, 0, 0, 1.0]])


@pytest.fixture(autouse=True)
def _quiet():
    """Networks of photographs are warned of wherever they are used here; tests/test_guard.py is about that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainedRangeWarning)
        yield


def random_voxels(shape, dtype="int16", seed=0):
    """Return smooth random voxels with some noise: 0 to 120 (8 bit) or 0 to 3000."""
    rng = np.random.default_rng([seed, *shape])
    most = 110 if np.dtype(dtype).itemsize == 1 else 3000
    grid = np.meshgrid(*(np.linspace(0, 3, n) for n in shape), indexing="ij")
    smooth = sum(np.sin(g * (2 + i) + i) for i, g in enumerate(grid))
    values = most * (0.5 + smooth / (2.2 * len(shape))) + rng.normal(size=shape) * most * 0.02
    return np.clip(values, 0, most).astype(dtype)


def save(path, stored, affine=OBLIQUE, *, kind=nib.Nifti1Header, order="<", codes=(1, 2), extensions=b"", **fields):
    """Write stored voxels (X, Y, ...) byte by byte: qform and sform of `affine`, then any header fields."""
    header = kind(endianness=order)
    if stored.dtype.names:
        header.set_data_dtype(stored.dtype)
    else:
        header.set_data_dtype(stored.dtype.newbyteorder(order))
        stored = stored.astype(stored.dtype.newbyteorder(order))
    header.set_data_shape(stored.shape)
    header.set_qform(affine, code=codes[0], strip_shears=True)
    if stored.ndim > 1:
        header.set_sform(affine, code=codes[1])
    extra = extensions or bytes(4)
    header["vox_offset"] = len(header.binaryblock) + len(extra)
    for key, value in fields.items():
        if key.startswith("pixdim"):
            header["pixdim"][int(key[6:])] = value
        else:
            header[key] = value
    data = header.binaryblock + extra + stored.tobytes("F")
    path.write_bytes(gzip.compress(data, 1) if path.name.endswith(".gz") else data)
    return path


def voxels(path):
    """Return the stored voxels as nibabel reads them, and the header as it is in the file."""
    image = nib.load(path)
    with (gzip.open if str(path).endswith(".gz") else open)(path, "rb") as file:
        header = type(image.header).from_fileobj(file, check=True)
    return image.dataobj.get_unscaled(), header


def upscaled(src, dst=None, **options):
    named = {k: options.pop(k) for k in ("plane", "normalize", "window", "strict") if k in options}
    dst = dst or src.with_name("out.nii")
    options = {"model": "bicubic", "scale": 2, "threads": 1, "overwrite": True} | options
    return fastsr.upscale_file(src, dst, medical=Options(**named), **options)


def twin(stored, axis, model, scale, intensity, slope=1.0, inter=0.0):
    """Slow twin: every slice of a volume in memory, through the array function."""
    sr = fastsr.load(model, scale=scale, threads=1)
    units = UnitMap(intensity, stored.dtype, slope, inter)
    slices = [upscale_stored(sr, np.ascontiguousarray(s.T), units).T for s in np.moveaxis(stored, axis, 0)]
    return np.moveaxis(np.stack(slices), 0, axis)


def corners(affine, shape):
    """Where the outermost corners of a volume lie: half a voxel beyond the centres."""
    ends = itertools.product(*((-0.5, n - 0.5) for n in shape[:3]))
    return np.array([affine @ (*end, 1) for end in ends])[:, :3]


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


# --- geometry ---------------------------------------------------------------------------------------------------


def random_affine(seed, left_handed):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if (np.linalg.det(rotation) < 0) != left_handed:
        rotation[:, 0] *= -1
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.3, 4, 3)
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine


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
            ("fmen-medical", 4), ("srresnet", 4)]  # fmt: skip


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
    + [network for network in NETWORKS if network not in (("fmen", 3), ("srresnet", 4), ("vdsr", 4))],
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


def extension(code, text):
    content = text + bytes(-(8 + len(text)) % 16)
    return struct.pack("<ii", 8 + len(content), code) + content


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


def dtype_of(name):
    return np.dtype(name).type


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


# --- bad input --------------------------------------------------------------------------------------------------


def patched(path, stored=None, **fields):
    return save(path, random_voxels((6, 7, 5)) if stored is None else stored, **fields)


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
        ("b.nii", {"model": "vdsr", "strict": True}, TrainedRangeError, "photos"),
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


# --- the command ------------------------------------------------------------------------------------------------


@pytest.fixture
def run(capfd):
    def call(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return call


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
