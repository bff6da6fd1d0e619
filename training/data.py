"""Training crops and benchmark images: read once, degraded once, kept in memory as uint8."""

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
from fastsr.imresize import crop_to_multiple, downscale

TRAINING_SETS = ("BSD200", "BSDS500_test200", "T91", "div2k_crops", "photos", "SunHays80")
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


@dataclass(frozen=True)
class Pairs:
    """The images of one set: HR (H, W, 3) uint8, and for each scale LR (H // s, W // s, 3) uint8."""

    hr: list[NDArray[np.uint8]]
    lr: dict[int, list[NDArray[np.uint8]]]
    weight: float = 1.0


def make_pairs(images: list[NDArray[np.uint8]], scales: tuple[int, ...], weight: float = 1.0) -> Pairs:
    """Downscale every image by every scale."""
    with ThreadPoolExecutor(2) as pool:
        lr = {s: list(pool.map(lambda x, s=s: downscale(crop_to_multiple(x, s), s), images)) for s in scales}
    return Pairs(images, lr, weight)


def load_sets(weights: dict[str, float], scales: tuple[int, ...], least: int) -> list[Pairs]:
    """Read the named training sets; images with a side of less than `least` HR pixels are left out."""
    if unknown := weights.keys() - set(TRAINING_SETS):
        raise OptionError(f"{sorted(unknown)} are no training sets; these are: {TRAINING_SETS}")
    sets = []
    for name, weight in weights.items():
        with ThreadPoolExecutor(2) as pool:
            images = list(pool.map(read_rgb, image_paths(data_root() / "train" / name)))
        sets.append(make_pairs([x for x in images if min(x.shape[:2]) >= least], scales, weight))
    return sets


class Crops:
    """An endless, seeded stream of batches.

    Each crop draws a set by weight (so that grey sets keep their share), an image, a place and one of
    eight orientations. The state of the stream is a checkpoint's data order.
    """

    def __init__(self, sets: list[Pairs], batch: int, crop: int, seed: int, margin: int = 0) -> None:
        self.sets, self.batch, self.crop, self.margin = sets, batch, crop, margin
        self.weights = np.array([s.weight for s in sets]) / sum(s.weight for s in sets)
        self.scales = tuple(sets[0].lr)
        self.rng = np.random.default_rng(seed)

    def next(self) -> tuple[Tensor, Tensor, int]:
        """Return LR (N, 3, h, h), h = crop/s + 2 * margin, HR (N, 3, crop, crop), float32 in 0..1, and s."""
        s = int(self.rng.choice(self.scales))
        pairs = [self._one(s) for _ in range(self.batch)]
        return to_tensor(np.stack([p[0] for p in pairs])), to_tensor(np.stack([p[1] for p in pairs])), s

    def _one(self, s: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        rng, m = self.rng, self.margin
        size = self.crop // s + 2 * m
        chosen = self.sets[rng.choice(len(self.sets), p=self.weights)]
        i = rng.integers(len(chosen.hr))
        lr, hr = chosen.lr[s][i], chosen.hr[i]
        y, x = rng.integers(lr.shape[0] - size + 1), rng.integers(lr.shape[1] - size + 1)
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        a = lr[y : y + size, x : x + size]
        top, left = (y + m) * s, (x + m) * s
        b = hr[top : top + self.crop, left : left + self.crop]
        if flip:
            a, b = a[:, ::-1], b[:, ::-1]
        return np.rot90(a, turns), np.rot90(b, turns)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.rng.bit_generator.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rng.bit_generator.state = state


def to_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Turn (N, H, W, 3) uint8 into (N, 3, H, W) float32 in 0..1, channels last in memory."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(255)


def to_image(y: Tensor) -> NDArray[np.uint8]:
    """Turn (1, 3, H, W) in 0..1 into (H, W, 3) uint8, rounded half up and clamped."""
    image: NDArray[np.uint8] = y[0].permute(1, 2, 0).mul(255).add(0.5).floor().clamp(0, 255).to(torch.uint8).numpy()
    return image
