"""What a learned prior added: the part of a result that the LR image does not tell."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.consistency.back_projection import ITERATION_HALO, working_type
from fastsr.consistency.resample import ENLARGE_HALO, enlarge, sharpen, shrink
from fastsr.consistency.rows import Windows
from fastsr.errors import DtypeError, OptionError, ShapeError

Pixels = npt.NDArray[Any]
_STEP = 32  # LR rows at once


def prior_map(sr: Pixels, scale: int) -> Pixels:
    """Return a result less its own low-resolution content: x - U K D x.

    D is bicubic downscaling, U bicubic enlargement, both unrounded; K sharpens, so that D U K is nearly 1. So the map
    of anything that is a bicubic enlargement is nearly 0, and the map downscaled is nearly 0, too.
    sr: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), H and W multiples of scale, of any pixel type of FastSR. Alpha is
    left out. Returns (H, W[, C]) in the units of the pixels, float32, or float64 for float64. Where it is far from 0,
    pixels rest on what the network learned and not on what was measured.
    Raises ShapeError, DtypeError, OptionError.
    """
    if not isinstance(sr, np.ndarray) or sr.dtype.kind not in "uif":
        raise DtypeError(f"the result is {getattr(sr, 'dtype', type(sr).__name__)}; an array of pixels is needed")
    scale = _checked_scale(scale)
    if sr.ndim not in (2, 3) or (sr.ndim == 3 and sr.shape[2] not in (1, 3, 4)) or 0 in sr.shape:
        raise ShapeError(f"the result has shape {sr.shape}; (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) is needed")
    pixels = sr[:, :, None] if sr.ndim == 2 else sr
    rows = PriorMap(pixels.shape, pixels.dtype, scale)
    result = np.empty(rows.shape, rows.dtype)
    at = 0
    for y in range(0, len(pixels), _STEP * scale):
        for part in rows.push(pixels[y : y + _STEP * scale]):
            result[at : at + len(part)] = part
            at += len(part)
    return result[:, :, 0] if sr.ndim == 2 else result


class PriorMap:
    """The prior map of a result that comes by rows, in memory that grows with the width only.

    shape: of the result (H, W, C), C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGB + alpha. The map's own shape and dtype are
    `shape` and `dtype`. Raises ShapeError.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], scale: int) -> None:
        H, W, C = shape
        if H % scale or W % scale:
            raise ShapeError(f"the result is {W} x {H} pixels; multiples of the scale {scale} are needed")
        self._colours = C - 1 if C in (2, 4) else C
        self._scale = scale
        self._carry: list[Pixels] = []
        self._windows = Windows(H // scale, scale, ITERATION_HALO, _STEP, self._apply)
        self.shape = H, W, self._colours
        self.dtype = working_type(dtype)

    def push(self, rows: Pixels) -> Iterator[Pixels]:
        """Take the next rows of the result, (n, W, C) for any n; yield rows of the map that are ready."""
        planes = np.array(rows[:, :, : self._colours].transpose(2, 0, 1), self.dtype, order="C")
        self._carry.append(planes)
        have = sum(part.shape[1] for part in self._carry)
        if have < self._scale:
            return
        planes = np.concatenate(self._carry, axis=1)
        whole = have // self._scale
        self._carry = [planes[:, whole * self._scale :].copy()]
        nothing = np.empty((1, whole, 0), self.dtype)  # a map needs no LR image
        for _, result in self._windows.push(nothing, planes[:, : whole * self._scale]):
            yield np.ascontiguousarray(result.transpose(1, 2, 0))

    def _apply(self, lr: Pixels, sr: Pixels, first: int, last: int, top: int) -> Pixels:
        s = self._scale
        begin, end = max(first - ENLARGE_HALO, 0), min(last + ENLARGE_HALO, lr.shape[1])
        inside = slice((first - begin) * s, (last - begin) * s)
        known = (enlarge(sharpen(shrink(plane, s), s)[begin:end], s)[inside] for plane in sr)
        return np.stack([plane[first * s : last * s] - low for plane, low in zip(sr, known, strict=True)])


def _checked_scale(scale: Any) -> int:
    try:
        value = operator.index(scale)
    except TypeError:
        value = 0
    if value < 1 or isinstance(scale, bool):
        raise OptionError(f"scale is {scale!r}; a whole number, 1 or more, is needed")
    return value
