"""Image Type and Frame Type of a derived object: DERIVED, SECONDARY where that is allowed, and what the source says."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset

from fastsr.medical.dicom.refusals import class_name, class_uid

# Objects without functional groups that allow only PRIMARY for the second value (PS3.3 C.8.4.9.1.1, C.8.17.2.1.4; all
# but those of a wide field: the tables of dciodvfy).
_PRIMARY = {
    "1.2.840.10008.5.1.4.1.1.20",  # NM
    "1.2.840.10008.5.1.4.1.1.128",  # PET
    "1.2.840.10008.5.1.4.1.1.77.1.5.1",  # ophthalmic photography, 8 and 16 bit
    "1.2.840.10008.5.1.4.1.1.77.1.5.2",
    "1.2.840.10008.5.1.4.1.1.77.1.5.5",  # the same of a wide field, stereographic and 3D
    "1.2.840.10008.5.1.4.1.1.77.1.5.6",
    "1.2.840.10008.5.1.4.1.1.77.1.5.7",  # ophthalmic tomography, en face
}
# Enhanced objects that allow only NONE for the fourth value (C.8.19.2.1.1.4; for 3D, the tables of dciodvfy).
_NO_CONTRAST = {
    "1.2.840.10008.5.1.4.1.1.12.1.1",  # XA
    "1.2.840.10008.5.1.4.1.1.12.2.1",  # XRF
    "1.2.840.10008.5.1.4.1.1.13.1.1",  # X-ray 3D, angiographic and craniofacial
    "1.2.840.10008.5.1.4.1.1.13.1.2",
}


def is_enhanced(header: Dataset) -> bool:
    return "SharedFunctionalGroupsSequence" in header or "Enhanced" in class_name(header)


def set_derived(image: Dataset, header: Dataset) -> None:
    """Set Image Type, and Frame Type wherever it is, to what a derived image of this source has there."""
    image.ImageType = _derived(header.get("ImageType"), header, is_enhanced(header))
    for element in image.iterall():
        if element.keyword == "FrameType":
            element.value = _derived(element.value, header, enhanced=True)


def _derived(value: Any, header: Dataset, enhanced: bool) -> list[str]:
    """Return DERIVED, SECONDARY, and the source's values from the third on.

    Enhanced objects allow only PRIMARY for the second (PS3.3 C.8.16.1.2), and say in the fourth how pixels were
    derived (C.8.16.1.4): RESAMPLED where it was NONE.
    """
    old = [value] if isinstance(value, str) else [str(v) for v in value or ()]
    if not enhanced:
        return ["DERIVED", "PRIMARY" if class_uid(header) in _PRIMARY else "SECONDARY", *old[2:]]
    contrast = old[3:4]
    if class_uid(header) not in _NO_CONTRAST:
        contrast = ["RESAMPLED" if v in ("NONE", "") else v for v in contrast]
    return ["DERIVED", *(old[1:2] or ["PRIMARY"]), *old[2:3], *contrast, *old[4:]]
