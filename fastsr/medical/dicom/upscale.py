"""One DICOM image into one derived image."""

from __future__ import annotations

from pathlib import Path

from fastsr.io.atomic import atomic_output
from fastsr.io.image import reading
from fastsr.io.kinds import Progress
from fastsr.medical import Run
from fastsr.medical.dicom.derivation import derive
from fastsr.medical.dicom.facts import Facts
from fastsr.medical.dicom.frames import upscale_frame
from fastsr.medical.dicom.read import open_image
from fastsr.medical.dicom.recipe import Recipe
from fastsr.medical.dicom.refusals import check_annotation
from fastsr.medical.dicom.write import DicomWriter
from fastsr.medical.intensity import UnitMap


def upscale_image(
    run: Run,
    facts: Facts,
    recipe: Recipe,
    dst: Path,
    *,
    number: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Upscale an image frame by frame into `dst`, which appears whole or not at all.

    number: Instance Number where the source has none. Raises ImageFileError, OutputError and what upscaling raises.
    """
    image = open_image(facts.path)
    check_annotation(image.path, image.header, run.options.force)
    layout = image.layout
    with reading(image.path):
        header = derive(image.header, layout, recipe, image.path, number=number)
    assert recipe.intensity is not None
    with atomic_output(dst, overwrite=overwrite) as file:
        writer = DicomWriter(file, header, layout, dst)
        for i, frame in enumerate(image.frames()):
            rescale = facts.rescales[i]
            units = UnitMap(recipe.intensity, layout.dtype, rescale.slope, rescale.intercept, layout.limits)
            done = progress and _of_frames(progress, i, layout.frames)
            upscale_frame(run.upscaler, frame, layout, units, facts.padding, writer.write, done)
        writer.close()


def _of_frames(progress: Progress, index: int, frames: int) -> Progress:
    """Report one frame's rows as rows of all frames."""
    return lambda done, total: progress(index * total + done, frames * total)
