"""DICOM: images in, derived image objects out (docs/dicom.md is the conformance statement).

fastsr.upscale_file("ct.dcm", "ct_x4.dcm") does one file; `upscale_folder` does a series, or many. For pixels that
were upscaled in another way, `derive` makes the header that belongs to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsr.errors import MissingExtraError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from fastsr.io.jobs import Outcome
    from fastsr.io.kinds import UpscaleSeries
    from fastsr.medical import Intensity, Options, Run
    from fastsr.upscaler import Upscaler

__all__ = ["derive", "describe", "start", "upscale_folder"]


def upscale_folder(
    src: str | Path,
    dst: str | Path,
    upscaler: Upscaler,
    options: Options | None = None,
    *,
    value_range: tuple[float, float] | None = None,
    overwrite: bool = False,
    progress: Callable[[Outcome], None] | None = None,
) -> list[Outcome]:
    """Upscale the DICOM files in the tree of the folder `src` into the folder `dst`; return what came of each.

    Names are kept. Each source series becomes one new series with one intensity range. A second call with the same
    arguments goes on where one ended: what is done is skipped. A file that fails does not stop the others: its
    outcome says why.
    progress: called with each outcome. Raises OptionError, MissingExtraError.
    """
    _need_pydicom()
    from fastsr.io.jobs import plan_jobs, run_job
    from fastsr.io.kinds import kind_of
    from fastsr.medical import kinds

    known = kinds(upscaler, options, value_range)
    jobs = plan_jobs([Path(src)], Path(dst), upscaler.scale, kinds=known)

    def run() -> Iterator[Outcome]:
        for job in jobs:
            kind = kind_of(job.src, known)
            if kind is not None and kind.name == "DICOM object":
                outcome = run_job(job, upscaler, overwrite=overwrite, kinds=known)
                if progress is not None:
                    progress(outcome)
                yield outcome

    return list(run())


def derive(
    dataset: Dataset,
    upscaler: Upscaler,
    *,
    intensity: Intensity | None = None,
    keep_private: bool = False,
    force: bool = False,
) -> Dataset:
    """Return the header of the image that upscaling `dataset` gives: new UIDs, geometry, references; no Pixel Data.

    dataset: an image, which is left as it is. upscaler: what makes the pixels; it names model, weights and scale.
    intensity: the range that the network saw, in the source's units; force: as in `fastsr.medical.Options`. Pixels that
    go with the header are in native order, colours as interleaved RGB.
    Raises ImageFileError for what is no image or has no sound geometry, ShapeError, MissingExtraError.
    """
    _need_pydicom()
    from fastsr.medical.dicom.derivation import derive as make
    from fastsr.medical.dicom.read import layout_of, without_pixels
    from fastsr.medical.dicom.recipe import Recipe
    from fastsr.medical.dicom.refusals import check_object, check_unforced

    path = Path(getattr(dataset, "filename", None) or "the dataset")
    check_object(path, dataset)
    if not force:
        check_unforced(path, dataset)
    recipe = Recipe.of(upscaler, intensity, keep_private=keep_private)
    return make(without_pixels(dataset), layout_of(path, dataset).after(), recipe, path)


def describe(path: Path) -> list[tuple[str, str]]:
    """Say what a file is, as (key, value). Raises ImageFileError, MissingExtraError."""
    _need_pydicom()
    from fastsr.medical.dicom.description import describe as say

    return say(path)


def start(run: Run) -> UpscaleSeries:
    """Return what upscales the DICOM files of one run. Raises MissingExtraError."""
    _need_pydicom()
    from fastsr.medical.dicom.series import DicomRun

    return DicomRun(run)


def _need_pydicom() -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise MissingExtraError(f"DICOM needs pydicom ({error}): pip install 'fastsr[medical]'") from None
    return pydicom
