"""Make the pictures of docs/images anew with the weights that are shipped, and say what docs/consistency.md states.

python -m benchmarks.pictures                   # needs scikit-image, whose sample photo `coffee` is shown
"""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

import fastsr
from fastsr.compare import compare, draw
from fastsr.imresize import crop_to_multiple, downscale
from fastsr.io import atomic_output, read_image

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs" / "images"
SCALE = 4
FLAIR_RANGE = (0, 577)  # to the 99.5th percentile of the whole slice
FLAIR_WIDTH = 156  # what lies right of it is empty
QUALITY = 80
GAP, CAPTION, ENLARGED = 8, 20, 2
DARK, LIGHT = (24, 24, 24), (235, 235, 235)

Pixels = npt.NDArray[Any]


def main() -> None:
    coffee = importlib.import_module("skimage.data").coffee()
    save(draw(compare(fastsr.load("fmen").upscale, SCALE, hr=coffee, name="fmen")), OUT / "coffee_compared.webp")
    hr = crop_to_multiple(read_image(ROOT / "tests" / "fixtures" / "mr_flair.png").pixels[:, :FLAIR_WIDTH], SCALE)
    lr = downscale(hr, SCALE)
    sr = fastsr.upscale(lr, "fmen", scale=SCALE, value_range=FLAIR_RANGE)
    prior = fastsr.prior_map(sr, SCALE)
    error = sr.astype(np.float32) - hr
    nearest = lr.repeat(SCALE, 0).repeat(SCALE, 1)
    panels = {
        "LR, nearest": grey(nearest),
        "FMEN x4": grey(sr),
        "prior map": signed(prior),
        "FMEN x4 - HR": signed(error),
    }
    save(in_a_row(panels), OUT / "mr_flair_prior.webp")
    a, b = np.abs(prior), np.abs(error)
    print(f"|map| and |error|: correlation {correlation(a, b):.2f}, of 9x9 means {correlation(means(a), means(b)):.2f}")


def grey(pixels: Pixels) -> Pixels:
    """Show FLAIR_RANGE as black to white."""
    low, high = FLAIR_RANGE
    return shown((pixels - float(low)) / (high - low))


def signed(difference: Pixels) -> Pixels:
    """Show 0 as grey, and an eighth of the range below and above it as black and white."""
    return shown(difference / (FLAIR_RANGE[1] - FLAIR_RANGE[0]) * 4 + 0.5)


def shown(values: Pixels) -> Pixels:
    pixels: Pixels = np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8)
    return pixels


def in_a_row(panels: dict[str, Pixels]) -> Pixels:
    """Draw (h, w) uint8 pictures, enlarged by repetition, with captions: (H, W, 3)."""
    h, w = (side * ENLARGED for side in next(iter(panels.values())).shape)
    canvas = Image.new("RGB", (GAP + len(panels) * (w + GAP), CAPTION + GAP + h + GAP), DARK)
    pen = ImageDraw.Draw(canvas)
    for i, (title, pixels) in enumerate(panels.items()):
        left = GAP + i * (w + GAP)
        pen.text((left, GAP), title, fill=LIGHT, font=ImageFont.load_default(size=14))
        canvas.paste(Image.fromarray(pixels).resize((w, h), Image.Resampling.NEAREST), (left, CAPTION + GAP))
    return np.asarray(canvas)


def save(picture: Pixels, path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=QUALITY, method=6)
    with atomic_output(path, overwrite=True) as file:
        file.write(buffer.getbuffer())
    print(path)


def means(x: Pixels, size: int = 9) -> Pixels:
    """Return the means over all size x size windows."""
    blocks: Pixels = np.lib.stride_tricks.sliding_window_view(x, (size, size)).mean((2, 3))
    return blocks


def correlation(a: Pixels, b: Pixels) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


if __name__ == "__main__":
    main()
