"""Colour under transparent pixels: it is arbitrary, often black, and must not bleed into what can be seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# How far visible colour is carried into transparent pixels. A network's view reaches further, but what lies more
# than these LR pixels from anything visible has next to no weight in what is visible.
BLEED = 8


def fill_transparent(colour: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return colour (H, W, C) with visible colour carried up to BLEED pixels into where alpha (H, W) is 0.

    Beyond that it is 0. Each round gives transparent pixels next to known ones the mean of their known neighbours
    (3 x 3), so a pixel depends on nothing further than BLEED pixels away.
    """
    known = alpha != 0
    if known.all():
        return colour
    filled = np.where(known[:, :, None], colour, 0).astype(np.float32)
    for _ in range(BLEED):
        weight = _sum3x3(known[:, :, None].astype(np.float32))
        mean = _sum3x3(filled) / np.maximum(weight, 1)
        new = ~known & (weight[:, :, 0] > 0)
        if not new.any():
            break
        filled[new] = mean[new]
        known = known | new
    if colour.dtype.kind != "f":
        filled = np.rint(filled)
    result = np.where(alpha[:, :, None] != 0, colour, filled.astype(colour.dtype))
    return result.astype(colour.dtype, copy=False)  # np.where returns the machine's byte order


def _sum3x3(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return np.asarray(rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:])
