"""The arithmetic of Resize: output pixel factor * i + phase is a weighted sum of input pixels around i."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastsr.graph.ir import Resize

Float64 = npt.NDArray[np.float64]


def resize_weights(node: Resize) -> Float64:
    """Return w (factor, T): output factor * i + phase = sum over t of w[phase, t] * input[i + t - T // 2].

    T is 1, 3 or 5; inputs outside the image are the nearest edge pixel. Half-pixel centres: output o lies at
    (o + 0.5) / factor - 0.5.
    """
    if node.mode == "nearest":
        return np.ones((node.factor, 1))
    centre = (np.arange(node.factor) + 0.5) / node.factor - 0.5
    reach = 1 if node.mode == "bilinear" else 2
    distance = np.abs(centre[:, None] - np.arange(-reach, reach + 1))
    return np.maximum(1 - distance, 0) if node.mode == "bilinear" else _cubic(distance, node.cubic_a)


def _cubic(x: Float64, a: float) -> Float64:
    """Keys' cubic convolution kernel (1981, equation 4 with free a) at distances x >= 0."""
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, inner, np.where(x < 2, outer, 0.0))
