"""Training images: read once, reduced once. Photos stay uint8; scans become float32 in units of their value window."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastsr
from fastsr.errors import ImageFileError, OptionError, ShapeError
from fastsr.evaluation import image_files, opaque, percentile_window
from fastsr.graph.grey import LUMA
from fastsr.imresize import crop_to_multiple, downscale
from fastsr.io import read_image
from training.recipe import MEDICAL, Recipe

# Folders of photos below $FASTSR_DATA/train. BSD200_excluded is none of them: a benchmark shows the same photo.
PHOTO_SETS = ("BSD200", "BSDS500_test200", "T91", "div2k_crops", "photos", "SunHays80")
THREADS = 2

Pixels = NDArray[Any]  # (H, W, C): uint8, or float32 in which 1 is white


def data_root() -> Path:
    """Return the data folder: $FASTSR_DATA, or shared/data beside the repository."""
    return Path(os.environ.get("FASTSR_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def set_folder(name: str) -> Path:
    """Return the folder of a training set: one of ours by its name, anybody's by its path.

    Raises OptionError for a name that is neither, and for the slices that networks are tested on.
    """
    if name in PHOTO_SETS:
        return data_root() / "train" / name
    if name == MEDICAL:
        return data_root() / "medical" / "slices" / "train"
    if Path(name).name == name and not name.startswith("."):
        known = ", ".join((*PHOTO_SETS, MEDICAL))
        raise OptionError(f"there is no training set {name!r}; {known}, or a folder's path (./{name}) would do")
    folder = Path(name).expanduser()
    held_out = [data_root() / "benchmarks", data_root() / "medical" / "slices" / "test"]
    if any(folder.resolve().is_relative_to(f.resolve()) for f in held_out):
        raise OptionError(f"{name} holds images that networks are measured on; train on others")
    return folder


def read_rgb(path: Path) -> Pixels:
    """Read an image of 8 bits as (H, W, 3) uint8; a grey one is repeated, alpha is dropped."""
    pixels = opaque(read_image(path).pixels)
    if pixels.dtype != np.uint8:
        raise OptionError(f"{path} holds {pixels.dtype} pixels; RGB networks train on 8 bits, colours = 1 on any")
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def read_grey(path: Path) -> Pixels:
    """Read a photo as (H, W, 1) float32, the BT.601 luma of its colours in 0..1."""
    luma: Pixels = (read_rgb(path) @ np.array(LUMA) / 255).astype(np.float32)
    return luma[:, :, None]


def read_scan(path: Path, percentiles: tuple[float, float]) -> Pixels:
    """Read a grey image of any pixel type as (H, W, 1) float32 in which its values at `percentiles` are 0 and 1."""
    pixels = opaque(read_image(path).pixels)
    if pixels.ndim != 2:
        raise OptionError(f"{path} has {pixels.shape[2]} channels; scans are grey")
    low, high = percentile_window(pixels, percentiles)
    scan: Pixels = ((pixels.astype(np.float64) - low) / (high - low)).astype(np.float32)
    return scan[:, :, None]


@dataclass(frozen=True)
class Pairs:
    """The images of one set: HR (H, W, C), and for each scale LR (H // s, W // s, C).

    taught: for each scale what a network shall make of LR, where that is not HR; H // s * s by W // s * s pixels.
    """

    hr: list[Pixels]
    lr: dict[int, list[Pixels]]
    weight: float = 1.0
    taught: dict[int, list[Pixels]] | None = None


def make_pairs(images: list[Pixels], scales: tuple[int, ...], weight: float = 1.0) -> Pairs:
    """Reduce every image by every scale: uint8 rounded to 8 bits, float32 not at all."""
    with ThreadPoolExecutor(THREADS) as pool:
        lr = {s: list(pool.map(lambda x, s=s: downscale(crop_to_multiple(x, s), s), images)) for s in scales}
    return Pairs(images, lr, weight)


def load_sets(recipe: Recipe, say: Callable[[str], None] = print, most: int | None = None) -> list[Pairs]:
    """Read the recipe's training sets.

    An image that cannot be read, or is smaller than a crop, is left out; `say` tells which, and how many.
    most: images of each set, the first ones. Raises OptionError and ShapeError for a set without any usable image.
    """
    sets = []
    for name, weight in recipe.data.items():
        images = read_set(name, recipe, say, most)
        pairs = make_pairs(images, recipe.scales, weight)
        sets.append(teach(pairs, recipe.teacher, recipe.teaching) if recipe.teaching else pairs)
    return sets


def teach(pairs: Pairs, teacher: str, teaching: float) -> Pairs:
    """Return `pairs` with targets that are `teaching` parts what the model `teacher` makes of LR, the rest HR.

    A small network learns faster from them: what no network can know of HR is the noise of its gradients, and there is
    less of it. teacher: as for `fastsr.load`. Source: Hinton et al. 2015, arXiv 1503.02531; images instead of classes.
    """
    taught: dict[int, list[Pixels]] = {}
    for s, images in pairs.lr.items():
        upscaler = fastsr.load(teacher, scale=s)
        taught[s] = [mixed(hr, upscaler.upscale(lr), teaching) for hr, lr in zip(pairs.hr, images, strict=True)]
    return replace(pairs, taught=taught)


def mixed(hr: Pixels, sr: Pixels, teaching: float) -> Pixels:
    """Return (1 - teaching) hr + teaching sr in hr's type, cut to sr's size."""
    H, W, _ = sr.shape
    target: Pixels = (1 - np.float32(teaching)) * hr[:H, :W] + np.float32(teaching) * sr
    return np.rint(target).astype(np.uint8) if hr.dtype == np.uint8 else target.astype(hr.dtype)


def read_set(name: str, recipe: Recipe, say: Callable[[str], None], most: int | None) -> list[Pixels]:
    folder = set_folder(name)
    files = image_files(folder)[:most]

    def read(path: Path) -> Pixels | ImageFileError:
        try:
            if name in PHOTO_SETS or recipe.colours == 3:
                return read_rgb(path) if recipe.colours == 3 else read_grey(path)
            return read_scan(path, recipe.window)
        except ImageFileError as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(read, files))
    broken = [r for r in results if isinstance(r, ImageFileError)]
    images = [r for r in results if not isinstance(r, ImageFileError)]
    large = [x for x in images if min(x.shape[:2]) >= recipe.least_side]
    for error in broken:
        say(f"skipped: {error}")
    left_out = len(images) - len(large)
    if not large:
        raise ShapeError(
            f"{folder} has no image to train on: {len(broken)} cannot be read, {left_out} are smaller than the "
            f"{recipe.least_side} pixels a side that crops of {recipe.crop} need; a smaller crop would do"
        )
    note = ", ".join(f"{n} {why}" for n, why in ((len(broken), "unreadable"), (left_out, "too small")) if n)
    say(f"{name}: {len(large)} images" + (f" ({note})" if note else ""))
    return large
