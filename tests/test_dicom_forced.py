"""RT Dose and Segmentation: refused, and if forced, done as their pixels ask for."""

from __future__ import annotations

import warnings

import numpy as np
import pydicom
import pytest
from dicom_objects import CT, OBLIQUE, image, item, save, uid
from pydicom.uid import ExplicitVRBigEndian

import fastsr
from fastsr.medical import Options
from fastsr.medical.dicom import derive, describe, upscale_folder
from fastsr.medical.dicom.refusals import RT_DOSE, SEGMENTATION

FORCE = Options(force=True)


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fastsr.ForcedWarning)
        warnings.simplefilter("ignore", fastsr.TrainedRangeWarning)
        yield


def dose(pixels, **elements):
    """Return an RT Dose of (F, H, W): oblique, frames 2.5 mm apart."""
    given = {
        "Modality": "RTDOSE",
        "FrameOfReferenceUID": uid("frame of reference"),
        "PixelSpacing": [0.75, 0.5],
        "ImageOrientationPatient": OBLIQUE,
        "ImagePositionPatient": [-100.5, 20.25, 7.125],
        "GridFrameOffsetVector": [2.5 * i for i in range(len(pixels))],
        "DoseUnits": "GY",
        "DoseType": "PHYSICAL",
        "DoseSummationType": "PLAN",
        "DoseGridScaling": "1.5e-8",
        **elements,
    }
    made = image(RT_DOSE, pixels, **given)
    del made.ImageType
    return made


def segmentation(masks, **elements):
    """Return a binary Segmentation of masks (F, H, W) of bool, one position for each frame."""
    given = {
        "Modality": "SEG",
        "ImageType": ["DERIVED", "PRIMARY"],
        "SegmentationType": "BINARY",
        "FrameOfReferenceUID": uid("frame of reference"),
        "SharedFunctionalGroupsSequence": [
            item(
                PixelMeasuresSequence=[item(PixelSpacing=[0.75, 0.5], SliceThickness=2)],
                PlaneOrientationSequence=[item(ImageOrientationPatient=OBLIQUE)],
            )
        ],
        "PerFrameFunctionalGroupsSequence": [
            item(PlanePositionSequence=[item(ImagePositionPatient=[1.5 * i, -2.25 * i, 10 + i])])
            for i in range(len(masks))
        ],
        **elements,
    }
    made = image(SEGMENTATION, masks.astype(np.uint8), **given)
    made.BitsAllocated, made.BitsStored, made.HighBit = 1, 1, 0
    packed = np.packbits(masks.astype(np.uint8).ravel(), bitorder="little").tobytes()
    made.PixelData = packed + b"\0" * (len(packed) % 2)
    return made


def big_endian(dataset):
    dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    return dataset


def upscaled(dataset, tmp_path, model="nearest", scale=2, medical=FORCE, **options):
    save(dataset, tmp_path / "in.dcm")
    arguments = {"model": model, "scale": scale, "medical": medical, "overwrite": True, **options}
    return pydicom.dcmread(fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.dcm", **arguments))


def blocks(pixels, s):
    return pixels.repeat(s, axis=1).repeat(s, axis=2)


def random_masks(f, h, w):
    """Return masks with smooth edges and a single pixel in a corner."""
    y, x = np.mgrid[:h, :w]
    masks = np.stack([np.hypot(y - h / 2 - i / 3, x - w / 2 + i / 2) < min(h, w) / 3 for i in range(f)])
    masks[:, 0, 0] = True
    return masks


# --- refused, or forced -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (dose(np.ones((2, 4, 5), np.uint32)), "RT Dose Storage and is not upscaled: its pixels are a dose.*--force"),
        (segmentation(np.ones((2, 4, 5), bool)), "Segmentation Storage and is not upscaled: its pixels say.*--force"),
    ],
)
def test_refused_by_name_with_what_would_work(dataset, words, tmp_path):
    save(dataset, tmp_path / "in.dcm")
    with pytest.raises(fastsr.ImageFileError, match=words):
        fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.dcm", model="nearest", scale=2)
    assert [p.name for p in tmp_path.iterdir()] == ["in.dcm"]
    with pytest.raises(fastsr.ImageFileError, match=words):
        derive(dataset, fastsr.load("nearest", scale=2))
    assert derive(dataset, fastsr.load("nearest", scale=2), force=True).Rows == 8
    assert "--force" in dict(describe(tmp_path / "in.dcm"))["upscaled"]


