"""The header of a derived object: identity, provenance, what is kept and what is dropped."""

from __future__ import annotations

import hashlib

import numpy as np
import pydicom
import pytest
from dicom_objects import MR, ct, enhanced_mr, grey, image, item, save, uid
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

import fastsr
from fastsr.medical import Intensity, Options
from fastsr.medical.dicom import derive

CHANGED = {
    "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "ImageType", "Rows", "Columns",
    "PixelSpacing", "ImagePositionPatient", "DerivationDescription", "DerivationCodeSequence", "SourceImageSequence",
    "ContributingEquipmentSequence", "PixelData",
}  # fmt: skip


def upscaled(dataset, tmp_path, model="nearest", scale=2, **options):
    save(dataset, tmp_path / "in.dcm")
    out = fastsr.upscale_file(
        tmp_path / "in.dcm", tmp_path / "out.dcm", model=model, scale=scale, overwrite=True, medical=Options(**options)
    )
    return pydicom.dcmread(out)


def codes(sequence):
    return [(c.CodeValue, c.CodingSchemeDesignator, c.CodeMeaning) for c in sequence]


def test_all_other_elements_are_kept_as_they_are(tmp_path):
    dataset = ct(
        grey(5, 6), WindowCenter=[40, 300], WindowWidth=[400, 1500], BodyPartExamined="CHEST", SliceLocation=3.5
    )
    made = upscaled(dataset, tmp_path)
    assert {e.keyword for e in made} - {e.keyword for e in dataset} <= CHANGED
    assert {e.keyword for e in dataset} <= {e.keyword for e in made}
    assert {e.keyword for e in dataset if made[e.tag] != e} <= CHANGED
    assert str(made.PatientName) == "Müller^Anna"
    assert made.SpecificCharacterSet == "ISO_IR 192"


def test_identity(tmp_path):
    dataset = ct(grey(5, 6))
    made = upscaled(dataset, tmp_path)
    assert made.SOPInstanceUID == made.file_meta.MediaStorageSOPInstanceUID != dataset.SOPInstanceUID
    assert made.file_meta.MediaStorageSOPClassUID == made.SOPClassUID == dataset.SOPClassUID
    assert made.SeriesInstanceUID != dataset.SeriesInstanceUID
    assert made.StudyInstanceUID == dataset.StudyInstanceUID
    assert 3001 <= made.SeriesNumber <= 3999
    assert made.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    for new in (made.SOPInstanceUID, made.SeriesInstanceUID, made.file_meta.ImplementationClassUID):
        number = int(new.removeprefix("2.25."))
        assert number.bit_length() <= 128
        assert (number >> 76) & 0xF == 8  # RFC 9562: version
        assert (number >> 62) & 0x3 == 2  # and variant
        assert UID(new).is_valid


def test_provenance(tmp_path):
    dataset = ct(grey(5, 6), DerivationDescription="made by hand")
    made = upscaled(dataset, tmp_path, model="vdsr")
    model = fastsr.load("vdsr", scale=2).model
    description = made.DerivationDescription
    for part in (
        "FastSR",
        fastsr.__version__,
        "vdsr",
        "x2",
        model.sha256,
        "fp32",
        "native",
        "-1024 to 3071",
        "made by hand",
    ):
        assert part in description
    assert len(description) <= 1024
    assert codes(made.DerivationCodeSequence) == [("113085", "DCM", "Spatial resampling")]
    (source,) = made.SourceImageSequence
    assert (source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID) == (
        dataset.SOPClassUID,
        dataset.SOPInstanceUID,
    )
    assert codes(source.PurposeOfReferenceCodeSequence) == [
        ("121322", "DCM", "Source image for image processing operation")
    ]
    (equipment,) = made.ContributingEquipmentSequence
    assert codes(equipment.PurposeOfReferenceCodeSequence) == [("109102", "DCM", "Processing Equipment")]
    assert (equipment.Manufacturer, equipment.SoftwareVersions) == ("FastSR", fastsr.__version__)


