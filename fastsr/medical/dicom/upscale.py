"""One DICOM image into one derived image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from fastsr.consistency import Report, join_reports
from fastsr.io.atomic import atomic_output
from fastsr.io.image import reading
from fastsr.io.kinds import Progress
from fastsr.medical import Run
from fastsr.medical.dicom.decode import Pixels
from fastsr.medical.dicom.derivation import derive, set_residual
from fastsr.medical.dicom.facts import Facts, Rescale
from fastsr.medical.dicom.read import open_image
from fastsr.medical.dicom.recipe import Recipe
from fastsr.medical.dicom.write import DicomWriter
from fastsr.medical.frames import FrameUpscaler, Stored
from fastsr.medical.intensity import Intensity, UnitMap


@dataclass(frozen=True)
class Made:
    """What came of an image. share: of the intensity range that its values span; report: in the source's units."""

    share: float
    report: Report


def upscale_image(
    run: Run,
    facts: Facts,
    recipe: Recipe,
    dst: Path,
    *,
    number: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Made:
    """Upscale an image frame by frame into `dst`, which appears whole or not at all.

    number: Instance Number where the source has none. Raises ImageFileError, OutputError and what upscaling raises.
    """
    image = open_image(facts.path)
    layout = image.layout
    with reading(image.path):
        header = derive(image.header, layout, recipe, image.path, number=number, residual=True)
    assert recipe.intensity is not None
    span, reports = _Span(), []
    with atomic_output(dst, overwrite=overwrite) as file:
        writer = DicomWriter(file, header, layout, dst)
        stored = Stored(layout.dtype, layout.limits, layout.inverted, facts.padding)
        frames = FrameUpscaler.of(run.upscaler, stored)
        for i, frame in enumerate(image.frames()):
            rescale = facts.rescales[i]
            units = UnitMap(recipe.intensity, layout.dtype, rescale.slope, rescale.intercept, layout.limits)
            span.look(frame if facts.padding is None else frame[~facts.padding.mask(frame)], rescale)
            done = progress and _of_frames(progress, i, layout.frames)
            finish = frames.upscale(frame, units, writer.write, done)
            reports.append(frames.report(finish, abs(rescale.slope)))
        report = join_reports(reports)
        set_residual(header, report)
        writer.close(header)
    return Made(span.share_of(recipe.intensity), report)


class _Span:
    """The least and the largest value of an image, in the source's units."""

    def __init__(self) -> None:
        self._low, self._high = math.inf, -math.inf

    def look(self, stored: Pixels, rescale: Rescale) -> None:
        if stored.size:
            ends = [float(end) * rescale.slope + rescale.intercept for end in (stored.min(), stored.max())]
            self._low, self._high = min(self._low, *ends), max(self._high, *ends)

    def share_of(self, intensity: Intensity) -> float:
        span = self._high - self._low
        return span / (intensity.high - intensity.low) if math.isfinite(span) and span > 0 else 1.0


def _of_frames(progress: Progress, index: int, frames: int) -> Progress:
    """Report one frame's rows as rows of all frames."""
    return lambda done, total: progress(index * total + done, frames * total)
