"""Read somebody else's network from ONNX: opset 11 to 23, any convolutional super-resolution network.

The image's height and width may be fixed or free. Free ones are tried at two sizes, so that a size computed inside
the network (Shape, Gather, Mul, Concat, ...) becomes plain numbers; the two graphs must come out equal.
What each operation means to the graph stands in onnx_ops.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from fastsr.errors import FastSRError, ModelFileError, OptionError, UnsupportedOperationError
from fastsr.graph import onnx_ops
from fastsr.graph.builder import GraphBuilder, Tensors
from fastsr.graph.ir import INPUT, Graph
from fastsr.graph.onnx_ops import Known, OnnxNode, Operand, Value

OPSETS = range(11, 24)
MAX_FILE = 2 << 30
MAX_CONSTANT = 1 << 26  # numbers in one computed constant
PROBES = ((24, 40), (35, 29))  # heights and widths at which a network of free size is read


def from_onnx(source: Any) -> tuple[Graph, Tensors]:
    """Return the graph and tensors of an ONNX model. source: a path or an onnx.ModelProto.

    Raises ModelFileError for what is no such model, UnsupportedOperationError, which names the operation and its
    node, and OptionError without the package onnx.
    """
    try:
        import onnx
    except ImportError as error:
        raise OptionError("reading ONNX needs the package onnx: pip install 'fastsr[onnx]'") from error
    where = str(source) if isinstance(source, (str, os.PathLike)) else "the ONNX model"
    model = _loaded(onnx, source, where) if isinstance(source, (str, os.PathLike)) else source
    model = _checked(onnx, model, where)
    image = _image(onnx, model, where)
    free = not (image[2] and image[3])
    results = [_Reader(onnx, model, where).read(image, probe) for probe in (PROBES if free else PROBES[:1])]
    for graph, tensors in results[1:]:
        for first, second in zip(results[0][0].nodes, graph.nodes, strict=False):
            if first != second:
                raise UnsupportedOperationError(
                    f"{where}: {first.op} {first.name!r} depends on the image's size; "
                    "export with dynamic_shapes (or dynamic_axes) for height and width"
                )
        same = {name: t.tobytes() for name, t in tensors.items()} == {n: t.tobytes() for n, t in results[0][1].items()}
        if graph != results[0][0] or not same:
            raise UnsupportedOperationError(f"{where}: the network depends on the image's size")
    return results[0]


def _loaded(onnx: Any, path: str | os.PathLike[str], where: str) -> Any:
    try:
        size = os.stat(path).st_size
        if not 0 < size <= MAX_FILE:
            raise ModelFileError(f"{where}: {size} bytes; 1 to {MAX_FILE} are possible")
        model = onnx.load(path, load_external_data=False)
    except OSError as error:
        raise ModelFileError(f"{where}: cannot be read: {error.strerror or error}") from error
    except FastSRError:
        raise
    except Exception as error:  # protobuf's DecodeError, which has no stable place to import it from
        raise ModelFileError(f"{where}: no ONNX file: {error}") from error
    try:
        onnx.load_external_data_for_model(model, str(Path(path).parent))
    except Exception as error:
        raise ModelFileError(
            f"{where}: its external data cannot be read ({error}); keep it beside the .onnx file, "
            "or export with external_data=False"
        ) from error
    return model


def _checked(onnx: Any, model: Any, where: str) -> Any:
    """Return the model with its local functions inlined. Raises for what cannot be read."""
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer):
        raise ModelFileError(f"{where}: its weights are in another file; load it with its external data")
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if not versions or versions[0] not in OPSETS:
        raise ModelFileError(
            f"{where}: opset {versions[0] if versions else 'not stated'}; {OPSETS[0]} to {OPSETS[-1]} are read "
            "(onnx.version_converter converts)"
        )
    if len(model.functions):
        from onnx.inliner import inline_local_functions

        model = inline_local_functions(model)
    for node in model.graph.node:
        known = node.op_type in onnx_ops.OPERATIONS or node.op_type in onnx_ops.CONSTANT_OPERATIONS
        if not known or node.domain not in ("", "ai.onnx"):
            domain = f"{node.domain}::" if node.domain else ""
            raise UnsupportedOperationError(
                f"{where}: {domain}{node.op_type} {node.name or node.output[0]!r} is not supported; "
                f"supported are {', '.join(sorted(onnx_ops.OPERATIONS))}"
            )
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # ValidationError, or what protobuf raises on broken strings
        raise ModelFileError(f"{where}: no valid ONNX model: {error}") from error
    return model


def _image(onnx: Any, model: Any, where: str) -> tuple[int, int, int, int]:
    """Return (N, C, H, W) of the network's input; H and W are 0 where they are free."""
    weights = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in weights]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise ModelFileError(f"{where}: {len(inputs)} inputs and {len(model.graph.output)} outputs; 1 and 1 are needed")
    kind = inputs[0].type.tensor_type
    types = onnx.TensorProto
    if kind.elem_type not in (types.FLOAT, types.FLOAT16, types.DOUBLE, types.BFLOAT16) or len(kind.shape.dim) != 4:
        raise ModelFileError(f"{where}: the input is no float image (N, C, H, W)")
    N, C, H, W = (max(dim.dim_value, 0) for dim in kind.shape.dim)
    if not C:
        raise ModelFileError(f"{where}: the number of input channels is free; export with it fixed")
    return N or 1, C, H, W


