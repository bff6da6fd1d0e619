"""Less of a network: its result mixed with bicubic interpolation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]


def blend(sr: Pixels, bicubic: Pixels, strength: float) -> None:
    """Replace sr (n, w, C) by bicubic + strength (sr - bicubic), in float64; integers are rounded half to even."""
    for row, other in zip(sr, bicubic, strict=True):
        low = other.astype(np.float64)
        mixed = low + strength * (row - low)
        row[...] = mixed if sr.dtype.kind == "f" else np.rint(mixed)
