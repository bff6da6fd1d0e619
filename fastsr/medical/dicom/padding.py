"""Pixel Padding Value and Pixel Padding Range Limit (PS3.3 C.7.5.1.1.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Padding:
    """The stored values low..high (one value, or a range) that mean: there is no pixel here."""

    low: int
    high: int

    def mask(self, stored: Pixels) -> npt.NDArray[np.bool_]:
        """Say of each pixel whether it is padding."""
        return (stored >= self.low) & (stored <= self.high)

    def avoid(self, stored: Pixels, limits: tuple[int, int] | None) -> Pixels:
        """Move values that would read as padding to the nearest within the limits that do not."""
        inside = self.mask(stored)
        if not inside.any() or limits is None:
            return stored
        below, above = self.low - 1, self.high + 1
        if below < limits[0]:
            nearest = np.full(stored.shape, above)
        elif above > limits[1]:
            nearest = np.full(stored.shape, below)
        else:
            nearest = np.where(stored - below < above - stored.astype(np.int64), below, above)
        return np.where(inside, nearest, stored).astype(stored.dtype)
