"""The intensity range of a series, from what its files say, its pixels, or the user: one for all its slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from fastsr.errors import OptionError
from fastsr.medical import Run
from fastsr.medical.dicom.decode import Pixels
from fastsr.medical.dicom.facts import Facts
from fastsr.medical.dicom.read import open_image
from fastsr.medical.intensity import Intensity, choose, from_bits, from_percentiles

# 12 bits of Hounsfield units with the usual intercept: what CT means where Bits Stored says more.
CT_RANGE = (-1024.0, 3071.0)
_CELL = 16  # Bits Stored that say no more than how large a pixel's cell is


def choose_intensity(run: Run, images: Sequence[Facts]) -> Intensity:
    """Choose the range of a series that has these images. Raises OptionError, ImageFileError."""
    if any(not image.layout.grey for image in images):
        if run.given is not None:
            raise OptionError(f"{images[0].path} has colours; a window or a value range is for grey images")
        return max((from_bits(image.layout.bits_stored) for image in images), key=lambda whole: whole.high)
    if run.given is not None and any(image.has_lut for image in images):
        raise OptionError(
            f"{images[0].path} has a Modality LUT; a window or a value range needs Rescale Slope and Intercept"
        )
    rescales = {rescale for image in images for rescale in image.rescales}
    in_units = len(rescales) > 1 or len({image.layout.dtype for image in images}) > 1
    one = next(iter(rescales))
    slope, intercept = (1.0, 0.0) if in_units else (one.slope, one.intercept)
    if images[0].is_dose and run.given is None and run.options.normalize == "auto":
        return from_percentiles(lambda: _values(images, in_units), 0, 100, slope, intercept)
    return choose(
        run.upscaler.model.card,
        lambda: _values(images, in_units),
        stated=_stated(images, run.options.normalize),
        modality=images[0].modality,
        given=run.given,
        normalize=run.options.normalize,
        slope=slope,
        inter=intercept,
    )


def _stated(images: Sequence[Facts], normalize: str) -> Intensity | None:
    """Return what the files say, or None where Bits Stored is just the size of the cell."""
    if normalize.strip().lower() != "stored":
        most = max(image.layout.bits_stored for image in images)
        if most > 12 and all(image.in_hounsfield for image in images):
            return Intensity(*CT_RANGE, "12 bits of HU")
        if most == _CELL:
            return None
    ranges = [
        from_bits(image.layout.bits_stored, image.layout.signed, rescale.slope, rescale.intercept)
        for image in images
        for rescale in set(image.rescales)
    ]
    return Intensity(min(r.low for r in ranges), max(r.high for r in ranges), ranges[0].origin)


def _values(images: Sequence[Facts], in_units: bool) -> Iterator[Pixels]:
    """Yield the values of all frames, padding left out: stored ones, or in the source's units."""
    for image in images:
        for frame, rescale in zip(open_image(image.path).frames(), image.rescales, strict=True):
            values = frame if image.padding is None else frame[~image.padding.mask(frame)]
            if in_units:
                values = (values * rescale.slope + rescale.intercept).astype(np.float32)
            yield values
