"""PyTorch on the CPU (oneDNN), inference mode, channels last, operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fastsr.backends.torch_ref import TorchRunner
from fastsr.bench.network import Network
from fastsr.bench.peers import Array, Run

NAME = "PyTorch"
PACKAGES = {"torch": "torch"}
PRECISIONS = ("fp32",)


def environment(isa: str) -> Mapping[str, str] | None:
    """PyTorch's own kernels and oneDNN's each obey a variable."""
    return {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"} if isa == "avx2" else None


def prepare(network: Network, precision: str, folder: Path) -> str:
    return ""


def load(network: Network, precision: str, folder: Path, size: tuple[int, int], threads: int) -> Run:
    return runner(network, threads, lambda forward: forward)


def runner(network: Network, threads: int, change: Callable[[Any], Any]) -> Run:
    """Return run() of change(the network's forward function)."""
    import torch

    torch.set_num_threads(threads)
    forward = change(TorchRunner(network.graph, network.model.tensors).forward)

    def run(x: Array) -> Array:
        with torch.inference_mode():
            image = torch.from_numpy(x).to(memory_format=torch.channels_last)
            result: Array = forward(image).contiguous().numpy()
        return result

    return run
