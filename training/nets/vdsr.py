"""VDSR: very deep super-resolution (Kim, Lee, Lee 2016, arXiv 1511.04587), on RGB, without biases."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from fastsr.imresize import cubic

BODY_NOISE = 0.01  # standard deviation at the start; 0.06 would keep the variance without the identity


def bicubic_upscale(x: Tensor, scale: int) -> Tensor:
    """Enlarge x (N, C, H, W) to (N, C, s*H, s*W): Keys' cubic, a = -0.5, half-pixel centres, edge repeated.

    This is what MATLAB's imresize computes on floats. (torch's own bicubic has a = -0.75.)
    """
    return _enlarge_rows(_enlarge_rows(x, scale).mT, scale).mT


def _enlarge_rows(x: Tensor, scale: int) -> Tensor:
    H = x.shape[-2]
    centre = (np.arange(H * scale) + 0.5) / scale - 0.5
    rows = np.floor(centre).astype(np.int64)[:, None] + np.arange(-1, 3)  # (s*H, 4)
    w = torch.from_numpy(cubic(centre[:, None] - rows)).to(x)
    index = torch.from_numpy(rows.clip(0, H - 1)).to(x.device)
    y = w[:, 0, None] * x[..., index[:, 0], :]
    for k in range(1, 4):
        y = y + w[:, k, None] * x[..., index[:, k], :]
    return y


class _VDSR(nn.Module):
    """y = x + tail(relu(body(relu(head(x))))), 20 convolutions; x is the bicubically enlarged image.

    x (N, 3, H, W) in 0..1 -> the same shape, not clamped. One set of weights serves scales 2, 3 and 4.
    """

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.body = nn.ModuleList(nn.Conv2d(64, 64, 3, padding=1, bias=False) for _ in range(18))
        self.tail = nn.Conv2d(64, 3, 3, padding=1, bias=False)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.head(x))
        for conv in self.body:
            y = self.act(conv(y))
        residual: Tensor = self.tail(y)
        return x + residual

    def upscale(self, x: Tensor, scale: int, margin: int = 0, size: int | None = None) -> Tensor:
        """Enlarge x (N, 3, H, W) by `scale`: the bicubic image and its learned residual.

        margin: LR pixels cut from each side after the bicubic step, whose neighbourhood they complete.
        size: pixels kept a side, from the top left, of what is then left.
        """
        enlarged = bicubic_upscale(x, scale)
        m = margin * scale
        bottom, right = (m + size, m + size) if size else (enlarged.shape[2] - m, enlarged.shape[3] - m)
        y: Tensor = self(enlarged[:, :, m:bottom, m:right])
        return y


class VDSRInference(_VDSR):
    """VDSR of plain convolutions: 667,008 parameters."""


class VDSR(_VDSR):
    """VDSR in training form: it has no branches, so both forms hold the same weights."""

    def __init__(self) -> None:
        super().__init__()
        self._start_shallow()

    @torch.no_grad()
    def _start_shallow(self) -> None:
        """Start as a shallow net: edge filters and their negatives, handed on by an identity body.

        Twenty bias-free layers of random weights lose the small residual in the image's mean, and do not
        begin to learn for thousands of steps; an identity lets the tail learn from the first one.
        """
        edges = torch.randn(32, 3, 3, 3) / 27**0.5
        edges -= edges.mean((1, 2, 3), keepdim=True)
        self.head.weight.copy_(torch.cat([edges, -edges]))
        for conv in self.body:
            assert isinstance(conv, nn.Conv2d)
            nn.init.dirac_(conv.weight)
            conv.weight.add_(torch.randn_like(conv.weight), alpha=BODY_NOISE)
        nn.init.zeros_(self.tail.weight)

    def to_inference(self) -> VDSRInference:
        net = VDSRInference()
        for name, child in self.named_children():
            setattr(net, name, copy.deepcopy(child))
        return net.train(self.training)
