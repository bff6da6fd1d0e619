"""Run a plan's calls on a device: buffers, launches, CUDA graphs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fastsr.backends.base import ValueRange
from fastsr.backends.triton import kernels
from fastsr.backends.triton.calls import Call, calls, operands
from fastsr.backends.triton.plan import MOST_OPERANDS, PIXELS, RESULT, Plan
from fastsr.backends.triton.quantize import FLOATS, LARGEST

DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "int8": torch.int8,
    "fp8": torch.float8_e4m3fn,
}
INTEGERS = (torch.uint8, torch.uint16, torch.int16)
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
MULTIPROCESSORS_INTERPRETED = 3  # fewer programs than tiles, as on a GPU
_ROW = ("x_row", "x_column", "x_channel"), ("y_row", "y_column", "y_channel")


@dataclass(frozen=True)
class Window:
    """The part of a result that is wanted, in pixels of the result."""

    top: int
    left: int
    rows: int
    columns: int


@dataclass
class Buffers:
    """Working memory for one size of image.

    slots: of values; slabs: of chains, by the precision that they compute in; flag: 1 after a non-finite result.
    """

    slots: list[Tensor]
    slabs: dict[str, Tensor]
    flag: Tensor


class Executor:
    """The calls of one plan in one precision on one device, weights included."""

    def __init__(self, plan: Plan, precision: str, device: torch.device, only: Call | None = None) -> None:
        """only: run this call of the plan and no other."""
        self.plan = plan
        self.precision = precision
        self.device = device
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            self._multiprocessors: int = properties.multi_processor_count
            self.sm: int = properties.major * 10 + properties.minor
        else:
            self._multiprocessors, self.sm = MULTIPROCESSORS_INTERPRETED, 80
        self.calls = [only] if only else calls(plan, precision, self.sm, emulated=INTERPRETED)
        floats = FLOATS if precision in LARGEST else precision
        kinds = {slot: plan.values[name].kind or floats for name, slot in plan.slots.items()}
        self._slots = [(elements, DTYPES[kinds[slot]]) for slot, elements in enumerate(plan.widths)]
        self._weights = [
            self._tensor(call.weights, DTYPES[call.precision if call.kernel != "resize" else "fp32"])
            for call in self.calls
        ]
        self._vectors = [self._tensor(call.vectors, torch.float32) for call in self.calls]

    def _tensor(self, array: Any, dtype: torch.dtype) -> Tensor:
        values = torch.from_numpy(array if len(array) else array.__class__((1,), array.dtype))
        return values.to(device=self.device, dtype=dtype)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the device's memory that the weights take."""
        return sum(t.numel() * t.element_size() for t in (*self._weights, *self._vectors))

    def buffer_bytes(self, height: int, width: int) -> int:
        """Return the bytes that `buffers` takes."""
        slots = sum(elements * dtype.itemsize for elements, dtype in self._slots) * height * width
        slabs = self._slab_elements(height, width)
        return slots + sum(elements * DTYPES[kind].itemsize for kind, elements in slabs.items()) + 4

    def _slab_elements(self, height: int, width: int) -> dict[str, int]:
        """Return {precision: elements} of the slabs that chains need."""
        most: dict[str, int] = {}
        for call in self.calls:
            if call.slab:
                elements = call.slab * self._grid(call, *self._size(call, height, width))[0]
                most[call.precision] = max(most.get(call.precision, 0), elements)
        return most

    def buffers(self, height: int, width: int) -> Buffers:
        """Allocate working memory for an image of height x width."""

        def empty(elements: int, dtype: torch.dtype) -> Tensor:
            return torch.empty(max(elements, 1), dtype=dtype, device=self.device)

        slots = [empty(elements * height * width, dtype) for elements, dtype in self._slots]
        slabs = {kind: empty(n, DTYPES[kind]) for kind, n in self._slab_elements(height, width).items()}
        flag = torch.zeros(1, dtype=torch.int32, device=self.device)
        return Buffers(slots, slabs, flag)

    def enqueue(self, pixels: Tensor, result: Tensor, window: Window, values: ValueRange, buffers: Buffers) -> None:
        """Launch the network on pixels (h, w, channels), any strides; fill result (rows, columns, out_channels)."""
        low, span = float(values.low), float(values.high - values.low)
        image_in: dict[str, Any] = dict(zip(_ROW[0], pixels.stride(), strict=True))
        image_in |= {"in_scale": 1 / span, "in_offset": -low / span}
        image_out: dict[str, Any] = dict(zip(_ROW[1], result.stride(), strict=True))
        image_out |= {"top": window.top, "left": window.left, "rows": window.rows, "columns": window.columns}
        image_out |= {"out_scale": span, "out_offset": low}
        image_out |= {"low": float(values.clamp_low), "high": float(values.clamp_high)}
        where: dict[str, Tensor] = {name: buffers.slots[slot] for name, slot in self.plan.slots.items()}
        where |= {PIXELS: pixels, RESULT: result}
        size, image = (pixels.shape[0], pixels.shape[1]), image_in | image_out
        for call, weights, vectors in zip(self.calls, self._weights, self._vectors, strict=True):
            self._launch(call, weights, vectors, where, buffers, size, image)

    def _launch(
        self,
        call: Call,
        weights: Tensor,
        vectors: Tensor,
        where: Mapping[str, Tensor],
        buffers: Buffers,
        size: tuple[int, int],
        image: dict[str, Any],
    ) -> None:
        height, width = self._size(call, *size)
        read = [where[name] for name in operands(call.launch)]
        read += [where[call.launch.y]] * (MOST_OPERANDS - len(read))  # nobody reads those
        pointers: dict[str, Any] = {"x_ptr": where[call.launch.x], "y_ptr": where[call.launch.y], "v_ptr": vectors}
        pointers["p_ptr" if call.kernel == "resize" else "w_ptr"] = weights
        if call.kernel != "resize":
            pointers |= {f"o{i}_ptr": operand for i, operand in enumerate(read)}
        constants = dict(call.constants)
        if call.kernel == "chain":
            down, across = call.tiles(height, width)
            image = {"tiles_across": across, "tiles": down * across}
            pointers["s_ptr"] = buffers.slabs[call.precision]
        else:
            pointers["flag_ptr"] = buffers.flag
            constants["ROUND"] = constants["IMAGE_OUT"] and where[RESULT].dtype in INTEGERS
        if call.kernel == "pointwise":
            del pointers["w_ptr"]
        function: Any = getattr(kernels, call.kernel)
        options = {"num_warps": call.config.warps, "num_stages": call.config.stages}
        function[self._grid(call, height, width)](**pointers, H=height, W=width, **image, **constants, **options)

    def _size(self, call: Call, height: int, width: int) -> tuple[int, int]:
        """Return the size of the value that a call reads, for an image of height x width."""
        scale = 1 if call.launch.x == PIXELS else self.plan.values[call.launch.x].scale
        return height * scale, width * scale

    def _grid(self, call: Call, height: int, width: int) -> tuple[int, ...]:
        return call.grid(height, width, self._multiprocessors)


