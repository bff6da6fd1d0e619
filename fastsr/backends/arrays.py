"""The adapter for back ends that run a whole float image at once (PyTorch, ONNX Runtime)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastsr.backends.base import Box, Job, Pixels
from fastsr.errors import OptionError, PixelValueError
from fastsr.graph.ir import Graph, halo, scale_of
from fastsr.graph.model import CompiledModel


class ArrayRunner(Protocol):
    """x: (C, H, W) float32 -> (out_channels, scale * H, scale * W) float32."""

    def run(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]: ...


class WholeImageRunner:
    """Run boxes of images on an ArrayRunner: cut the box with its halo, run, cut the halo off."""

    isa: str | None = None

    def __init__(
        self, model: CompiledModel, scale: int, channels: int, make: Callable[..., ArrayRunner], threads: int | None
    ) -> None:
        graph = model.graph(scale, channels)
        self._runner = make(graph, model.tensors, threads)
        self._halo = total_halo(graph, model)
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
        left, top, right, bottom = self.reads(job.height, job.width, job.box)
        y, x = job.origin
        part = pixels[top - y : bottom - y, left - x : right - x]
        if part.dtype.kind == "f" and not np.isfinite(part).all():
            raise PixelValueError("the image has a NaN or infinite pixel")
        low, span = np.float32(job.values.low), np.float32(job.values.high - job.values.low)
        planes = np.ascontiguousarray(part.transpose(2, 0, 1), dtype=np.float32)
        result = self._runner.run((planes - low) / span).transpose(1, 2, 0)
        s = self.scale
        result = result[
            s * (job.box[1] - top) : s * (job.box[3] - top), s * (job.box[0] - left) : s * (job.box[2] - left)
        ]
        result = result * span + low
        if target.dtype.kind != "f":
            result = np.clip(np.rint(result), job.values.clamp_low, job.values.clamp_high)
        target[...] = result
        if job.progress is not None:
            job.progress(target.shape[0], target.shape[0])

    def stream(self, *_: Any) -> bool:
        return False


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
