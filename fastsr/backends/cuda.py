"""Our C++ kernels for NVIDIA GPUs: streaming like the native engine, with nothing but a driver installed.

In fp32 results are those of the native engine's direct convolution, to the bit. In fp16 a result that fp16 cannot hold
is computed again in fp32, with a NonFiniteWarning.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastsr.backends.base import Box, Job, Pixels, ValueRange
from fastsr.errors import DtypeError, NonFiniteWarning, OptionError, ShapeError
from fastsr.graph.model import CompiledModel

INSTALL = "install the CUDA toolkit, then FastSR from source: FASTSR_CUDA=ON pip install --no-binary fastsr fastsr"
PRECISIONS = ("fp32", "fp16")
LEGACY_STREAM = 1  # CUDA's name for the stream that waits for all others, as arrays' interfaces write it


def why_unavailable() -> str | None:
    """Return None, or why no GPU can be used: not built for one, no driver, or no GPU."""
    try:
        reason: str = _module().why_no_device()
    except ImportError:
        return f"this build of FastSR has no code for GPUs: {INSTALL}"
    return reason or None


def _module() -> Any:
    """Return the compiled module, which not every build has. Raises ImportError."""
    return importlib.import_module("fastsr._cuda")


@dataclass(frozen=True)
class DeviceImage:
    """Somebody's image on the device. strides: in bytes; stream: where it is made, or None; owner: keeps it alive."""

    pointer: int
    shape: tuple[int, int, int]
    strides: tuple[int, int, int]
    dtype: np.dtype[Any]
    stream: int | None
    owner: Any

    @classmethod
    def of(cls, image: Any) -> DeviceImage:
        """Read `__cuda_array_interface__` (version 2 or 3), or else DLPack. (H, W) or (H, W, C), any strides.

        Raises OptionError for something else, ShapeError, DtypeError.
        """
        described = getattr(image, "__cuda_array_interface__", None)
        if described is not None:
            if described.get("mask") is not None:
                raise OptionError("the image is a masked array; one without a mask is needed")
            dtype = np.dtype(described["typestr"])
            shape = tuple(described["shape"])
            strides = described.get("strides") or _dense_strides(shape, dtype.itemsize)
            return cls._checked(described["data"][0], shape, strides, dtype, described.get("stream"), image)
        if not hasattr(image, "__dlpack__"):
            raise OptionError(f"{type(image).__name__} has neither __cuda_array_interface__ nor __dlpack__")
        on_host = image.__dlpack_device__()[0] == 1
        imported = _module().ImportedArray(image.__dlpack__() if on_host else image.__dlpack__(stream=LEGACY_STREAM))
        if not imported.on_device:
            raise OptionError("the image is not on a CUDA device")
        dtype = np.dtype(imported.type or "O")
        return cls._checked(imported.pointer, tuple(imported.shape), tuple(imported.strides), dtype, None, imported)

    @classmethod
    def _checked(
        cls,
        pointer: int,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        dtype: np.dtype[Any],
        stream: int | None,
        owner: Any,
    ) -> DeviceImage:
        if len(shape) not in (2, 3) or 0 in shape:
            raise ShapeError(f"the image on the device has shape {shape}; (H, W) or (H, W, C), not empty, is needed")
        if dtype not in (np.uint8, np.uint16, np.int16, np.float32):
            raise DtypeError(f"the image on the device is {dtype}; uint8, uint16, int16 or float32 is needed")
        if any(n % dtype.itemsize for n in (pointer, *strides)):
            raise OptionError(
                f"the image's address {pointer} and strides {strides} are no multiples of its pixels' size"
            )
        if len(shape) == 2:
            shape, strides = (*shape, 1), (*strides, dtype.itemsize)
        return cls(pointer, shape, strides, dtype, stream, owner)  # type: ignore[arg-type]


