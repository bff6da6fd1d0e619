"""The graph as an ONNX model, for ONNX Runtime, OpenVINO, TensorRT and everyone else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastsr.errors import GraphError, OptionError
from fastsr.graph.ir import INPUT, Array, Concat, Conv, Graph, Node, PixelShuffle, Pointwise, Slice, Step
from fastsr.graph.qdq import Quantization, Scales, quantized_weight

# The lowest opset that has all operations in their present form, bicubic Resize included: read by ONNX Runtime from
# 1.12, TensorRT from 8.5, OpenVINO from 2022.3.
OPSET = 17
IR_VERSION = 8  # what came with opset 17: older runtimes read it
OUTPUT = "output"
FLOAT16_MAX = float(np.finfo(np.float16).max)
FloatType = Literal["fp32", "fp16"]
_DTYPES: dict[str, type[np.floating[Any]]] = {"fp32": np.float32, "fp16": np.float16}
_RESIZE: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    "bicubic": {"mode": "cubic", "coordinate_transformation_mode": "half_pixel"},
}


def to_onnx(
    graph: Graph,
    tensors: Mapping[str, Array],
    *,
    compute: FloatType = "fp32",
    io: FloatType = "fp32",
    quantization: Quantization | None = None,
    also: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
) -> Any:
    """Return an onnx.ModelProto, checked: "input" (N, C, H, W) 0..1 -> "output" (N, K, s*H, s*W).

    N, H and W are dynamic. compute: the type of weights and values; io: of input and output. Every value's type is
    explicit, as strongly typed TensorRT networks need it. quantization: convolutions whose input has scales there
    get explicit QuantizeLinear and DequantizeLinear, weights are stored in int8. also: values of the graph, or of
    `step_values`, that become outputs too, called "v.NAME". metadata: strings for metadata_props.
    Raises OptionError without the package onnx; GraphError for a weight that fp16 cannot hold.
    """
    try:
        import onnx
    except ImportError as error:
        raise OptionError("writing ONNX needs the package onnx: pip install 'fastsr[onnx]'") from error
    writer = _Writer(onnx, tensors, compute, quantization)
    if io != compute:
        writer.cast(INPUT, f"v.{INPUT}", compute)
        writer.image = f"v.{INPUT}"
    for node in graph.nodes:
        writer.node(node)
    if io != compute:
        writer.cast(f"v.{graph.output}", OUTPUT, io)
    else:
        writer.emit("Identity", [graph.output], OUTPUT)
    value = onnx.helper.make_tensor_value_info
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(_DTYPES[io]))
    inner = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(_DTYPES[compute]))
    extra = [value(f"v.{name}", inner, [None] * 4) for name in also]
    proto = onnx.helper.make_graph(
        writer.nodes,
        "fastsr",
        [value(INPUT, kind, ["N", graph.channels, "H", "W"])],
        [value(OUTPUT, kind, ["N", graph.out_channels, "sH", "sW"]), *extra],
        list(writer.constants.values()),
    )
    model = onnx.helper.make_model(
        proto,
        producer_name="fastsr",
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    onnx.helper.set_model_props(model, dict(metadata or {}))
    onnx.checker.check_model(model, full_check=True)
    return model


def step_values(graph: Graph) -> list[str]:
    """Return the names of all values of the ONNX model that one step makes, those inside nodes included."""
    names = []
    for node in graph.nodes:
        steps = node.steps if isinstance(node, (Conv, Pointwise)) else ()
        first = 0 if isinstance(node, Conv) else 1
        names += [f"{node.name}:{i}" for i in range(first, len(steps))] + [node.name]
    return names


class _Writer:
    """Collect ONNX nodes and constants. Values of the graph are named "v.name", so that no name meets another.

    image: the name of the input in the type that is computed in.
    """

    def __init__(
        self, onnx: Any, tensors: Mapping[str, Array], compute: FloatType, quantization: Quantization | None
    ) -> None:
        self.onnx = onnx
        self.tensors = tensors
        self.dtype = np.dtype(_DTYPES[compute])
        self.quantization = quantization or Quantization()
        self.image = INPUT
        self.quantized: set[str] = set()
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def node(self, node: Node) -> None:
        if isinstance(node, (Conv, Pointwise)):
            self._stepped(node)
        elif isinstance(node, Concat):
            self.emit("Concat", list(node.inputs), node.name, axis=1)
        elif isinstance(node, Slice):
            ends = [self._constant(f"int.{v}", np.array([v])) for v in (node.begin, node.end, 1)]
            self.emit("Slice", list(node.inputs), node.name, constants=ends)
        elif isinstance(node, PixelShuffle):
            self.emit("DepthToSpace", list(node.inputs), node.name, blocksize=node.factor, mode="CRD")
        else:
            options = dict(_RESIZE[node.mode])
            if node.mode == "bicubic":
                options["cubic_coeff_a"] = node.cubic_a
            factors = np.array([1, 1, node.factor, node.factor], np.float32)
            scales = self._constant(f"scales.{node.factor}", factors, np.dtype(np.float32))  # of this type always
            self.emit("Resize", list(node.inputs), node.name, constants=["", scales], **options)

    def _stepped(self, node: Conv | Pointwise) -> None:
        value = node.inputs[0]
        names = [f"{node.name}:{i}" for i in range(len(node.steps))] + [node.name]
        if isinstance(node, Conv):
            kh, kw = self.tensors[node.weight].shape[2:]
            pads = [kh // 2, kw // 2] * 2
            options = {"kernel_shape": [kh, kw], "pads": pads, "group": node.groups}
            x, w = self._value(value), None
            if (scales := self.quantization.values.get(value)) is not None:
                x, w = self._quantized_value(value, scales), self._quantized_weight(node)
            constants = [w or self._tensor(node.weight)] + ([self._tensor(node.bias)] if node.bias else [])
            self._add("Conv", [x, *constants], f"v.{names[0]}", **options)
            value = names[0]
        elif not node.steps:
            self.emit("Identity", [value], node.name)
        for step, name in zip(node.steps, names[1:], strict=True):
            self._step(step, value, name, node.inputs)
            value = name

    def _step(self, step: Step, x: str, y: str, inputs: tuple[str, ...]) -> None:
        if step.op == "leaky_relu":
            self.emit("LeakyRelu", [x], y, alpha=step.params[0])
        elif step.op == "prelu":
            self.emit("PRelu", [x], y, constants=[self._tensor(step.tensors[0], spatial=True)])
        elif step.op == "clip":
            most = float(np.finfo(self.dtype).max)
            ends = [min(max(v, -most), most) for v in step.params]
            limits = [self._constant(f"float.{v!r}", np.array(v, np.float32)) for v in ends]
            self.emit("Clip", [x], y, constants=limits)
        elif step.op == "affine":
            scale, offset = (self._tensor(name, spatial=True) for name in step.tensors)
            self.emit("Mul", [x], f"{y}:scaled", constants=[scale])
            self.emit("Add", [f"{y}:scaled"], y, constants=[offset])
        elif step.op in ("add", "mul"):
            self.emit(step.op.capitalize(), [x, inputs[step.input]], y)
        else:
            self.emit({"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh"}[step.op], [x], y)

    def emit(self, op: str, values: list[str], output: str, constants: list[str] | None = None, **options: Any) -> None:
        """Add a node whose inputs are values of the graph, then constants."""
        names = [self._value(v) for v in values] + (constants or [])
        self._add(op, names, output if op == "Identity" and output == OUTPUT else f"v.{output}", **options)

    def cast(self, x: str, y: str, to: FloatType) -> None:
        dtype = self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(_DTYPES[to]))
        self._add("Cast", [x], y, to=dtype)

    def _add(self, op: str, inputs: list[str], output: str, **options: Any) -> None:
        name = f"{op}.{output.removeprefix('v.')}"
        self.nodes.append(self.onnx.helper.make_node(op, inputs, [output], name=name, **options))

    def _value(self, name: str) -> str:
        return self.image if name == INPUT else f"v.{name}"

    def _quantized_value(self, value: str, scales: Scales) -> str:
        """Return the value after a round trip through int8; values that several convolutions read make one."""
        if value not in self.quantized:
            self.quantized.add(value)
            whole = scales.scale.ndim == 0
            options = {} if whole else {"axis": 1}
            step = self._constant(f"x.{value}.scale", scales.scale)
            zero = self._constant(f"x.{value}.zero", scales.zero, np.dtype(np.int8))
            self._add("QuantizeLinear", [self._value(value), step, zero], f"q.{value}", **options)
            self._add("DequantizeLinear", [f"q.{value}", step, zero], f"d.{value}", **options)
        return f"d.{value}"

    def _quantized_weight(self, node: Conv) -> str:
        """Return the weight, stored in int8 with one scale for each output channel."""
        made = f"d.{node.weight}.{node.name}"
        scale = self.quantization.weights[node.name]
        integers = quantized_weight(self.tensors[node.weight], scale)
        weight = self._constant(f"w.{node.name}", integers, np.dtype(np.int8))
        step = self._constant(f"w.{node.name}.scale", scale)
        zero = self._constant(f"w.{node.name}.zero", np.zeros(len(scale)), np.dtype(np.int8))
        self._add("DequantizeLinear", [weight, step, zero], made, axis=0)
        return made

    def _tensor(self, name: str, spatial: bool = False) -> str:
        array = self.tensors[name]
        if self.dtype == np.float16 and np.abs(array).max(initial=0) > FLOAT16_MAX:
            most = float(np.abs(array).max())
            raise GraphError(f"tensor {name!r} has a value of {most:g}; fp16 ends at {FLOAT16_MAX:g}: use fp32")
        return self._constant(f"t.{name}", array) if not spatial else self._constant(f"s.{name}", array[:, None, None])

    def _constant(self, name: str, array: npt.NDArray[Any], dtype: np.dtype[Any] | None = None) -> str:
        if name not in self.constants:
            dtype = dtype or (self.dtype if array.dtype.kind == "f" else np.dtype(np.int64))
            self.constants[name] = self.onnx.numpy_helper.from_array(array.astype(dtype, order="C"), name)
        return name
