"""What happens to a network's result on its way out: it is mixed with bicubic interpolation, measured, and made
consistent with the LR image. In arrays or row by row, in boxes or whole, the pixels are the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastsr.backends.base import Box, Job, Pixels
from fastsr.consistency import Residual
from fastsr.consistency.back_projection import HALO
from fastsr.consistency.block_mean import Bounds
from fastsr.consistency.finish import CONSISTENCIES, Consistency, Finish, Piece, finish_memory, make_finish
from fastsr.consistency.rows import RowPairs
from fastsr.errors import OptionError
from fastsr.pixels import values_of

# LR rows that are worked on at once where it is a matter of choice; fewer where a budget asks for it.
STEPS = (64, 16, 4)
_READ_AHEAD = 32  # LR rows that an engine may have read beyond a network's halo
Read = Callable[[int, int], Pixels]
Write = Callable[[int, Pixels], Any]


@dataclass(frozen=True)
class Mix:
    """Mixes bicubic interpolation into a result.

    apply: (LR pixels, result of a box, job), which says where both are; reach: LR pixels around a box that it needs;
    memory: LR rows at once -> bytes.
    """

    apply: Callable[[Pixels, Pixels, Job], None]
    reach: int
    memory: Callable[[int], int]


class Finishing:
    """How one run's result is finished.

    job: what was run, with its context; crop: the box that is wanted; channels, dtype: of the pixels.
    """

    def __init__(
        self,
        consistency: Consistency | None,
        scale: int,
        job: Job,
        crop: Box,
        channels: int,
        dtype: np.dtype[Any],
        mix: Mix | None,
    ) -> None:
        left, top, right, bottom = job.box
        inside = crop[0] - left, crop[1] - top, crop[2] - left, crop[3] - top
        self._piece = Piece(scale, bottom - top, right - left, channels, dtype, _bounds(job, channels, dtype), inside)
        self._consistency, self._job, self._mix = consistency, job, mix
        self._finish: Finish | None = None
        self.steps = STEPS if consistency == "back-projection" or mix is not None else STEPS[:1]

    def memory(self, step: int, halo: int | None = None) -> int:
        """Return bytes of working memory, at the most. halo: of the network, for a stream: rows are kept for it."""
        piece = self._piece
        total = finish_memory(self._consistency, piece, step) + (self._mix.memory(step) if self._mix else 0)
        if halo is not None:
            row = piece.width * piece.channels * piece.dtype.itemsize
            reach = self._mix.reach if self._mix else 0
            total += row * (2 * (halo + 2 * reach + _READ_AHEAD) + piece.scale**2 * (2 * reach + _READ_AHEAD))
        return total

    def array(self, pixels: Pixels, target: Pixels, step: int) -> Pixels:
        """Finish the target, a network's result for the job's box; return what is wanted of it.

        pixels: LR, from the job's origin on. The target is changed, and returned where all of it is wanted.
        """
        piece, s = self._piece, self._piece.scale
        left, top, right, bottom = self._job.box
        y, x = self._job.origin
        lr = pixels[top - y : bottom - y, left - x : right - x]
        crop = piece.crop
        whole = crop == (0, 0, piece.width, piece.height)
        shape = s * (crop[3] - crop[1]), s * (crop[2] - crop[0]), piece.channels
        result = target if whole else np.empty(shape, piece.dtype)
        finish = self._begin(step)
        at = 0
        for y0 in range(0, piece.height, step):
            y1 = min(y0 + step, piece.height)
            sr = target[s * y0 : s * y1]
            if self._mix is not None:
                self._mix.apply(pixels, sr, replace(self._job, box=(left, top + y0, right, top + y1)))
            for rows in finish.push(lr[y0:y1], sr):
                if not np.may_share_memory(rows, result):  # else they are in their place
                    result[at : at + len(rows)] = rows
                at += len(rows)
        return result

    def stream(self, read: Read, write: Write, step: int) -> tuple[Read, Write]:
        """Return what to read from and to write to, so that the rows of a whole image are finished in between."""
        reach = self._mix.reach if self._mix else 0
        pairs = RowPairs(self._piece.height, self._piece.scale, reach)
        finish = self._begin(step)
        done = 0

        def read_and_keep(y0: int, y1: int) -> Pixels:
            rows = read(y0, y1)
            pairs.read(rows)
            return rows

        def finish_and_write(_: int, rows: Pixels) -> None:
            nonlocal done
            ready = pairs.write(rows)
            if ready is None:
                return
            y, sr, top, lr = ready
            n = len(sr) // self._piece.scale
            if self._mix is not None:
                self._mix.apply(lr, sr, replace(self._job, box=(0, y, self._piece.width, y + n), origin=(top, 0)))
            for finished in finish.push(lr[y - top : y - top + n], sr):
                write(done, finished)
                done += len(finished)

        return read_and_keep, finish_and_write

    def residuals(self) -> tuple[Residual, Residual, Residual | None, Residual | None]:
        """Return that of block means before and after, and that of bicubic downscaling where it was measured."""
        f = self._finish
        assert f is not None
        before, after = f.bicubic_before, f.bicubic_after
        return (
            f.blocks_before.residual(),
            f.blocks_after.residual(),
            None if before is None else before.residual(),
            None if after is None else after.residual(),
        )

    def _begin(self, step: int) -> Finish:
        self._finish = make_finish(self._consistency, self._piece, step)
        return self._finish


def context(consistency: Consistency | None, box: Box, height: int, width: int) -> Box:
    """Return the box whose network result the finished result of `box` depends on."""
    if consistency != "back-projection":
        return box
    return max(box[0] - HALO, 0), max(box[1] - HALO, 0), min(box[2] + HALO, width), min(box[3] + HALO, height)


def checked_consistency(consistency: Any) -> Consistency | None:
    """Return the option as it is. Raises OptionError."""
    if consistency is None or (isinstance(consistency, str) and consistency in CONSISTENCIES):
        return consistency  # type: ignore[return-value]
    known = " or ".join(repr(name) for name in CONSISTENCIES)
    raise OptionError(f"consistency is {consistency!r}; None, {known} is needed")


def checked_strength(strength: Any) -> float:
    """Return the option as a float. Raises OptionError unless it is in 0..1."""
    try:
        value = float(strength) if not isinstance(strength, (str, bytes, bool, np.bool_)) else np.nan
    except (TypeError, ValueError, OverflowError):
        value = np.nan
    if not 0 <= value <= 1:
        raise OptionError(f"strength is {str(strength)[:80]!r}; 0 (bicubic) to 1 (the network) is needed")
    return float(value)


def _bounds(job: Job, channels: int, dtype: np.dtype[Any]) -> Bounds | None:
    """Return what integers of each channel are clamped to: alpha has its type's range."""
    if dtype.kind == "f":
        return None
    alpha = values_of(dtype, None)
    ranges = [job.values] * channels
    if channels in (2, 4):
        ranges[-1] = alpha
    low = np.array([int(r.clamp_low) for r in ranges], np.int64)
    high = np.array([int(r.clamp_high) for r in ranges], np.int64)
    return Bounds(low, high)
