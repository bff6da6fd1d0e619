"""The slow twin of every back end: a graph evaluated in float64 NumPy, node by node, on the whole image.

`values` does the same in the precision of the image that it is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from fastsr.errors import ShapeError
from fastsr.graph.ir import INPUT, Array, Concat, Conv, Graph, Node, PixelShuffle, Pointwise, Slice, Step
from fastsr.graph.resize import resize_weights

Float64 = npt.NDArray[np.float64]


def run(graph: Graph, tensors: Mapping[str, Array], x: npt.ArrayLike) -> Float64:
    """Evaluate the graph. x: (C, H, W) -> (out_channels, scale * H, scale * W), float64. Raises ShapeError."""
    image = np.asarray(x, np.float64)
    if image.ndim != 3 or image.shape[0] != graph.channels or 0 in image.shape:
        raise ShapeError(f"the image is {image.shape}; ({graph.channels}, H, W) is needed")
    for name, value in values(graph, tensors, image):
        if name == graph.output:
            result = value
    return result


def values(graph: Graph, tensors: Mapping[str, Array], image: Float64) -> Iterator[tuple[str, Float64]]:
    """Yield the name and the value (C, H, W) of each node in their order; image: (C, H, W), float64 or float32."""
    last_read = {name: node.name for node in graph.nodes for name in node.inputs}
    alive = {INPUT: image}
    for node in graph.nodes:
        alive[node.name] = node_value(node, [alive[name] for name in node.inputs], tensors)
        yield node.name, alive[node.name]
        for name in set(node.inputs):
            if last_read[name] == node.name:
                del alive[name]


def node_value(node: Node, inputs: list[Float64], tensors: Mapping[str, Array]) -> Float64:
    """Evaluate one node on the values (C, H, W) of its inputs."""
    x = inputs[0]
    if isinstance(node, Conv):
        convolved = _conv(x, tensors[node.weight].astype(x.dtype), node.groups)
        if node.bias is not None:
            convolved += tensors[node.bias][:, None, None]
        return _steps(convolved, node.steps, inputs, tensors)
    if isinstance(node, Pointwise):
        return _steps(x, node.steps, inputs, tensors)
    if isinstance(node, Concat):
        return np.concatenate(inputs)
    if isinstance(node, Slice):
        return x[node.begin : node.end]
    if isinstance(node, PixelShuffle):
        return _pixel_shuffle(x, node.factor)
    weights = resize_weights(node)
    y: Float64 = _resize_rows(_resize_rows(x, weights).swapaxes(1, 2), weights).swapaxes(1, 2)
    return y


def _pixel_shuffle(x: Float64, f: int) -> Float64:
    C, H, W = x.shape
    y: Float64 = x.reshape(C // (f * f), f, f, H, W).transpose(0, 3, 1, 4, 2).reshape(C // (f * f), H * f, W * f)
    return y


def _conv(x: Float64, weight: Float64, groups: int) -> Float64:
    K, C, kh, kw = weight.shape
    H, W = x.shape[1:]
    padded = np.pad(x, ((0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2))).reshape(groups, C, H + kh - 1, W + kw - 1)
    w = np.ascontiguousarray(weight.reshape(groups, K // groups, C, kh, kw).transpose(3, 4, 0, 1, 2))
    y = np.zeros((groups, K // groups, H * W), x.dtype)
    for dy in range(kh):
        for dx in range(kw):
            y += w[dy, dx] @ padded[:, :, dy : dy + H, dx : dx + W].reshape(groups, C, H * W)
    return y.reshape(K, H, W)


def _resize_rows(x: Float64, weights: Float64) -> Float64:
    C, H, W = x.shape
    factor, T = weights.shape
    padded = np.pad(x, ((0, 0), (T // 2, T // 2), (0, 0)), mode="edge")
    y = np.zeros((C, H, factor, W), x.dtype)
    for t in range(T):
        y += padded[:, t : t + H, None] * weights[:, t, None]
    return y.reshape(C, H * factor, W)


def _steps(y: Float64, steps: tuple[Step, ...], inputs: list[Float64], tensors: Mapping[str, Array]) -> Float64:
    for step in steps:
        vectors = [tensors[name][:, None, None].astype(y.dtype) for name in step.tensors]
        if step.op == "relu":
            y = np.maximum(y, 0)
        elif step.op == "leaky_relu":
            y = np.where(y >= 0, y, y * step.params[0])
        elif step.op == "prelu":
            y = np.where(y >= 0, y, y * vectors[0])
        elif step.op == "sigmoid":
            y = 0.5 * (1 + np.tanh(0.5 * y))  # as 1 / (1 + exp(-y)), without overflow
        elif step.op == "tanh":
            y = np.tanh(y)
        elif step.op == "clip":
            y = np.clip(y, step.params[0], step.params[1])
        elif step.op == "affine":
            y = y * vectors[0] + vectors[1]
        elif step.op == "add":
            y = y + inputs[step.input]
        else:
            y = y * inputs[step.input]
    return y
