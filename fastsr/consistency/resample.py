"""Linear resampling of one plane: bicubic downscaling, bicubic enlargement, and what undoes their blur.

Planes are (h, w) in LR pixels or (s h, s w), float32 or float64, and stay so; beyond their edges the edge pixel is
repeated. Nothing is rounded or clamped. Each output is a sum in a fixed order, so that a window of a plane gives the
bits of the whole plane but for the pixels near its cut edges: SHRINK_HALO, ENLARGE_HALO or SHARPEN_HALO LR pixels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.imresize import cubic, shrink_taps

Plane = npt.NDArray[Any]

SHRINK_HALO = 2
ENLARGE_HALO = 2
SHARPEN_HALO = 4
_PERIOD = 512  # pixels of the periodic signal on which the inverse is computed: long beside what it decays over
_STEP = 2.0**-24  # the inverse's taps are multiples of this, so that every machine has the same


def shrink(x: Plane, scale: int) -> Plane:
    """Return D x (h, w) of x (s h, s w): MATLAB's imresize, bicubic and antialiased, but without any rounding."""
    return _shrink(_shrink(x, scale, 0), scale, 1)


def enlarge(z: Plane, scale: int) -> Plane:
    """Return U z (s h, s w) of z (h, w): bicubic interpolation (Keys 1981, a = -0.5)."""
    return _enlarge(_enlarge(z, scale, 1), scale, 0)


def sharpen(z: Plane, scale: int) -> Plane:
    """Return K z of z (h, w): as nearly as SHARPEN_HALO taps to each side can make it, D U K z is z."""
    return _sharpen(_sharpen(z, scale, 0), scale, 1)


@lru_cache(maxsize=16)
def sharpen_taps(scale: int) -> tuple[float, ...]:
    """Return the taps of K along one axis: the inverse of D U, cut off, with sum 1."""
    reach = SHRINK_HALO + ENLARGE_HALO
    impulse = np.zeros((4 * reach + 1, 1))
    impulse[2 * reach] = 1
    blur = np.zeros(_PERIOD)
    blur[np.arange(-2 * reach, 2 * reach + 1)] = _shrink(_enlarge(impulse, scale, 0), scale, 0)[:, 0]
    inverse = np.fft.ifft(1 / np.fft.fft(blur)).real
    taps = np.rint(inverse[np.arange(-SHARPEN_HALO, SHARPEN_HALO + 1)] / _STEP)
    taps[SHARPEN_HALO] += 1 / _STEP - taps.sum()
    return tuple(float(w) for w in taps * _STEP)


def _shrink(x: Plane, scale: int, axis: int) -> Plane:
    first, taps = shrink_taps(scale)
    n = x.shape[axis] // scale
    last = (n - 1) * scale + first + len(taps) - 1
    return _weighted(_padded(x, -first, last + 1 - x.shape[axis], axis), taps, n, scale, axis)


def _enlarge(z: Plane, scale: int, axis: int) -> Plane:
    n = z.shape[axis]
    padded = _padded(z, ENLARGE_HALO, ENLARGE_HALO, axis)
    y = np.empty([side * scale if a == axis else side for a, side in enumerate(z.shape)], z.dtype)
    for phase in range(scale):
        centre = (phase + 0.5) / scale - 0.5
        taps = cubic(centre - np.arange(-ENLARGE_HALO, ENLARGE_HALO + 1, dtype=np.float64))
        y[_along(axis, phase, None, scale)] = _weighted(padded, taps, n, 1, axis)
    return y


def _sharpen(z: Plane, scale: int, axis: int) -> Plane:
    padded = _padded(z, SHARPEN_HALO, SHARPEN_HALO, axis)
    return _weighted(padded, sharpen_taps(scale), z.shape[axis], 1, axis)


def _weighted(x: Plane, taps: Any, n: int, step: int, axis: int) -> Plane:
    """Return y[i] = sum over k of taps[k] * x[i * step + k] for i < n along the axis."""
    y = np.zeros([n if a == axis else side for a, side in enumerate(x.shape)], x.dtype)
    product = np.empty_like(y)
    for k, w in enumerate(taps):
        if w != 0:
            y += np.multiply(x[_along(axis, k, k + (n - 1) * step + 1, step)], float(w), out=product)
    return y


def _padded(x: Plane, before: int, after: int, axis: int) -> Plane:
    return np.pad(x, [(before, after) if a == axis else (0, 0) for a in (0, 1)], mode="edge")


def _along(axis: int, start: int, stop: int | None, step: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, stop, step),)
