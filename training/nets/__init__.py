"""The networks, each in training form and, by `to_inference()`, in its equal inference form."""

from __future__ import annotations

from torch import Tensor, nn

from training.nets.fmen import FMEN, FMENInference
from training.nets.reparam import adopt, settle_norms
from training.nets.srgan import (
    SRGANDiscriminator,
    SRGANDiscriminatorInference,
    SRGANGenerator,
    SRGANGeneratorInference,
)
from training.nets.vdsr import VDSR, VDSRInference, bicubic_upscale

__all__ = [
    "FMEN",
    "VDSR",
    "FMENInference",
    "SRGANDiscriminator",
    "SRGANDiscriminatorInference",
    "SRGANGenerator",
    "SRGANGeneratorInference",
    "VDSRInference",
    "adopt",
    "bicubic_upscale",
    "settle_norms",
    "upscale",
]


def upscale(net: nn.Module, x: Tensor, scale: int, margin: int = 0, size: int | None = None) -> Tensor:
    """Run any of the networks on LR x (N, C, H, W): VDSR enlarges first and takes a margin, the others do not."""
    y: Tensor = net.upscale(x, scale, margin, size) if hasattr(net, "upscale") else net(x)  # type: ignore[operator]
    return y
