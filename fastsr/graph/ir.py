"""The graph: what a super-resolution network is, after compilation and before any back end.

A graph is a list of nodes in the order in which they can run. A node has one output, and the value is known
by the node's name; the image that comes in is called "input". Every node declares its halo (how many input
pixels beyond its own position it reads, per side) and its scale (output pixels per input pixel, per axis).
Outside the image, convolutions see zeros and resizes see the nearest edge pixel.

Values are (C, H, W), float32. Tensors (weights) are float32 NumPy arrays known by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args

import numpy as np
import numpy.typing as npt

from fastsr.errors import GraphError

Array = npt.NDArray[np.float32]
StepOp = Literal["relu", "leaky_relu", "prelu", "sigmoid", "tanh", "clip", "affine", "add", "mul"]
ResizeMode = Literal["nearest", "bilinear", "bicubic"]

INPUT = "input"
# Limits of what loaders accept, in Python and in C++ (csrc/graph/loader.cpp).
MAX_NODES = 4096
MAX_STEPS = 64  # of one node
MAX_CHANNELS = 8192
MAX_KERNEL = 31
MAX_SCALE = 16

# op -> (how many params, how many tensors, whether it reads another value)
STEP_FIELDS: dict[str, tuple[int, int, bool]] = {
    "relu": (0, 0, False),
    "leaky_relu": (1, 0, False),  # params: slope
    "prelu": (0, 1, False),  # tensors: slope (C,)
    "sigmoid": (0, 0, False),
    "tanh": (0, 0, False),
    "clip": (2, 0, False),  # params: low, high
    "affine": (0, 2, False),  # tensors: scale (C,), offset (C,): y = x * scale + offset
    "add": (0, 0, True),  # y = x + inputs[input]
    "mul": (0, 0, True),  # y = x * inputs[input]
}


@dataclass(frozen=True)
class Step:
    """Change each pixel of a value on its own: one of STEP_FIELDS.

    input: for add and mul, the index (>= 1) in the node's inputs of the other operand, of equal shape.
    """

    op: StepOp
    params: tuple[float, ...] = ()
    tensors: tuple[str, ...] = ()
    input: int = 0


@dataclass(frozen=True)
class Conv:
    """Convolve inputs[0] (stride 1, zeros outside, odd kernel), then apply the steps in order.

    weight: tensor (K, C / groups, kh, kw); bias: tensor (K,) or None. inputs[1:] are the steps' operands.
    """

    name: str
    inputs: tuple[str, ...]
    weight: str
    bias: str | None = None
    groups: int = 1
    steps: tuple[Step, ...] = ()
    op: str = field(default="conv", init=False)


@dataclass(frozen=True)
class Pointwise:
    """Apply the steps in order to inputs[0]; inputs[1:] are the steps' operands."""

    name: str
    inputs: tuple[str, ...]
    steps: tuple[Step, ...]
    op: str = field(default="pointwise", init=False)


@dataclass(frozen=True)
class Concat:
    """Join the inputs along the channels."""

    name: str
    inputs: tuple[str, ...]
    op: str = field(default="concat", init=False)


@dataclass(frozen=True)
class Slice:
    """Take channels begin <= c < end of inputs[0]."""

    name: str
    inputs: tuple[str, ...]
    begin: int
    end: int
    op: str = field(default="slice", init=False)


@dataclass(frozen=True)
class PixelShuffle:
    """Turn channel c * factor^2 + dy * factor + dx into pixel (factor y + dy, factor x + dx) of channel c."""

    name: str
    inputs: tuple[str, ...]
    factor: int
    op: str = field(default="pixel_shuffle", init=False)


@dataclass(frozen=True)
class Resize:
    """Enlarge by a whole factor, pixel centres at half-integers, edge pixels repeated outside.

    cubic_a: the free parameter of the cubic kernel (-0.5 as MATLAB, -0.75 as PyTorch); read by bicubic only.
    """

    name: str
    inputs: tuple[str, ...]
    mode: ResizeMode
    factor: int
    cubic_a: float = -0.5
    op: str = field(default="resize", init=False)


Node = Union[Conv, Pointwise, Concat, Slice, PixelShuffle, Resize]
RESIZE_HALO: dict[str, int] = {"nearest": 0, "bilinear": 1, "bicubic": 2}


