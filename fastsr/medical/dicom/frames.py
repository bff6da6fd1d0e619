"""One frame through the network: stored values in, stored values out, row by row.

Four things beside the network's own work:

- Values far beyond the intensity range are cut before the network, and what was cut off is enlarged by bicubic
  interpolation and added to the result: where the model is bicubic interpolation, nothing changes by that. Networks
  behave a little above the range, where a few bright pixels of every series are, but some turn air into tissue when
  they are shown -4.
- Padding is no measurement. Before the network it is filled from its neighbours, so that its value does not bleed
  into the image; afterwards each padding pixel is s x s padding pixels again, and nothing else is.
- MONOCHROME1 is shown to the network as it is displayed, small values bright.
- Consistency is measured, and enforced where asked for, on the stored values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.alpha import fill_transparent
from fastsr.consistency.block_mean import Bounds
from fastsr.consistency.finish import Finish, Piece, make_finish
from fastsr.graph.ir import INPUT, Resize
from fastsr.graph.resize import resize_weights
from fastsr.medical.dicom.decode import Layout
from fastsr.medical.intensity import UnitMap
from fastsr.upscaler import Upscaler

Pixels = npt.NDArray[Any]
Units = npt.NDArray[np.float32]

# What a network is shown, where 0..1 is the intensity range. Of the shipped networks SRResNet fails below 0 and none
# above 1; up to 1.5 all are nearer to the truth than interpolation is.
SEEN = (0.0, 1.5)
_STEP = 16  # LR rows that back-projection works on at once


@dataclass(frozen=True)
class Padding:
    """The stored values low..high (one value, or a range) that mean: there is no pixel here."""

    low: int
    high: int

    def mask(self, stored: Pixels) -> npt.NDArray[np.bool_]:
        return (stored >= self.low) & (stored <= self.high)

    def avoid(self, stored: Pixels, limits: tuple[int, int]) -> Pixels:
        """Move values that would read as padding to the nearest that do not."""
        inside = self.mask(stored)
        if not inside.any():
            return stored
        below, above = self.low - 1, self.high + 1
        if below < limits[0]:
            nearest = np.full(stored.shape, above)
        elif above > limits[1]:
            nearest = np.full(stored.shape, below)
        else:
            nearest = np.where(stored - below < above - stored.astype(np.int64), below, above)
        return np.where(inside, nearest, stored).astype(stored.dtype)


@dataclass(frozen=True)
class FrameUpscaler:
    """Upscales frames of stored values with one upscaler.

    upscaler: without consistency, which is enforced here, on stored values: "block-mean" is exact for what is stored.
    """

    upscaler: Upscaler
    consistency: str | None
    layout: Layout
    padding: Padding | None

    @classmethod
    def of(cls, upscaler: Upscaler, layout: Layout, padding: Padding | None) -> FrameUpscaler:
        return cls(upscaler.without_consistency(), upscaler.consistency, layout, padding)

    def upscale(
        self,
        stored: Pixels,
        units: UnitMap,
        write: Callable[[Pixels], None],
        progress: Callable[[int, int], None] | None = None,
    ) -> Finish:
        """Upscale one frame (H, W, C); return the tallies of its residuals.

        units: of the stored values; write: takes rows (n, s W, C) of the result from top to bottom.
        """
        frame = _Frame(stored, self.layout, units, self.padding)
        result = _Result(frame, self.upscaler.scale, self.consistency, write)
        self.upscaler.stream(frame, result, progress=progress)
        return result.finish


class _Frame:
    """What the network sees of a frame: rows of SEEN."""

    dtype = np.dtype(np.float32)

    def __init__(self, stored: Pixels, layout: Layout, units: UnitMap, padding: Padding | None) -> None:
        H, W, C = stored.shape
        self.shape = (H, W, C)
        self.stored, self.layout, self.units, self.padding = stored, layout, units, padding
        self.padded = padding.mask(stored[:, :, 0]) if padding is not None else None
        if self.padded is not None and not self.padded.any():
            self.padded = None
        self._filled: Units | None = None
        if self.padded is not None:
            # Where nothing is near, 0: what the network sees as black.
            self._filled = fill_transparent(self._seen(0, H), (~self.padded).view(np.uint8))

    def reference(self) -> Pixels:
        """Return what the result is compared with: the stored values, padding filled."""
        stored = self.stored
        if self._filled is not None:
            stored = self.units.to_stored(self.displayed(self._filled))
        return stored.astype(np.int16) if stored.dtype == np.int8 else stored

    def read(self, y0: int, y1: int) -> Units:
        return np.clip(self.unit(y0, y1), *SEEN)

    def excess(self, y0: int, y1: int) -> Units:
        """Return what `read` cut off."""
        unit = self.unit(y0, y1)
        return unit - np.clip(unit, *SEEN)

    def unit(self, y0: int, y1: int) -> Units:
        return self._seen(y0, y1) if self._filled is None else self._filled[y0:y1]

    def _seen(self, y0: int, y1: int) -> Units:
        return self.displayed(self.units.to_unit(self.stored[y0:y1]))

    def displayed(self, unit: Units) -> Units:
        """Turn small values bright for MONOCHROME1, and back: its own inverse."""
        return np.float32(1) - unit if self.layout.photometric == "MONOCHROME1" else unit


class _Result:
    """Takes the network's rows and gives on stored values."""

    def __init__(self, frame: _Frame, scale: int, consistency: str | None, write: Callable[[Pixels], None]) -> None:
        self._frame, self._scale, self._write = frame, scale, write
        H, W, C = frame.shape
        self._lr = frame.reference()
        low, high = (np.full(C, limit, np.int64) for limit in frame.layout.limits)
        piece = Piece(scale, H, W, C, self._lr.dtype, Bounds(low, high), (0, 0, W, H))
        self.finish = make_finish(consistency, piece, _STEP)
        self._waiting: Pixels = np.empty((0, scale * W, C), self._lr.dtype)
        self._paired = self._written = 0  # LR rows, rows of the result

    def write(self, y0: int, rows: Units) -> None:
        frame, s = self._frame, self._scale
        unit = rows + enlarged_rows(frame.excess, frame.shape[0], s, y0, y0 + len(rows))
        stored = frame.units.to_stored(frame.displayed(unit)).astype(self._lr.dtype, copy=False)
        if frame.padding is not None:
            stored = frame.padding.avoid(stored, frame.layout.limits)
        self._waiting = np.concatenate([self._waiting, stored])
        n = len(self._waiting) // s
        if n:
            ready, self._waiting = self._waiting[: n * s], self._waiting[n * s :]
            for finished in self.finish.push(self._lr[self._paired : self._paired + n], ready):
                self._give_on(finished)
            self._paired += n

    def _give_on(self, stored: Pixels) -> None:
        frame = self._frame
        if frame.padding is not None:
            stored = frame.padding.avoid(stored, frame.layout.limits)
        if frame.padded is not None:
            lines = np.arange(self._written, self._written + len(stored)) // self._scale
            padded = frame.padded[lines].repeat(self._scale, axis=1)
            old = frame.stored[lines, :, 0].repeat(self._scale, axis=1)
            stored = np.where(padded, old, stored[:, :, 0])[:, :, None]
        self._written += len(stored)
        self._write(stored.astype(frame.layout.dtype, copy=False))


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
