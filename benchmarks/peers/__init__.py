"""The competitors, one file each: `make(model, scale, threads)` returns run(uint8 (H, W, 3)) -> uint8 (sH, sW, 3).

All get the same graph and the same weights, and the same pixels in and out.
"""

from collections.abc import Callable
from importlib import import_module

import numpy as np
import numpy.typing as npt

from fastsr.graph.model import CompiledModel

Image = npt.NDArray[np.uint8]
Run = Callable[[Image], Image]
Make = Callable[[CompiledModel, int, int], Run]  # (model, scale, threads)

PEERS = ["native", "onnxruntime", "torch"]


def make(peer: str, model: CompiledModel, scale: int, threads: int) -> Run:
    """Return the peer's upscaler; ImportError where it is not installed."""
    maker: Make = import_module(f"benchmarks.peers.{peer}_peer").make
    return maker(model, scale, threads)


def to_planes(image: Image) -> npt.NDArray[np.float32]:
    """Return (3, H, W) values 0..1, contiguous."""
    planes = np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32)
    planes /= 255
    return planes


def to_image(planes: npt.NDArray[np.float32]) -> Image:
    """Return (H, W, 3) uint8, rounded."""
    return np.ascontiguousarray(np.clip(np.rint(planes * np.float32(255)), 0, 255).astype(np.uint8).transpose(1, 2, 0))


__all__ = ["PEERS", "Image", "Make", "Run", "make", "to_image", "to_planes"]
