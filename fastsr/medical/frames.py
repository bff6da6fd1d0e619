"""One frame or slice through the network: stored values in, stored values out, row by row. The same for all formats.

Four things beside the network's own work:

- Values far beyond the intensity range are cut before the network, and what was cut off is enlarged by bicubic
  interpolation and added to the result. Networks behave a little above the range, where a few bright pixels of every
  series are, but some turn air into tissue when they are shown -4. Interpolation has learned nothing, so it is shown
  all values.
- Gaps are no measurement: DICOM's padding, and what is NaN or infinite. Before the network they are filled from their
  neighbours, so that their value does not bleed into the image; afterwards each is s x s pixels of its own value.
- Where small values are displayed bright (MONOCHROME1), the network is shown the negative.
- Consistency is measured, and enforced where asked for, on the stored values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastsr.alpha import fill_transparent
from fastsr.consistency import Report, Residual
from fastsr.consistency.block_mean import Bounds
from fastsr.consistency.finish import Finish, Piece, make_finish
from fastsr.consistency.tally import Tally
from fastsr.errors import OptionError
from fastsr.graph.ir import INPUT, Resize
from fastsr.graph.resize import resize_weights
from fastsr.medical.intensity import UnitMap
from fastsr.upscaler import Upscaler
from fastsr.version import __version__

Pixels = npt.NDArray[Any]
Units = npt.NDArray[np.float32]

# What a network is shown, where 0..1 is the intensity range. Of the shipped networks SRResNet fails below 0 and none
# above 1; up to 1.5 all are nearer to the truth than interpolation is.
SEEN = (0.0, 1.5)
_STEP = 16  # LR rows that back-projection works on at once


class Gaps(Protocol):
    """Tells which stored pixels are no measurement."""

    def mask(self, stored: Pixels) -> npt.NDArray[np.bool_]:
        """Say of each pixel whether it is a gap."""
        ...

    def avoid(self, stored: Pixels, limits: tuple[int, int] | None) -> Pixels:
        """Move results that would read as gaps to the nearest value that does not."""
        ...


@dataclass(frozen=True)
class Stored:
    """What stored pixels are. dtype: native byte order; limits: the least and the largest integer, None for floats.

    inverted: small values are displayed bright.
    """

    dtype: np.dtype[Any]
    limits: tuple[int, int] | None
    inverted: bool = False
    gaps: Gaps | None = None


@dataclass(frozen=True)
class FrameUpscaler:
    """Upscales frames of stored values with one upscaler.

    upscaler: without consistency, which is enforced here, on stored values: "block-mean" is exact for integers.
    """

    upscaler: Upscaler
    consistency: str | None
    stored: Stored

    @classmethod
    def of(cls, upscaler: Upscaler, stored: Stored) -> FrameUpscaler:
        """Return it. Raises OptionError for consistency that cannot be computed for such pixels."""
        bits = 8 * stored.dtype.itemsize if stored.dtype.kind != "f" else 0
        most = {"block-mean": 32, "back-projection": 16}.get(upscaler.consistency or "", 64)
        if bits > most:
            would_do = "no consistency" if bits > 32 else "block-mean"
            raise OptionError(
                f"the pixels are {stored.dtype.name}; consistency {upscaler.consistency!r} is for floats and integers "
                f"of up to {most} bits; {would_do} would do"
            )
        return cls(upscaler.without_consistency(), upscaler.consistency, stored)

    def upscale(
        self,
        frame: Pixels,
        units: UnitMap,
        write: Callable[[Pixels], None],
        progress: Callable[[int, int], None] | None = None,
    ) -> Finish:
        """Upscale one frame (H, W, C) of stored values; return the tallies of its residuals.

        units: of the stored values; write: takes rows (n, s W, C) of the result from top to bottom.
        Raises PixelValueError for values too far beyond the intensity range for float32.
        """
        source = _Frame(frame, self.stored, units, learned=bool(self.upscaler.model.tensors))
        result = _Result(source, self.upscaler.scale, self.consistency, write)
        self.upscaler.stream(source, result, progress=progress)
        return result.finish

    def report(self, finish: Finish, unit: float) -> Report:
        """Return the report of one frame. unit: what a step of the stored values is in the source's units."""

        def residual(tally: Tally) -> Residual:
            found = tally.residual()
            return Residual(found.samples, found.mean_abs * unit, found.rms * unit, found.max_abs * unit)

        before, after = finish.bicubic_before, finish.bicubic_after
        return Report(
            model=self.upscaler.name,
            version=__version__,
            sha256=self.upscaler.model.sha256,
            scale=self.upscaler.scale,
            precision=str(getattr(self.upscaler, "precision", "fp32")),
            backend=self.upscaler.backend,
            consistency=self.consistency,
            strength=self.upscaler.strength,
            block_mean_before=residual(finish.blocks_before),
            block_mean_after=residual(finish.blocks_after),
            bicubic_before=None if before is None else residual(before),
            bicubic_after=None if after is None else residual(after),
        )


