"""Rewrite a graph into an equal one that runs faster. Each pass is small, exact and usable on its own.

A pass takes (graph, tensors) and returns both; it may add tensors and never changes one. `optimize` runs all of
them until nothing changes: then a plain network is one node a convolution, with its activation, residual and
attention multiply inside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from fastsr.graph.builder import Tensors, as_float32, fresh_name
from fastsr.graph.ir import (
    INPUT,
    MAX_STEPS,
    STEP_FIELDS,
    Array,
    Concat,
    Conv,
    Graph,
    Node,
    PixelShuffle,
    Pointwise,
    Resize,
    Slice,
    Step,
    check,
    tensor_names,
)

Pass = Callable[[Graph, Mapping[str, Array]], tuple[Graph, Tensors]]
Stepped = Union[Conv, Pointwise]


def optimize(graph: Graph, tensors: Mapping[str, Array]) -> tuple[Graph, Tensors]:
    """Run every pass until nothing changes, and drop the tensors that are no longer read."""
    before = None
    while graph != before:
        before = graph
        for rewrite in PASSES:
            graph, tensors = rewrite(graph, tensors)
    check(graph, tensors)
    used = {name for node in graph.nodes for name in tensor_names(node)} | set(graph.ranges.values())
    return graph, {name: tensors[name] for name in sorted(used)}


def remove_dead_nodes(graph: Graph, tensors: Mapping[str, Array]) -> tuple[Graph, Tensors]:
    """Drop the nodes that the output does not depend on, and operands that no step reads."""
    needed, kept = {graph.output}, []
    for node in reversed(graph.nodes):
        if node.name in needed:
            if isinstance(node, (Conv, Pointwise)):
                node = _with_steps(node, node.inputs[0], _operands(node))
            kept.append(node)
            needed.update(node.inputs)
    return _rebuilt(graph, reversed(kept)), dict(tensors)


def remove_identities(graph: Graph, tensors: Mapping[str, Array]) -> tuple[Graph, Tensors]:
    """Drop the steps and the nodes that change nothing."""
    shapes = check(graph, tensors)
    renamed: dict[str, str] = {}
    nodes: list[Node] = []
    ranges = dict(graph.ranges)
    for node in graph.nodes:
        node = _renamed(node, renamed)
        if isinstance(node, (Conv, Pointwise)):
            operands = [(s, x) for s, x in _operands(node) if not _changes_nothing(s, tensors)]
            node = _with_steps(node, node.inputs[0], operands)
        idle = (
            (isinstance(node, Pointwise) and not node.steps)
            or (isinstance(node, Concat) and len(node.inputs) == 1)
            or (isinstance(node, Slice) and (node.begin, node.end) == (0, shapes[node.inputs[0]][0]))
            or (isinstance(node, (PixelShuffle, Resize)) and node.factor == 1)
        )
        if idle and not (node.name == graph.output and node.inputs[0] == INPUT):
            renamed[node.name] = node.inputs[0]
            if node.name in ranges:
                ranges.setdefault(node.inputs[0], ranges[node.name])
        else:
            nodes.append(node)
    output = renamed.get(graph.output, graph.output)
    return _rebuilt(replace(graph, output=output, ranges=ranges), nodes), dict(tensors)


def fuse_pointwise(graph: Graph, tensors: Mapping[str, Array]) -> tuple[Graph, Tensors]:
    """Move the steps of a Pointwise into the Conv or Pointwise that makes its value, if nobody else reads that.

    A first step of add or mul can go into the maker of either operand; the one that comes last takes it. The
    joined node stands where the Pointwise stood, behind all of its operands, under the maker's name.
    """
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    renamed: dict[str, str] = {}
    made: dict[str, Node] = {}
    place: dict[str, int] = {}
    ranges = dict(graph.ranges)
    for index, original in enumerate(graph.nodes):
        node = _renamed(original, renamed)
        while isinstance(node, Pointwise):
            output = renamed.get(graph.output, graph.output)
            operands = _operands(node)
            choice = [node.inputs[0]]
            if operands and operands[0][1] is not None:
                choice.append(operands[0][1])
            uses = [node.inputs[0], *(x for _, x in operands if x is not None)]
            possible = [
                x
                for x in choice
                if isinstance(maker := made.get(x), (Conv, Pointwise))
                and readers[x] == uses.count(x) == 1
                and x != output
                and len(maker.steps) + len(operands) <= MAX_STEPS
            ]
            if not possible:
                break
            main = max(possible, key=lambda x: place[x])
            if main != node.inputs[0]:  # a + b = b + a
                operands[0] = operands[0][0], node.inputs[0]
            maker = made.pop(main)
            assert isinstance(maker, (Conv, Pointwise))
            readers[main] = readers[original.name]
            renamed[original.name] = main
            ranges.pop(main, None)  # of the value before the steps, which is gone
            if node.name in ranges:
                ranges[main] = ranges[node.name]
            node = _with_steps(maker, maker.inputs[0], _operands(maker) + operands)
        made[node.name], place[node.name] = node, index
    output = renamed.get(graph.output, graph.output)
    return _rebuilt(replace(graph, output=output, ranges=ranges), made.values()), dict(tensors)


def fold_affine(graph: Graph, tensors: Mapping[str, Array]) -> tuple[Graph, Tensors]:
    """Fold an affine that is the first step of a Conv into its weight and bias; join two affines in a row."""
    tensors, nodes = dict(tensors), []
    for node in graph.nodes:
        if isinstance(node, (Conv, Pointwise)):
            node = _join_affines(node, tensors)
        if isinstance(node, Conv) and node.steps and node.steps[0].op == "affine":
            scale, offset = (tensors[name].astype(np.float64) for name in node.steps[0].tensors)
            weight = tensors[node.weight] * scale[:, None, None, None]
            bias = offset if node.bias is None else tensors[node.bias] * scale + offset
            node = _with_weights(node, weight, bias, tensors)
            node = _with_steps(node, node.inputs[0], _operands(node)[1:])
        nodes.append(node)
    return replace(graph, nodes=tuple(nodes)), tensors


def _join_affines(node: Stepped, tensors: Tensors) -> Stepped:
    operands: list[tuple[Step, str | None]] = []
    for step, x in _operands(node):
        if operands and step.op == operands[-1][0].op == "affine":
            s1, o1 = (tensors[name].astype(np.float64) for name in operands[-1][0].tensors)
            s2, o2 = (tensors[name].astype(np.float64) for name in step.tensors)
            names = (
                _stored(tensors, f"{node.name}.scale", s1 * s2),
                _stored(tensors, f"{node.name}.offset", o1 * s2 + o2),
            )
            operands[-1] = Step("affine", tensors=names), None
        else:
            operands.append((step, x))
    return _with_steps(node, node.inputs[0], operands)


def join_convs(graph: Graph, tensors: Mapping[str, Array]) -> tuple[Graph, Tensors]:
    """Join a Conv and the 1x1 Conv behind it where nothing stands between and it saves arithmetic."""
    tensors = dict(tensors)
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    made: dict[str, Node] = {}
    for second in graph.nodes:
        first = made.get(second.inputs[0])
        if (
            isinstance(first, Conv)
            and isinstance(second, Conv)
            and first.groups == second.groups == readers[first.name] == 1
            and not first.steps
            and first.name != graph.output
            and tensors[second.weight].shape[2:] == (1, 1)
        ):
            w1 = tensors[first.weight].astype(np.float64)
            w2 = tensors[second.weight].astype(np.float64)[:, :, 0, 0]
            if len(w2) * w1[0].size <= w1.size + w2.size:
                bias = np.zeros(len(w2)) if second.bias is None else tensors[second.bias].astype(np.float64)
                if first.bias is not None:
                    bias = bias + w2 @ tensors[first.bias]
                second = replace(second, inputs=(*first.inputs, *second.inputs[1:]))
                second = _with_weights(second, np.einsum("km,mcyx->kcyx", w2, w1), bias, tensors)
                del made[first.name]
        made[second.name] = second
    return _rebuilt(graph, made.values()), tensors


def activate_before_shuffle(graph: Graph, tensors: Mapping[str, Array]) -> tuple[Graph, Tensors]:
    """Swap a PixelShuffle and the steps behind it that look at single values, so that these can join a Conv."""
    tensors = dict(tensors)
    readers = Counter(name for node in graph.nodes for name in node.inputs)
    taken = {INPUT, *(node.name for node in graph.nodes)}
    made: dict[str, Node] = {}
    ranges = dict(graph.ranges)
    for node in graph.nodes:
        made[node.name] = node
        shuffle = made.get(node.inputs[0])
        if not (isinstance(node, Pointwise) and isinstance(shuffle, PixelShuffle)):
            continue
        operands = _operands(node)
        alone = next((i for i, (_, x) in enumerate(operands) if x is not None), len(operands))
        read_later = any(x == shuffle.name for _, x in operands)
        if alone == 0 or readers[shuffle.name] != 1 or read_later or shuffle.name == graph.output:
            continue
        steps = tuple(_repeated(step, shuffle.factor**2, tensors) for step, _ in operands[:alone])
        early = Pointwise(fresh_name(f"{node.name}.early", taken), shuffle.inputs, steps)
        taken.add(early.name)
        del made[shuffle.name], made[node.name]
        ranges.pop(shuffle.name, None)  # it comes behind the steps now
        made[early.name] = early
        if operands[alone:]:
            made[shuffle.name] = replace(shuffle, inputs=(early.name,))
            made[node.name] = _with_steps(node, shuffle.name, operands[alone:])
        else:
            made[node.name] = replace(shuffle, name=node.name, inputs=(early.name,))
    return _rebuilt(replace(graph, ranges=ranges), made.values()), tensors


PASSES: tuple[Pass, ...] = (
    remove_dead_nodes,
    remove_identities,
    activate_before_shuffle,
    fuse_pointwise,
    fold_affine,
    join_convs,
)


def _rebuilt(graph: Graph, nodes: Iterable[Node]) -> Graph:
    """Return the graph with these nodes, and the ranges of those that are left; names keep what they mean."""
    kept = tuple(nodes)
    names = {node.name for node in kept} - {graph.output}
    return replace(graph, nodes=kept, ranges={x: tensor for x, tensor in graph.ranges.items() if x in names})


def _operands(node: Stepped) -> list[tuple[Step, str | None]]:
    """Return each step with the value that it reads, or None."""
    return [(step, node.inputs[step.input] if STEP_FIELDS[step.op][2] else None) for step in node.steps]


def _with_steps(node: Stepped, main: str, operands: list[tuple[Step, str | None]]) -> Stepped:
    """Return the node with these steps, each value that they read listed once."""
    inputs = [main]
    steps = []
    for step, x in operands:
        if x is None:
            steps.append(step)
            continue
        if x not in inputs[1:]:
            inputs.append(x)
        steps.append(replace(step, input=inputs.index(x, 1)))
    return replace(node, inputs=tuple(inputs), steps=tuple(steps))


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    return replace(node, inputs=tuple(names.get(x, x) for x in node.inputs))


def _changes_nothing(step: Step, tensors: Mapping[str, Array]) -> bool:
    if step.op == "affine":
        scale, offset = (tensors[name] for name in step.tensors)
        return bool((scale == 1).all() and (offset == 0).all())
    if step.op == "prelu":
        return bool((tensors[step.tensors[0]] == 1).all())
    return step.op == "leaky_relu" and step.params == (1.0,)


def _repeated(step: Step, times: int, tensors: Tensors) -> Step:
    """Return the step as it is before a pixel shuffle, where each channel is `times` channels."""
    names = tuple(_stored(tensors, f"{name}.x{times}", np.repeat(tensors[name], times)) for name in step.tensors)
    return replace(step, tensors=names)


def _with_weights(node: Conv, weight: npt.NDArray[Any], bias: npt.NDArray[Any], tensors: Tensors) -> Conv:
    name = _stored(tensors, f"{node.name}.weight", weight)
    return replace(node, weight=name, bias=_stored(tensors, f"{node.name}.bias", bias) if bias.any() else None)


def _stored(tensors: Tensors, wanted: str, values: npt.NDArray[Any]) -> str:
    name = fresh_name(wanted, tensors)
    tensors[name] = as_float32(values)
    return name
