"""How well does an upscaler restore images it has not seen: PSNR and SSIM as the literature measures them.

Photos: HR is cut to a multiple of the scale and reduced as MATLAB's imresize does (bicubic, antialiased, 8 bit).
Medical slices: the same in floating point, in units of a percentile window of the slice, which is also the peak.
`scale` pixels are cut from each border before anything is compared.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.errors import ImageFileError, OptionError, ShapeError
from fastsr.imresize import crop_to_multiple, downscale
from fastsr.io import FORMATS, read_image
from fastsr.metrics import psnr, ssim

Pixels = npt.NDArray[Any]
Upscale = Callable[[Pixels], Pixels]
Window = tuple[float, float]

MANIFEST = "manifest.csv"
STYLES = ("markdown", "csv", "json")
METRICS = ("psnr", "ssim", "psnr_rgb", "ssim_rgb")


@dataclass(frozen=True)
class Reference:
    """One HR image. pixels: (H, W) or (H, W, 3).

    window: the pixel values that mean 0 and 1 to the network, or None for the whole range of the pixel type.
    group: what belongs together, such as the slices of a subject.
    """

    name: str
    pixels: Pixels
    window: Window | None = None
    group: str = ""


@dataclass(frozen=True)
class Score:
    """One image's scores. psnr (dB) and ssim: of the luma; *_rgb: over the colours; both alike where it is grey."""

    name: str
    group: str
    colour: bool
    psnr: float
    ssim: float
    psnr_rgb: float
    ssim_rgb: float


def percentile_window(pixels: Pixels, percentiles: Window) -> Window:
    """Return the values at two percentiles, at least one unit of the pixels apart where they are integers."""
    low, high = (float(v) for v in np.percentile(pixels, percentiles))
    least = 1.0 if pixels.dtype.kind in "iu" else 1e-6 * max(1.0, abs(low))
    return low, max(high, low + least)


def opaque(image: Pixels) -> Pixels:
    """Drop alpha: (H, W), or (H, W, 3)."""
    if image.ndim == 3 and image.shape[2] in (1, 2):
        return image[:, :, 0]
    return image[:, :, :3] if image.ndim == 3 else image


def image_files(folder: Path) -> list[Path]:
    """Return a folder's image files in the order of their names. Raises OptionError where there are none."""
    suffixes = {suffix for known in FORMATS for suffix in known.suffixes}
    if not folder.is_dir():
        raise OptionError(f"{folder} is no folder; a folder of images is needed")
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in suffixes)
    if not files:
        raise OptionError(f"{folder} holds no image files; their names end in {' '.join(sorted(suffixes))}")
    return files


