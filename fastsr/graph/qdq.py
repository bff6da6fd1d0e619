"""What an int8 network knows beside its graph: how values and weights are rounded. Neutral to who calibrated it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.errors import GraphError, OptionError
from fastsr.graph import reference
from fastsr.graph.calibrate import CARD
from fastsr.graph.ir import INPUT, Array, Conv, Graph
from fastsr.graph.model import CompiledModel

INT8_MIN, INT8_MAX = -128, 127
_LEAST_SCALE = 1e-12  # of a channel that is always zero


@dataclass(frozen=True, eq=False)
class Scales:
    """How a value is rounded to int8: x = scale * (q - zero), -128 <= q <= 127.

    scale, zero: of shape () for the whole value, or (C,) for each channel; scale > 0, zero is whole.
    """

    scale: Array
    zero: npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Quantization:
    """The scales of one graph.

    values: by the name of a value; convolutions that read a value without scales stay in floating point.
    weights: by the name of a convolution: (K,), one scale for each output channel; weights have no zero point.
    """

    values: Mapping[str, Scales] = field(default_factory=dict)
    weights: Mapping[str, Array] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Say whether every value has one scale and no zero point: what TensorRT takes."""
        return all(not s.zero.any() and not s.scale.ndim for s in self.values.values())

    def check(self, graph: Graph, channels: Mapping[str, int], tensors: Mapping[str, Array]) -> None:
        """Raise GraphError where the scales do not fit the graph. channels: of each value."""
        for name, scales in self.values.items():
            if name not in channels:
                raise GraphError(f"there are scales for {name!r}, which is no value of the graph")
            if scales.scale.shape not in ((), (channels[name],)) or scales.zero.shape != scales.scale.shape:
                shapes = f"{scales.scale.shape} and {scales.zero.shape}"
                raise GraphError(f"scale and zero point of {name!r} are {shapes}; () or ({channels[name]},) is needed")
            _check_positive(name, scales.scale)
        for node in graph.nodes:
            if not isinstance(node, Conv) or node.inputs[0] not in self.values:
                continue
            wanted = tensors[node.weight].shape[:1]
            if node.name not in self.weights or self.weights[node.name].shape != wanted:
                raise GraphError(f"convolution {node.name!r} needs weight scales of shape {wanted}")
            _check_positive(node.name, self.weights[node.name])


def from_ranges(graph: Graph, tensors: Mapping[str, Array], ranges: Mapping[str, Array]) -> Quantization:
    """Return symmetric scales, one for each value, from the ranges of its channels.

    ranges: by the name of a value, (2, C) with the least and the largest of each channel; the image is 0..1.
    """
    values: dict[str, Scales] = {}
    weights: dict[str, Array] = {}
    for node in graph.nodes:
        if not isinstance(node, Conv):
            continue
        name = node.inputs[0]
        ends = np.array([[0.0], [1.0]], np.float32) if name == INPUT else ranges.get(name)
        if ends is not None:
            values[name] = symmetric_scales(ends[0].min(), ends[1].max())
            weights[node.name] = weight_scales(tensors[node.weight])
    return Quantization(values, weights)


def of_model(model: CompiledModel, graph: Graph) -> Quantization:
    """Return the scales of a model that was prepared for integers (`fastsr quantize`).

    The margin around what was seen, which the engine's finer steps can afford, is taken off again.
    Raises OptionError for a model without ranges.
    """
    if not graph.ranges:
        raise OptionError(f"{model.name} x{graph.scale} has no ranges for int8; fastsr quantize finds them on images")
    margin = float(model.card.get(CARD, {}).get("margin", 1.0))
    ranges = {value: model.tensors[name] / np.float32(margin) for value, name in graph.ranges.items()}
    return from_ranges(graph, model.tensors, ranges)


def symmetric_scales(low: Array, high: Array) -> Scales:
    """Return scales without zero point for values low..high, of shape () or (C,): what TensorRT takes."""
    most = np.maximum(np.abs(low), np.abs(high))
    scale = np.maximum(most / INT8_MAX, _LEAST_SCALE).astype(np.float32)
    return Scales(scale, np.zeros(scale.shape, np.int8))


def weight_scales(weight: Array) -> Array:
    """Return (K,): the largest weight of each output channel becomes 127. weight: (K, C, kh, kw)."""
    most = np.abs(weight).reshape(len(weight), -1).max(1)
    scale: Array = np.maximum(most / INT8_MAX, _LEAST_SCALE).astype(np.float32)
    return scale


def quantized_weight(weight: Array, scale: Array) -> npt.NDArray[np.int8]:
    """Return the weight (K, C, kh, kw) in steps of scale (K,)."""
    steps = np.rint(weight / scale[:, None, None, None])
    integers: npt.NDArray[np.int8] = np.clip(steps, -INT8_MAX, INT8_MAX).astype(np.int8)
    return integers


def run(
    graph: Graph, tensors: Mapping[str, Array], x: npt.NDArray[Any], quantization: Quantization
) -> npt.NDArray[np.float64]:
    """Evaluate an int8 network slowly: `reference.run`, with what convolutions read and their weights rounded."""
    values = {INPUT: np.asarray(x, np.float64)}
    for node in graph.nodes:
        inputs, seen = [values[name] for name in node.inputs], tensors
        if isinstance(node, Conv) and node.inputs[0] in quantization.values:
            step = quantization.weights[node.name]
            weight = quantized_weight(tensors[node.weight], step) * step[:, None, None, None]
            inputs[0] = rounded(inputs[0], quantization.values[node.inputs[0]])
            seen = {**tensors, node.weight: weight}
        values[node.name] = reference.node_value(node, inputs, seen)
    return values[graph.output]


def rounded(x: npt.NDArray[Any], scales: Scales) -> npt.NDArray[np.float64]:
    """Return x (C, H, W) after a round trip through int8: the slow twin of QuantizeLinear and DequantizeLinear."""
    scale, zero = scales.scale.astype(np.float64), scales.zero.astype(np.float64)
    if scale.ndim:
        scale, zero = scale[:, None, None], zero[:, None, None]
    q = np.clip(np.rint(x / scale) + zero, INT8_MIN, INT8_MAX)
    result: npt.NDArray[np.float64] = (q - zero) * scale
    return result


def _check_positive(name: str, scale: Array) -> None:
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise GraphError(f"a scale of {name!r} is {float(np.min(scale)):g}; positive, finite numbers are needed")