class _Frame:
    """What the network sees of a frame."""

    dtype = np.dtype(np.float32)

    def __init__(self, values: Pixels, stored: Stored, units: UnitMap, *, learned: bool) -> None:
        H, W, C = values.shape
        self.shape = (H, W, C)
        self.values, self.stored, self.units, self._learned = values, stored, units, learned
        self.gaps = stored.gaps.mask(values[:, :, 0]) if stored.gaps is not None else None
        if self.gaps is not None and not self.gaps.any():
            self.gaps = None
        self._filled: Units | None = None
        if self.gaps is not None:
            # Where nothing is near, 0: what the network sees as black.
            known = np.where(self.gaps[:, :, None], values.dtype.type(0), values)
            self._filled = fill_transparent(self._units_of(known), (~self.gaps).view(np.uint8))

    def reference(self) -> Pixels:
        """Return what the result is compared with: the stored values, gaps filled."""
        values = self.values
        if self._filled is not None:
            filled = self.units.to_stored(self.displayed(self._filled))
            assert self.gaps is not None
            values = np.where(self.gaps[:, :, None], filled, values)
        return values.astype(_counted(self.stored.dtype), copy=False)

    def read(self, y0: int, y1: int) -> Units:
        unit = self.unit(y0, y1)
        return np.clip(unit, *SEEN) if self._learned else unit

    def excess(self, y0: int, y1: int) -> Units:
        """Return what `read` cut off."""
        unit = self.unit(y0, y1)
        return unit - np.clip(unit, *SEEN)

    def restored(self, y0: int, rows: Units, scale: int) -> Units:
        """Return rows of the network's result from y0 on with the enlargement of what was cut off."""
        if not self._learned:
            return rows
        return np.asarray(rows + enlarged_rows(self.excess, self.shape[0], scale, y0, y0 + len(rows)))

    def unit(self, y0: int, y1: int) -> Units:
        return self._units_of(self.values[y0:y1]) if self._filled is None else self._filled[y0:y1]

    def _units_of(self, values: Pixels) -> Units:
        return self.displayed(self.units.to_unit(values))

    def displayed(self, unit: Units) -> Units:
        """Turn small values bright where they are displayed so, and back: its own inverse."""
        return np.float32(1) - unit if self.stored.inverted else unit


class _Result:
    """Takes the network's rows and gives on stored values."""

    def __init__(self, frame: _Frame, scale: int, consistency: str | None, write: Callable[[Pixels], None]) -> None:
        self._frame, self._scale, self._write = frame, scale, write
        H, W, C = frame.shape
        self._lr = frame.reference()
        limits = frame.stored.limits if self._lr.dtype.kind != "f" else None
        bounds = None if limits is None else Bounds(*(np.full(C, limit, np.int64) for limit in limits))
        piece = Piece(scale, H, W, C, self._lr.dtype, bounds, (0, 0, W, H))
        self.finish = make_finish(consistency, piece, _STEP)
        self._waiting: Pixels = np.empty((0, scale * W, C), self._lr.dtype)
        self._paired = self._written = 0  # LR rows, rows of the result

    def write(self, y0: int, rows: Units) -> None:
        frame, s = self._frame, self._scale
        unit = frame.displayed(frame.restored(y0, rows, s))
        stored = self._avoided(frame.units.to_stored(unit).astype(self._lr.dtype, copy=False))
        self._waiting = np.concatenate([self._waiting, stored])
        n = len(self._waiting) // s
        if n:
            ready, self._waiting = self._waiting[: n * s], self._waiting[n * s :]
            for finished in self.finish.push(self._lr[self._paired : self._paired + n], ready):
                self._give_on(finished)
            self._paired += n

    def _avoided(self, stored: Pixels) -> Pixels:
        kind = self._frame.stored
        return stored if kind.gaps is None else kind.gaps.avoid(stored, kind.limits)

    def _give_on(self, stored: Pixels) -> None:
        frame = self._frame
        stored = self._avoided(stored)
        if frame.gaps is not None:
            lines = np.arange(self._written, self._written + len(stored)) // self._scale
            gaps = frame.gaps[lines].repeat(self._scale, axis=1)
            old = frame.values[lines, :, 0].repeat(self._scale, axis=1)
            stored = np.where(gaps, old, stored[:, :, 0])[:, :, None]
        self._written += len(stored)
        self._write(stored.astype(frame.stored.dtype, copy=False))


def _counted(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type in which pixels are compared: int8 as int16, and 64-bit integers as float64."""
    if dtype.kind == "f":
        return dtype
    return np.dtype({1: np.int16 if dtype.kind == "i" else dtype, 8: np.float64}.get(dtype.itemsize, dtype))


def enlarged_rows(read: Callable[[int, int], Units], height: int, s: int, y0: int, y1: int) -> Any:
    """Return rows y0 to y1 of the bicubic enlargement by s of the image that `read` gives, or 0 where that is all.

    It is what FastSR's model "bicubic" does.
    """
    weights = _weights(s)
    reach = weights.shape[1] // 2
    lines = np.arange(y0, y1) // s
    first, last = max(int(lines[0]) - reach, 0), min(int(lines[-1]) + reach + 1, height)
    part = read(first, last)
    if not part.any():
        return np.float32(0)
    n, W, C = y1 - y0, part.shape[1], part.shape[2]
    tall = np.zeros((n, W, C), np.float32)
    result = np.zeros((n, W, s, C), np.float32)
    for t in range(weights.shape[1]):
        row = np.clip(lines + t - reach, 0, height - 1) - first
        tall += weights[np.arange(y0, y1) % s, t][:, None, None] * part[row]
    for t in range(weights.shape[1]):
        column = np.clip(np.arange(W) + t - reach, 0, W - 1)
        result += tall[:, column, None, :] * weights[:, t][:, None]
    return result.reshape(n, W * s, C)


@cache
def _weights(s: int) -> Units:
    """Return (s, taps): new pixel s i + p is the sum of weights[p, t] times old pixel i + t - taps // 2."""
    return resize_weights(Resize("", (INPUT,), "bicubic", s)).astype(np.float32)
