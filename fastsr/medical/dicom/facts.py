"""What a run remembers of each file: little, so that a folder of ten thousand slices fits into memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from fastsr.errors import ImageFileError
from fastsr.medical.dicom.decode import Layout
from fastsr.medical.dicom.geometry import pixel_spacing
from fastsr.medical.dicom.padding import Padding
from fastsr.medical.dicom.read import DicomImage
from fastsr.medical.dicom.refusals import RT_DOSE, class_uid, forced_note


@dataclass(frozen=True)
class Rescale:
    """Source units = slope * stored + intercept."""

    slope: float
    intercept: float


@dataclass(frozen=True)
class Facts:
    """One image. rescales: one for each frame; in_hounsfield: the units are HU; place: along the slices' normal.

    is_dose: the units are those of Dose Units; note: what has to be said of it as it is no picture, or "".
    """

    path: Path
    patient: str
    study: str
    series: str
    instance: str
    modality: str | None
    layout: Layout
    rescales: tuple[Rescale, ...]
    padding: Padding | None
    has_lut: bool
    in_hounsfield: bool
    is_dose: bool
    note: str
    spacing: tuple[float, float] | None
    place: float | None
    number: int | None


def facts_of(image: DicomImage) -> Facts:
    """Gather what is needed of an image. Raises ImageFileError."""
    path, header, layout = image.path, image.header, image.layout
    modality = str(header.get("Modality") or "").strip() or None
    number = header.get("InstanceNumber")
    hounsfield = modality == "CT" and "RescaleIntercept" in header and header.get("RescaleType", "HU") == "HU"
    return Facts(
        path=path,
        patient=f"{header.get('PatientID')} {header.get('PatientName')}",
        study=str(header.StudyInstanceUID),
        series=str(header.SeriesInstanceUID),
        instance=str(header.SOPInstanceUID),
        modality=modality,
        layout=layout,
        rescales=_rescales(path, header, layout.frames),
        padding=_padding(header, layout),
        has_lut="ModalityLUTSequence" in header,
        in_hounsfield=hounsfield,
        is_dose=class_uid(header) == RT_DOSE,
        note=forced_note(header),
        spacing=pixel_spacing(header),
        place=_place(header),
        number=None if number in (None, "") else int(number),
    )


def _rescales(path: Path, header: Dataset, frames: int) -> tuple[Rescale, ...]:
    """Return each frame's rescale; 1 and 0 where there is none, or a Modality LUT."""
    if class_uid(header) == RT_DOSE:
        return (_dose_scaling(path, header),) * frames
    common = _rescale(path, (header, *(header.get("SharedFunctionalGroupsSequence") or ())), Rescale(1.0, 0.0))
    per_frame = header.get("PerFrameFunctionalGroupsSequence") or ()
    if not per_frame:
        return (common,) * frames
    if len(per_frame) != frames:
        raise ImageFileError(f"{path} has {frames} frames, but functional groups for {len(per_frame)}")
    return tuple(_rescale(path, (group,), common) for group in per_frame)


def _dose_scaling(path: Path, header: Dataset) -> Rescale:
    """Return what makes stored values doses (PS3.3 C.8.8.3)."""
    scaling = header.get("DoseGridScaling")
    if scaling in (None, "") or not (math.isfinite(scaling) and scaling > 0):
        raise ImageFileError(f"{path} has Dose Grid Scaling {scaling!s:.20}; a number above 0 is needed")
    return Rescale(float(scaling), 0.0)


def _rescale(path: Path, groups: Sequence[Dataset], common: Rescale) -> Rescale:
    for group in groups:
        for item in (group, *(group.get("PixelValueTransformationSequence") or ())):
            slope, intercept = item.get("RescaleSlope"), item.get("RescaleIntercept")
            if slope in (None, "") and intercept in (None, ""):
                continue
            found = Rescale(float(1 if slope in (None, "") else slope), float(intercept or 0))
            if not (math.isfinite(found.slope) and math.isfinite(found.intercept) and found.slope):
                raise ImageFileError(
                    f"{path} has Rescale Slope {slope}, Intercept {intercept}; its values mean nothing"
                )
            return found
    return common


def _padding(header: Dataset, layout: Layout) -> Padding | None:
    """Return the padding values of a grey image (PS3.3 C.7.5.1.1.2)."""
    value, limit = header.get("PixelPaddingValue"), header.get("PixelPaddingRangeLimit")
    if not layout.grey or value in (None, ""):
        return None
    ends = [_as_stored(int(end), layout) for end in (value, value if limit in (None, "") else limit)]
    low, high = max(min(ends), layout.limits[0]), min(max(ends), layout.limits[1])
    return Padding(low, high) if low <= high else None


def _as_stored(value: int, layout: Layout) -> int:
    """Read a value that was written with the other sign (US for SS) as the pixels are."""
    size = 1 << layout.bits_allocated
    if layout.signed and value >= size // 2:
        return value - size
    return value + size if not layout.signed and value < 0 else value


def _place(header: Dataset) -> float | None:
    """Return where the slice lies along the normal of its plane, in mm."""
    try:
        position = [float(v) for v in header.ImagePositionPatient]
        a, b, c, d, e, f = (float(v) for v in header.ImageOrientationPatient)
    except (AttributeError, TypeError, ValueError):
        return None
    normal = (b * f - c * e, c * d - a * f, a * e - b * d)
    return sum(p * n for p, n in zip(position, normal, strict=False))
