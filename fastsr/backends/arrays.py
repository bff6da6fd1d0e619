"""The adapter for back ends that run a whole float image at once (PyTorch, ONNX Runtime)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastsr.backends.base import Box, Job, Pixels
from fastsr.errors import DeviceMemoryError, OptionError, PixelValueError
from fastsr.graph.ir import Graph, halo, scale_of
from fastsr.graph.model import CompiledModel

_LEAST_SIDE = 16  # of a part of an image where memory is small; below it the halo is nearly all of the work


class ArrayRunner(Protocol):
    """x: (C, H, W) float32 -> (out_channels, scale * H, scale * W) float32."""

    def run(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]: ...


class WholeImageRunner:
    """Run boxes of images on an ArrayRunner: cut the box with its halo, run, cut the halo off.

    Where the device's memory is too small for a box (DeviceMemoryError), it is cut into smaller ones.
    most: (rows, columns) with their halo that the ArrayRunner takes at once; None: any.
    """

    isa: str | None = None

    def __init__(
        self,
        model: CompiledModel,
        scale: int,
        channels: int,
        make: Callable[..., ArrayRunner],
        threads: int | None,
        most: tuple[int, int] | None = None,
    ) -> None:
        graph = model.graph(scale, channels)
        self._runner = make(graph, model.tensors, threads)
        self._halo = total_halo(graph, model)
        self._most = None if most is None else tuple(m - 2 * halo for m, halo in zip(most, self._halo, strict=True))
        if self._most is not None and min(self._most) < 1:
            raise OptionError(f"{model.name} reads {self._halo} rows and columns around a pixel; {most} is too little")
        self.scale = scale
        self.channels = channels
        self.out_channels = graph.out_channels

    def reads(self, height: int, width: int, box: Box) -> Box:
        left, top, right, bottom = box
        rows, columns = self._halo
        return max(left - columns, 0), max(top - rows, 0), min(right + columns, width), min(bottom + rows, height)

    def run(self, pixels: Pixels, target: Pixels, job: Job, max_memory: int | None) -> None:
        if max_memory is not None:
            raise OptionError("max_memory is kept by backend='native' only; leave it out or use that back end")
        left, top, right, bottom = job.box
        rows, columns = self._most or (bottom - top, right - left)
        rows, columns = min(rows, bottom - top), min(columns, right - left)
        y = top
        while y < bottom:
            end = min(y + rows, bottom)
            try:
                for x in range(left, right, columns):
                    self._run_box(pixels, target, job, (x, y, min(x + columns, right), end))
            except DeviceMemoryError as error:
                if max(rows, columns) <= _LEAST_SIDE:
                    raise self._too_small(rows, columns, job, (left, y), error) from error
                # Half the rows, or half the columns where rows are few: the halo costs the least then.
                if rows >= columns or columns <= _LEAST_SIDE:
                    rows = -(-rows // 2)
                else:
                    columns = -(-columns // 2)
                continue
            y = end
            if job.progress is not None:
                job.progress((y - top) * self.scale, target.shape[0])

    def stream(self, *_: Any) -> bool:
        return False

    def _run_box(self, pixels: Pixels, target: Pixels, job: Job, box: Box) -> None:
        left, top, right, bottom = self.reads(job.height, job.width, box)
        y, x = job.origin
        part = pixels[top - y : bottom - y, left - x : right - x]
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            raise PixelValueError("the image has a NaN or infinite pixel")
        low, span = np.float32(job.values.low), np.float32(job.values.high - job.values.low)
        planes = np.ascontiguousarray(part.transpose(2, 0, 1), dtype=np.float32)
        result = self._runner.run((planes - low) / span).transpose(1, 2, 0)
        s = self.scale
        result = result[s * (box[1] - top) : s * (box[3] - top), s * (box[0] - left) : s * (box[2] - left)]
        result = result * span + low
        if target.dtype.kind != "f":
            result = np.clip(np.rint(result), job.values.clamp_low, job.values.clamp_high)
        x, y = s * (box[0] - job.box[0]), s * (box[1] - job.box[1])
        target[y : y + len(result), x : x + result.shape[1]] = result

    def _too_small(
        self, rows: int, columns: int, job: Job, at: tuple[int, int], error: DeviceMemoryError
    ) -> DeviceMemoryError:
        """Say what the smallest parts need, those inside of the image, which have all of their halo, included."""
        x, y = at
        left, top, right, bottom = self.reads(job.height, job.width, (x, y, x + columns, y + rows))
        height, width = (
            min(n + 2 * halo, end)
            for n, halo, end in zip((rows, columns), self._halo, (job.height, job.width), strict=True)
        )
        least = -(-error.least * height * width // ((bottom - top) * (right - left)))
        hint = f"at least {least} bytes would do" if least else "no smaller part is possible"
        return DeviceMemoryError(
            f"the GPU's memory is too small even for {columns} x {rows} pixels and what the network reads around "
            f"them: {error}; {hint}, or backend='native'",
            least,
        )


def total_halo(graph: Graph, model: CompiledModel) -> tuple[int, int]:
    """Return (rows, columns) of the image around an output pixel that can change it, from the nodes' halos."""
    need: dict[str, tuple[float, float]] = {graph.output: (0.0, 0.0)}  # in pixels of the image
    scales = {"input": 1.0}
    for node in graph.nodes:
        scales[node.name] = scales[node.inputs[0]] * scale_of(node)
    for node in reversed(graph.nodes):
        if node.name not in need:
            continue
        beyond = halo(node, model.tensors)
        at = scales[node.inputs[0]]
        for source in node.inputs:
            old = need.get(source, (0.0, 0.0))
            need[source] = (
                max(old[0], need[node.name][0] + beyond[0] / at),
                max(old[1], need[node.name][1] + beyond[1] / at),
            )
    rows, columns = need.get("input", (0.0, 0.0))
    return int(np.ceil(rows)) + 1, int(np.ceil(columns)) + 1
