"""The guard: says when a medical image is not what the model was trained on.

A model's card tells what it has seen, under `trained_on`:

    modalities   list: "MR", "CT", ... as DICOM names them; "XR" stands for all plain X-ray ones; "photo"
    spacing_mm   [least, most]: of the pixels that go in, in the plane that is upscaled
    range        [least, most] of the source's units (HU), or {modality: [least, most]}

What a card leaves out is not judged, and neither is what a file leaves out. A model without weights (interpolation)
has learned nothing, so nothing is outside of it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastsr.errors import ModelFileError, TrainedRangeError, TrainedRangeWarning
from fastsr.graph.model import CompiledModel
from fastsr.medical.intensity import Intensity

_PHOTO = "photo"
_XRAY = frozenset(("CR", "DX", "MG", "IO", "PX", "XA", "RF", "RG", "XR"))
_TOLERANCE = 0.01  # of a spacing, and of the width of an intensity range: files round


class Guard:
    """Checks the files of one run against one model; each complaint is made once.

    strict: complaints are raised as TrainedRangeError instead of given as TrainedRangeWarning.
    """

    def __init__(self, model: CompiledModel, *, strict: bool = False) -> None:
        self._model = model
        self._strict = strict
        self._made: set[str] = set()

    def check(
        self,
        path: Path | str,
        *,
        modality: str | None = None,
        spacing_mm: Sequence[float] | None = None,
        intensity: Intensity | None = None,
    ) -> None:
        """Compare one file with the card; give at most one warning, or raise.

        modality: DICOM's name for it; spacing_mm: of the pixels in the plane that is upscaled, before it is;
        intensity: what the network will see as 0..1, in the source's units. None: unknown.
        Raises TrainedRangeError if strict, ModelFileError for a card that cannot be understood.
        """
        complaints = list(self._complaints(modality, spacing_mm, intensity))
        if self._strict and complaints:
            raise TrainedRangeError(f"{path}: {'; '.join(complaints)}; without strict (--strict) this is a warning")
        new = [complaint for complaint in complaints if complaint not in self._made]
        self._made.update(new)
        if new:
            warnings.warn(f"{path}: {'; '.join(new)}", TrainedRangeWarning, stacklevel=2)

    def _complaints(
        self, modality: str | None, spacing_mm: Sequence[float] | None, intensity: Intensity | None
    ) -> Iterator[str]:
        model = self._model
        if not model.tensors:
            return
        trained = model.card.get("trained_on")
        trained = trained if isinstance(trained, Mapping) else {}
        modalities = _names(trained.get("modalities", ()), model.name)
        if not set(modalities) - {_PHOTO}:
            yield _untrained(model, modalities)
            return
        if modality is not None and not _covers(modalities, modality):
            yield f"the modality is {modality}, and {model.name} was trained on {', '.join(modalities)}"
        if spacing_mm is not None and (span := _span(trained.get("spacing_mm"), "spacing_mm", model.name)):
            least, most = span[0] * (1 - _TOLERANCE), span[1] * (1 + _TOLERANCE)
            if not all(least <= spacing <= most for spacing in spacing_mm):
                pixel = " x ".join(f"{spacing:.3g}" for spacing in spacing_mm)
                yield f"pixels are {pixel} mm, and {model.name} was trained on {span[0]:g} to {span[1]:g} mm"
        if intensity is not None and (span := _range_for(trained.get("range"), modality, model.name)):
            slack = (span[1] - span[0]) * _TOLERANCE
            if intensity.low < span[0] - slack or intensity.high > span[1] + slack:
                yield f"intensities are {intensity}, and {model.name} was trained on {span[0]:g} to {span[1]:g}"


def _untrained(model: CompiledModel, modalities: Sequence[str]) -> str:
    """Say what a model was trained on instead of medical images, as far as its card tells."""
    about = str(model.card.get("trained_for") or "").partition(";")[0]
    if _PHOTO in modalities or about.startswith(_PHOTO):
        return f"{model.name} was trained on {about or 'photographs'}, not on medical images"
    says = f"its card says: {about[:80]}" if about else "its card does not say"
    return f"{model.name} is not known to have been trained on medical images; {says}"


def _covers(modalities: Sequence[str], modality: str) -> bool:
    return modality in modalities or ("XR" in modalities and modality in _XRAY)


def _names(value: Any, name: str) -> tuple[str, ...]:
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        return tuple(value)
    raise ModelFileError(f"{name}: the card's modalities are {str(value)[:80]}; a list of names is needed")


def _span(value: Any, key: str, name: str) -> tuple[float, float] | None:
    if value is None:
        return None
    numbers = isinstance(value, (list, tuple)) and len(value) == 2 and all(type(v) in (int, float) for v in value)
    if numbers and all(map(math.isfinite, value)) and value[0] <= value[1]:
        return float(value[0]), float(value[1])
    raise ModelFileError(f"{name}: the card's {key} is {str(value)[:80]}; two numbers, least and most, are needed")


def _range_for(value: Any, modality: str | None, name: str) -> tuple[float, float] | None:
    if isinstance(value, Mapping):
        value = value.get(modality)
    return _span(value, "range", name)