def references(folder: Path, percentiles: Window | None = None, most: int | None = None) -> Iterator[Reference]:
    """Read a folder's images in the order of their names, or `most` of them, evenly spread; alpha is dropped.

    percentiles: of each image, such as (0.5, 99.5), which mean 0 and 1. Without them a manifest.csv in the folder or
    the one above tells the window (columns file, p0.5, p99.5) and the subject; else pixels use their whole range.
    Raises OptionError for a folder without images, ImageFileError.
    """
    rows = _manifest(folder)
    paths = image_files(folder)
    count = len(paths) if most is None else min(most, len(paths))
    for path in (paths[i * len(paths) // count] for i in range(count)):
        pixels = opaque(read_image(path).pixels)
        row = rows.get(path.name, {})
        window = None
        if percentiles is not None:
            window = percentile_window(pixels, percentiles)
        elif row:
            window = float(row["p0.5"]), float(row["p99.5"])
        yield Reference(path.stem, pixels, window, row.get("subject", ""))


def evaluate(upscale: Upscale, scale: int, images: Iterable[Reference]) -> list[Score]:
    """Degrade each image, upscale it, and score the result.

    upscale: takes LR (H, W) or (H, W, 3) and returns it `scale` times larger, in the same pixel type: as integers
    over their whole range, or, for images with a window, as float32 in which the window is 0..1.
    """
    return [score(upscale, scale, image) for image in images]


def score(upscale: Upscale, scale: int, image: Reference) -> Score:
    """Score one image; see `evaluate`. Raises ShapeError for one that is too small."""
    hr = crop_to_multiple(image.pixels, scale)
    if min(hr.shape[:2]) < 11 + 2 * scale:
        raise ShapeError(
            f"{image.name} is {image.pixels.shape[1]}x{image.pixels.shape[0]}; scoring at scale {scale} "
            f"needs {11 + 2 * scale} pixels a side"
        )
    peak = None
    if image.window is not None:
        low, high = image.window
        hr, peak = ((hr.astype(np.float64) - low) / (high - low)).astype(np.float32), 1.0
    elif hr.dtype not in (np.uint8, np.uint16):
        raise OptionError(f"{image.name} holds {hr.dtype} pixels, which have no range by themselves; state a window")
    sr = upscale(downscale(hr, scale))
    colour = hr.ndim == 3
    options: dict[str, Any] = {"data_range": peak, "border": scale}
    values = [metric(hr, sr, luma=colour, **options) for metric in (psnr, ssim)]
    over_colours = [metric(hr, sr, **options) for metric in (psnr, ssim)] if colour else values
    return Score(image.name, image.group, colour, *values, *over_colours)


def mean(scores: Iterable[Score]) -> dict[str, float]:
    """Return the mean of each metric over the images."""
    scores = list(scores)
    return {metric: math.fsum(getattr(s, metric) for s in scores) / len(scores) for metric in METRICS}


def by_group(scores: Iterable[Score]) -> dict[str, dict[str, float]]:
    """Return the means of each group, such as the slices of each subject."""
    groups: dict[str, list[Score]] = {}
    for s in scores:
        groups.setdefault(s.group, []).append(s)
    return {group: mean(members) for group, members in sorted(groups.items())}


def report(scores: Sequence[Score], style: str, about: Mapping[str, Any]) -> str:
    """Return the scores of each image, of each group if there are any, and the mean, as "markdown", "csv" or "json".

    about: what was measured; only JSON states it. Raises OptionError for another style.
    """
    if style not in STYLES:
        raise OptionError(f"the style is {style!r}; one of {', '.join(STYLES)} is needed")
    groups = by_group(scores) if any(s.group for s in scores) else {}
    metrics = METRICS if any(s.colour for s in scores) else METRICS[:2]
    if style == "json":
        table: dict[str, Any] = {
            **about,
            "images": {s.name: {metric: finite(getattr(s, metric)) for metric in metrics} for s in scores},
            "groups": {name: {metric: finite(values[metric]) for metric in metrics} for name, values in groups.items()},
            "mean": {metric: finite(mean(scores)[metric]) for metric in metrics},
        }
        return json.dumps(table, indent=1, allow_nan=False) + "\n"
    rows = [(s.name, [getattr(s, metric) for metric in metrics]) for s in scores]
    rows += [(f"mean of {name or 'the others'}", [values[m] for m in metrics]) for name, values in groups.items()]
    rows.append(("mean", [mean(scores)[metric] for metric in metrics]))
    if style == "csv":
        text = io.StringIO(newline="")
        csv.writer(text).writerows([["image", *metrics], *([name, *map(repr, values)] for name, values in rows)])
        return text.getvalue()
    titles = ("luma PSNR, dB", "luma SSIM", "RGB PSNR, dB", "RGB SSIM") if len(metrics) == 4 else ("PSNR, dB", "SSIM")
    lines = ["| image | " + " | ".join(titles) + " |", "|---|" + "--:|" * len(titles)]
    for name, values in rows:
        cells = [
            f"{v:.2f}" if metric.startswith("psnr") else f"{v:.4f}" for metric, v in zip(metrics, values, strict=True)
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def finite(value: float) -> float | None:
    """Return a value as JSON can hold it: the PSNR of equal images, infinity, becomes None."""
    return value if math.isfinite(value) else None


def _manifest(folder: Path) -> dict[str, dict[str, str]]:
    """Return the manifest's rows by file name, if there is a manifest and it states windows."""
    for path in (folder / MANIFEST, folder.parent / MANIFEST):
        if not path.is_file():
            continue
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if {"file", "p0.5", "p99.5"} <= row.keys()]
        below = "" if path.parent == folder else folder.name + "/"
        try:
            named = {row["file"].removeprefix(below): row for row in rows if row["file"].startswith(below)}
            for row in named.values():
                if not float(row["p0.5"]) < float(row["p99.5"]):
                    raise ValueError(f"{row['file']}: the window {row['p0.5']} to {row['p99.5']} is empty")
        except ValueError as error:
            raise ImageFileError(f"{path}: {error}") from error
        return named
    return {}