def test_forced_objects_are_warned_of_once_for_each_kind(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(2):
        names = {"SOPInstanceUID": uid("forced", i), "InstanceNumber": i + 1}
        save(dose(np.arange(40, dtype=np.uint32).reshape(2, 4, 5), **names), tmp_path / "in" / f"dose{i}")
        names = {"SOPInstanceUID": uid("mask", i), "SeriesInstanceUID": uid("masks"), "InstanceNumber": i + 1}
        save(segmentation(random_masks(2, 4, 5), **names), tmp_path / "in" / f"mask{i}")
    with pytest.warns(fastsr.ForcedWarning) as caught:
        outcomes = upscale_folder(tmp_path / "in", tmp_path / "out", fastsr.load("bicubic", scale=2), FORCE)
    assert {outcome.state for outcome in outcomes} == {"done"}
    said = [str(w.message) for w in caught if w.category is fastsr.ForcedWarning]
    assert len(said) == 2
    assert any("no dose was calculated" in text for text in said)
    assert any("nothing was segmented" in text for text in said)


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (dose(np.ones((1, 4, 5), np.uint32), DoseGridScaling="0"), "Dose Grid Scaling 0"),
        (dose(np.ones((1, 4, 5), np.uint32), DoseGridScaling=None), "Dose Grid Scaling None"),
        (dose(np.ones((1, 4, 5), np.uint8)), "8 bits.*16 or 32 can be"),
        (
            segmentation(np.ones((1, 4, 5), bool), SegmentationType="FRACTIONAL"),
            "FRACTIONAL; BINARY ones can be",
        ),
        (segmentation(np.ones((1, 4, 5), bool), TotalPixelMatrixColumns=5), "tiles"),
        (big_endian(segmentation(np.ones((1, 4, 5), bool))), "Big Endian; decompress"),
        (segmentation(np.ones((9, 9, 9), bool), NumberOfFrames=10), "has 92 bytes; its frames need 102"),
    ],
)
def test_what_cannot_be_forced(dataset, words, tmp_path):
    with pytest.raises(fastsr.ImageFileError, match=words):
        upscaled(dataset, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["in.dcm"]


def test_pixels_of_other_objects_stay_8_or_16_bits(tmp_path):
    with pytest.raises(fastsr.ImageFileError, match=r"CT Image Storage.*32 bits.*8 or 16"):
        upscaled(image(CT, np.ones((4, 5), np.uint32)), tmp_path)


# --- RT Dose ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int32"])
@pytest.mark.parametrize("big_endian", [False, True])
def test_doses_keep_24_bits_of_their_range(dtype, big_endian, tmp_path):
    """32-bit values over their whole range: what float32 holds of it, and exactly the ends."""
    info = np.iinfo(dtype)
    pixels = np.random.default_rng(0).integers(info.min, info.max, (2, 7, 13), dtype=dtype, endpoint=True)
    pixels[0, 0, :2] = info.min, info.max
    dataset = dose(pixels)
    if big_endian:
        dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes()
    made = upscaled(dataset, tmp_path)
    got = made.pixel_array
    assert got.dtype == np.dtype(dtype)
    most = 0 if dtype == "uint16" else 2**32 / 2**24
    assert np.abs(got.astype(np.int64) - blocks(pixels, 2)).max() <= most
    assert (got[0, 0, 0], got[0, 0, 2]) == (info.min, info.max)


@pytest.mark.parametrize(("model", "scale"), [("bicubic", 2), ("fmen", 4)])
def test_doses_are_scaled_and_placed(model, scale, tmp_path):
    grid = np.stack([1e9 * np.exp(-(((np.mgrid[:12, :14] - 6 - i) / 4.0) ** 2).sum(0)) for i in range(3)])
    dataset = dose(grid.astype(np.uint32), DVHSequence=[item(DVHType="CUMULATIVE")])
    made = upscaled(dataset, tmp_path, model, scale)
    assert made.DoseGridScaling == dataset.DoseGridScaling
    assert made.GridFrameOffsetVector == dataset.GridFrameOffsetVector
    assert list(made.PixelSpacing) == [0.75 / scale, 0.5 / scale]
    shift = 1 / (2 * scale) - 1 / 2
    moved = [p + shift * (0.5 * x + 0.75 * y) for p, x, y in
             zip([-100.5, 20.25, 7.125], OBLIQUE[:3], OBLIQUE[3:], strict=True)]  # fmt: skip
    assert np.abs(np.subtract(made.ImagePositionPatient, moved)).max() < 1e-6
    assert "DVHSequence" not in made  # of the old grid
    assert "no dose was calculated" in made.DerivationDescription
    stored = grid.astype(np.uint32)
    assert f"{stored.min() * 1.5e-8:.6g} to {stored.max() * 1.5e-8:.6g} (percentiles" in made.DerivationDescription
    means = made.pixel_array.reshape(3, 12, scale, 14, scale).mean(axis=(2, 4))
    assert np.abs(means - grid).max() < 0.05 * grid.max()


def test_block_means_of_doses_are_exact(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 2**32 - 1, (2, 7, 6), dtype=np.uint32, endpoint=True)
    made = upscaled(dose(pixels), tmp_path, "vdsr", consistency="block-mean")
    sums = made.pixel_array.astype(np.int64).reshape(2, 7, 2, 6, 2).sum(axis=(2, 4))
    assert (sums == 4 * pixels.astype(np.int64)).all()
    with pytest.raises(fastsr.OptionError, match=r"uint32.*block-mean would do"):
        upscaled(dose(pixels), tmp_path, "vdsr", consistency="back-projection")


def test_a_window_of_a_dose_is_in_its_units(tmp_path):
    pixels = np.arange(60, dtype=np.uint32).reshape(1, 6, 10) * 10**7
    made = upscaled(dose(pixels), tmp_path, "bicubic", value_range=(0, 4))
    assert "0 to 4 (given)" in made.DerivationDescription


# --- Segmentation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 7, 13), (5, 3, 5), (2, 1, 9), (1, 40, 31)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bits_are_packed_without_gaps(shape, scale, tmp_path):
    """Also where a frame or a row ends within a byte."""
    masks = np.random.default_rng(0).random(shape) < 0.4
    made = upscaled(segmentation(masks), tmp_path, scale=scale)
    assert (made.BitsAllocated, made.BitsStored, made.HighBit) == (1, 1, 0)
    bits = int(np.prod(shape)) * scale**2
    assert len(made.PixelData) == -(-bits // 16) * 2
    packed = np.packbits(blocks(masks, scale).ravel(), bitorder="little").tobytes()
    assert made.PixelData[: len(packed)] == packed
    assert (made.pixel_array.reshape(-1, *made.pixel_array.shape[-2:]) == blocks(masks, scale)).all()


@pytest.mark.parametrize(("model", "scale"), [("bicubic", 4), ("fmen", 4), ("vdsr", 2)])
def test_masks_are_cut_at_one_half(model, scale, tmp_path):
    masks = random_masks(3, 24, 31)
    made = upscaled(segmentation(masks), tmp_path, model, scale)
    sr = fastsr.load(model, scale=scale)
    expected = np.stack([sr.upscale(mask.astype(np.float32)) > 0.5 for mask in masks])
    assert (made.pixel_array == expected).all()
    assert made.pixel_array.mean() == pytest.approx(masks.mean(), rel=0.05)
    assert "nothing was segmented" in made.DerivationDescription


def test_masks_keep_their_places(tmp_path):
    dataset = segmentation(random_masks(3, 24, 31))
    made = upscaled(dataset, tmp_path, "bicubic", 4)
    assert list(made.ImageType) == ["DERIVED", "PRIMARY"]
    assert list(made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing) == [0.1875, 0.125]
    shift = 1 / 8 - 1 / 2
    for i, group in enumerate(made.PerFrameFunctionalGroupsSequence):
        moved = [p + shift * (0.5 * x + 0.75 * y) for p, x, y in
                 zip([1.5 * i, -2.25 * i, 10 + i], OBLIQUE[:3], OBLIQUE[3:], strict=True)]  # fmt: skip
        assert np.abs(np.subtract(group.PlanePositionSequence[0].ImagePositionPatient, moved)).max() < 1e-6
        assert group.DerivationImageSequence[-1].SourceImageSequence[0].ReferencedFrameNumber == i + 1
    series = made.ReferencedSeriesSequence[-1]
    assert series.SeriesInstanceUID == dataset.SeriesInstanceUID
    assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == dataset.SOPInstanceUID
