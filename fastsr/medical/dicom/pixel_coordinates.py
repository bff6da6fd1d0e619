"""Elements that count in pixels: regions, shutters, overlays. Each points to the same place afterwards.

Pixel p (from 0) becomes the pixels s p to s p + s - 1; a point at the centre of p comes to lie at s p + (s - 1) / 2.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydicom.dataset import Dataset

_OVERLAYS = range(0x6000, 0x6020, 2)
# Of a region: the first pixel of a span, the last one, and single points.
_REGION_FIRST = ("RegionLocationMinX0", "RegionLocationMinY0")
_REGION_LAST = ("RegionLocationMaxX1", "RegionLocationMaxY1")
_REGION_POINTS = tuple(
    name + retired
    for name in (
        "DopplerSampleVolumeXPosition",
        "DopplerSampleVolumeYPosition",
        "TMLinePositionX0",
        "TMLinePositionY0",
        "TMLinePositionX1",
        "TMLinePositionY1",
    )
    for retired in ("", "Retired")
)
_EDGES_FIRST = ("LeftVerticalEdge", "UpperHorizontalEdge")
_EDGES_LAST = ("RightVerticalEdge", "LowerHorizontalEdge")


def scale_pixel_coordinates(image: Dataset, scale: int) -> None:
    """Change what counts in pixels of `image`."""
    for region in image.get("SequenceOfUltrasoundRegions") or ():
        _scale_region(region, scale)
    for name in ("Shutter", "Collimator"):
        _scale_edges(image, name, scale)
    for item in image.get("MaskSubtractionSequence") or ():
        if item.get("MaskSubPixelShift"):
            item.MaskSubPixelShift = [scale * value for value in item.MaskSubPixelShift]
    for group in _OVERLAYS:
        if (group, 0x0010) in image or (group, 0x3000) in image:
            _scale_overlay(image, group, scale)


def _scale_region(region: Dataset, s: int) -> None:
    _map(region, _REGION_FIRST, lambda p: s * p)
    _map(region, _REGION_LAST, lambda p: s * p + s - 1)
    _map(region, _REGION_POINTS, lambda p: s * p + s // 2)
    for axis in "XY":
        delta = region.get(f"PhysicalDelta{axis}")
        if delta is not None:
            setattr(region, f"PhysicalDelta{axis}", delta / s)
        reference = f"ReferencePixel{axis}0"
        if region.get(reference) is None:
            continue
        _map(region, (reference,), lambda p: s * p + s // 2)
        value = f"ReferencePixelPhysicalValue{axis}"
        if delta is not None and region.get(value) is not None:
            # Where s is even, no pixel's centre is where the old one was: the new one lies half a new pixel further.
            setattr(region, value, region[value].value + (s // 2 - (s - 1) / 2) * delta / s)


def _scale_edges(image: Dataset, name: str, s: int) -> None:
    """Rows and columns are counted from 1 here (PS3.3 C.7.6.11, C.8.7.3)."""
    _map(image, tuple(name + edge for edge in _EDGES_FIRST), lambda p: s * (p - 1) + 1)
    _map(image, tuple(name + edge for edge in _EDGES_LAST), lambda p: s * p)
    points = (f"CenterOfCircular{name}", f"VerticesOfThePolygonal{name}")
    _map(image, points, lambda p: s * (p - 1) + 1 + s // 2)
    _map(image, (f"RadiusOfCircular{name}",), lambda p: s * p)


def _map(item: Dataset, keywords: tuple[str, ...], change: Any) -> None:
    for keyword in keywords:
        value = item.get(keyword)
        if value is None or value == "":
            continue
        many = hasattr(value, "__len__") and not isinstance(value, str)
        setattr(item, keyword, [change(int(v)) for v in value] if many else change(int(value)))


def _scale_overlay(image: Dataset, group: int, s: int) -> None:
    """Repeat each bit of an overlay; drop one that is kept in unused bits of the pixels (retired), and statistics."""
    data, rows, columns = (image.get((group, element)) for element in (0x3000, 0x0010, 0x0011))
    if data is None or rows is None or columns is None or not rows.value or not columns.value:
        for tag in list(image.group_dataset(group).keys()):
            del image[tag]
        return
    frames = image.get((group, 0x0015))
    shape = int(frames.value or 1) if frames is not None else 1, int(rows.value), int(columns.value)
    count = shape[0] * shape[1] * shape[2]
    stored = np.unpackbits(np.frombuffer(data.value, np.uint8), count=count, bitorder="little")  # filled with 0
    bits = stored.reshape(shape)
    packed = np.packbits(bits.repeat(s, axis=1).repeat(s, axis=2), bitorder="little").tobytes()
    image[(group, 0x3000)].value = packed + b"\0" * (len(packed) % 2)
    rows.value, columns.value = s * shape[1], s * shape[2]
    origin = image.get((group, 0x0050))
    if origin is not None and origin.value:
        origin.value = [s * (int(p) - 1) + 1 for p in origin.value]
    for element in (0x1301, 0x1302, 0x1303):  # area, mean and deviation of a region's old pixels
        if (group, element) in image:
            del image[(group, element)]
