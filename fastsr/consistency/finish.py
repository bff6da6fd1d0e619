"""The last step of every run: rows of a network's result are measured, made consistent, and measured again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from fastsr.consistency import back_projection as bp
from fastsr.consistency.block_mean import Bounds, block_excess, project, shift
from fastsr.consistency.resample import SHRINK_HALO
from fastsr.consistency.rows import Apply, Windows
from fastsr.consistency.tally import Tally, blank_hidden

Pixels = npt.NDArray[Any]
Consistency = Literal["block-mean", "back-projection"]
CONSISTENCIES = ("block-mean", "back-projection")

# So many stay in the cache: samples of the result where block means are enforced, LR samples where they are measured.
_SAMPLES_ENFORCED = 32768
_SAMPLES_MEASURED = 4096
_quiet = np.errstate(over="ignore", invalid="ignore")  # floats near the end of their range


@dataclass(frozen=True)
class Piece:
    """What is finished, rows from top to bottom.

    scale; height, width (in LR pixels), channels, dtype: of the pixels that come; bounds: of integers, or None;
    crop: (left, top, right, bottom), the part in LR pixels that is wanted. The rest is context.
    """

    scale: int
    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
    bounds: Bounds | None
    crop: tuple[int, int, int, int]


class Finish(Protocol):
    """Finishes one piece. The tallies are complete when all rows have been pushed."""

    blocks_before: Tally
    blocks_after: Tally
    bicubic_before: Tally | None
    bicubic_after: Tally | None

    def push(self, lr: Pixels, sr: Pixels) -> Iterator[Pixels]:
        """Take the next rows lr (n, w, C) and sr (s n, s w, C), which may be written to; yield finished rows."""
        ...


def make_finish(consistency: str | None, piece: Piece, step: int) -> Finish:
    """Return what finishes a piece. step: LR rows that are worked on at once, where that is a matter of choice."""
    if consistency == "back-projection":
        return BackProjection(piece, step)
    return BlockMeans(piece, enforce=consistency is not None)


def finish_memory(consistency: str | None, piece: Piece, step: int) -> int:
    """Return bytes of working memory that finishing takes, at the most."""
    row = piece.width * piece.channels  # LR samples
    block = piece.scale**2
    if consistency != "back-projection":
        samples = _rows_at_once(piece, consistency is not None) * row
        if consistency is None:
            return samples * (8 * piece.scale + 48)
        return samples * (48 * piece.scale + 64 if piece.bounds is None else 64 * block)
    window, narrow = (step + 2 * bp.ITERATION_HALO) * row * block, (step + 2 * SHRINK_HALO) * row * block
    iterations = (2 * bp.ITERATIONS + 3) * window * bp.working_type(piece.dtype).itemsize
    return iterations + 6 * narrow * piece.dtype.itemsize + 24 * window // piece.channels


class BlockMeans:
    """Measures the means of blocks and, if `enforce`, makes them the LR pixels."""

    bicubic_before: Tally | None = None
    bicubic_after: Tally | None = None

    def __init__(self, piece: Piece, enforce: bool) -> None:
        self._piece = piece
        self._enforce = enforce
        self.blocks_before = Tally(piece.scale**2)
        self.blocks_after = Tally(piece.scale**2) if enforce else self.blocks_before

    def push(self, lr: Pixels, sr: Pixels) -> Iterator[Pixels]:
        """Take the next rows; yield them at once, changed in place."""
        s, n = self._piece.scale, _rows_at_once(self._piece, self._enforce)
        for y in range(0, len(lr), n):
            self._work(lr[y : y + n], sr[y * s : (y + n) * s])
        yield sr

    @_quiet
    def _work(self, lr: Pixels, sr: Pixels) -> None:
        excess = _add_blocks(self.blocks_before, lr, sr, self._piece.scale)
        if not self._enforce:
            return
        if self._piece.bounds is None:
            _make_finite(sr, sr.dtype)
            shift(sr, excess, self._piece.scale)
        else:
            project(sr, excess, lr, self._piece.scale, self._piece.bounds)
        _add_blocks(self.blocks_after, lr, sr, self._piece.scale)


class BackProjection:
    """Makes the bicubic downscaling of the result the LR image, in a few iterations that follow one another by rows."""

    def __init__(self, piece: Piece, step: int) -> None:
        self._piece = piece
        self._step = step
        self._native = piece.dtype.newbyteorder("=")
        self.blocks_before, self.blocks_after = Tally(piece.scale**2), Tally(piece.scale**2)
        self.bicubic_before: Tally | None = Tally()
        self.bicubic_after: Tally | None = Tally()
        self._before = self._windows(SHRINK_HALO, self._measured(self.bicubic_before, self.blocks_before))
        self._iterations = [self._windows(bp.ITERATION_HALO, self._improved) for _ in range(bp.ITERATIONS)]
        self._after = self._windows(SHRINK_HALO, self._measured(self.bicubic_after, self.blocks_after))
        self._emitted = 0  # LR rows, those outside the crop included

    def push(self, lr: Pixels, sr: Pixels) -> Iterator[Pixels]:
        """Take the next rows, which are not changed; yield rows of the crop that are finished."""
        working = bp.working_type(self._piece.dtype)
        y = np.array(lr.transpose(2, 0, 1), working, order="C")
        for _ in self._before.push(y, np.array(sr.transpose(2, 0, 1), self._native, order="C")):
            pass
        left, top, right, bottom = self._piece.crop
        s = self._piece.scale
        x = np.array(sr.transpose(2, 0, 1), working, order="C")
        _make_finite(x, self._piece.dtype)
        for _, rows in self._chained(0, y, x):
            begin, self._emitted = self._emitted, self._emitted + rows.shape[1] // s
            wanted = slice(s * max(top - begin, 0), s * max(min(bottom, self._emitted) - begin, 0))
            if wanted.start < wanted.stop:
                part = rows[:, wanted, s * left : s * right].transpose(1, 2, 0)
                yield np.array(part, self._piece.dtype, order="C")

    def _chained(self, index: int, y: Pixels, x: Pixels) -> Iterator[tuple[Pixels, Pixels]]:
        """Pass rows through the iterations from `index` on, then through rounding and the last measurement."""
        if index == len(self._iterations):
            _make_finite(x, self._piece.dtype)
            pixels = (x if self._piece.bounds is None else np.rint(x)).astype(self._native)
            yield from self._after.push(y, pixels)
            return
        for ready_y, ready_x in self._iterations[index].push(y, x):
            yield from self._chained(index + 1, ready_y, ready_x)

    def _windows(self, halo: int, apply: Apply) -> Windows:
        return Windows(self._piece.height, self._piece.scale, halo, self._step, apply)

    @_quiet
    def _improved(self, lr: Pixels, sr: Pixels, first: int, last: int, top: int) -> Pixels:
        return bp.improve(lr, sr, first, last, self._piece.scale, self._piece.bounds)

    def _measured(self, bicubic: Tally, blocks: Tally) -> Apply:
        s = self._piece.scale
        left, upper, right, lower = self._piece.crop

        @_quiet
        def apply(lr: Pixels, sr: Pixels, first: int, last: int, top: int) -> Pixels:
            begin, end = max(first, upper - top), min(last, lower - top)
            if begin < end:
                difference = bp.bicubic_difference(lr, sr, s)[:, begin:end, left:right].transpose(1, 2, 0)
                y = lr[:, begin:end, left:right].transpose(1, 2, 0).astype(sr.dtype)
                bicubic.add(difference, blank_hidden(difference, y))
                x = sr[:, s * begin : s * end, s * left : s * right].transpose(1, 2, 0)
                _add_blocks(blocks, y, x, s)
            return sr[:, first * s : last * s]

        return apply


def _add_blocks(tally: Tally, lr: Pixels, sr: Pixels, scale: int) -> Pixels:
    """Count the residual of block means; return the excess of each block's sum."""
    excess = block_excess(lr, sr, scale)
    tally.add(excess, blank_hidden(excess, lr))
    return excess


def _make_finite(sr: Pixels, dtype: np.dtype[Any]) -> None:
    """Clamp floats, in place, to what pixels of `dtype` hold: large ones may have overflowed."""
    if dtype.kind == "f":
        limit = np.finfo(dtype).max
        np.clip(sr, -limit, limit, out=sr)


def _rows_at_once(piece: Piece, enforce: bool) -> int:
    """Return how many LR rows fit into the cache."""
    samples = _SAMPLES_ENFORCED // piece.scale**2 if enforce else _SAMPLES_MEASURED
    return max(samples // (piece.width * piece.channels), 1)
