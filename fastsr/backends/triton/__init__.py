"""The back end for NVIDIA GPUs in Triton: docs/gpu.md.

plan.py     graph -> launches           no GPU, PyTorch or Triton needed
quantize.py launches in floats -> launches in int8 or fp8
calls.py    launches -> kernel calls    packed weights, block sizes (configs.py, configs.toml)
kernels.py  the kernels
executor.py calls -> a device           buffers, CUDA graphs
runner.py   what upscaler.py drives     bands of rows, memory, retries in fp32
aot.py      what the compiler makes of a call; autotune.py measures block sizes on a device
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastsr.backends.base import Runner
    from fastsr.graph.model import CompiledModel

INSTALL = "pip install 'fastsr[triton]'"


def why_unavailable() -> str | None:
    """Return None, or why this back end cannot run here. Imports PyTorch only where it and a driver are there."""
    missing = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} not installed: {INSTALL}"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return None  # kernels run on the CPU, one instruction at a time: for tests
    if not _driver():
        return "no NVIDIA driver (libcuda) is here; it comes from the GPU's maker or the system, not from pip"
    import torch

    if torch.version.cuda is None:
        return f"PyTorch {torch.__version__} is built without CUDA: {INSTALL}, or see pytorch.org for your driver"
    if not torch.cuda.is_available():
        return "PyTorch finds no GPU that it can use; nvidia-smi shows what the driver sees"
    major, minor = torch.cuda.get_device_capability()
    if major < 8:
        return f"the GPU has compute capability {major}.{minor}; 8.0 (Ampere) or newer is needed"
    return None


def make_runner(model: CompiledModel, scale: int, channels: int, threads: int | None, precision: str) -> Runner:
    """Return a runner on PyTorch's current device. threads: of no meaning here."""
    from fastsr.backends.triton.runner import TritonRunner

    return TritonRunner(model, scale, channels, precision)


def _driver() -> bool:
    """Say whether the CUDA driver's library can be loaded: cheap, and never initializes it."""
    import ctypes

    for name in ("libcuda.so.1", "libcuda.so"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False