def test_provenance_of_the_source_goes_on(tmp_path):
    before = item(CodeValue="113040", CodingSchemeDesignator="DCM", CodeMeaning="Lossy Compression")
    scanner = item(Manufacturer="Other", PurposeOfReferenceCodeSequence=[before])
    dataset = ct(grey(5, 6), DerivationCodeSequence=[before], ContributingEquipmentSequence=[scanner])
    dataset.LossyImageCompression, dataset.LossyImageCompressionRatio = "01", [10]
    made = upscaled(dataset, tmp_path)
    assert [code.CodeValue for code in made.DerivationCodeSequence] == ["113040", "113085"]
    assert [e.Manufacturer for e in made.ContributingEquipmentSequence] == ["Other", "FastSR"]
    assert (made.LossyImageCompression, made.LossyImageCompressionRatio) == ("01", 10)


def test_twice_derived(tmp_path):
    first = upscaled(ct(grey(5, 6)), tmp_path)
    second = upscaled(first, tmp_path)
    assert second.Rows == 20
    assert second.SourceImageSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID
    assert len(second.DerivationCodeSequence) == len(second.ContributingEquipmentSequence) == 2
    assert len(second.DerivationDescription) <= 1024


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "AXIAL"]),
        (["DERIVED", "PRIMARY", "", "R"], ["DERIVED", "SECONDARY", "", "R"]),
        (["ORIGINAL", "PRIMARY"], ["DERIVED", "SECONDARY"]),
        (None, ["DERIVED", "SECONDARY"]),
    ],
)
def test_image_type(before, after, tmp_path):
    dataset = ct(grey(5, 6))
    if before is None:
        del dataset.ImageType
    else:
        dataset.ImageType = before
    assert list(upscaled(dataset, tmp_path).ImageType) == after


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.20", "1.2.840.10008.5.1.4.1.1.128"])
def test_nuclear_medicine_stays_primary(sop_class, tmp_path):
    """NM and PET allow nothing else for the second value."""
    dataset = image(sop_class, grey(5, 6), ImageType=["ORIGINAL", "PRIMARY", "STATIC", "EMISSION"])
    assert list(upscaled(dataset, tmp_path).ImageType) == ["DERIVED", "PRIMARY", "STATIC", "EMISSION"]


def test_enhanced_objects_lose_what_only_an_acquisition_has_to_say(tmp_path):
    """dciodvfy objects to it in DERIVED objects; MR Image cannot do without MR Acquisition Type."""
    acquired = {"MRAcquisitionType": "3D", "PulseSequenceName": "gre", "BulkMotionCompensationTechnique": "NONE"}
    calibration = item(TableHeight=1, BeamAngle=2, DistanceObjectToTableTop=3)
    made = enhanced_mr(np.stack([grey(5, 6)] * 2), shared={"ProjectionPixelCalibrationSequence": [calibration]})
    made.update(item(**acquired, MagneticFieldStrength=3))
    made = upscaled(made, tmp_path)
    assert not any(keyword in made for keyword in acquired)
    assert made.MagneticFieldStrength == 3
    (kept,) = made.SharedFunctionalGroupsSequence[0].ProjectionPixelCalibrationSequence
    assert [element.keyword for element in kept] == ["DistanceObjectToTableTop"]
    single = image(MR, grey(5, 6), **acquired)
    assert all(upscaled(single, tmp_path)[keyword].value == value for keyword, value in acquired.items())


