"""What is refused, in words: objects that are no images, and images that would come out wrong."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import UID

from fastsr.errors import ImageFileError

RT_DOSE, SEGMENTATION = "1.2.840.10008.5.1.4.1.1.481.2", "1.2.840.10008.5.1.4.1.1.66.4"
# SOP classes that are upscaled only if forced: the reason, and what the derived object says of itself.
_FORCED = {
    RT_DOSE: (
        "its pixels are a dose, computed on a grid, to which a prior learned from images may add nothing",
        "The pixels are a dose, and no dose was calculated.",
    ),
    SEGMENTATION: (
        "its pixels say which segment they belong to",
        "The pixels are a mask, and nothing was segmented: its edges were redrawn.",
    ),
}
# SOP classes whose Pixel Data are no picture, with the reason.
_NO_PICTURES = {
    "1.2.840.10008.1.3.10": "it is an index of files (DICOMDIR); the files themselves, or their folder, can be",
    "1.2.840.10008.5.1.4.1.1.66.7": "its pixels say which segment they belong to",
    "1.2.840.10008.5.1.4.1.1.66.8": "its pixels are heights of a segmented surface",
    "1.2.840.10008.5.1.4.1.1.30": "its pixels are measurements, to which a prior learned from images may add nothing",
    "1.2.840.10008.5.1.4.1.1.77.1.6": "its frames are tiles of one picture, which would get seams",
}


def class_name(header: Dataset) -> str:
    """Return the name of the object's SOP class, or its UID where the name is unknown."""
    stated = class_uid(header)
    return UID(stated).name if stated else "an object without a SOP class"


def class_uid(header: Dataset) -> str:
    """Return the object's SOP Class UID, or "" where none is stated."""
    meta = getattr(header, "file_meta", None) or {}
    return str(header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")


def refused(path: Path, header: Dataset, reason: str) -> ImageFileError:
    """Return the error that an object cannot be upscaled."""
    return ImageFileError(f"{path} is {class_name(header)} and is not upscaled: {reason}")


def check_object(path: Path, header: Dataset) -> None:
    """Raise ImageFileError for an object that is no picture, or whose identity is missing."""
    stated = class_uid(header)
    if stated in _NO_PICTURES:
        raise refused(path, header, _NO_PICTURES[stated])
    if "TotalPixelMatrixColumns" in header:
        raise refused(path, header, "its frames are tiles of one picture, which would get seams")
    kind = str(header.get("SegmentationType", "")).strip()
    if stated == SEGMENTATION and kind != "BINARY":
        raise refused(
            path, header, f"its Segmentation Type is {kind or 'not stated'}; BINARY ones can be, with --force"
        )
    if "MOSAIC" in (header.get("ImageType") or ()):
        raise refused(path, header, "it is a mosaic of slices, which would bleed into each other")
    for keyword, name in (("StudyInstanceUID", "Study"), ("SeriesInstanceUID", "Series"), ("SOPInstanceUID", "SOP")):
        if not header.get(keyword) and "Rows" in header:
            raise ImageFileError(f"{path} has no {name} Instance UID, so nothing can be derived from it")
    if header.get("SOPClassUID") in (None, "") and "Rows" in header:
        raise ImageFileError(f"{path} has no SOP Class UID, so it is not known what it is")


def check_unforced(path: Path, header: Dataset) -> None:
    """Raise ImageFileError for what is upscaled only if forced: what is no picture, and burned-in text."""
    if class_uid(header) in _FORCED:
        reason, _ = _FORCED[class_uid(header)]
        raise refused(path, header, f"{reason}; --force (force=True) upscales it all the same, best with bicubic")
    if str(header.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        raise refused(
            path,
            header,
            "its pixels hold burned-in annotation (0028,0301), which a network would redraw and which may identify "
            "the patient; --force (force=True) upscales it all the same",
        )


def forced_note(header: Dataset) -> str:
    """Return what has to be said of an object that is no picture and was upscaled, or ""."""
    return _FORCED.get(class_uid(header), ("", ""))[1]
