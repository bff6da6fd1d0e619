"""Geometry of the derived image: the same field of view, s times as many pixels a side.

DICOM places the centre of the first pixel (Image Position). Pixels that are s times smaller have their first centre
further out, by half an old pixel less half a new one, along the rows and along the columns:

    position' = position + (1/(2s) - 1/2) (column spacing * X + row spacing * Y)

with X, Y the direction cosines of Image Orientation (PS3.3 C.7.6.2.1.1), Pixel Spacing = row \\ column spacing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from fastsr.errors import ImageFileError

# Distances between pixel centres; each is divided by the scale.
_SPACINGS = (
    "PixelSpacing",
    "ImagerPixelSpacing",
    "NominalScannedPixelSpacing",
    "ImagePlanePixelSpacing",
    "ObjectPixelSpacingInCenterOfBeam",
)
_UNIT = 1e-2  # that a direction's length may differ from 1


def scale_geometry(image: Dataset, path: Path, scale: int) -> None:
    """Change spacings and positions of `image`, functional groups included. Raises ImageFileError."""
    groups = list(_functional_groups(image))
    _move_positions(image, path, scale)
    for item in (image, *groups):
        for part in _with_children(item) if item is not image else (image,):
            for keyword in _SPACINGS:
                if keyword in part:
                    _divide(part, keyword, path, scale)


def pixel_spacing(header: Dataset) -> tuple[float, float] | None:
    """Return row and column spacing in mm of the first frame, or None where no physical one is stated.

    The spacing of a projection is that at the detector.
    """
    first = [*_items(header, "PerFrameFunctionalGroupsSequence")[:1], *_items(header, "SharedFunctionalGroupsSequence")]
    measures = [part for group in first for part in _items(group, "PixelMeasuresSequence")]
    for part, keyword in [
        *((part, "PixelSpacing") for part in (header, *measures)),
        *((header, keyword) for keyword in _SPACINGS[1:4]),
    ]:
        value = part.get(keyword)
        if value is not None and not isinstance(value, (str, float)) and len(value) == 2:
            return float(value[0]), float(value[1])
    return None


def _move_positions(image: Dataset, path: Path, scale: int) -> None:
    _move(image, path, scale, image.get("ImageOrientationPatient"), image.get("PixelSpacing"))
    for item in _items(image, "DetectorInformationSequence"):  # nuclear medicine
        _move(item, path, scale, item.get("ImageOrientationPatient"), image.get("PixelSpacing"))
    if "RTImagePosition" in image:
        _move_rt_image(image, path, scale)
    shared = _items(image, "SharedFunctionalGroupsSequence")[:1]
    for group in shared:
        _move_group(group, _items(image, "PerFrameFunctionalGroupsSequence")[:1], path, scale)
    for group in _items(image, "PerFrameFunctionalGroupsSequence"):
        _move_group(group, shared, path, scale)


def _move_group(group: Dataset, others: Sequence[Dataset], path: Path, scale: int) -> None:
    """Move the position in a frame's functional groups; what they don't say, `others` do."""
    where = (group, *others)
    spacing = _find(where, "PixelMeasuresSequence", "PixelSpacing")
    for item in _items(group, "PlanePositionSequence"):
        _move(item, path, scale, _find(where, "PlaneOrientationSequence", "ImageOrientationPatient"), spacing)
    for item in _items(group, "PlanePositionVolumeSequence"):
        orientation = _find(where, "PlaneOrientationVolumeSequence", "ImageOrientationVolume")
        _move(item, path, scale, orientation, spacing, "ImagePositionVolume")


def _move(
    item: Dataset, path: Path, scale: int, orientation: Any, spacing: Any, keyword: str = "ImagePositionPatient"
) -> None:
    if item.get(keyword) in (None, "", []):
        return
    position = _numbers(path, keyword, item.get(keyword), 3)
    axes = _numbers(path, "ImageOrientationPatient", orientation, 6)
    row_spacing, column_spacing = _positive(path, "PixelSpacing", spacing)
    X, Y = axes[:3], axes[3:]
    if (
        any(abs(math.hypot(*axis) - 1) > _UNIT for axis in (X, Y))
        or abs(sum(x * y for x, y in zip(X, Y, strict=True))) > _UNIT
    ):
        raise ImageFileError(f"{path} has ImageOrientationPatient {axes}; two unit vectors at right angles are needed")
    shift = 1 / (2 * scale) - 1 / 2
    moved = [p + shift * (column_spacing * x + row_spacing * y) for p, x, y in zip(position, X, Y, strict=True)]
    _set(item, keyword, moved)


def _move_rt_image(image: Dataset, path: Path, scale: int) -> None:
    """Move the first pixel of an RT image, given in its own plane (PS3.3 C.8.8.2: by default y points up)."""
    position = _numbers(path, "RTImagePosition", image.RTImagePosition, 2)
    row_spacing, column_spacing = _positive(path, "ImagePlanePixelSpacing", image.get("ImagePlanePixelSpacing"))
    axes = image.get("RTImageOrientation") or (1, 0, 0, 0, -1, 0)
    axes = _numbers(path, "RTImageOrientation", axes, 6)
    shift = 1 / (2 * scale) - 1 / 2
    moved = [p + shift * (column_spacing * axes[i] + row_spacing * axes[3 + i]) for i, p in enumerate(position)]
    _set(image, "RTImagePosition", moved)


def _divide(item: Dataset, keyword: str, path: Path, scale: int) -> None:
    if item.get(keyword) not in (None, "", []):
        _set(item, keyword, [value / scale for value in _positive(path, keyword, item.get(keyword))])


def _set(item: Dataset, keyword: str, values: list[float]) -> None:
    """Set numbers with as many digits as DS's 16 characters hold; FD and FL take them as they are."""
    is_text = item[keyword].VR == "DS"
    setattr(item, keyword, [DSfloat(value, auto_format=True) for value in values] if is_text else values)


def _positive(path: Path, keyword: str, values: Any) -> list[float]:
    numbers = _numbers(path, keyword, values, 2)
    if min(numbers) <= 0:
        raise ImageFileError(f"{path} has {keyword} {numbers}; two numbers above 0 are needed")
    return numbers


def _numbers(path: Path, keyword: str, values: Any, count: int) -> list[float]:
    if values in (None, "", []):
        raise ImageFileError(f"{path} has a position but no {keyword}, so where its pixels lie cannot be computed")
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ImageFileError(f"{path} has {keyword} {values!r}; {count} numbers are needed")
    return numbers


def _functional_groups(image: Dataset) -> Iterator[Dataset]:
    for keyword in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        yield from _items(image, keyword)


def _with_children(group: Dataset) -> Iterator[Dataset]:
    """Yield the items of the group's sequences, two levels deep: the macros of PS3.3 C.7.6.16 go no deeper."""
    for element in group:
        if element.VR == "SQ":
            for item in element.value:
                yield item
                for inner in item:
                    if inner.VR == "SQ":
                        yield from inner.value


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    return list(dataset.get(keyword) or ())


def _find(groups: Sequence[Dataset], sequence: str, keyword: str) -> Any:
    for group in groups:
        for item in _items(group, sequence):
            if item.get(keyword) not in (None, "", []):
                return item.get(keyword)
    return None
