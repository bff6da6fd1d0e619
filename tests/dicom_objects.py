"""DICOM objects made for tests: small, random pixels, valid as far as dciodvfy tells."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR, SC, US = "1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.6.1"
NM, RT_IMAGE = "1.2.840.10008.5.1.4.1.1.20", "1.2.840.10008.5.1.4.1.1.481.1"
# An oblique plane: two unit vectors at right angles, all components used.
OBLIQUE = [0.6, 0.64, -0.48, -0.8, 0.48, -0.36]


def uid(*names: object) -> str:
    """Return a UID that is the same in every run."""
    return generate_uid(entropy_srcs=["fastsr tests", *map(str, names)])


def item(**elements: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, Sequence(value) if keyword.endswith("Sequence") else value)
    return dataset


def image(
    sop_class: str, pixels: np.ndarray, *, bits: int | None = None, name: str = "a", **elements: object
) -> Dataset:
    """Return an image of pixels (H, W), (F, H, W) or RGB with a last axis of 3; what `elements` says wins."""
    colours = pixels.ndim > 2 and pixels.shape[-1] == 3
    frames = pixels.shape[0] if pixels.ndim - colours == 3 else None
    rows, columns = pixels.shape[-3:-1] if colours else pixels.shape[-2:]
    size = 8 * pixels.dtype.itemsize
    dataset = item(
        SpecificCharacterSet="ISO_IR 192",
        SOPClassUID=sop_class,
        SOPInstanceUID=uid("instance", name),
        StudyInstanceUID=uid("study"),
        SeriesInstanceUID=uid("series"),
        StudyDate="20260101",
        StudyTime="120000",
        AccessionNumber="",
        ReferringPhysicianName="",
        StudyID="1",
        SeriesNumber=3,
        InstanceNumber=1,
        PatientName="Müller^Anna",
        PatientID="P1",
        PatientBirthDate="",
        PatientSex="O",
        Manufacturer="Maker",
        Modality={CT: "CT", MR: "MR", ENHANCED_MR: "MR", US: "US", NM: "NM", RT_IMAGE: "RTIMAGE"}.get(sop_class, "OT"),
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        Rows=rows,
        Columns=columns,
        SamplesPerPixel=3 if colours else 1,
        PhotometricInterpretation="RGB" if colours else "MONOCHROME2",
        BitsAllocated=size,
        BitsStored=bits or size,
        HighBit=(bits or size) - 1,
        PixelRepresentation=int(pixels.dtype.kind == "i"),
    )
    if colours:
        dataset.PlanarConfiguration = 0
    if frames is not None:
        dataset.NumberOfFrames = frames
    dataset.update(item(**elements))
    data = np.ascontiguousarray(pixels).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if size == 8 else "OW"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, dataset.SOPInstanceUID
    dataset.file_meta = meta
    return dataset


def ct(pixels: np.ndarray, *, z: float = 0.0, name: str = "a", **elements: object) -> Dataset:
    """Return a CT slice of 12 unsigned bits, -1024 the intercept, at z mm along the normal of an oblique plane."""
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    place = np.array([-100.5, 20.25, 7.125]) + z * normal
    given = {
        "bits": 12,
        "FrameOfReferenceUID": uid("frame of reference"),
        "PositionReferenceIndicator": "",
        "PatientPosition": "HFS",
        "PixelSpacing": [0.75, 0.5],
        "SliceThickness": 2,
        "ImageOrientationPatient": OBLIQUE,
        "ImagePositionPatient": [float(f"{value:.6f}") for value in place],
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        "RescaleType": "HU",
        "KVP": 120,
        "AcquisitionNumber": 1,
        "SeriesDescription": "Thorax",
        **elements,
    }
    return image(CT, pixels, name=name, **given)


def enhanced_mr(
    pixels: np.ndarray, *, shared: dict[str, object] | None = None, per_frame: list | None = None
) -> Dataset:
    """Return an enhanced MR object with functional groups: measures and orientation shared, position by frame."""
    groups = {
        "PixelMeasuresSequence": [item(PixelSpacing=[0.75, 0.5], SliceThickness=2)],
        "PlaneOrientationSequence": [item(ImageOrientationPatient=OBLIQUE)],
        "PixelValueTransformationSequence": [item(RescaleSlope=2, RescaleIntercept=-10, RescaleType="US")],
        "MRImageFrameTypeSequence": [item(FrameType=["ORIGINAL", "PRIMARY", "OTHER", "NONE"])],
        **(shared or {}),
    }
    frames = per_frame or [
        {
            "PlanePositionSequence": [item(ImagePositionPatient=[1.5 * i, -2.25 * i, 10 + i])],
            "FrameContentSequence": [item(DimensionIndexValues=i + 1)],
        }
        for i in range(len(pixels))
    ]
    return image(
        ENHANCED_MR,
        pixels,
        bits=12,
        ImageType=["ORIGINAL", "PRIMARY", "OTHER", "NONE"],
        FrameOfReferenceUID=uid("frame of reference"),
        SharedFunctionalGroupsSequence=[item(**groups)],
        PerFrameFunctionalGroupsSequence=[item(**frame) for frame in frames],
    )


def save(dataset: Dataset, path: object) -> object:
    dataset.save_as(path, enforce_file_format=True)
    return path


def grey(h: int, w: int, *, low: int = 0, high: int = 4095, dtype: str = "uint16", seed: int = 0) -> np.ndarray:
    """Return random pixels (h, w), low and high included."""
    return np.random.default_rng([seed, h, w]).integers(low, high, (h, w), dtype=dtype, endpoint=True)
