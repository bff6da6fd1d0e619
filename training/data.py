"""Training crops: images are read once, degraded once, and kept in memory, photos as uint8, scans as float32."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fastsr.errors import OptionError
from fastsr.evaluation import percentile_window
from fastsr.graph.grey import LUMA
from fastsr.imresize import crop_to_multiple, downscale
from fastsr.io import read_image
from training.recipe import Recipe

PHOTO_SETS = ("BSD200", "BSDS500_test200", "T91", "div2k_crops", "photos", "SunHays80")
MEDICAL = "medical"
TRAINING_SETS = (*PHOTO_SETS, MEDICAL)
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


def data_root() -> Path:
    """Return the data folder: $FASTSR_DATA, or shared/data beside the repository."""
    return Path(os.environ.get("FASTSR_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """Read an image as (H, W, 3) uint8; a grey one is repeated."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def image_paths(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist; set FASTSR_DATA to the data folder")
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)


def set_folder(name: str) -> Path:
    """Return the folder of a training set; medical/slices/test is none."""
    return data_root() / ("medical/slices/train" if name == MEDICAL else f"train/{name}")


def read_grey(path: Path) -> NDArray[np.uint8]:
    """Read a photo as (H, W, 1) uint8, the BT.601 luma of its colours."""
    luma: NDArray[np.uint8] = np.rint(read_rgb(path) @ np.array(LUMA))[:, :, None].astype(np.uint8)
    return luma


def read_scan(path: Path, percentiles: tuple[float, float]) -> NDArray[np.float32]:
    """Read a grey image of 8 or 16 bits as (H, W, 1) float32 in which its values at `percentiles` are 0 and 1."""
    pixels = read_image(path).pixels
    if pixels.ndim != 2:
        raise OptionError(f"{path} has {pixels.shape[2]} channels; scans are grey")
    low, high = percentile_window(pixels, percentiles)
    return ((pixels.astype(np.float64) - low) / (high - low)).astype(np.float32)[:, :, None]


Pixels = NDArray[np.uint8] | NDArray[np.float32]


@dataclass(frozen=True)
class Pairs:
    """The images of one set: HR (H, W, C), and for each scale LR (H // s, W // s, C), as `as_unit` takes them."""

    hr: list[Pixels]
    lr: dict[int, list[Pixels]]
    weight: float = 1.0


def make_pairs(images: list[Pixels], scales: tuple[int, ...], weight: float = 1.0, exact: bool = False) -> Pairs:
    """Downscale every image by every scale. exact: LR in float32, without the rounding to 8 bits."""

    def shrink(hr: Pixels, s: int) -> Pixels:
        return downscale(crop_to_multiple(as_unit(hr) if exact else hr, s), s)

    with ThreadPoolExecutor(2) as pool:
        lr = {s: list(pool.map(lambda x, s=s: shrink(x, s), images)) for s in scales}
    return Pairs(images, lr, weight)


def load_sets(recipe: Recipe) -> list[Pairs]:
    """Read the recipe's training sets; images with a side of less than a crop are left out."""
    if unknown := recipe.data.keys() - set(TRAINING_SETS):
        raise OptionError(f"{sorted(unknown)} are no training sets; these are: {TRAINING_SETS}")
    least = recipe.crop + (2 * recipe.margin + 1) * max(recipe.scales)

    def read(name: str, path: Path) -> Pixels:
        if name == MEDICAL:
            return read_scan(path, recipe.window)
        return read_rgb(path) if recipe.colours == 3 else read_grey(path)

    sets = []
    for name, weight in recipe.data.items():
        with ThreadPoolExecutor(2) as pool:
            images = list(pool.map(lambda path, name=name: read(name, path), image_paths(set_folder(name))))
        images = [x for x in images if min(x.shape[:2]) >= least]
        sets.append(make_pairs(images, recipe.scales, weight, exact=recipe.colours == 1))
    return sets


class Crops:
    """An endless, seeded stream of batches.

    Each crop draws a set by weight (so that grey sets keep their share), an image, a place, one of eight
    orientations and, with `jitter`, how far each end of its value window moves, as a share of the window's width.
    The state of the stream is a checkpoint's data order.
    """

    def __init__(
        self, sets: list[Pairs], batch: int, crop: int, seed: int, margin: int = 0, jitter: float = 0.0
    ) -> None:
        self.sets, self.batch, self.crop, self.margin, self.jitter = sets, batch, crop, margin, jitter
        self.weights = np.array([s.weight for s in sets]) / sum(s.weight for s in sets)
        self.scales = tuple(sets[0].lr)
        self.rng = np.random.default_rng(seed)

    def again(self, seed: int) -> Crops:
        """Return a stream of the same kind that begins anew."""
        return Crops(self.sets, self.batch, self.crop, seed, self.margin, self.jitter)

    def next(self) -> tuple[Tensor, Tensor, int]:
        """Return LR (N, C, h, h), h = crop/s + 2 * margin, HR (N, C, crop, crop), float32 with 1 = white, and s."""
        s = int(self.rng.choice(self.scales))
        pairs = [self._one(s) for _ in range(self.batch)]
        return to_tensor(np.stack([p[0] for p in pairs])), to_tensor(np.stack([p[1] for p in pairs])), s

    def _one(self, s: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        rng, m = self.rng, self.margin
        size = self.crop // s + 2 * m
        chosen = self.sets[rng.choice(len(self.sets), p=self.weights)]
        i = rng.integers(len(chosen.hr))
        lr, hr = chosen.lr[s][i], chosen.hr[i]
        y, x = rng.integers(lr.shape[0] - size + 1), rng.integers(lr.shape[1] - size + 1)
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        top, left = (y + m) * s, (x + m) * s
        a = as_unit(lr[y : y + size, x : x + size])
        b = as_unit(hr[top : top + self.crop, left : left + self.crop])
        if flip:
            a, b = a[:, ::-1], b[:, ::-1]
        if self.jitter:
            low, high = np.array([0, 1], np.float32) + rng.uniform(-self.jitter, self.jitter, 2).astype(np.float32)
            a, b = (a - low) / (high - low), (b - low) / (high - low)
        return np.rot90(a, turns), np.rot90(b, turns)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.rng.bit_generator.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rng.bit_generator.state = state


def as_unit(image: Pixels) -> NDArray[np.float32]:
    """Return float32 in which 1 is white: uint8 divided by 255, float32 as it is."""
    return (
        image.astype(np.float32) / np.float32(255) if image.dtype == np.uint8 else image.astype(np.float32, copy=False)
    )


def to_tensor(images: NDArray[Any]) -> Tensor:
    """Turn (N, H, W, C), uint8 or float32, into (N, C, H, W) float32 with 1 = white, channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(as_unit(images))).permute(0, 3, 1, 2)
