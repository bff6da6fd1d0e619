"""Residuals: sums over differences that come row by row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.consistency.report import Residual

Pixels = npt.NDArray[Any]
_DOT = 8192  # squares of sums of 16 x 16 pixels of 16 bits, so many of which int64 holds
_WIDE = 1 << 25  # sums from here on, which 32-bit pixels have, are squared in two halves
_HALF = 20


class Tally:
    """Mean absolute, root mean square and largest absolute difference, in units of 1 / `unit`.

    Integers are summed exactly, floats row by row in float64. So it does not matter how many rows come at once.
    """

    def __init__(self, unit: int = 1) -> None:
        self._unit = unit
        self._samples = 0
        self._absolute: float = 0
        self._squares: float = 0
        self._most: float = 0

    def add(self, difference: Pixels, samples: int) -> None:
        """Add rows (n, ...) of int32, int64 or float64. samples: how many of them count; the others are 0."""
        self._samples += samples
        rows = np.abs(difference).reshape(len(difference), -1)
        if rows.dtype.kind == "f":
            for absolute, squares in zip(rows.sum(axis=1), (rows * rows).sum(axis=1), strict=True):
                self._absolute += float(absolute)
                self._squares += float(squares)
            self._most = max(self._most, float(rows.max()))
        else:
            flat = rows.astype(np.int64, copy=False).ravel()
            self._absolute += int(flat.sum())
            most = int(flat.max())
            self._squares += _squares(flat) if most < _WIDE else _squares_of_wide(flat)
            self._most = max(self._most, most)

    def residual(self) -> Residual:
        """Return what has been added so far."""
        if self._samples == 0:
            return Residual()
        mean, square = self._absolute / self._samples, self._squares / self._samples
        return Residual(self._samples, mean / self._unit, math.sqrt(square) / self._unit, self._most / self._unit)


def _squares(values: Pixels) -> int:
    return _products(values, values)


def _squares_of_wide(values: Pixels) -> int:
    """Return the sum of the squares of int64 below 2^40, exactly."""
    high, low = values >> _HALF, values & ((1 << _HALF) - 1)
    return (_squares(high) << 2 * _HALF) + (_products(high, low) << _HALF + 1) + _squares(low)


def _products(a: Pixels, b: Pixels) -> int:
    return sum(int(np.dot(a[i : i + _DOT], b[i : i + _DOT])) for i in range(0, a.size, _DOT))


def blank_hidden(difference: Pixels, lr: Pixels) -> int:
    """Set to 0, in place, the colours where alpha is 0, which mean nothing; return how many samples are left.

    difference, lr: (n, w, C), of which the last of 2 or 4 channels is alpha.
    """
    if lr.shape[2] not in (2, 4):
        return int(difference.size)
    hidden = lr[:, :, -1] == 0
    difference[:, :, :-1][hidden] = 0
    return int(difference.size - np.count_nonzero(hidden) * (lr.shape[2] - 1))