class _Reader:
    """Walk the nodes once, at one size of the image."""

    def __init__(self, onnx: Any, model: Any, where: str) -> None:
        self.onnx = onnx
        self.model = model
        self.where = where
        self.opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))

    def read(self, image: tuple[int, int, int, int], probe: tuple[int, int]) -> tuple[Graph, Tensors]:
        N, C = image[:2]
        H, W = image[2] or probe[0], image[3] or probe[1]
        proto = self.model.graph
        builder = GraphBuilder(C)
        values: dict[str, Operand] = {}
        try:
            for tensor in proto.initializer:
                values[tensor.name] = self.onnx.numpy_helper.to_array(tensor)
        except Exception as error:
            raise ModelFileError(f"{self.where}: weight {tensor.name!r} cannot be read: {error}") from error
        free = next(i.name for i in proto.input if i.name not in values)
        values[free] = Value(INPUT, (N, C, H, W))
        for entry in proto.node:
            node = self._node(entry, values)
            results = self._results(builder, entry, node)
            values.update(zip(node.outputs, results, strict=False))
        result = values.get(proto.output[0].name)
        if not isinstance(result, Value) or result.name == INPUT:
            raise ModelFileError(f"{self.where}: the output is no image computed from the input")
        s = builder.scales[result.name]
        if result.shape[2:] != (s * H, s * W):
            raise ModelFileError(f"{self.where}: an image of {H}x{W} becomes {result.shape[2]}x{result.shape[3]}")
        return builder.finish(result.name)

    def _node(self, entry: Any, values: dict[str, Operand]) -> OnnxNode:
        try:
            options = {a.name: self.onnx.helper.get_attribute_value(a) for a in entry.attribute}
            inputs = [values[name] if name else None for name in entry.input]
        except (KeyError, ValueError) as error:
            raise ModelFileError(f"{self.where}: {entry.op_type} {entry.name!r} cannot be read: {error}") from error
        name = entry.name or entry.output[0]
        return OnnxNode(entry.op_type, name, self.where, self.opset, inputs, list(entry.output), options)

    def _results(self, builder: GraphBuilder, entry: Any, node: OnnxNode) -> list[Operand]:
        try:
            with np.errstate(all="ignore"):  # what is not finite is refused when it is stored
                return self._constants(entry, node) if node.is_constant() else onnx_ops.apply(builder, node)
        except FastSRError:
            raise
        except Exception as error:  # a constant of the wrong shape, an option that is missing
            raise ModelFileError(f"{self.where}: {node.op} {node.name!r} is malformed: {error}") from error

    def _constants(self, entry: Any, node: OnnxNode) -> list[Operand]:
        """Evaluate a node that does not depend on the pixels."""
        from onnx.reference import ReferenceEvaluator

        if node.op not in onnx_ops.CONSTANT_OPERATIONS:
            raise node.unsupported("its input is a constant, a value computed from the image is needed")
        arrays = [x for x in node.inputs if isinstance(x, np.ndarray)]
        if _size_bound(node.op, arrays) > MAX_CONSTANT:
            raise node.unsupported(f"its result may have more than {MAX_CONSTANT} numbers")
        feeds = {name: x for name, x in zip(entry.input, node.inputs, strict=True) if name}
        results = ReferenceEvaluator(entry, opsets={"": self.opset}).run(None, feeds)
        return [np.asarray(result) for result in results]


def _size_bound(op: str, arrays: list[Known]) -> float:
    """Return a number that the size of the result does not exceed."""
    sizes = [max(float(x.size), 1.0) for x in arrays]
    if op in ("ConstantOfShape", "Expand", "Tile") and arrays:
        return sizes[0] * math.prod(max(float(v), 1.0) for v in arrays[-1].reshape(-1)[:16])
    if op == "Range":
        start, limit, delta = (float(x.reshape(-1)[0]) for x in arrays)
        return abs(limit - start) / max(abs(delta), 1e-9)
    if op == "Gather":
        return math.prod(sizes)
    if op in onnx_ops.ELEMENTWISE:
        return float(math.prod(np.broadcast_shapes(*(x.shape for x in arrays))))
    return sum(sizes)