class CudaRunner:
    """One network on the GPU that is current when it is made; safe to call from many threads.

    precision: "fp32" (the default) or "fp16", which multiplies on tensor cores. threads: not used.
    Raises OptionError, DeviceMemoryError.
    """

    isa: str | None = None

    def __init__(
        self, model: CompiledModel, scale: int, channels: int, threads: int | None = None, precision: str | None = None
    ) -> None:
        precision = precision or PRECISIONS[0]
        if precision not in PRECISIONS:
            raise OptionError(f"precision is {precision!r}; one of {', '.join(PRECISIONS)} is needed")
        self._network = _module().Model(model.to_bytes()).network(scale, channels, precision)
        self.precision = precision
        self.scale = scale
        self.channels = channels
        self.out_channels: int = self._network.out_channels

    def reads(self, height: int, width: int, box: Box) -> Box:
        reads: Box = self._network.reads(height, width, box)
        return reads

    def memory(self, height: int, width: int, box: Box, max_memory: int | None) -> int:
        """Return the bytes of memory, the device's and pinned, that `run` takes. Raises MemoryBudgetError."""
        widest = np.dtype(np.float32)
        return int(self._network.plan(height, width, box, widest, _options(max_memory))["memory"])

    def release(self) -> None:
        """Give back the working memory that is kept for the next call."""
        self._network.release()

    def run(self, pixels: Pixels, target: Pixels, job: Job, max_memory: int | None) -> None:
        mapping = _mapping(job.values)
        arguments = job.height, job.width, job.origin, job.box, mapping, _options(max_memory), job.progress
        self._warn(self._network.run(pixels, target, *arguments), job.height, job.width)

    def stream(
        self,
        read: Callable[[int, int], Pixels],
        write: Callable[[int, Pixels], None],
        dtype: np.dtype[Any],
        job: Job,
        max_memory: int | None,
    ) -> bool:
        if self.precision != "fp32":
            return False  # rows that are gone cannot be computed again
        arguments = dtype, job.height, job.width, _mapping(job.values), _options(max_memory), job.progress
        self._network.stream(read, write, *arguments)
        return True

    def run_tensor(
        self, image: Any, values: ValueRange, max_memory: int | None, out: Any = None, stream: int | None = None
    ) -> Any:
        """Upscale an image (H, W) or (H, W, C) that is on the device; the result stays there.

        image, out: with `__cuda_array_interface__` or DLPack; uint8, uint16, int16 or float32, any strides.
        stream: a CUDA stream's handle; by default the image's own, or the default stream. The work comes after what is
        on it, and is complete when this returns.
        Returns `out`; without it a tensor of the image's library where that is PyTorch, else a DeviceArray, which
        other libraries take without a copy. Raises OptionError, ShapeError, DtypeError, PixelValueError.
        """
        source = DeviceImage.of(image)
        H, W, C = source.shape
        if self.channels != C:
            raise ShapeError(f"the image has {C} channels; the network takes {self.channels}")
        shape = (H * self.scale, W * self.scale, self.out_channels)
        if out is None:
            flat = shape[:2] if len(image.shape) == 2 and shape[2] == 1 else shape
            is_torch = type(image).__module__ == "torch"
            out = image.new_empty(flat) if is_torch else _module().DeviceArray(flat, source.dtype)
        target = DeviceImage.of(out)
        if target.shape != shape or target.dtype != source.dtype:
            raise ShapeError(f"out is {target.dtype} {target.shape}; {source.dtype} {shape} is needed")
        report = self._network.run_on_device(
            (source.pointer, source.strides),
            (target.pointer, target.strides),
            source.dtype,
            H,
            W,
            _mapping(values),
            _options(max_memory),
            stream if stream is not None else source.stream or 0,
        )
        self._warn(report, H, W)
        return out

    def _warn(self, report: dict[str, Any], height: int, width: int) -> None:
        if report["redone"]:
            message = f"fp16 cannot hold a value of this network for an image of {width} x {height}; fp32 was used"
            warnings.warn(message, NonFiniteWarning, stacklevel=3)


def _options(max_memory: int | None) -> Any:
    return _module().Options(max_memory=max_memory or 0)


def _dense_strides(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    strides = [itemsize]
    for side in reversed(shape[1:]):
        strides.append(strides[-1] * side)
    return tuple(reversed(strides))


def _mapping(values: ValueRange) -> tuple[float, float, float, float, float, float]:
    span = values.high - values.low
    return 1 / span, -values.low / span, span, values.low, values.clamp_low, values.clamp_high
