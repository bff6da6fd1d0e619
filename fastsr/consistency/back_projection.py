"""The model of most training sets and papers: the LR image is the bicubic downscaling of the one to be found.

Planes are lr (C, h, w) and sr (C, s h, s w); the last of 2 or 4 is alpha.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.consistency.block_mean import Bounds
from fastsr.consistency.resample import ENLARGE_HALO, SHARPEN_HALO, SHRINK_HALO, enlarge, sharpen, shrink
from fastsr.imresize import downscale

Planes = npt.NDArray[Any]

ITERATIONS = 4
ITERATION_HALO = SHRINK_HALO + SHARPEN_HALO + ENLARGE_HALO  # LR pixels around that an iteration looks at
# LR pixels around a box that its result depends on, and around that what its residual is measured with.
HALO = ITERATIONS * ITERATION_HALO + SHRINK_HALO


def working_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type that the iterations compute in: float32, or float64 for float64 pixels."""
    return np.dtype(np.float64 if dtype.kind == "f" and dtype.itemsize == 8 else np.float32)


def improve(lr: Planes, sr: Planes, first: int, last: int, scale: int, bounds: Bounds | None) -> Planes:
    """Return one iteration's x + U K (y - D x) of LR rows first..last, clamped to the bounds.

    y is lr and x is sr, both of `working_type`. D: bicubic downscaling; K: sharpening, which makes D U K nearly 1;
    U: bicubic enlargement. Colours of fully transparent LR pixels count as met. Bounds give way to an LR pixel
    outside of them.
    """
    rows = slice(first * scale, last * scale)
    result = sr[:, rows].copy()
    top, bottom = max(first - ENLARGE_HALO, 0), min(last + ENLARGE_HALO, lr.shape[1])
    inside = slice((first - top) * scale, (last - top) * scale)
    for c, plane in enumerate(result):
        missing = lr[c] - shrink(sr[c], scale)
        if len(lr) in (2, 4) and c < len(lr) - 1:
            missing[lr[-1] == 0] = 0
        plane += enlarge(sharpen(missing, scale)[top:bottom], scale)[inside]
        if bounds is not None:
            _clamp(plane, lr[c, first:last], scale, float(bounds.low[c]), float(bounds.high[c]))
    return np.asarray(result)


def bicubic_difference(lr: Planes, sr: Planes, scale: int) -> Planes:
    """Return downscale(sr) - lr (C, h, w), with `fastsr.imresize`'s rounding; int64 for integers, else float64.

    lr: of `working_type`; sr: of the pixels' type, native byte order.
    """
    exact = np.float64 if sr.dtype.kind == "f" else np.int64
    shrunk = np.stack([_downscaled(plane, scale) for plane in sr])
    return shrunk.astype(exact) - lr.astype(exact)


def _downscaled(plane: npt.NDArray[Any], scale: int) -> npt.NDArray[Any]:
    if plane.dtype != np.int16:
        return downscale(plane, scale)
    shifted = (plane.astype(np.int32) + 32768).astype(np.uint16)  # the same arithmetic, for signed values
    return downscale(shifted, scale).astype(np.int32) - 32768


def _clamp(plane: npt.NDArray[Any], lr: npt.NDArray[Any], scale: int, low: float, high: float) -> None:
    if lr.min() >= low and lr.max() <= high:
        np.clip(plane, low, high, out=plane)
        return
    wide = lr.repeat(scale, axis=0).repeat(scale, axis=1)
    np.clip(plane, np.minimum(low, wide), np.maximum(high, wide), out=plane)