@dataclass(frozen=True)
class Graph:
    """A network for one scale and one number of input channels.

    scale: output pixels per input pixel, per axis; channels, out_channels: of the image in and out.
    output: the name of the node whose value is the result.
    ranges: for values of nodes, the tensor (2, C) with the least and the largest value of each channel, which
    computing in integers needs (`fastsr.graph.calibrate`); a value without is computed and kept in floats.
    """

    scale: int
    channels: int
    out_channels: int
    nodes: tuple[Node, ...]
    output: str
    ranges: Mapping[str, str] = field(default_factory=dict)

    def node(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise GraphError(f"the graph has no node {name!r}")

    def consumers(self, name: str) -> list[Node]:
        return [node for node in self.nodes if name in node.inputs]


def halo(node: Node, tensors: Mapping[str, Array]) -> tuple[int, int]:
    """Return (rows, columns) of the input that the node reads beyond its own position, on each side."""
    if isinstance(node, Conv):
        kh, kw = tensors[node.weight].shape[2:]
        return kh // 2, kw // 2
    if isinstance(node, Resize):
        return RESIZE_HALO[node.mode], RESIZE_HALO[node.mode]
    return 0, 0


def scale_of(node: Node) -> int:
    """Return output pixels per input pixel, per axis."""
    return node.factor if isinstance(node, (PixelShuffle, Resize)) else 1


def tensor_names(node: Node) -> Iterator[str]:
    """Yield the names of the tensors that the node reads."""
    if isinstance(node, Conv):
        yield node.weight
        if node.bias is not None:
            yield node.bias
    if isinstance(node, (Conv, Pointwise)):
        for step in node.steps:
            yield from step.tensors


def check(graph: Graph, tensors: Mapping[str, Array]) -> dict[str, tuple[int, int]]:
    """Check that the graph can run; return {value: (channels, scale relative to the input)}.

    Raises GraphError that names the node and the contradiction.
    """
    if not 1 <= len(graph.nodes) <= MAX_NODES:
        raise GraphError(f"a graph has 1 to {MAX_NODES} nodes, this one has {len(graph.nodes)}")
    shapes: dict[str, tuple[int, int]] = {INPUT: (graph.channels, 1)}
    for node in graph.nodes:
        if node.name in shapes or not node.name:
            raise GraphError(f"node {node.name!r}: the name is empty or taken")
        for source in node.inputs:
            if source not in shapes:
                raise GraphError(f"node {node.name!r} reads {source!r}, which is not computed before it")
        if not node.inputs:
            raise GraphError(f"node {node.name!r} has no input")
        channels, scale = _output_shape(node, [shapes[i] for i in node.inputs], tensors)
        if not 1 <= channels <= MAX_CHANNELS:
            raise GraphError(f"node {node.name!r} has {channels} channels; 1 to {MAX_CHANNELS} are possible")
        if not 1 <= scale <= MAX_SCALE:
            raise GraphError(f"node {node.name!r} is at scale {scale}; 1 to {MAX_SCALE} are possible")
        shapes[node.name] = channels, scale
    if graph.output not in shapes or graph.output == INPUT:
        raise GraphError(f"the output {graph.output!r} is no node of the graph")
    if shapes[graph.output] != (graph.out_channels, graph.scale):
        channels, scale = shapes[graph.output]
        raise GraphError(
            f"the output has {channels} channels at scale {scale}, "
            f"the graph says {graph.out_channels} at scale {graph.scale}"
        )
    for value, name in graph.ranges.items():
        if value not in shapes or value == INPUT or name not in tensors:
            raise GraphError(f"the ranges {name!r} of {value!r}: one of the two does not exist")
        low_high = tensors[name]
        if low_high.shape != (2, shapes[value][0]) or (low_high[0] > low_high[1]).any():
            raise GraphError(f"the ranges {name!r} of {value!r} are no (2, {shapes[value][0]}) of low and high")
    return shapes


def _output_shape(node: Node, shapes: list[tuple[int, int]], tensors: Mapping[str, Array]) -> tuple[int, int]:
    channels, scale = shapes[0]
    for name in tensor_names(node):
        if name not in tensors:
            raise GraphError(f"node {node.name!r} reads the tensor {name!r}, which does not exist")
    if isinstance(node, Conv):
        weight = tensors[node.weight]
        if weight.ndim != 4:
            raise GraphError(f"node {node.name!r}: weight has {weight.ndim} axes, 4 are needed")
        k, c, kh, kw = weight.shape
        if not (kh % 2 and kw % 2 and kh <= MAX_KERNEL and kw <= MAX_KERNEL):
            raise GraphError(f"node {node.name!r}: kernel {kh}x{kw}; odd sizes up to {MAX_KERNEL} are possible")
        if node.groups < 1 or k % node.groups or c * node.groups != channels:
            raise GraphError(
                f"node {node.name!r}: weight {weight.shape} with {node.groups} groups does not fit {channels} channels"
            )
        if node.bias is not None and tensors[node.bias].shape != (k,):
            raise GraphError(f"node {node.name!r}: bias {tensors[node.bias].shape}, ({k},) is needed")
        channels = k
    if isinstance(node, (Conv, Pointwise)):
        _check_steps(node, channels, scale, shapes, tensors)
        return channels, scale
    if isinstance(node, Concat):
        if any(s != scale for _, s in shapes):
            raise GraphError(f"node {node.name!r} joins values of different scales {[s for _, s in shapes]}")
        return sum(c for c, _ in shapes), scale
    if len(shapes) != 1:
        raise GraphError(f"node {node.name!r} ({node.op}) has {len(shapes)} inputs, 1 is possible")
    if isinstance(node, Slice):
        if not 0 <= node.begin < node.end <= channels:
            raise GraphError(f"node {node.name!r} takes channels {node.begin}:{node.end} of {channels}")
        return node.end - node.begin, scale
    if not 1 <= node.factor <= MAX_SCALE:
        raise GraphError(f"node {node.name!r}: factor {node.factor}; 1 to {MAX_SCALE} are possible")
    if isinstance(node, PixelShuffle):
        if channels % node.factor**2:
            raise GraphError(f"node {node.name!r}: {channels} channels are no multiple of {node.factor}^2")
        return channels // node.factor**2, scale * node.factor
    if node.mode not in RESIZE_HALO:
        raise GraphError(f"node {node.name!r}: resize mode {node.mode!r}; {list(RESIZE_HALO)} are possible")
    return channels, scale * node.factor


def _check_steps(
    node: Conv | Pointwise,
    channels: int,
    scale: int,
    shapes: list[tuple[int, int]],
    tensors: Mapping[str, Array],
) -> None:
    if len(node.steps) > MAX_STEPS:
        raise GraphError(f"node {node.name!r} has {len(node.steps)} steps; {MAX_STEPS} are possible")
    for step in node.steps:
        if step.op not in STEP_FIELDS:
            raise GraphError(f"node {node.name!r}: step {step.op!r}; {list(STEP_FIELDS)} are possible")
        params, names, reads = STEP_FIELDS[step.op]
        if len(step.params) != params or len(step.tensors) != names:
            raise GraphError(f"node {node.name!r}: step {step.op!r} has {params} numbers and {names} tensors")
        if not all(np.isfinite(step.params)):
            raise GraphError(f"node {node.name!r}: step {step.op!r} has a number that is not finite")
        if step.op == "clip" and step.params[0] > step.params[1]:
            raise GraphError(f"node {node.name!r} clips to {step.params[0]}..{step.params[1]}, an empty range")
        for name in step.tensors:
            if tensors[name].shape != (channels,):
                raise GraphError(f"node {node.name!r}: {name!r} is {tensors[name].shape}, ({channels},) is needed")
        if reads:
            if not 1 <= step.input < len(shapes):
                raise GraphError(f"node {node.name!r}: step {step.op!r} reads input {step.input} of {len(shapes)}")
            if shapes[step.input] != (channels, scale):
                raise GraphError(
                    f"node {node.name!r}: step {step.op!r} joins {channels} channels at scale {scale} "
                    f"with {shapes[step.input][0]} at scale {shapes[step.input][1]}"
                )


NODE_OPS = ["conv", "pointwise", "concat", "slice", "pixel_shuffle", "resize"]
_NAME = re.compile(r"[A-Za-z0-9_.:/\-]{1,256}")


def to_json(graph: Graph) -> dict[str, Any]:
    """Return the graph as plain JSON values; `from_json` is the inverse."""
    nodes: list[dict[str, Any]] = []
    for node in graph.nodes:
        entry: dict[str, Any] = {"op": node.op, "name": node.name, "inputs": list(node.inputs)}
        if isinstance(node, Conv):
            entry |= {"weight": node.weight, "bias": node.bias, "groups": node.groups}
        if isinstance(node, (Conv, Pointwise)):
            entry["steps"] = [_step_to_json(step) for step in node.steps]
        if isinstance(node, Slice):
            entry |= {"begin": node.begin, "end": node.end}
        if isinstance(node, PixelShuffle):
            entry["factor"] = node.factor
        if isinstance(node, Resize):
            entry |= {"mode": node.mode, "factor": node.factor, "cubic_a": node.cubic_a}
        nodes.append(entry)
    described: dict[str, Any] = {
        "scale": graph.scale,
        "channels": graph.channels,
        "out_channels": graph.out_channels,
        "output": graph.output,
        "nodes": nodes,
    }
    if graph.ranges:
        described["ranges"] = dict(graph.ranges)
    return described


def _step_to_json(step: Step) -> dict[str, Any]:
    entry: dict[str, Any] = {"op": step.op}
    if step.params:
        entry["params"] = list(step.params)
    if step.tensors:
        entry["tensors"] = list(step.tensors)
    if step.input:
        entry["input"] = step.input
    return entry


def from_json(data: Any) -> Graph:
    """Read what `to_json` wrote. Raises GraphError for anything else; call `check` afterwards."""
    fields = _Fields(data, "the graph")
    nodes = [_node_from_json(entry) for entry in fields.items("nodes")]
    return Graph(
        scale=fields.whole("scale"),
        channels=fields.whole("channels"),
        out_channels=fields.whole("out_channels"),
        nodes=tuple(nodes),
        output=fields.name("output"),
        ranges=fields.map_of_names("ranges"),
    )


def _node_from_json(data: Any) -> Node:
    fields = _Fields(data, "a node")
    op, name = fields.name("op"), fields.name("name")
    fields.where = f"node {name!r}"
    inputs = tuple(fields.names("inputs"))
    if op == "conv":
        bias = None if fields.data.get("bias") is None else fields.name("bias")
        steps = tuple(_step_from_json(s, name) for s in fields.items("steps"))
        return Conv(name, inputs, fields.name("weight"), bias, fields.whole("groups"), steps)
    if op == "pointwise":
        return Pointwise(name, inputs, tuple(_step_from_json(s, name) for s in fields.items("steps")))
    if op == "concat":
        return Concat(name, inputs)
    if op == "slice":
        return Slice(name, inputs, fields.whole("begin"), fields.whole("end"))
    if op == "pixel_shuffle":
        return PixelShuffle(name, inputs, fields.whole("factor"))
    if op == "resize":
        mode = fields.name("mode")
        if mode not in get_args(ResizeMode):
            raise GraphError(f"node {name!r}: resize mode {mode!r}; {list(RESIZE_HALO)} are possible")
        return Resize(name, inputs, mode, fields.whole("factor"), fields.number("cubic_a"))  # type: ignore[arg-type]
    raise GraphError(f"node {name!r}: operation {op!r}; {NODE_OPS} are possible")


def _step_from_json(data: Any, node: str) -> Step:
    fields = _Fields(data, f"a step of node {node!r}")
    op = fields.name("op")
    if op not in STEP_FIELDS:
        raise GraphError(f"node {node!r}: step {op!r}; {list(STEP_FIELDS)} are possible")
    params = tuple(_number(p, fields.where) for p in fields.items("params", optional=True))
    tensors = tuple(fields.names("tensors", optional=True))
    return Step(op, params, tensors, fields.whole("input") if "input" in fields.data else 0)  # type: ignore[arg-type]


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise GraphError(f"{where}: {value!r} is no number")
    try:
        return float(value)
    except OverflowError:
        raise GraphError(f"{where}: a whole number of {len(str(value))} digits is too large") from None


class _Fields:
    """Typed access to a JSON object that nobody trusts."""

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise GraphError(f"{where} is {type(data).__name__}, an object is needed")
        self.data: dict[str, Any] = data
        self.where = where

    def whole(self, key: str) -> int:
        value = self.data.get(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise GraphError(f"{self.where}: {key!r} is {value!r}, a whole number is needed")
        return value

    def number(self, key: str) -> float:
        return _number(self.data.get(key), f"{self.where}, {key!r}")

    def name(self, key: str) -> str:
        return self._name(self.data.get(key), key)

    def _name(self, value: Any, key: str) -> str:
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise GraphError(f"{self.where}: {key!r} is {value!r}, a name of 1 to 256 plain characters is needed")
        return value

    def items(self, key: str, optional: bool = False) -> list[Any]:
        value = self.data.get(key, [] if optional else None)
        if not isinstance(value, list):
            raise GraphError(f"{self.where}: {key!r} is {type(value).__name__}, a list is needed")
        return value

    def map_of_names(self, key: str) -> dict[str, str]:
        """Read an object of names, which may be missing."""
        value = self.data.get(key, {})
        if not isinstance(value, dict):
            raise GraphError(f"{self.where}: {key!r} is {type(value).__name__}, an object is needed")
        return {self._name(name, key): self._name(other, key) for name, other in value.items()}

    def names(self, key: str, optional: bool = False) -> list[str]:
        return [self._name(value, key) for value in self.items(key, optional)]