@dataclass
class Captured:
    """A CUDA graph of a network for one size: fill pixels, replay, read result and flag."""

    pixels: Tensor
    result: Tensor
    flag: Tensor
    replay: Callable[[], None]
    buffers: Buffers


def capture(
    executor: Executor, size: tuple[int, int], dtype: torch.dtype, window: Window, values: ValueRange
) -> Captured:
    """Allocate everything for images of this size, and record the launches. On a CPU, replaying interprets them."""
    channels, out_channels = executor.plan.graph.channels, executor.plan.graph.out_channels
    pixels = torch.zeros((*size, channels), dtype=dtype, device=executor.device)
    result = torch.empty((window.rows, window.columns, out_channels), dtype=dtype, device=executor.device)
    buffers = executor.buffers(*size)

    def enqueue() -> None:
        buffers.flag.zero_()
        executor.enqueue(pixels, result, window, values, buffers)

    if executor.device.type != "cuda":
        return Captured(pixels, result, buffers.flag, enqueue, buffers)
    stream: Any = torch.cuda.Stream(executor.device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(executor.device))
    with torch.cuda.stream(stream):
        enqueue()  # compiles what is not compiled yet, which cannot be recorded
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
        enqueue()
    return Captured(pixels, result, buffers.flag, graph.replay, buffers)
