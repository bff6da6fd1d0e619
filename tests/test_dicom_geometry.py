"""The derived image covers the same field of view: computed here from the elements alone, in another way."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from dicom_objects import NM, OBLIQUE, RT_IMAGE, US, ct, enhanced_mr, grey, image, item, save
from pydicom.uid import UID

import fastsr

SCALES = (2, 3, 4)
REAL = ["693_J2KR", "CT_small", "MR_small", "nema_CT1_RLE", "nema_CT2_J2KR", "nema_MR3_JLSL", "nema_MR4_J2KR"]


def upscaled(dataset, tmp_path, scale, model="nearest"):
    save(dataset, tmp_path / "in.dcm")
    return pydicom.dcmread(fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.dcm", model=model, scale=scale))


def affine(position, orientation, spacing):
    """Return the matrix that takes (column, row, 1), from 0 at pixel centres, to millimetres."""
    row_spacing, column_spacing = map(float, spacing)
    x, y = np.array(orientation[:3], float), np.array(orientation[3:], float)
    return np.column_stack([x * column_spacing, y * row_spacing, np.array(position, float)])


def of_slice(d):
    return affine(d.ImagePositionPatient, d.ImageOrientationPatient, d.PixelSpacing)


def outline(matrix, rows, columns):
    """Return where the four outer corners and the centre of a grid of pixels lie."""
    places = [(-0.5, -0.5), (columns - 0.5, -0.5), (-0.5, rows - 0.5), (columns - 0.5, rows - 0.5)]
    places.append(((columns - 1) / 2, (rows - 1) / 2))
    return np.array([matrix @ (*place, 1) for place in places])


def assert_same_place(before, after, scale, rows, columns):
    old, new = outline(before, rows, columns), outline(after, scale * rows, scale * columns)
    np.testing.assert_allclose(new, old, rtol=0, atol=1e-6)
    np.testing.assert_allclose(new[4], (old[0] + old[3]) / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("h", "w"), [(1, 1), (7, 13), (16, 5)])
def test_an_oblique_slice_stays_where_it_is(h, w, scale, tmp_path):
    dataset = ct(grey(h, w), z=2.5)
    made = upscaled(dataset, tmp_path, scale)
    assert (made.Rows, made.Columns) == (scale * h, scale * w)
    assert_same_place(of_slice(dataset), of_slice(made), scale, h, w)
    assert made.ImageOrientationPatient == dataset.ImageOrientationPatient
    assert (made.SliceThickness, made.FrameOfReferenceUID) == (dataset.SliceThickness, dataset.FrameOfReferenceUID)


def test_the_formula_holds_for_numbers_worked_out_by_hand(tmp_path):
    dataset = ct(grey(3, 4), ImagePositionPatient=[10, 20, 30], ImageOrientationPatient=[1, 0, 0, 0, 1, 0])
    made = upscaled(dataset, tmp_path, 2)  # pixels of 0.5 (along x) by 0.75 mm: the new centres lie 1/4 of them out
    assert [float(v) for v in made.ImagePositionPatient] == [10 - 0.125, 20 - 0.1875, 30]
    assert [float(v) for v in made.PixelSpacing] == [0.375, 0.25]


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", REAL)
def test_real_slices_stay_where_they_are(name, scale, data, tmp_path):
    source = data / "medical" / "dicom" / f"{name}.dcm"
    made = pydicom.dcmread(fastsr.upscale_file(source, tmp_path / "out.dcm", model="nearest", scale=scale))
    was = pydicom.dcmread(source)
    assert_same_place(of_slice(was), of_slice(made), scale, was.Rows, was.Columns)


@pytest.mark.parametrize("scale", [2, 4])
def test_every_spacing_of_the_set_is_divided(data, scale, tmp_path):
    """What has a spacing keeps its extent, whichever element states it."""
    from test_dicom import DECODABLE

    keywords = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
    seen = 0
    for name in DECODABLE:
        source = data / "medical" / "dicom" / f"{name}.dcm"
        was = pydicom.dcmread(source)
        stated = [keyword for keyword in keywords if was.get(keyword)]
        if not stated or was.Rows > 600:
            continue
        out = tmp_path / f"{name}.dcm"
        made = pydicom.dcmread(fastsr.upscale_file(source, out, model="nearest", scale=scale), stop_before_pixels=True)
        for keyword in stated:
            seen += 1
            for axis, sides in enumerate(("Rows", "Columns")):
                extent = float(was[keyword].value[axis]) * was[sides].value
                assert float(made[keyword].value[axis]) * made[sides].value == pytest.approx(extent, rel=1e-9)
    assert seen > 20


def test_decimal_strings_fit_and_lose_nothing_that_counts(tmp_path):
    dataset = ct(
        grey(4, 5),
        PixelSpacing=["0.33333333333333", "0.1234567890123"],
        ImagePositionPatient=["-1234.567890123", "1e-07", "0"],
    )
    made = upscaled(dataset, tmp_path, 3)
    for keyword in ("PixelSpacing", "ImagePositionPatient"):
        assert all(len(str(value)) <= 16 for value in made[keyword].value)
    assert_same_place(of_slice(dataset), of_slice(made), 3, 4, 5)


def test_projections_have_other_spacings(tmp_path):
    spacings = {"ImagerPixelSpacing": [0.2, 0.4], "NominalScannedPixelSpacing": [0.1, 0.3]}
    made = upscaled(image("1.2.840.10008.5.1.4.1.1.1", grey(4, 5), bits=12, Modality="CR", **spacings), tmp_path, 2)
    assert [float(v) for v in made.ImagerPixelSpacing] == [0.1, 0.2]
    assert [float(v) for v in made.NominalScannedPixelSpacing] == [0.05, 0.15]


@pytest.mark.parametrize("scale", SCALES)
def test_frames_of_an_enhanced_object_stay_where_they_are(scale, tmp_path):
    pixels = np.stack([grey(5, 7, seed=i) for i in range(3)])
    dataset = enhanced_mr(pixels)
    made = upscaled(dataset, tmp_path, scale)

    def frame(d, i):
        shared, own = d.SharedFunctionalGroupsSequence[0], d.PerFrameFunctionalGroupsSequence[i]
        return affine(
            own.PlanePositionSequence[0].ImagePositionPatient,
            shared.PlaneOrientationSequence[0].ImageOrientationPatient,
            shared.PixelMeasuresSequence[0].PixelSpacing,
        )

    for i in range(3):
        assert_same_place(frame(dataset, i), frame(made, i), scale, 5, 7)
    assert made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 2


def test_measures_and_orientation_may_be_of_each_frame(tmp_path):
    planes = [([1, 0, 0, 0, 1, 0], [2.0, 3.0]), (OBLIQUE, [0.5, 0.25])]
    frames = [
        {
            "PlanePositionSequence": [item(ImagePositionPatient=[1, 2, 3 + i])],
            "PlaneOrientationSequence": [item(ImageOrientationPatient=orientation)],
            "PixelMeasuresSequence": [item(PixelSpacing=spacing)],
        }
        for i, (orientation, spacing) in enumerate(planes)
    ]
    dataset = enhanced_mr(np.stack([grey(4, 6, seed=i) for i in range(2)]), per_frame=frames)
    for sequence in ("PixelMeasuresSequence", "PlaneOrientationSequence"):
        del dataset.SharedFunctionalGroupsSequence[0][sequence]
    made = upscaled(dataset, tmp_path, 2)
    for i in range(2):
        before, after = (d.PerFrameFunctionalGroupsSequence[i] for d in (dataset, made))
        assert_same_place(
            *(
                affine(
                    group.PlanePositionSequence[0].ImagePositionPatient,
                    group.PlaneOrientationSequence[0].ImageOrientationPatient,
                    group.PixelMeasuresSequence[0].PixelSpacing,
                )
                for group in (before, after)
            ),
            2, 4, 6,
        )  # fmt: skip


def test_a_shared_position_is_moved_once(tmp_path):
    """A time series: all frames at one place."""
    shared = {"PlanePositionSequence": [item(ImagePositionPatient=[4, 5, 6])]}
    frames = [{"FrameContentSequence": [item(DimensionIndexValues=i + 1)]} for i in range(2)]
    dataset = enhanced_mr(np.stack([grey(4, 6, seed=i) for i in range(2)]), shared=shared, per_frame=frames)
    made = upscaled(dataset, tmp_path, 2)
    group = made.SharedFunctionalGroupsSequence[0]
    before = affine([4, 5, 6], OBLIQUE, [0.75, 0.5])
    after = affine(
        group.PlanePositionSequence[0].ImagePositionPatient, OBLIQUE, group.PixelMeasuresSequence[0].PixelSpacing
    )
    assert_same_place(before, after, 2, 4, 6)


def test_functional_groups_for_other_than_the_frames_are_refused(tmp_path):
    dataset = enhanced_mr(np.stack([grey(4, 6, seed=i) for i in range(3)]))
    del dataset.PerFrameFunctionalGroupsSequence[2]
    with pytest.raises(fastsr.ImageFileError, match="3 frames, but functional groups for 2"):
        upscaled(dataset, tmp_path, 2)


def test_nuclear_medicine_says_it_by_detector(tmp_path):
    detector = item(ImagePositionPatient=[10, 20, 30], ImageOrientationPatient=OBLIQUE)
    pixels = np.stack([grey(4, 6, seed=i) for i in range(2)])
    dataset = image(NM, pixels, bits=12, PixelSpacing=[4, 3], DetectorInformationSequence=[detector])
    made = upscaled(dataset, tmp_path, 4)
    new = made.DetectorInformationSequence[0]
    assert_same_place(
        affine([10, 20, 30], OBLIQUE, [4, 3]),
        affine(new.ImagePositionPatient, new.ImageOrientationPatient, made.PixelSpacing),
        4, 4, 6,
    )  # fmt: skip


@pytest.mark.parametrize("orientation", [None, [1, 0, 0, 0, -1, 0], [0, 1, 0, -1, 0, 0]])
def test_rt_images_lie_in_their_own_plane(orientation, tmp_path):
    plane = {"ImagePlanePixelSpacing": [0.8, 0.4], "RTImagePosition": [-100, 80]}
    if orientation is not None:
        plane["RTImageOrientation"] = orientation
    dataset = image(RT_IMAGE, grey(4, 6), bits=12, **plane)
    made = upscaled(dataset, tmp_path, 2)
    axes = orientation or [1, 0, 0, 0, -1, 0]
    before, after = (affine([*d.RTImagePosition, 0], axes, d.ImagePlanePixelSpacing) for d in (dataset, made))
    assert_same_place(before, after, 2, 4, 6)


# --- what counts in pixels --------------------------------------------------------------------------------------


def region(**more):
    return item(
        **{
            "RegionSpatialFormat": 1,
            "RegionLocationMinX0": 2,
            "RegionLocationMinY0": 3,
            "RegionLocationMaxX1": 9,
            "RegionLocationMaxY1": 11,
            "PhysicalUnitsXDirection": 3,
            "PhysicalUnitsYDirection": 3,
            "PhysicalDeltaX": 0.02,
            "PhysicalDeltaY": 0.04,
            **more,
        }
    )


@pytest.mark.parametrize("scale", SCALES)
def test_ultrasound_regions_cover_the_same_pixels(scale, tmp_path):
    reference = {
        "ReferencePixelX0": 4,
        "ReferencePixelY0": 0,
        "ReferencePixelPhysicalValueX": 1.0,
        "ReferencePixelPhysicalValueY": -2.0,
    }
    dataset = image(US, grey(14, 12, high=255, dtype="uint8"), SequenceOfUltrasoundRegions=[region(**reference)])
    made = upscaled(dataset, tmp_path, scale)
    mask = np.zeros((14, 12), bool)
    mask[3:12, 2:10] = True
    new, big = made.SequenceOfUltrasoundRegions[0], np.zeros((14 * scale, 12 * scale), bool)
    big[
        new.RegionLocationMinY0 : new.RegionLocationMaxY1 + 1, new.RegionLocationMinX0 : new.RegionLocationMaxX1 + 1
    ] = True
    assert (big == mask.repeat(scale, axis=0).repeat(scale, axis=1)).all()
    # the physical value at the centre of any old pixel is the same, read off the new grid
    old = dataset.SequenceOfUltrasoundRegions[0]
    for axis, pixel in (("X", 7), ("Y", 5)):
        value, delta, at = (f"ReferencePixelPhysicalValue{axis}", f"PhysicalDelta{axis}", f"ReferencePixel{axis}0")
        was = old[value].value + (pixel - old[at].value) * old[delta].value
        now = new[value].value + (scale * pixel + (scale - 1) / 2 - new[at].value) * new[delta].value
        assert now == pytest.approx(was, abs=1e-12)


def test_regions_of_a_real_file(data, tmp_path):
    source = data / "medical" / "dicom" / "US_YBR_FULL_422.dcm"
    made = pydicom.dcmread(fastsr.upscale_file(source, tmp_path / "out.dcm", model="nearest", scale=2))
    was = pydicom.dcmread(source)
    for old, new in zip(was.SequenceOfUltrasoundRegions, made.SequenceOfUltrasoundRegions, strict=True):
        assert new.RegionLocationMaxX1 + 1 - new.RegionLocationMinX0 == 2 * (
            old.RegionLocationMaxX1 + 1 - old.RegionLocationMinX0
        )
        assert new.PhysicalDeltaX == pytest.approx(old.PhysicalDeltaX / 2, rel=1e-12)


@pytest.mark.parametrize("scale", SCALES)
def test_shutters_hide_the_same_pixels(scale, tmp_path):
    edges = {
        "ShutterShape": "RECTANGULAR",
        "ShutterLeftVerticalEdge": 3,
        "ShutterRightVerticalEdge": 9,
        "ShutterUpperHorizontalEdge": 2,
        "ShutterLowerHorizontalEdge": 5,
        "CenterOfCircularShutter": [4, 6],
        "RadiusOfCircularShutter": 3,
    }
    made = upscaled(ct(grey(8, 12), **edges), tmp_path, scale)
    shown = np.zeros((8, 12), bool)
    shown[1:5, 2:9] = True  # counted from 1
    big = np.zeros((8 * scale, 12 * scale), bool)
    big[made.ShutterUpperHorizontalEdge - 1 : made.ShutterLowerHorizontalEdge,
        made.ShutterLeftVerticalEdge - 1 : made.ShutterRightVerticalEdge] = True  # fmt: skip
    assert (big == shown.repeat(scale, axis=0).repeat(scale, axis=1)).all()
    for old, new in zip((4, 6), made.CenterOfCircularShutter, strict=True):
        assert abs(new - (scale * (old - 1) + (scale + 1) / 2)) <= 0.5
    assert made.RadiusOfCircularShutter == 3 * scale


@pytest.mark.parametrize("frames", [None, 2])
def test_overlays_cover_the_same_pixels(frames, tmp_path):
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2, (frames or 1, 5, 7), dtype=np.uint8)
    dataset = ct(grey(9, 11))
    dataset.add_new(0x60000010, "US", 5)
    dataset.add_new(0x60000011, "US", 7)
    dataset.add_new(0x60000040, "CS", "G")
    dataset.add_new(0x60000050, "SS", [3, 4])
    dataset.add_new(0x60000100, "US", 1)
    dataset.add_new(0x60000102, "US", 0)
    if frames:
        dataset.add_new(0x60000015, "IS", frames)
    dataset.add_new(0x60001301, "IS", 12)
    packed = np.packbits(bits, bitorder="little").tobytes()
    dataset.add_new(0x60003000, "OW", packed + b"\0" * (len(packed) % 2))
    dataset.add_new(0x60020010, "US", 5)  # a second one, kept in bits of the pixels: retired
    dataset.add_new(0x60020011, "US", 7)
    dataset.add_new(0x60020102, "US", 14)
    made = upscaled(dataset, tmp_path, 2)
    assert (made[0x60000010].value, made[0x60000011].value, list(made[0x60000050].value)) == (10, 14, [5, 7])
    shown = made.overlay_array(0x6000)
    assert (shown.reshape(frames or 1, 10, 14) == bits.repeat(2, axis=1).repeat(2, axis=2)).all()
    assert 0x60001301 not in made
    assert not made.group_dataset(0x6002)


def test_mask_shifts_are_in_pixels(tmp_path):
    shift = [item(MaskOperation="AVG_SUB", MaskSubPixelShift=[0.5, -1.25])]
    made = upscaled(ct(grey(4, 4), MaskSubtractionSequence=shift), tmp_path, 4)
    assert made.MaskSubtractionSequence[0].MaskSubPixelShift == [2, -5]
    assert UID(made.SOPClassUID).name == "CT Image Storage"