def test_enhanced_objects_say_it_for_each_frame(tmp_path):
    dataset = enhanced_mr(np.stack([grey(5, 7, seed=i) for i in range(3)]))
    made = upscaled(dataset, tmp_path)
    expected = ["DERIVED", "PRIMARY", "OTHER", "RESAMPLED"]  # PRIMARY is all that PS3.3 C.8.16.1.2 allows
    assert list(made.ImageType) == expected
    assert list(made.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence[0].FrameType) == expected
    for i, group in enumerate(made.PerFrameFunctionalGroupsSequence):
        (derivation,) = group.DerivationImageSequence
        (source,) = derivation.SourceImageSequence
        assert (source.ReferencedSOPInstanceUID, source.ReferencedFrameNumber) == (dataset.SOPInstanceUID, i + 1)
        assert codes(derivation.DerivationCodeSequence) == [("113085", "DCM", "Spatial resampling")]
    (study,) = made.SourceImageEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert (study.StudyInstanceUID, series.SeriesInstanceUID) == (dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == dataset.SOPInstanceUID


def test_concatenations_stay_together(tmp_path):
    whole = {"ConcatenationUID": uid("all"), "SOPInstanceUIDOfConcatenationSource": uid("whole")}
    parts = [upscaled(ct(grey(5, 6), name=name, **whole), tmp_path) for name in "ab"]
    assert parts[0].ConcatenationUID == parts[1].ConcatenationUID != uid("all")
    assert parts[0].SOPInstanceUIDOfConcatenationSource == parts[1].SOPInstanceUIDOfConcatenationSource != uid("whole")


@pytest.mark.parametrize("described", ["", "Thorax", "T" * 64, "Ü" * 60])
def test_series_description_gets_a_suffix_that_fits(described, tmp_path):
    made = upscaled(ct(grey(5, 6), SeriesDescription=described), tmp_path)
    assert made.SeriesDescription.endswith("nearest x2 (FastSR)")
    assert made.SeriesDescription.startswith(described[:40])
    assert len(made.SeriesDescription) <= 64


def test_dropped_elements(tmp_path):
    icon = item(Rows=2, Columns=2, PixelData=b"\0\1\2\3")
    icon["PixelData"].VR = "OB"
    signed = item(MACIDNumber=1, DigitalSignatureUID=uid("signature"))
    dataset = ct(
        grey(5, 6),
        IconImageSequence=[icon],
        SmallestImagePixelValue=3,
        LargestImagePixelValue=4000,
        DigitalSignaturesSequence=[signed],
        MACParametersSequence=[item(MACIDNumber=1)],
        InstanceCreationDate="20260101",
        SOPInstanceStatus="AO",
        ReferencedImageSequence=[item(ReferencedSOPInstanceUID=uid("x"), DigitalSignaturesSequence=[signed])],
    )
    dataset.add_new(0x50000005, "US", 2)  # a curve
    made = upscaled(dataset, tmp_path)
    gone = "IconImageSequence SmallestImagePixelValue LargestImagePixelValue DigitalSignaturesSequence "
    for keyword in (gone + "MACParametersSequence InstanceCreationDate SOPInstanceStatus").split():
        assert keyword not in made
    assert 0x50000005 not in made
    assert "DigitalSignaturesSequence" not in made.ReferencedImageSequence[0]


def test_private_elements_are_kept_on_request_only(tmp_path):
    def dataset():
        made = ct(grey(5, 6), ReferencedImageSequence=[item(ReferencedSOPInstanceUID=uid("x"))])
        for where in (made, made.ReferencedImageSequence[0]):
            where.private_block(0x0029, "MAKER", create=True).add_new(0x10, "LO", "secret")
        return made

    plain, kept = upscaled(dataset(), tmp_path), upscaled(dataset(), tmp_path, keep_private=True)
    assert not any(e.tag.is_private for e in plain.iterall())
    assert kept.private_block(0x0029, "MAKER")[0x10].value == "secret"
    assert kept.ReferencedImageSequence[0].private_block(0x0029, "MAKER")[0x10].value == "secret"
    assert kept.SOPInstanceUID != plain.SOPInstanceUID


def test_lossy_pixels_are_said_to_be_lossy(data, tmp_path):
    """What a lossy file does not say of itself is added; what it says is kept."""
    source = pydicom.dcmread(data / "medical" / "dicom" / "SC_rgb_jpeg_dcmtk.dcm")
    del source.LossyImageCompression, source.LossyImageCompressionMethod
    made = upscaled(source, tmp_path)
    assert (made.LossyImageCompression, made.LossyImageCompressionMethod) == ("01", "ISO_10918_1")


def test_the_same_run_gives_the_same_bytes(tmp_path):
    hashes = []
    for _ in range(2):
        upscaled(ct(grey(5, 6)), tmp_path, model="bicubic")
        hashes.append(hashlib.sha256((tmp_path / "out.dcm").read_bytes()).hexdigest())
    assert hashes[0] == hashes[1]


def test_uids_differ_with_everything_that_the_result_depends_on(tmp_path):
    runs = [
        upscaled(ct(grey(5, 6)), tmp_path),
        upscaled(ct(grey(5, 6)), tmp_path, model="bilinear"),
        upscaled(ct(grey(5, 6)), tmp_path, scale=3),
        upscaled(ct(grey(5, 6)), tmp_path, window=(40, 400)),
        upscaled(ct(grey(5, 6), name="b"), tmp_path),
    ]
    assert len({d.SOPInstanceUID for d in runs}) == len(runs)
    assert len({d.SeriesInstanceUID for d in runs}) == len(runs) - 1  # the last is another slice of the first's series
    assert len({d.SeriesNumber for d in runs[:4]}) == 4


@pytest.mark.parametrize(("number", "made"), [(None, range(1, 1000)), (0, range(1, 1000)), (2**31 - 1, range(1, 1000))])
def test_series_numbers_stay_numbers(number, made, tmp_path):
    assert upscaled(ct(grey(5, 6), SeriesNumber=number), tmp_path).SeriesNumber in made


def test_character_sets_survive(tmp_path):
    dataset = ct(
        grey(5, 6), SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう"
    )
    made = upscaled(dataset, tmp_path)
    assert made.PatientName == dataset.PatientName
    assert list(made.SpecificCharacterSet) == ["", "ISO 2022 IR 87"]


def test_luts_of_a_big_endian_file_are_turned(tmp_path):
    """OW values are words; pydicom hands them over as they lie in the file."""
    words = np.random.default_rng(0).integers(0, 1 << 16, 16).astype(np.uint16)
    lut = item(LUTDescriptor=[16, 0, 16])
    lut.add_new(0x00283006, "OW", words.astype(">u2").tobytes())
    pixels = grey(4, 5, high=15)
    dataset = ct(pixels, VOILUTSequence=[lut])
    dataset.PixelData = pixels.astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.2"
    made = upscaled(dataset, tmp_path)
    assert np.array_equal(np.frombuffer(made.VOILUTSequence[0][0x00283006].value, "<u2"), words)
    assert (made.pixel_array == pixels.repeat(2, axis=0).repeat(2, axis=1)).all()


def test_implicit_and_explicit_sources_give_one_header(tmp_path):
    explicit = upscaled(ct(grey(5, 6), PixelPaddingValue=0), tmp_path)
    dataset = ct(grey(5, 6), PixelPaddingValue=0)
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    implicit = upscaled(dataset, tmp_path)
    assert list(explicit) == list(implicit)


def test_derive_leaves_the_dataset_and_makes_the_header_that_files_get(tmp_path):
    dataset = ct(grey(5, 6))
    before = dataset.to_json()
    header = derive(dataset, fastsr.load("nearest", scale=2), intensity=Intensity(-1024.0, 3071.0, "12 stored bits"))
    assert dataset.to_json() == before
    assert "PixelData" not in header
    made = upscaled(dataset, tmp_path)
    del made.PixelData
    description = made.DerivationDescription.partition(" Residual")[0]  # which only pixels have
    made.DerivationDescription = description
    assert header == made


def test_palettes_and_ybr_lose_what_described_them(tmp_path):
    ybr = image("1.2.840.10008.5.1.4.1.1.7", np.full((4, 4, 3), 128, np.uint8), PhotometricInterpretation="YBR_FULL")
    made = upscaled(ybr, tmp_path)
    assert made.PhotometricInterpretation == "RGB"
    assert (made.pixel_array == 128).all()
