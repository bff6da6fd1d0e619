"""Files as series: one new series for each, one intensity range, and a second run that goes on where one ended."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from fastsr.errors import FastSRError, ForcedWarning, ImageFileError, OutputError, ValueRangeWarning
from fastsr.io.formats import format_of_suffix
from fastsr.io.image import reading
from fastsr.io.kinds import Progress
from fastsr.medical import Run
from fastsr.medical.dicom.facts import Facts, facts_of
from fastsr.medical.dicom.intensities import choose_intensity
from fastsr.medical.dicom.read import open_image, read_header
from fastsr.medical.dicom.recipe import Recipe
from fastsr.medical.dicom.refusals import check_unforced
from fastsr.medical.dicom.upscale import upscale_image
from fastsr.medical.intensity import Intensity

_NARROW = 1 / 8  # of a range: less of it in use is worth a warning, as for other images


class Series:
    """The images of one source series, in order, and what they share once it is known."""

    def __init__(self, images: list[Facts]) -> None:
        self.images = images
        self.intensity: Intensity | None = None
        self.warned = False
        self._mixed = _what_is_mixed(images)
        self._first: dict[str, Path] = {}  # file of each SOP Instance UID
        for image in images:
            self._first.setdefault(image.instance, image.path)

    def check(self, image: Facts) -> None:
        """Raise ImageFileError if one Series Instance UID stands for what cannot be one series."""
        if self._mixed:
            raise ImageFileError(
                f"{image.path} is of series {image.series}, which {self._mixed}; one Series Instance UID must not "
                "stand for several"
            )
        same = self._first[image.instance]
        if same != image.path:
            raise ImageFileError(f"{image.path} has the SOP Instance UID of {same}; one of them is enough")


def _what_is_mixed(images: Sequence[Facts]) -> str:
    """Say what differs within a series, by two files: names of patients are not for logs."""
    first = images[0]
    for other in images:
        for what, same in (
            ("patients", other.patient == first.patient),
            ("studies", other.study == first.study),
            ("modalities", other.modality == first.modality),
        ):
            if not same:
                return f"is of different {what} in {first.path} and {other.path}"
    return ""


class DicomRun:
    """Upscales the DICOM files of one run. `plan` may tell beforehand which ones come together."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._images: dict[Path, tuple[Series, Facts, int]] = {}  # with the place in the series, from 1
        self._said: set[str] = set()  # notes on what was forced

    def plan(self, files: Sequence[Path]) -> list[Path]:
        """Group files by series and return them in order: series by series, slice by slice.

        Files that cannot be upscaled come last: what is wrong with them is said when their turn comes.
        """
        found: dict[str, list[Facts]] = {}
        broken: list[Path] = []
        for path in files:
            try:
                image = self._look(path)
                found.setdefault(image.series, []).append(image)
            except FastSRError:
                broken.append(path)
        in_order: list[Path] = []
        for images in found.values():
            images.sort(key=_order)
            self._add(images)
            in_order += (image.path for image in images)
        return in_order + broken

    def check_done(self, src: Path, dst: Path) -> None:
        """Raise OutputError unless `dst` is what upscaling `src` would give."""
        series, image, _ = self._member(src)
        recipe = self._recipe(series)
        try:
            made = str(read_header(dst).get("SOPInstanceUID"))
        except ImageFileError:
            made = "no DICOM object"
        if made != recipe.uid("instance", image.instance):
            raise OutputError(f"{dst} exists and was not made from {src} with these settings; --overwrite replaces it")

    def __call__(self, src: Path, dst: Path, *, overwrite: bool, progress: Progress | None) -> None:
        """Upscale `src` into `dst`."""
        _check_name(dst)
        series, image, number = self._member(src)
        series.check(image)
        if image.note and image.note not in self._said:
            self._said.add(image.note)
            warnings.warn(f"{src} is upscaled because it was forced. {image.note}", ForcedWarning, stacklevel=2)
        recipe = self._recipe(series)
        self._run.guard.check(src, modality=image.modality, spacing_mm=image.spacing, intensity=recipe.intensity)
        made = upscale_image(self._run, image, recipe, dst, number=number, overwrite=overwrite, progress=progress)
        if self._run.on_report is not None:
            self._run.on_report(made.report)
        if made.share < _NARROW and image.layout.grey and not image.in_hounsfield and self._run.given is None:
            self._warn_narrow(series, src, made.share, recipe)

    def _warn_narrow(self, series: Series, src: Path, share: float, recipe: Recipe) -> None:
        if series.warned or not self._run.upscaler.model.tensors:  # interpolation sees no range
            return
        series.warned = True
        warnings.warn(
            f"{src}: its values span {share:.1%} of {recipe.intensity}, what the network sees as black to white; "
            "normalize 'percentile' (--normalize percentile) or a window takes what the series has",
            ValueRangeWarning,
            stacklevel=2,
        )

    def _member(self, src: Path) -> tuple[Series, Facts, int]:
        if src not in self._images:
            self._add([self._look(src)])
        return self._images[src]

    def _add(self, images: list[Facts]) -> None:
        series = Series(images)
        self._images.update({image.path: (series, image, i + 1) for i, image in enumerate(images)})

    def _look(self, path: Path) -> Facts:
        image = open_image(path)
        if not self._run.options.force:
            check_unforced(path, image.header)
        with reading(path):
            return facts_of(image)

    def _recipe(self, series: Series) -> Recipe:
        if series.intensity is None:
            series.intensity = choose_intensity(self._run, series.images)
        keep_private = self._run.options.keep_private
        return Recipe.of(self._run.upscaler, series.intensity, keep_private=keep_private)


def _check_name(dst: Path) -> None:
    if format_of_suffix(dst) is not None or dst.name.lower().endswith((".nii", ".nii.gz")):
        raise OutputError(
            f"{dst} would be a DICOM object, which its suffix does not say; such as {dst.stem}.dcm would do"
        )


def _order(image: Facts) -> tuple[float, int, str]:
    """Sort slices along their normal, and where that is unknown or the same, by Instance Number."""
    return image.place or 0.0, image.number or 0, str(image.path)
