"""Peak signal-to-noise ratio, and what PSNR and SSIM share: range, border crop and luma."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsr.errors import DtypeError, OptionError, ShapeError

# BT.601 studio swing: R, G, B in 0..1 give Y in 16..235 (of 255). Full-swing 'JPEG' luma differs by 1.3 dB.
_LUMA = np.array([65.481, 128.553, 24.966])
_LUMA_OFFSET = 16.0


def psnr(
    reference: NDArray[Any],
    image: NDArray[Any],
    *,
    data_range: float | None = None,
    border: int = 0,
    luma: bool = False,
) -> float:
    """Compute 10 log10(data_range^2 / MSE) in dB; inf for equal images.

    reference, image: (H, W) or (H, W, C), equal shapes and dtypes; computed in float64.
    data_range: the peak; 255 and 65535 for uint8 and uint16, to be stated for every other dtype.
    border: pixels cut from each side first (papers cut `scale`). luma: compare BT.601 Y of RGB.
    Raises ShapeError, DtypeError, OptionError. Source: MSE and PSNR as equations (1) and (2) of the paper
    this project follows; over all channels for RGB.
    """
    a, b, peak = prepare(reference, image, data_range, border, luma)
    mse = float(np.mean((a - b) ** 2))
    return math.inf if mse == 0 else 10 * math.log10(peak * peak / mse)


def luma_bt601(image: NDArray[Any], *, data_range: float | None = None) -> NDArray[np.float64]:
    """Compute BT.601 studio-swing luma of RGB: (H, W, 3) -> (H, W) float64, not rounded.

    On 8-bit values it is (65.481 R + 128.553 G + 24.966 B) / 255 + 16, from 16 to 235; for another
    range the result is scaled alike (16/255 to 235/255 of data_range).
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise ShapeError(f"luma needs RGB, (H, W, 3); this image is {image.shape}")
    peak = range_of(image, data_range)
    y: NDArray[np.float64] = (image.astype(np.float64) @ _LUMA + _LUMA_OFFSET * peak) / 255
    return y


def range_of(image: NDArray[Any], data_range: float | None) -> float:
    """Return data_range, or the range that the dtype of `image` has; a float has none by itself."""
    if data_range is not None:
        if not (data_range > 0 and math.isfinite(data_range)):
            raise OptionError(f"data_range is {data_range}; a positive finite number is needed")
        return float(data_range)
    if image.dtype in (np.uint8, np.uint16):
        return float(np.iinfo(image.dtype).max)
    raise OptionError(
        f"data_range must be stated for dtype {image.dtype} (e.g. data_range=1.0); "
        "only uint8 and uint16 have one by themselves"
    )


def prepare(
    reference: NDArray[Any], image: NDArray[Any], data_range: float | None, border: int, luma: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Check both images, turn them to luma, cut the border; returns float64 images and the peak."""
    if reference.shape != image.shape:
        raise ShapeError(f"the reference is {reference.shape}, the image {image.shape}; equal shapes are needed")
    if reference.ndim not in (2, 3):
        raise ShapeError(f"images have {reference.ndim} dimensions; (H, W) or (H, W, C) is needed")
    if reference.dtype != image.dtype:
        raise DtypeError(f"the reference is {reference.dtype}, the image {image.dtype}; equal dtypes are needed")
    if not (np.issubdtype(image.dtype, np.integer) or np.issubdtype(image.dtype, np.floating)):
        raise DtypeError(f"images have dtype {image.dtype}; an integer or floating type is needed")
    peak = range_of(image, data_range)
    H, W = image.shape[:2]
    if border < 0:
        raise OptionError(f"border is {border}; 0 or more is needed")
    if min(H, W) <= 2 * border:
        raise ShapeError(
            f"nothing is left of {H}x{W} pixels after cutting {border} from each side; "
            f"a border of at most {max(0, (min(H, W) - 1) // 2)} would do"
        )
    inside = (slice(border, H - border), slice(border, W - border))
    a, b = reference[inside], image[inside]
    if luma:
        return luma_bt601(a, data_range=peak), luma_bt601(b, data_range=peak), peak
    return a.astype(np.float64), b.astype(np.float64), peak
