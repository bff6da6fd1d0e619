"""Medical files: which there are, and how they go through with geometry, units and intensities right.

import fastsr
fastsr.upscale_file("ct.nii.gz", "ct_x4.nii.gz", medical=fastsr.medical.Options(plane="axial", strict=True))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from fastsr.errors import OptionError
from fastsr.medical.dicom.sniff import SUFFIXES, looks_like_dicom
from fastsr.medical.guard import Guard
from fastsr.medical.intensity import Intensity, from_window, parse_normalize
from fastsr.medical.nifti_sniff import is_nifti

if TYPE_CHECKING:  # fastsr.io is for those who have files
    from fastsr.consistency import Report
    from fastsr.io.kinds import FileKind, Progress, UpscaleFile, UpscaleSeries
    from fastsr.upscaler import Upscaler

__all__ = ["MEDICAL", "Guard", "Intensity", "MedicalFormat", "Options", "Run", "kinds", "medical_format_of"]


@dataclass(frozen=True)
class Options:
    """What can be said about medical files.

    plane: of a volume's slices: "auto" (the two finest axes), "axial", "coronal", "sagittal", or two of the letters
    i, j, k of the voxel axes ("ij").
    normalize: "auto", "stored", "percentile" or "percentile:LOW,HIGH"; window: (center, width), in the source's units,
    wins over it; strict: an input outside of what the model was trained on is refused instead of warned of.
    keep_private: DICOM's private elements are kept; force: pixels with burned-in annotation, RT Dose and binary
    Segmentation are upscaled.
    """

    plane: str = "auto"
    normalize: str = "auto"
    window: tuple[float, float] | None = None
    strict: bool = False
    keep_private: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        parse_normalize(self.normalize)


@dataclass(frozen=True)
class Run:
    """What the files of one run share: the upscaler, what was asked for, and the guard, which warns once.

    given: the intensity range that the user said, or None. on_report: takes the report of each file, if anybody does.
    """

    upscaler: Upscaler
    options: Options
    guard: Guard
    given: Intensity | None
    on_report: Callable[[Report], None] | None = None


@dataclass(frozen=True)
class MedicalFormat:
    """One format. is_one: tells by name or content; never raises. output_suffix: of a file's output.

    describe: says what a file is, as (key, value). start: makes what upscales the files of one run, an UpscaleSeries
    where `series` says that files belong together. Both import what they need when they are called.
    """

    name: str
    suffixes: tuple[str, ...]
    is_one: Callable[[Path], bool]
    output_suffix: Callable[[Path], str]
    describe: Callable[[Path], list[tuple[str, str]]]
    start: Callable[[Run], UpscaleFile]
    series: bool = False


def _nifti_suffix(path: Path) -> str:
    return ".nii" if path.name.lower().endswith(".nii") else ".nii.gz"


def _describe_nifti(path: Path) -> list[tuple[str, str]]:
    from fastsr.medical.nifti import describe

    return describe(path)


def _start_nifti(run: Run) -> UpscaleFile:
    from fastsr.medical.nifti import start

    return start(run)


def _dicom_suffix(path: Path) -> str:
    return path.suffix  # names are kept, also those without a suffix


def _describe_dicom(path: Path) -> list[tuple[str, str]]:
    from fastsr.medical.dicom import describe

    return describe(path)


def _start_dicom(run: Run) -> UpscaleFile:
    from fastsr.medical.dicom import start

    return start(run)


MEDICAL: tuple[MedicalFormat, ...] = (
    MedicalFormat("NIfTI volume", (".nii.gz", ".nii"), is_nifti, _nifti_suffix, _describe_nifti, _start_nifti),
    MedicalFormat("DICOM object", SUFFIXES, looks_like_dicom, _dicom_suffix, _describe_dicom, _start_dicom, True),
)


def medical_format_of(path: Path) -> MedicalFormat | None:
    """Return the medical format that a file has by its name or content, or None."""
    return next((entry for entry in MEDICAL if entry.is_one(path)), None)


def kinds(
    upscaler: Upscaler,
    options: Options | None = None,
    value_range: tuple[float, float] | None = None,
    on_report: Callable[[Report], None] | None = None,
) -> tuple[FileKind, ...]:
    """Return the medical formats, ready to upscale the files of one run with one upscaler.

    value_range: the intensities, in the source's units, that mean black and white. on_report: takes a report of each
    file, in these units, where the format makes one. Raises OptionError.
    """
    options = options or Options()
    given = from_window(*options.window) if options.window else None
    if given is not None and value_range is not None:
        raise OptionError(f"both window {options.window} and value_range {value_range} are given; one is needed")

    @cache
    def run() -> Run:
        ends = given if value_range is None else Intensity(float(value_range[0]), float(value_range[1]), "given")
        return Run(upscaler, options, Guard(upscaler.model, strict=options.strict), ends, on_report)

    return tuple(_on_first_use(entry, run) for entry in MEDICAL)


def _on_first_use(entry: MedicalFormat, run: Callable[[], Run]) -> FileKind:
    """Start a format when its first file comes, so that what it imports is needed only then."""
    from fastsr.io.kinds import FileKind

    started = cache(lambda: entry.start(run()))

    def upscale(src: Path, dst: Path, *, overwrite: bool, progress: Progress | None) -> None:
        started()(src, dst, overwrite=overwrite, progress=progress)

    def plan(files: Sequence[Path]) -> list[Path]:
        return cast("UpscaleSeries", started()).plan(files) if files else []

    def check_done(src: Path, dst: Path) -> None:
        cast("UpscaleSeries", started()).check_done(src, dst)

    together = (plan, check_done) if entry.series else (None, None)
    return FileKind(entry.name, entry.suffixes, entry.is_one, entry.output_suffix, upscale, *together)
