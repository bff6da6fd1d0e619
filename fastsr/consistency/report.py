"""What a run did, and how far its result is from the image that it was made of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Residual:
    """How far a result, made small again, is from its LR image: differences in the units of the pixels.

    samples: LR pixels times channels that were compared, fully transparent colours aside. mean_abs, rms, max_abs:
    mean absolute, root mean square and largest absolute difference; 0 where nothing was compared.
    """

    samples: int = 0
    mean_abs: float = 0.0
    rms: float = 0.0
    max_abs: float = 0.0

    def __str__(self) -> str:
        return f"mean {self.mean_abs:.3g}, rms {self.rms:.3g}, max {self.max_abs:.3g}"


@dataclass(frozen=True)
class Report:
    """What one run of an Upscaler did.

    model: its name; version: of FastSR; sha256: of the model as a `.fsr` file (weights, graphs and card); precision:
    of the network's arithmetic; backend: what computed; consistency: None, "block-mean" or "back-projection";
    strength: 1 is the network's result, 0 bicubic interpolation.
    block_mean_before, block_mean_after: residual of the means of s x s blocks, before consistency was enforced (but
    after `strength`) and of the result; the same where it was not enforced.
    bicubic_before, bicubic_after: residual of the MATLAB-exact bicubic downscaling; only for "back-projection".
    """

    model: str
    version: str
    sha256: str
    scale: int
    precision: str
    backend: str
    consistency: str | None
    strength: float
    block_mean_before: Residual
    block_mean_after: Residual
    bicubic_before: Residual | None = None
    bicubic_after: Residual | None = None

    def residual_text(self) -> str:
        """Return the residual before and after in one line, such as "block means: mean 0.18, rms 0.4, max 2.9"."""
        kind, before, after = "block means", self.block_mean_before, self.block_mean_after
        if self.bicubic_before is not None and self.bicubic_after is not None:
            kind, before, after = "bicubic", self.bicubic_before, self.bicubic_after
        return f"{kind}: {before}" + ("" if self.consistency is None else f" -> {after}")


def join_reports(reports: Sequence[Report]) -> Report:
    """Return one report of several runs with the same settings, such as the frames or slices of one file.

    `reports` holds one or more; what names the run is taken from the first.
    """
    return replace(
        reports[0],
        block_mean_before=_joined([r.block_mean_before for r in reports]),
        block_mean_after=_joined([r.block_mean_after for r in reports]),
        bicubic_before=_joined_if_any([r.bicubic_before for r in reports]),
        bicubic_after=_joined_if_any([r.bicubic_after for r in reports]),
    )


def _joined(residuals: Sequence[Residual]) -> Residual:
    samples = sum(r.samples for r in residuals)
    if samples == 0:
        return Residual()
    return Residual(
        samples,
        sum(r.mean_abs * r.samples for r in residuals) / samples,
        math.sqrt(sum(r.rms * r.rms * r.samples for r in residuals) / samples),
        max(r.max_abs for r in residuals),
    )


def _joined_if_any(residuals: Sequence[Residual | None]) -> Residual | None:
    known = [r for r in residuals if r is not None]
    return _joined(known) if known else None
