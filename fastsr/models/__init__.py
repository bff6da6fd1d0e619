"""The models that FastSR ships: networks with trained weights, and interpolation as the baseline."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastsr.errors import ModelFileError, OptionError
from fastsr.graph.ir import ResizeMode
from fastsr.graph.model import CompiledModel
from fastsr.models.baselines import BASELINE_SCALES, interpolation

WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


@dataclass(frozen=True)
class ModelSpec:
    """One line of the registry. files: {scale: file in fastsr/weights}; mode: of an interpolation, or None."""

    name: str
    description: str
    files: Mapping[int, str] = field(default_factory=dict)
    mode: ResizeMode | None = None

    @property
    def scales(self) -> tuple[int, ...]:
        return BASELINE_SCALES if self.mode else tuple(sorted(self.files))


MODELS: list[ModelSpec] = [
    ModelSpec(
        "fmen",
        "FMEN (Du et al. 2022): fast and memory-efficient; the default",
        {2: "fmen_x2.fsr", 3: "fmen_x3.fsr", 4: "fmen_x4.fsr"},
    ),
    ModelSpec(
        "fmen-medical",
        "FMEN fine-tuned on MR scans, one channel, 16 bit",
        {2: "fmen_medical_x2.fsr", 4: "fmen_medical_x4.fsr"},
    ),
    ModelSpec("vdsr", "VDSR (Kim et al. 2016): one network for all scales", dict.fromkeys((2, 3, 4), "vdsr.fsr")),
    ModelSpec("srresnet", "SRGAN's generator (Ledig et al. 2017), pixel loss", {4: "srresnet_x4.fsr"}),
    ModelSpec("srgan", "the same against a discriminator: sharper, its details are made up", {4: "srgan_x4.fsr"}),
    ModelSpec("bicubic", "bicubic interpolation (Keys 1981, a = -0.5), no weights", mode="bicubic"),
    ModelSpec("bilinear", "bilinear interpolation, no weights", mode="bilinear"),
    ModelSpec("nearest", "each pixel repeated, no weights", mode="nearest"),
]


@dataclass(frozen=True)
class ModelInfo:
    """What `fastsr.models()` says of a model. card: what it was trained on, its figures, its limits."""

    name: str
    description: str
    scales: tuple[int, ...]
    card: Mapping[str, Any]


def models() -> list[ModelInfo]:
    """Return the models that can be used by name."""
    return [ModelInfo(s.name, s.description, s.scales, open_model(s.name, s.scales[-1]).card) for s in MODELS]


def open_model(model: Any, scale: int | None = None) -> CompiledModel:
    """Return a model by its name, the path of a `.fsr` file, or as it is.

    scale: which of a model's files is wanted where it has one for each scale.
    Raises OptionError for an unknown name or scale, ModelFileError.
    """
    if isinstance(model, CompiledModel):
        return model
    if isinstance(model, os.PathLike) or (isinstance(model, str) and (os.sep in model or model.endswith(".fsr"))):
        return _load(Path(model), _stamp(Path(model)))
    for spec in MODELS:
        if not isinstance(model, str) or spec.name != model:
            continue
        if scale is None:
            scale = preferred_scale(spec.scales)
        if scale not in spec.scales:
            known = ", ".join(str(s) for s in spec.scales)
            raise OptionError(f"{spec.name} has no scale {scale!r}; it has {known}")
        if spec.mode:
            return interpolation(spec.mode, scale)
        path = WEIGHTS / spec.files[scale]
        return _load(path, _stamp(path))
    known = ", ".join(spec.name for spec in MODELS)
    wrong = repr(model) if isinstance(model, (str, int, float, type(None))) else f"of type {type(model).__name__}"
    raise OptionError(f"there is no model {wrong}; {known} or the path of a .fsr file would do")


def preferred_scale(scales: tuple[int, ...]) -> int:
    """Return the scale that is meant where none is given: 4, or the largest."""
    return 4 if 4 in scales else max(scales)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ModelFileError(f"{str(path)!r} cannot be read: {reason}") from error
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=8)
def _load(path: Path, stamp: tuple[int, int]) -> CompiledModel:
    return CompiledModel.load(path)
