"""Slow twin of how medical slices are upscaled: a whole slice in arrays, step by step."""

from __future__ import annotations

import numpy as np

from fastsr.alpha import fill_transparent
from fastsr.medical.frames import SEEN, enlarged_rows


def upscale_stored(sr, stored, units):
    """Upscale one slice (H, W) of stored pixels with an Upscaler and a UnitMap; return (s H, s W) of the same type."""
    gaps = ~np.isfinite(stored) if stored.dtype.kind == "f" else np.zeros(stored.shape, bool)
    unit = fill_transparent(units.to_unit(np.where(gaps, 0, stored))[:, :, None], ~gaps)[:, :, 0]
    s, height = sr.scale, len(stored)
    if sr.model.tensors:  # what has learned is not shown what is far beyond its range
        shown = np.clip(unit, *SEEN)
        excess = (unit - shown)[:, :, None]
        result = sr.upscale(shown)
        result = result + (excess.any() and enlarged_rows(lambda a, b: excess[a:b], height, s, 0, s * height)[:, :, 0])
    else:
        result = sr.upscale(unit)
    result = units.to_stored(result)
    blocks = stored.repeat(s, axis=0).repeat(s, axis=1)
    return np.where(gaps.repeat(s, axis=0).repeat(s, axis=1), blocks, result).astype(result.dtype)
