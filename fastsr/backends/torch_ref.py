"""The graph in PyTorch: one PyTorch operation a step, the whole image at once. Slow, short and easy to trust."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsr.errors import BackendUnavailableError, OptionError, ShapeError
from fastsr.graph.ir import INPUT, Array, Concat, Conv, Graph, Node, PixelShuffle, Pointwise, Resize, Slice, Step
from fastsr.graph.resize import resize_weights

if TYPE_CHECKING:
    from torch import Tensor

INSTALL = "pip install 'fastsr[torch]'"


def why_unavailable() -> str | None:
    """Return why this back end cannot run here, or None."""
    if importlib.util.find_spec("torch") is None:
        return f"PyTorch is not installed: {INSTALL}"
    return None


class TorchRunner:
    """Run one graph with PyTorch on the CPU.

    threads: how many PyTorch may use during `run`; None leaves PyTorch's own setting.
    Raises BackendUnavailableError without PyTorch.
    """

    def __init__(self, graph: Graph, tensors: Mapping[str, Array], threads: int | None = None) -> None:
        reason = why_unavailable()
        if reason is not None:
            raise BackendUnavailableError(reason)
        if threads is not None and threads < 1:
            raise OptionError(f"threads is {threads}; 1 or more is needed")
        import torch

        self._torch: Any = torch
        self._graph = graph
        self._tensors = {name: torch.from_numpy(np.array(tensor)) for name, tensor in tensors.items()}
        resizes = [node for node in graph.nodes if isinstance(node, Resize)]
        self._phases = {node.name: torch.from_numpy(resize_weights(node)).float() for node in resizes}
        self._threads = threads
        last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
        self._done = [[x for x in dict.fromkeys(n.inputs) if last[x] == i] for i, n in enumerate(graph.nodes)]

    def place(self, device: str, dtype: Any) -> None:
        """Move weights to a device, in one of PyTorch's types, for `forward`."""
        for table in (self._tensors, self._phases):
            table.update({name: tensor.to(device, dtype) for name, tensor in table.items()})

    def run(self, x: Array) -> Array:
        """Return the network's output. x: (C, H, W) float32 -> (out_channels, scale * H, scale * W) float32."""
        if x.ndim != 3 or x.shape[0] != self._graph.channels or 0 in x.shape:
            raise ShapeError(f"the image is {x.shape}; ({self._graph.channels}, H, W) is needed")
        torch, before = self._torch, self._torch.get_num_threads()
        try:
            if self._threads is not None:
                torch.set_num_threads(self._threads)
            with torch.inference_mode():
                result: Array = self.forward(torch.from_numpy(np.array(x, np.float32))[None])[0].contiguous().numpy()
                return result
        finally:
            torch.set_num_threads(before)

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's output. x: (N, C, H, W) -> (N, out_channels, scale * H, scale * W)."""
        values = {INPUT: x}
        for node, done in zip(self._graph.nodes, self._done, strict=True):
            values[node.name] = self._node(node, [values[name] for name in node.inputs])
            for name in done:
                if name != self._graph.output:
                    del values[name]
        return values[self._graph.output]

    def _node(self, node: Node, inputs: list[Tensor]) -> Tensor:
        torch, x = self._torch, inputs[0]
        F = torch.nn.functional
        y: Tensor
        if isinstance(node, Conv):
            w = self._tensors[node.weight]
            b = None if node.bias is None else self._tensors[node.bias]
            y = F.conv2d(x, w, b, padding=(w.shape[2] // 2, w.shape[3] // 2), groups=node.groups)
            return self._steps(y, node.steps, inputs)
        if isinstance(node, Pointwise):
            return self._steps(x, node.steps, inputs)
        if isinstance(node, Concat):
            y = torch.cat(inputs, 1)
        elif isinstance(node, Slice):
            y = x[:, node.begin : node.end]
        elif isinstance(node, PixelShuffle):
            y = F.pixel_shuffle(x, node.factor)
        else:
            w = self._phases[node.name].to(x.dtype)
            y = self._resize_rows(self._resize_rows(x, w).mT, w).mT
        return y

    def _resize_rows(self, x: Tensor, weights: Tensor) -> Tensor:
        """Enlarge the rows by explicit phase weights: PyTorch's own bicubic knows a = -0.75 only."""
        T, H = weights.shape[1], x.shape[2]
        y: Any = 0
        for t in range(T):
            rows = (self._torch.arange(H, device=x.device) + t - T // 2).clamp(0, H - 1)
            y = y + x[:, :, rows, None] * weights[:, t, None]
        result: Tensor = y.flatten(2, 3)
        return result

    def _steps(self, y: Tensor, steps: tuple[Step, ...], inputs: list[Tensor]) -> Tensor:
        F = self._torch.nn.functional
        for step in steps:
            vectors = [self._tensors[name] for name in step.tensors]
            if step.op == "relu":
                y = F.relu(y)
            elif step.op == "leaky_relu":
                y = F.leaky_relu(y, step.params[0])
            elif step.op == "prelu":
                y = F.prelu(y, vectors[0])
            elif step.op == "sigmoid":
                y = y.sigmoid()
            elif step.op == "tanh":
                y = y.tanh()
            elif step.op == "clip":
                y = y.clamp(*step.params)
            elif step.op == "affine":
                y = y * vectors[0][:, None, None] + vectors[1][:, None, None]
            else:
                operand = inputs[step.input]
                y = y + operand if step.op == "add" else y * operand
        return y
