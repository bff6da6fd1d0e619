"""MATLAB-exact bicubic downscaling: the degradation that super-resolution papers train and report on."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastsr.errors import DtypeError, OptionError, ShapeError

Border = Literal["replicate", "mirror"]
_PAD_MODES: dict[str, Any] = {"replicate": "edge", "mirror": "symmetric"}


def downscale(image: NDArray[Any], scale: int, border: Border = "replicate") -> NDArray[Any]:
    """Shrink `image` by the integer `scale` as MATLAB's imresize does (bicubic, antialiased).

    image: (H, W) or (H, W, C); uint8, uint16 or floating. H and W are multiples of `scale`
    (see `crop_to_multiple`). Returns (H/scale, W/scale[, C]) of the same dtype.
    Integers are rounded half up and clamped after each pass, rows first; floats are neither.
    border: "replicate" repeats the edge pixel, "mirror" reflects with the edge pixel repeated.
    Raises ShapeError, DtypeError, OptionError.
    """
    if image.ndim not in (2, 3):
        raise ShapeError(f"image has {image.ndim} dimensions; (H, W) or (H, W, C) is needed")
    if image.dtype not in (np.uint8, np.uint16) and not np.issubdtype(image.dtype, np.floating):
        raise DtypeError(f"image has dtype {image.dtype}; uint8, uint16 or a floating type is needed")
    if border not in _PAD_MODES:
        raise OptionError(f"border is {border!r}; one of {sorted(_PAD_MODES)} is needed")
    if scale < 1:
        raise OptionError(f"scale is {scale}; an integer of 1 or more is needed")
    H, W = image.shape[:2]
    if H == 0 or W == 0 or H % scale or W % scale:
        raise ShapeError(
            f"image is {H}x{W}, not a positive multiple of the scale {scale}; "
            f"cropping to {H - H % scale}x{W - W % scale} would do"
        )
    if scale == 1:
        return np.array(image)
    rows = _shrink_axis0(image, scale, border)
    return np.ascontiguousarray(_shrink_axis0(rows.swapaxes(0, 1), scale, border).swapaxes(0, 1))


def crop_to_multiple(image: NDArray[Any], scale: int) -> NDArray[Any]:
    """Crop bottom and right so that H and W are multiples of `scale`. image: (H, W) or (H, W, C)."""
    H, W = image.shape[:2]
    return image[: H - H % scale, : W - W % scale]


def cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Evaluate Keys' cubic convolution kernel with a = -0.5; zero for |x| >= 2."""
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x * x + 1.0
    outer = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    result: NDArray[np.float64] = np.where(x <= 1.0, inner, np.where(x < 2.0, outer, 0.0))
    return result


def shrink_taps(scale: int) -> tuple[int, NDArray[np.float64]]:
    """Return (first, w): y[i] = sum_k w[k] * x[i*scale + first + k]; one phase serves every output.

    Output i is centred at i*scale + (scale-1)/2; the kernel reaches 2*scale to either side.
    """
    centre = 0.5 * (scale - 1)
    first = math.floor(centre - 2 * scale) + 1
    last = math.ceil(centre + 2 * scale) - 1
    w = cubic((np.arange(first, last + 1) - centre) / scale)
    return first, w / w.sum()


def _shrink_axis0(x: NDArray[Any], scale: int, border: Border) -> NDArray[Any]:
    first, w = shrink_taps(scale)
    n = x.shape[0] // scale
    last = (n - 1) * scale + first + len(w) - 1
    around = [(-first, last + 1 - x.shape[0])] + [(0, 0)] * (x.ndim - 1)
    padded = np.pad(x, around, mode=_PAD_MODES[border])
    y = np.zeros((n, *x.shape[1:]), np.float64)
    for k, weight in enumerate(w):
        y += weight * padded[k : k + (n - 1) * scale + 1 : scale]
    if np.issubdtype(x.dtype, np.floating):
        return y.astype(x.dtype)
    np.floor(y + 0.5, out=y)
    integers: NDArray[Any] = np.clip(y, 0, np.iinfo(x.dtype).max, out=y).astype(x.dtype)
    return integers
