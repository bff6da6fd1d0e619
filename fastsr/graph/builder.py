"""Write a graph node by node: what the importers and the tests use."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.errors import GraphError
from fastsr.graph.ir import (
    INPUT,
    Array,
    Concat,
    Conv,
    Graph,
    Node,
    PixelShuffle,
    Pointwise,
    Resize,
    ResizeMode,
    Slice,
    Step,
    StepOp,
    check,
)

Tensors = dict[str, Array]
MAX_NAME = 200  # leaves room for the suffixes that the passes append


def plain_name(text: str) -> str:
    """Return `text` with every character that a name cannot hold replaced by '_'."""
    return re.sub(r"[^A-Za-z0-9_.:/\-]", "_", text)[:MAX_NAME] or "_"


def fresh_name(wanted: str, taken: Any) -> str:
    """Return `wanted`, or `wanted` with a number that is not in `taken`."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}.{count}"
    return name


def as_float32(values: npt.ArrayLike) -> Array:
    return np.ascontiguousarray(values, dtype=np.float32)


class GraphBuilder:
    """Append nodes to a graph; each method returns the name of the new value.

    channels: of the image that comes in. Names are made unique and plain; tensors of equal contents are kept once.
    """

    def __init__(self, channels: int) -> None:
        self.channels: dict[str, int] = {INPUT: channels}
        self.scales: dict[str, int] = {INPUT: 1}
        self.nodes: list[Node] = []
        self.tensors: Tensors = {}
        self._known: dict[tuple[tuple[int, ...], bytes], str] = {}
        self._ranges: dict[str, tuple[float, float]] = {}

    def tensor(self, values: npt.ArrayLike, name: str) -> str:
        """Store a float32 tensor and return its name. Raises GraphError for NaN and infinity."""
        array = as_float32(values)
        if not np.isfinite(array).all():
            raise GraphError(f"{name}: NaN or infinity; finite float32 values are needed")
        key = array.shape, array.tobytes()
        if key not in self._known:
            self._known[key] = fresh_name(plain_name(name), self.tensors)
            self.tensors[self._known[key]] = array
        return self._known[key]

    def conv(
        self, x: str, weight: npt.ArrayLike, bias: npt.ArrayLike | None = None, *, groups: int = 1, name: str = "conv"
    ) -> str:
        """weight: (K, C / groups, kh, kw) of odd size; bias: (K,)."""
        name = self._fresh(name)
        w = self.tensor(weight, f"{name}.weight")
        b = None if bias is None else self.tensor(bias, f"{name}.bias")
        return self._append(Conv(name, (x,), w, b, groups), self.tensors[w].shape[0], self.scales[x])

    def step(self, x: str, op: StepOp, *params: float, name: str = "") -> str:
        """Append relu, leaky_relu, sigmoid, tanh or clip."""
        return self._pointwise((x,), Step(op, tuple(float(p) for p in params)), name or op)

    def prelu(self, x: str, slope: npt.ArrayLike, *, name: str = "prelu") -> str:
        """slope: (C,) or a single number; one slope of at most 1 for all channels becomes a leaky ReLU."""
        slopes = np.broadcast_to(as_float32(slope).reshape(-1), (self.channels[x],))
        if (slopes == slopes[0]).all() and slopes[0] <= 1:
            return self.step(x, "leaky_relu", float(slopes[0]), name=name)
        name = self._fresh(name)
        return self._pointwise((x,), Step("prelu", tensors=(self.tensor(slopes, f"{name}.slope"),)), name)

    def affine(self, x: str, scale: npt.ArrayLike = 1.0, offset: npt.ArrayLike = 0.0, *, name: str = "affine") -> str:
        """y = x * scale + offset; both (C,) or a single number."""
        name = self._fresh(name)
        C = self.channels[x]
        pair = [
            self.tensor(np.broadcast_to(as_float32(v).reshape(-1), (C,)), f"{name}.{what}")
            for v, what in ((scale, "scale"), (offset, "offset"))
        ]
        return self._pointwise((x,), Step("affine", tensors=(pair[0], pair[1])), name)

    def add(self, x: str, y: str, *, name: str = "add") -> str:
        return self._pointwise((x, y), Step("add", input=1), name)

    def mul(self, x: str, y: str, *, name: str = "mul") -> str:
        return self._pointwise((x, y), Step("mul", input=1), name)

    def concat(self, *parts: str, name: str = "concat") -> str:
        return self._append(
            Concat(self._fresh(name), parts), sum(self.channels[p] for p in parts), self.scales[parts[0]]
        )

    def slice(self, x: str, begin: int, end: int, *, name: str = "slice") -> str:
        return self._append(Slice(self._fresh(name), (x,), begin, end), end - begin, self.scales[x])

    def pixel_shuffle(self, x: str, factor: int, *, name: str = "pixel_shuffle") -> str:
        node = PixelShuffle(self._fresh(name), (x,), factor)
        return self._append(node, self.channels[x] // factor**2, self.scales[x] * factor)

    def resize(self, x: str, factor: int, mode: ResizeMode, cubic_a: float = -0.5, *, name: str = "resize") -> str:
        node = Resize(self._fresh(name), (x,), mode, factor, float(cubic_a))
        return self._append(node, self.channels[x], self.scales[x] * factor)

    def bound(self, x: str, low: float, high: float) -> None:
        """Note that the values of x lie between low and high, for `Graph.ranges`; twice said, the wider ends count."""
        before = self._ranges.get(x, (low, high))
        self._ranges[x] = min(low, before[0]), max(high, before[1])

    def finish(self, output: str) -> tuple[Graph, Tensors]:
        """Return the checked graph whose result is `output`, and its tensors. Raises GraphError."""
        ranges = {}
        for x, ends in self._ranges.items():
            if x not in (INPUT, output):  # these are never integers
                ranges[x] = self.tensor(np.repeat(np.array(ends)[:, None], self.channels[x], 1), f"{x}.ranges")
        nodes = tuple(self.nodes)
        graph = Graph(self.scales[output], self.channels[INPUT], self.channels[output], nodes, output, ranges)
        check(graph, self.tensors)
        return graph, self.tensors

    def _pointwise(self, inputs: tuple[str, ...], step: Step, name: str) -> str:
        node = Pointwise(self._fresh(name), inputs, (step,))
        return self._append(node, self.channels[inputs[0]], self.scales[inputs[0]])

    def _fresh(self, name: str) -> str:
        return fresh_name(plain_name(name), self.channels)

    def _append(self, node: Node, channels: int, scale: int) -> str:
        self.nodes.append(node)
        self.channels[node.name] = channels
        self.scales[node.name] = scale
        return node.name
