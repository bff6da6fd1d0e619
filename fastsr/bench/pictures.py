"""Pictures to measure on: made here, with detail at all sizes as photos have it, or cut from somebody's images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastsr.errors import OptionError
from fastsr.imresize import crop_to_multiple, downscale
from fastsr.io import FORMATS, read_image

Image = npt.NDArray[np.uint8]
CALIBRATION_PICTURES = 16
CALIBRATION_SIDE = 64  # LR pixels
_CELLS = (64, 32, 16, 8, 4, 2, 1)  # pixels from one random value to the next
_COLOUR = 0.3  # of the contrast


def synthetic(height: int, width: int, seed: int = 0) -> Image:
    """Return (height, width, 3): random values at distances of 64, 32, ... 1 pixels, interpolated and added up."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for cell in _CELLS:
        shape = height // cell + 2, width // cell + 2
        grid = rng.standard_normal((*shape, 1), np.float32) + _COLOUR * rng.standard_normal((*shape, 3), np.float32)
        columns = _enlarge(grid, cell, height).swapaxes(0, 1)
        total += np.sqrt(np.float32(cell)) * _enlarge(columns, cell, width).swapaxes(0, 1)
    total *= 48 / total.std()
    return np.clip(total + 128, 0, 255).astype(np.uint8)


def calibration(folder: Path | None, scale: int) -> Image:
    """Return (N, h, w, 3) LR pictures: crops of images under `folder`, reduced by `scale`; synthetic without one.

    The images are HR, chosen at random but always the same. Raises OptionError where none is large enough.
    """
    side, count = CALIBRATION_SIDE, CALIBRATION_PICTURES
    if folder is None:
        return np.stack([synthetic(side, side, seed) for seed in range(1, count + 1)])
    rng = np.random.default_rng(0)
    files = image_files(folder)
    crops: list[Image] = []
    for i in rng.permutation(len(files)):
        lr = reduced(read_rgb(files[i]), scale)
        H, W = lr.shape[:2]
        if min(H, W) >= side and len(crops) < count:
            y, x = rng.integers(H - side + 1), rng.integers(W - side + 1)
            crops.append(lr[y : y + side, x : x + side])
    if not crops:
        raise OptionError(f"{folder} has no 8-bit image of {side * scale}x{side * scale} pixels or more")
    return np.stack(crops)


def image_files(folder: Path) -> list[Path]:
    """Return the image files under `folder`, sorted."""
    suffixes = {suffix for entry in FORMATS for suffix in entry.suffixes}
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)


def read_rgb(path: Path) -> Image:
    """Return an 8-bit image as (H, W, 3): grey in all three colours, alpha dropped. Raises OptionError."""
    pixels = read_image(path).pixels
    if pixels.dtype != np.uint8:
        raise OptionError(f"{path} is {pixels.dtype}; 8-bit images are needed")
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return np.repeat(pixels[:, :, :1], 3, axis=2) if pixels.shape[2] < 3 else pixels[:, :, :3]


def reduced(hr: Image, scale: int) -> Image:
    """Return HR, cropped to a multiple of `scale`, reduced as MATLAB's imresize does."""
    return downscale(crop_to_multiple(hr, scale), scale)


def _enlarge(grid: npt.NDArray[np.float32], cell: int, length: int) -> npt.NDArray[np.float32]:
    """Interpolate linearly along the first axis: one value each `cell` pixels becomes `length` pixels."""
    at = np.arange(length, dtype=np.float32) / np.float32(cell)
    first = at.astype(int)
    weight = (at - first).reshape(-1, *[1] * (grid.ndim - 1))
    result: npt.NDArray[np.float32] = grid[first] * (1 - weight) + grid[first + 1] * weight
    return result
