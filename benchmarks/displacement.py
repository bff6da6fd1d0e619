"""How far models move what they enlarge, in pixels of the source.

python -m benchmarks.displacement [FOLDER ...] [--model NAME ...]

Of round blobs, bright on black and dark on white, of two heights and four widths, turned and mirrored in eight ways:
how far the centroid of what lies within four sigma moves at most, and how far it does in the average of the eight
results. Of the PNG images in each folder, reduced bicubically: how far the result as a whole lies from the original.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fastsr
from fastsr.imresize import crop_to_multiple, downscale
from fastsr.io import read_image

Floats = npt.NDArray[np.floating[Any]]

SIDE, SIGMAS, HEIGHTS = 32, (1.0, 1.5, 2.5, 3.5), (1.0, 0.5)
CENTRES = ((15.3, 16.6), (15.5, 15.5), (16.75, 15.1))
BORDER = 8  # pixels of the result, which are left out
MOST = 384  # pixels a side of the originals


def main() -> None:
    """Print a line for each model and scale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", metavar="FOLDER")
    parser.add_argument("--model", nargs="+", default=[info.name for info in fastsr.models()], metavar="NAME")
    asked = parser.parse_args()
    for info in fastsr.models():
        for scale in info.scales if info.name in asked.model else ():
            sr = fastsr.load(info.name, scale=scale)
            single, average = blobs(sr)
            line = f"{info.name} x{scale}: blobs {single:.4f}, average of eight {average:.4f}"
            for folder in asked.folders:
                moved = np.array([displacement(sr, path) for path in sorted(folder.glob("*.png"))])
                line += f"; {folder.name} ({len(moved)} images) mean {np.abs(moved.mean(axis=0)).max():.4f}"
                line += f", largest {np.abs(moved).max():.4f}"
            print(line, flush=True)


def blobs(sr: fastsr.Upscaler) -> tuple[float, float]:
    """Return how far a centroid moves at most, in a single result and in the average of eight."""
    single = average = 0.0
    for sigma in SIGMAS:
        for at in CENTRES:
            y, x = ((np.arange(SIDE) - centre) / sigma for centre in at)
            blob = np.exp(-(y[:, None] ** 2 + x**2) / 2)
            for height in HEIGHTS:
                for dark in (False, True):
                    image = (height * (1 - blob if dark else blob)).astype(np.float32)
                    results = [turned_back(sr.upscale(turned(image, i)), i) for i in range(8)]
                    bright = [height - result if dark else result for result in results]
                    single = max(single, *(off_centre(result, sr.scale, at, 4 * sigma) for result in bright))
                    average = max(average, off_centre(np.mean(bright, axis=0), sr.scale, at, 4 * sigma))
    return single, average


def turned(image: Floats, i: int) -> Floats:
    """Return the image in one of the eight ways that a square can lie."""
    return np.ascontiguousarray(np.rot90(image if i < 4 else image[::-1], i))


def turned_back(image: Floats, i: int) -> Floats:
    image = np.rot90(image, -i)
    return image if i < 4 else image[::-1]


def off_centre(image: Floats, scale: int, at: tuple[float, float], radius: float) -> float:
    """Return how far the centroid of what lies within `radius` of `at` is off, along the worse axis."""
    y, x = ((np.arange(side) + 0.5) / scale - 0.5 - centre for side, centre in zip(image.shape, at, strict=True))
    near = image * (y[:, None] ** 2 + x**2 <= radius**2)
    return float(max(abs(near.sum(axis=1) @ y), abs(near.sum(axis=0) @ x)) / near.sum())


def displacement(sr: fastsr.Upscaler, path: Path) -> Floats:
    """Return the rows and columns of the source by which a result lies off its original, by least squares.

    A result at an offset d differs from the original by -d times the original's gradient, and by a constant.
    """
    pixels = read_image(path).pixels.astype(np.float64)
    grey = pixels[:MOST, :MOST] if pixels.ndim == 2 else pixels[:MOST, :MOST, :3] @ (0.299, 0.587, 0.114)
    original = crop_to_multiple(grey / grey.max(), sr.scale)
    result = sr.upscale(downscale(original, sr.scale).astype(np.float32))
    inside = (slice(BORDER, -BORDER),) * 2
    terms = [*np.gradient(original), np.ones_like(original)]
    columns = np.stack([term[inside].ravel() for term in terms], axis=1)
    fitted, *_ = np.linalg.lstsq(columns, (original - result)[inside].ravel(), rcond=None)
    return np.asarray(fitted[:2] / sr.scale)


if __name__ == "__main__":
    main()
