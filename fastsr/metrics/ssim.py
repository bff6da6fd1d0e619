"""Structural similarity with Wang's 11x11 Gaussian window."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fastsr.errors import ShapeError
from fastsr.metrics.psnr import prepare

_SIZE = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


def ssim(
    reference: NDArray[Any],
    image: NDArray[Any],
    *,
    data_range: float | None = None,
    border: int = 0,
    luma: bool = False,
) -> float:
    """Compute the mean structural similarity, at most 1; 1 for equal images.

    reference, image: (H, W) or (H, W, C), equal shapes and dtypes, at least 11x11 after the border is cut;
    computed in float64, averaged over channels. data_range, border, luma: as in `psnr`.
    Only windows that lie inside the image count. Raises ShapeError, DtypeError, OptionError.
    Source: Wang, Bovik, Sheikh, Simoncelli 2004 (Gaussian window 11x11, sigma 1.5, K1 0.01, K2 0.03).
    """
    a, b, peak = prepare(reference, image, data_range, border, luma)
    if min(a.shape[:2]) < _SIZE:
        raise ShapeError(
            f"SSIM needs {_SIZE}x{_SIZE} pixels after the border is cut; {a.shape[0]}x{a.shape[1]} are left"
        )
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    var_a = _blur(a * a) - mean_a * mean_a
    var_b = _blur(b * b) - mean_b * mean_b
    cov = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    contrast_structure = (2 * cov + c2) / (var_a + var_b + c2)
    return float(np.mean(luminance * contrast_structure))


def _blur(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average x (H, W[, C]) under the Gaussian window, 'valid' region: (H-10, W-10[, C])."""
    t = np.arange(_SIZE) - _SIZE // 2
    w = np.exp(-0.5 * (t / _SIGMA) ** 2)
    w /= w.sum()
    rows = sliding_window_view(x, _SIZE, axis=0) @ w
    blurred: NDArray[np.float64] = sliding_window_view(rows, _SIZE, axis=1) @ w
    return blurred
