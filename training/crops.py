"""Random crops, cut on the device: the images of all sets lie there in flat tensors, and a batch is one gather."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data import Pairs, Pixels

Ints = NDArray[np.int64]


class Bank:
    """Images of any sizes as one tensor (pixels of all, C) on a device, uint8 or float32."""

    def __init__(self, images: list[Pixels], device: torch.device) -> None:
        self.heights = np.array([x.shape[0] for x in images])
        self.widths = np.array([x.shape[1] for x in images])
        self.starts = np.concatenate([[0], np.cumsum(self.heights * self.widths)[:-1]])
        flat = np.concatenate([x.reshape(-1, x.shape[2]) for x in images])
        self.pixels = torch.from_numpy(flat).to(device)

    def cut(self, which: Ints, top: Ints, left: Ints, size: int, turn: Ints) -> Tensor:
        """Return crops (N, C, size, size), float32 with 1 = white, channels last in memory; all arguments are (N,).

        turn: one of the eight orientations; bit 0 swaps rows and columns, then bits 1 and 2 flip them.
        """
        numbers = np.stack([self.starts[which], self.widths[which], top, left, turn])
        start, width, top_, left_, turn_ = torch.from_numpy(numbers).to(self.pixels.device)[:, :, None, None]
        i = torch.arange(size, device=self.pixels.device)
        swap = (turn_ & 1).bool()
        y, x = torch.where(swap, i[None, :], i[:, None]), torch.where(swap, i[:, None], i[None, :])
        y = torch.where((turn_ & 2).bool(), size - 1 - y, y)
        x = torch.where((turn_ & 4).bool(), size - 1 - x, x)
        crops = self.pixels[start + (top_ + y) * width + left_ + x].permute(0, 3, 1, 2)
        return crops.float().div_(255) if crops.dtype == torch.uint8 else crops


class Crops:
    """An endless, seeded stream of batches; the same on every device.

    Each crop draws a set by weight (so that grey sets keep their share), an image, a place, one of eight
    orientations and, with `jitter`, how far each end of its value window moves, as a share of the window's width.
    margin: LR pixels around a crop that belong to its input only. The state of the stream is a checkpoint's data order.
    """

    def __init__(
        self,
        sets: list[Pairs],
        batch: int,
        crop: int,
        seed: int,
        margin: int = 0,
        jitter: float = 0.0,
        device: str | torch.device = "cpu",
    ) -> None:
        self.batch, self.crop, self.margin, self.jitter = batch, crop, margin, jitter
        self.device = torch.device(device)
        self.scales = tuple(sets[0].lr)
        weights = np.array([s.weight for s in sets])
        self._shares = weights / weights.sum()
        self._counts = np.array([len(s.hr) for s in sets])
        self._first = np.cumsum(self._counts) - self._counts
        hr = Bank([x for s in sets for x in s.hr], self.device)
        self._hr = {k: self._targets(sets, k) or hr for k in self.scales}
        self._lr = {k: Bank([x for s in sets for x in s.lr[k]], self.device) for k in self.scales}
        self.rng = np.random.default_rng(seed)

    def _targets(self, sets: list[Pairs], scale: int) -> Bank | None:
        """Return what a teacher made for this scale, if there is one."""
        if any(s.taught is None for s in sets):
            return None
        return Bank([x for s in sets if s.taught for x in s.taught[scale]], self.device)

    def again(self, seed: int) -> Crops:
        """Return a stream over the same images that begins anew."""
        other = object.__new__(Crops)
        other.__dict__.update(self.__dict__)
        other.rng = np.random.default_rng(seed)
        return other

    def next(self) -> tuple[Tensor, Tensor, int]:
        """Return LR (N, C, h, h), h = ceil(crop/s) + 2 * margin, target (N, C, crop, crop), and s; 1 = white."""
        rng, N, m = self.rng, self.batch, self.margin
        s = int(rng.choice(self.scales))
        lr, inside = self._lr[s], math.ceil(self.crop / s)
        size = inside + 2 * m
        chosen = rng.choice(len(self._counts), size=N, p=self._shares)
        which = self._first[chosen] + rng.integers(self._counts[chosen])
        y, x = rng.integers(lr.heights[which] - size + 1), rng.integers(lr.widths[which] - size + 1)
        turn = rng.integers(8, size=N)
        a = lr.cut(which, y, x, size, turn)
        b = self._hr[s].cut(which, (y + m) * s, (x + m) * s, inside * s, turn)[:, :, : self.crop, : self.crop]
        if self.jitter:
            ends = rng.uniform(-self.jitter, self.jitter, (2, N, 1, 1, 1)).astype(np.float32)
            low, width = torch.from_numpy(np.stack([ends[0], 1 + ends[1] - ends[0]])).to(self.device)
            a, b = (a - low) / width, (b - low) / width
        return a, b, s

    def state_dict(self) -> dict[str, Any]:
        return dict(self.rng.bit_generator.state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rng.bit_generator.state = state
