"""The model of a detector: an LR pixel is the mean of the s x s block of pixels that it becomes.

lr is (h, w, C), sr (s h, s w, C) of the same pixel type; any strides and byte order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bounds:
    """The values that integer pixels may take, for each channel: arrays (C,)."""

    low: Integers
    high: Integers


def block_excess(lr: Pixels, sr: Pixels, scale: int) -> Pixels:
    """Return (h, w, C): each block's sum less scale^2 times its LR pixel; int32 or int64, or float64 of floats.

    Integers are exact.
    """
    narrow, wide = _sum_types(lr.dtype, scale)
    h, w, C = lr.shape
    rows = sr.reshape(h, scale, w * scale, C)
    column_sums = rows[:, 0].astype(narrow)
    for k in range(1, scale):
        column_sums += rows[:, k]
    columns = column_sums.reshape(h, w, scale, C)
    sums = columns[:, :, 0].astype(wide)
    for k in range(1, scale):
        sums += columns[:, :, k]
    target = lr.astype(wide)
    target *= wide.type(scale * scale)
    return np.asarray(np.subtract(sums, target, out=sums))


def project(sr: Pixels, excess: Pixels, lr: Pixels, scale: int, bounds: Bounds) -> None:
    """Change integers `sr`, in place, as little as possible so that every block's excess becomes 0.

    Among the blocks of integers within the bounds that have the right sum, the result is one that is nearest in least
    squares: every pixel moves by the same whole number, or by one more, or as far as its bound lets it. Those that
    end one higher are the first that can in the order of `ranks`. Bounds give way to an LR pixel outside of them.
    """
    h, w, C = lr.shape
    even = -excess // (scale * scale)
    odd = -excess - even * (scale * scale)  # 0 <= odd < scale^2
    narrow = np.int16 if sr.dtype == np.uint8 else np.int32 if sr.dtype.itemsize < 4 else np.int64
    even, odd = (np.repeat(a.astype(narrow), scale, axis=1).reshape(h, -1) for a in (even, odd))
    low, high = (np.tile(side.astype(narrow), w * scale) for side in (bounds.low, bounds.high))
    rank = np.repeat(np.tile(ranks(scale).astype(narrow), (1, w)), C, axis=1)
    rows = sr.reshape(h, scale, w * scale, C)
    moved = []
    outside = np.zeros((h, w * scale * C), bool)
    for k in range(scale):
        row = even + (rank[k] < odd)
        row += rows[:, k].reshape(h, -1)
        outside |= row < low
        outside |= row > high
        moved.append(row.reshape(h, -1, C))
    where = np.nonzero(outside.reshape(h, w, scale, C).any(axis=2))
    blocks = sr.reshape(h, scale, w, scale, C).transpose(0, 2, 4, 1, 3)  # (h, w, C, scale, scale), a view
    mended = _filled(blocks[where].reshape(-1, scale * scale), excess[where], lr[where], where[2], scale, bounds)
    for k in range(scale):
        rows[:, k] = moved[k]
    blocks[where] = mended.reshape(-1, scale, scale)


def shift(sr: Pixels, excess: Pixels, scale: int) -> None:
    """Add to each block of floats, in place, the constant that makes its mean the LR pixel.

    That is the nearest solution in least squares. Sums are float64; each pixel is rounded once, to its type, and
    clamped to what that holds.
    """
    limit = np.finfo(sr.dtype).max
    h, w, C = excess.shape
    wide = np.repeat(excess / (scale * scale), scale, axis=1)
    rows = sr.reshape(h, scale, w * scale, C)
    for k in range(scale):
        rows[:, k] = np.clip(rows[:, k] - wide, -limit, limit)


@lru_cache(maxsize=16)
def ranks(scale: int) -> npt.NDArray[np.int32]:
    """Return (scale, scale): in which order the pixels of a block get what an even share leaves over.

    Scattered, so that no side is preferred: by the fractional parts of y g^-1 + x g^-2, g the plastic number.
    """
    g = 1.32471795724474602596
    y, x = np.mgrid[:scale, :scale]
    order = np.argsort(((y / g + x / g**2) % 1).ravel(), kind="stable")
    rank = np.empty(scale * scale, np.int32)
    rank[order] = np.arange(scale * scale)
    return rank.reshape(scale, scale)


def water_fill(room: Integers, amount: Integers) -> Integers:
    """Share amount (n,) among the columns of room (n, k) as evenly as their room lets; what is left, to the first.

    0 <= amount <= the row's sum of room. Returns whole m (n, k), 0 <= m <= room, with the row sums `amount` and the
    least sum of squares. The level only rises, each round by what can still be shared evenly: k rounds at the most.
    """
    level = np.zeros_like(amount)
    while True:
        left = amount - np.minimum(room, level[:, None]).sum(axis=1)
        still = room > level[:, None]
        rise = left // np.maximum(still.sum(axis=1), 1)
        if not rise.any():
            break
        level += rise
    first = still & (np.cumsum(still, axis=1) <= left[:, None])
    return np.asarray(np.minimum(room, level[:, None]) + first)


def _filled(
    blocks: Pixels, excess: Pixels, lr: Pixels, channel: npt.NDArray[np.intp], scale: int, bounds: Bounds
) -> Integers:
    """Return blocks (n, scale^2), of which some pixel would leave its bounds, with the sums that they should have."""
    order = np.argsort(ranks(scale).ravel())
    values, level = blocks[:, order].astype(np.int64), lr.astype(np.int64)
    low, high = np.minimum(bounds.low[channel], level), np.maximum(bounds.high[channel], level)
    up, down = excess < 0, excess > 0
    amount = np.abs(excess.astype(np.int64))
    values[up] += water_fill(high[up, None] - values[up], amount[up])
    lowered = water_fill((values[down] - low[down, None])[:, ::-1], amount[down])
    values[down] -= lowered[:, ::-1]
    result = np.empty_like(values)
    result[:, order] = values
    return result


def _sum_types(dtype: np.dtype[Any], scale: int) -> tuple[np.dtype[Any], np.dtype[Any]]:
    """Return the types of a block column's sum and of a block's sum: the narrowest that hold them."""
    if dtype.kind == "f":
        return np.dtype(np.float64), np.dtype(np.float64)
    most = scale * scale << (8 * dtype.itemsize)
    wide = np.dtype(np.int32 if most < 1 << 31 else np.int64)
    if dtype == np.uint8 and scale < 1 << 8:
        return np.dtype(np.uint16), wide
    return wide, wide
