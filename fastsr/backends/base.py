"""What every back end offers: one network of one model, run on a box of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from fastsr.graph.model import CompiledModel

Pixels = npt.NDArray[Any]
Box = tuple[int, int, int, int]  # left, top, right, bottom
Progress = Callable[[int, int], None]  # (rows done, rows in all)

# What back ends take as pixels; everything else is converted before and after.
NATIVE_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.int16), np.dtype(np.float32))


@dataclass(frozen=True)
class ValueRange:
    """Pixel values that mean 0 and 1 to a network. Results of integer type are clamped to clamp_low..clamp_high."""

    low: float
    high: float
    clamp_low: float = 0.0
    clamp_high: float = 0.0


@dataclass(frozen=True)
class Job:
    """A box of an image.

    height, width: of the whole image; box: what is wanted of it; origin: (y, x) of the first pixel that is passed.
    """

    height: int
    width: int
    box: Box
    origin: tuple[int, int]
    values: ValueRange
    progress: Progress | None = None


class Runner(Protocol):
    """One network, ready to run; safe to call from many threads."""

    scale: int
    channels: int
    out_channels: int
    isa: str | None

    def reads(self, height: int, width: int, box: Box) -> Box:
        """Return the part of the image that the box's result depends on."""
        ...

    def run(self, pixels: Pixels, target: Pixels, job: Job, max_memory: int | None) -> None:
        """Fill target (scale * box height, scale * box width, out_channels) from pixels (h, w, channels)."""
        ...

    def stream(
        self,
        read: Callable[[int, int], Pixels],
        write: Callable[[int, Pixels], None],
        dtype: np.dtype[Any],
        job: Job,
        max_memory: int | None,
    ) -> bool:
        """Run the whole image by rows in bounded memory; False: this back end cannot, use boxes."""
        ...


@runtime_checkable
class BoundedRunner(Runner, Protocol):
    """A runner that keeps `max_memory`."""

    def memory(self, height: int, width: int, box: Box, max_memory: int | None) -> int:
        """Return the bytes of working memory that `run` takes. Raises MemoryBudgetError."""
        ...

    def release(self) -> None:
        """Give back the working memory that is kept for the next call."""
        ...


@runtime_checkable
class DeviceRunner(Runner, Protocol):
    """A runner that takes images of PyTorch or of any library with DLPack or __cuda_array_interface__."""

    def run_tensor(self, image: Any, values: ValueRange, max_memory: int | None) -> Any:
        """Return the result of image (H, W, C), whole, as a PyTorch tensor on the image's device."""
        ...


@dataclass(frozen=True)
class Backend:
    """One line of the registry.

    why_unavailable: returns None, or why it cannot run here and what to install.
    runner: (model, scale, channels, threads, precision) -> Runner. precisions: that it computes in, the default first.
    gpu: whether it runs on a GPU; bounded: whether it keeps `max_memory`.
    """

    name: str
    description: str
    why_unavailable: Callable[[], str | None]
    runner: Callable[[CompiledModel, int, int, int | None, str], Runner]
    precisions: tuple[str, ...] = ("fp32",)
    gpu: bool = False
    bounded: bool = False
