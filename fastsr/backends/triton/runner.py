"""One network on a GPU: images in bands of rows that fit the memory, repeated in fp32 where fp16 overflows."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastsr.backends.arrays import total_halo
from fastsr.backends.base import Box, Job, Pixels, ValueRange
from fastsr.backends.triton.configs import check_capability
from fastsr.backends.triton.executor import INTERPRETED, Captured, Executor, Window, capture
from fastsr.backends.triton.plan import DEFAULT, Fusion, Plan
from fastsr.backends.triton.quantize import plan_of
from fastsr.errors import BackendError, DeviceMemoryError, MemoryBudgetError, NonFiniteWarning, PixelValueError
from fastsr.graph.model import CompiledModel

KEPT = 4  # captured sizes
MOST_ELEMENTS = 1 << 31  # of a value: kernels count in 32 bits
_PIXEL_BYTES = 4  # of a sample, at most


@dataclass(frozen=True)
class Band:
    """Rows of a result: box, wanted; read, what it depends on. Both in LR pixels of the whole image."""

    box: Box
    read: Box


class TritonRunner:
    """One network on one GPU; calls from many threads run one after the other, on the caller's current stream.

    max_memory bounds the device's memory, weights included: by the number of rows that are computed at once.
    """

    isa: str | None = None

    def __init__(
        self, model: CompiledModel, scale: int, channels: int, precision: str, fusion: Fusion = DEFAULT
    ) -> None:
        graph = model.graph(scale, channels)
        self.scale = scale
        self.channels = channels
        self.out_channels = graph.out_channels
        self.precision = precision
        self.device = torch.device("cpu") if INTERPRETED else torch.device("cuda", torch.cuda.current_device())
        self._halo = total_halo(graph, model)
        if self.device.type == "cuda":
            major, minor = torch.cuda.get_device_capability(self.device)
            check_capability(precision, major * 10 + minor)
        self._plan: Callable[[str], Plan] = lru_cache(
            lambda kind: plan_of(model, graph, kind, fusion, emulated=INTERPRETED)
        )
        self._plan(precision)  # raises where the model has no ranges for it
        self._lock = threading.Lock()
        self._executors: dict[str, Executor] = {}
        self._captured: OrderedDict[Any, Captured] = OrderedDict()

    def reads(self, height: int, width: int, box: Box) -> Box:
        left, top, right, bottom = box
        rows, columns = self._halo
        return max(left - columns, 0), max(top - rows, 0), min(right + columns, width), min(bottom + rows, height)

    def memory(self, height: int, width: int, box: Box, max_memory: int | None) -> int:
        """Return the bytes of the device's memory that `run` takes. Raises MemoryBudgetError."""
        with self._lock:
            executor = self._executor(self.precision)
            rows = self._rows(executor, height, width, box, max_memory)
            return self._needs(executor, height, width, box, rows)

    def release(self) -> None:
        """Give back the device's memory that is kept for the next call; weights stay."""
        with self._lock:
            self._make_room(0)

    def run(self, pixels: Pixels, target: Pixels, job: Job, max_memory: int | None) -> None:
        left, top, right, bottom = self.reads(job.height, job.width, job.box)
        y, x = job.origin
        part = pixels[top - y : bottom - y, left - x : right - x]
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            raise PixelValueError("the image has a NaN or infinite pixel")
        if not part.flags.writeable or any(stride < 0 for stride in part.strides):
            part = part.copy()  # what torch.from_numpy takes
        with self._lock:
            self._run(torch.from_numpy(part), (left, top), torch.from_numpy(target), job, max_memory)

    def run_tensor(self, image: Any, values: ValueRange, max_memory: int | None) -> Tensor:
        """Return the result of a tensor (H, W) or (H, W, C) on its device, complete on the current stream."""
        tensor = _as_tensor(image, self.device)
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise PixelValueError("the image has a NaN or infinite pixel")
        pixels = tensor if tensor.ndim == 3 else tensor[:, :, None]
        H, W, C = pixels.shape
        job = Job(H, W, (0, 0, W, H), (0, 0), values)
        shape = H * self.scale, W * self.scale, C
        target = torch.empty(shape, dtype=pixels.dtype, device=pixels.device)
        with self._lock:
            for c in range(0, C, self.channels):
                part = slice(c, c + self.channels)
                self._run(pixels[:, :, part], (0, 0), target[:, :, part], job, max_memory)
        return target if tensor.ndim == 3 else target[:, :, 0]

    def stream(self, *_: Any) -> bool:
        return False

    def _run(self, pixels: Tensor, origin: tuple[int, int], target: Tensor, job: Job, limit: int | None) -> None:
        """Fill target from pixels, whose first one is at `origin` (x, y) in the image."""
        on_gpu = self.device.type == "cuda"
        with torch.cuda.device(self.device) if on_gpu else nullcontext():
            self._run_bands(self.precision, job, job.box, limit, pixels, origin, target)
            if on_gpu:  # the next call, on another stream perhaps, uses the same buffers
                torch.cuda.current_stream().synchronize()

    def _run_bands(
        self,
        precision: str,
        job: Job,
        box: Box,
        limit: int | None,
        pixels: Tensor,
        origin: tuple[int, int],
        target: Tensor,
    ) -> None:
        """Compute a box of the job's box from top to bottom, in as few bands as the memory allows."""
        executor, s = self._executor(precision), self.scale
        left, top, right, bottom = box
        rows = self._rows(executor, job.height, job.width, box, limit)
        while top < bottom:
            part = left, top, right, min(top + rows, bottom)
            band = Band(part, self.reads(job.height, job.width, part))
            try:
                captured = self._compute(executor, band, job.values, pixels, origin, limit is not None)
            except torch.cuda.OutOfMemoryError as error:
                rows = self._fewer(executor, job, box, part[3] - top, error)
                continue
            finite = not int(captured.flag.item())
            if finite:
                target[s * (top - job.box[1]) : s * (part[3] - job.box[1])].copy_(captured.result)
            del captured  # the next band may need its memory
            if not finite and precision in ("fp32", "tf32"):
                raise BackendError("the network's result is not finite; its weights or the image are too large")
            if not finite:
                warnings.warn(
                    f"a result in {precision} was not finite; computed again in fp32: precision='fp32' does so at once",
                    NonFiniteWarning,
                    stacklevel=2,
                )
                self._make_room(0 if limit is not None else KEPT)
                self._run_bands("fp32", job, part, limit, pixels, origin, target)
            elif job.progress is not None:
                job.progress((part[3] - job.box[1]) * s, target.shape[0])
            top = part[3]

    def _make_room(self, kept: int) -> None:
        """Forget captured sizes, the oldest first, until `kept` are left."""
        forgotten = len(self._captured) > kept
        while len(self._captured) > kept:
            self._captured.popitem(last=False)
        if forgotten and self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _compute(
        self,
        executor: Executor,
        band: Band,
        values: ValueRange,
        pixels: Tensor,
        origin: tuple[int, int],
        sparing: bool,
    ) -> Captured:
        left, top, right, bottom = band.read
        s = self.scale
        size = bottom - top, right - left
        window = Window(
            s * (band.box[1] - top),
            s * (band.box[0] - left),
            s * (band.box[3] - band.box[1]),
            s * (band.box[2] - band.box[0]),
        )
        key = executor.precision, size, pixels.dtype, window, values
        captured = self._captured.pop(key, None)
        if captured is None:
            self._make_room(0 if sparing else KEPT - 1)
            captured = capture(executor, size, pixels.dtype, window, values)
        self._captured[key] = captured
        x, y = origin
        captured.pixels.copy_(pixels[top - y : bottom - y, left - x : right - x])
        captured.replay()
        return captured

    def _executor(self, precision: str) -> Executor:
        if precision not in self._executors:
            self._executors[precision] = Executor(self._plan(precision), precision, self.device)
        return self._executors[precision]

    def _needs(self, executor: Executor, height: int, width: int, box: Box, rows: int) -> int:
        """Return the bytes that bands of `rows` rows take, everything included."""
        left, _, right, _ = self.reads(height, width, box)
        tall = min(rows + 2 * self._halo[0], height)
        across = right - left
        result = self.scale**2 * rows * (box[2] - box[0]) * self.out_channels
        weights = sum(e.weight_bytes for e in self._executors.values())
        pixels = (tall * across * self.channels + result) * _PIXEL_BYTES
        return weights + executor.buffer_bytes(tall, across) + pixels

    def _rows(self, executor: Executor, height: int, width: int, box: Box, limit: int | None) -> int:
        """Return the most rows of a band that fit. Raises MemoryBudgetError."""

        def fits(rows: int) -> bool:
            left, _, right, _ = self.reads(height, width, box)
            area = min(rows + 2 * self._halo[0], height) * (right - left)
            countable = max((*executor.plan.widths, 1)) * area < MOST_ELEMENTS
            return countable and (limit is None or self._needs(executor, height, width, box, rows) <= limit)

        low, high = 0, box[3] - box[1]
        if fits(high):
            return high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        if low == 0:
            least = self._needs(executor, height, width, box, 1)
            if limit is None or least <= limit:
                raise BackendError(f"a row of {width} pixels is too wide for this back end; .region() takes less")
            raise MemoryBudgetError(f"max_memory is {limit} bytes; this call needs at least {least} bytes", least)
        return low

    def _fewer(self, executor: Executor, job: Job, box: Box, rows: int, error: Exception) -> int:
        """Return how many rows to try after the device's memory was too small for `rows`. Raises DeviceMemoryError."""
        self._make_room(0)
        if rows > 1:
            return -(-rows // 2)
        least = self._needs(executor, job.height, job.width, box, 1)
        raise DeviceMemoryError(
            f"the GPU's memory is too small for one row of {job.width} pixels; at least {least} bytes would do, "
            "or .region() with narrower boxes, or backend='native'",
            least,
        ) from error


def _as_tensor(image: Any, device: torch.device) -> Tensor:
    """Return a tensor that shares the image's memory."""
    if isinstance(image, Tensor):
        return image.detach()
    if hasattr(image, "__cuda_array_interface__"):
        return torch.as_tensor(image, device=device)
    tensor: Tensor = torch.utils.dlpack.from_dlpack(image)
    return tensor
