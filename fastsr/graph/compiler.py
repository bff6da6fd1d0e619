"""From a network of any origin to a CompiledModel: import, derive the grey form, optimize, join."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastsr.errors import OptionError
from fastsr.graph.builder import Tensors, fresh_name
from fastsr.graph.from_torch import from_torch
from fastsr.graph.grey import to_grey
from fastsr.graph.ir import Conv, Graph, Pointwise, tensor_names
from fastsr.graph.model import CompiledModel
from fastsr.graph.passes import optimize


def compile_model(source: Any, *, name: str | None = None, card: Mapping[str, Any] | None = None) -> CompiledModel:
    """Compile a network for every back end.

    source: an FMEN, VDSR or SRGAN generator as a PyTorch module, in training or inference form; the path of a
    `.onnx` file or an onnx.ModelProto; or the path of a `.fsr` file, which is loaded.
    name, card: what the model is called, and what is known about it; by default what the source says.
    A network with 3 channels in and out also gets the equal graph for grey images.
    Raises OptionError, ModelFileError, GraphError, UnsupportedOperationError.
    """
    if isinstance(source, CompiledModel):
        return _relabelled(source, name, card)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        if path.suffix.lower() == ".fsr":
            return _relabelled(CompiledModel.load(path), name, card)
        if path.suffix.lower() != ".onnx":
            raise OptionError(f"{str(path)!r}: a path that ends in .onnx or .fsr is needed")
        from fastsr.graph.from_onnx import from_onnx

        return assemble(name or path.stem, [from_onnx(path)], card)
    if "onnx" in sys.modules and isinstance(source, sys.modules["onnx"].ModelProto):
        from fastsr.graph.from_onnx import from_onnx

        return assemble(name or source.graph.name or "onnx", [from_onnx(source)], card)
    if "torch" in sys.modules and isinstance(source, sys.modules["torch"].nn.Module):
        default, built = from_torch(source)
        return assemble(name or default, built, card)
    raise OptionError(
        f"a {type(source).__name__} cannot be compiled; a PyTorch module, an ONNX model, "
        "or the path of a .onnx or .fsr file can"
    )


def assemble(name: str, built: list[tuple[Graph, Tensors]], card: Mapping[str, Any] | None = None) -> CompiledModel:
    """Make a model of graphs, each with its own tensors: add grey forms, optimize, keep equal tensors once."""
    grey = [to_grey(graph, tensors) for graph, tensors in built if (graph.channels, graph.out_channels) == (3, 3)]
    graphs: list[Graph] = []
    shared: Tensors = {}
    known: dict[tuple[tuple[int, ...], bytes], str] = {}
    for graph, tensors in built + grey:
        graph, tensors = optimize(graph, tensors)
        names = {}
        for old, tensor in tensors.items():
            key = tensor.shape, tensor.tobytes()
            if key not in known:
                known[key] = fresh_name(old, shared)
                shared[known[key]] = tensor
            names[old] = known[key]
        graphs.append(_renamed_tensors(graph, names))
    return CompiledModel(name, tuple(graphs), shared, dict(card or {}))


def _renamed_tensors(graph: Graph, names: Mapping[str, str]) -> Graph:
    nodes = []
    for node in graph.nodes:
        if isinstance(node, (Conv, Pointwise)):
            steps = tuple(replace(step, tensors=tuple(names[t] for t in step.tensors)) for step in node.steps)
            node = replace(node, steps=steps)
        if isinstance(node, Conv):
            node = replace(node, weight=names[node.weight], bias=None if node.bias is None else names[node.bias])
        nodes.append(node)
    assert all(name in names.values() for node in nodes for name in tensor_names(node))
    return replace(graph, nodes=tuple(nodes), ranges={value: names[name] for value, name in graph.ranges.items()})


def _relabelled(model: CompiledModel, name: str | None, card: Mapping[str, Any] | None) -> CompiledModel:
    card = model.card if card is None else dict(card)
    return CompiledModel(name or model.name, model.graphs, model.tensors, card)
