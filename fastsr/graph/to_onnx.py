"""The graph as an ONNX model, for ONNX Runtime, OpenVINO, TensorRT and everyone else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.errors import OptionError
from fastsr.graph.ir import INPUT, Array, Concat, Conv, Graph, Node, PixelShuffle, Pointwise, Slice, Step

OPSET = 17
IR_VERSION = 8  # what came with opset 17: older runtimes read it
OUTPUT = "output"
_RESIZE: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    "bilinear": {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    "bicubic": {"mode": "cubic", "coordinate_transformation_mode": "half_pixel"},
}


def to_onnx(graph: Graph, tensors: Mapping[str, Array]) -> Any:
    """Return an onnx.ModelProto, checked: "input" (N, C, H, W) float32 0..1 -> "output" (N, K, s*H, s*W).

    N, H and W are dynamic. Raises OptionError without the package onnx.
    """
    try:
        import onnx
    except ImportError as error:
        raise OptionError("writing ONNX needs the package onnx: pip install 'fastsr[onnx]'") from error
    writer = _Writer(onnx, tensors)
    for node in graph.nodes:
        writer.node(node)
    writer.emit("Identity", [graph.output], OUTPUT)
    value = onnx.helper.make_tensor_value_info
    proto = onnx.helper.make_graph(
        writer.nodes,
        "fastsr",
        [value(INPUT, onnx.TensorProto.FLOAT, ["N", graph.channels, "H", "W"])],
        [value(OUTPUT, onnx.TensorProto.FLOAT, ["N", graph.out_channels, "sH", "sW"])],
        list(writer.constants.values()),
    )
    model = onnx.helper.make_model(
        proto,
        producer_name="fastsr",
        ir_version=IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model


class _Writer:
    """Collect ONNX nodes and constants. Values of the graph are named "v.name", so that no name meets another."""

    def __init__(self, onnx: Any, tensors: Mapping[str, Array]) -> None:
        self.onnx = onnx
        self.tensors = tensors
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
            scales = self._constant(f"scales.{node.factor}", np.array([1, 1, node.factor, node.factor], np.float32))
            self.emit("Resize", list(node.inputs), node.name, constants=["", scales], **options)

    def _stepped(self, node: Conv | Pointwise) -> None:
        value = node.inputs[0]
        names = [f"{node.name}:{i}" for i in range(len(node.steps))] + [node.name]
        if isinstance(node, Conv):
            kh, kw = self.tensors[node.weight].shape[2:]
            weights = [self._tensor(name) for name in (node.weight, node.bias) if name is not None]
            pads = [kh // 2, kw // 2] * 2
            options = {"kernel_shape": [kh, kw], "pads": pads, "group": node.groups}
            self.emit("Conv", [value], names[0], constants=weights, **options)
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
            limits = [self._constant(f"float.{v!r}", np.array(v, np.float32)) for v in step.params]
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
        names = [v if v == INPUT else f"v.{v}" for v in values] + (constants or [])
        result = output if op == "Identity" and output == OUTPUT else f"v.{output}"
        self.nodes.append(self.onnx.helper.make_node(op, names, [result], name=f"{op}.{output}", **options))

    def _tensor(self, name: str, spatial: bool = False) -> str:
        array = self.tensors[name]
        return self._constant(f"t.{name}", array) if not spatial else self._constant(f"s.{name}", array[:, None, None])

    def _constant(self, name: str, array: npt.NDArray[Any]) -> str:
        if name not in self.constants:
            array = np.ascontiguousarray(array, np.float32 if array.dtype.kind == "f" else np.int64)
            self.constants[name] = self.onnx.numpy_helper.from_array(array, name)
        return name
