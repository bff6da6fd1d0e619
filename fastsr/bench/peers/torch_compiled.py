"""PyTorch on the CPU through torch.compile (inductor), compiled for the picture's size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fastsr.bench.network import Network
from fastsr.bench.peers import Run, torch_eager

NAME = "PyTorch compiled"
PACKAGES = {"torch": "torch"}
PRECISIONS = ("fp32",)


def environment(isa: str) -> Mapping[str, str] | None:
    return torch_eager.environment(isa)


def prepare(network: Network, precision: str, folder: Path) -> str:
    return ""


def load(network: Network, precision: str, folder: Path, size: tuple[int, int], threads: int) -> Run:
    import torch

    return torch_eager.runner(network, threads, lambda forward: torch.compile(forward, dynamic=False))
