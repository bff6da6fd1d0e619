"""Turn an RGB network into the equal network for grey images, at less work and not more.

A grey image g enters as (g, g, g), and the BT.601 full-range luma of the RGB result leaves. Both are linear: the
first convolutions sum their weights over the input channels, the last ones mix theirs over the output colours. Where
something else stands there, an exact 1x1 convolution does it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fastsr.errors import OptionError
from fastsr.graph.builder import Tensors, as_float32, fresh_name
from fastsr.graph.ir import INPUT, Array, Conv, Graph, Node, PixelShuffle, Pointwise, Resize, Step, check

LUMA = (0.299, 0.587, 0.114)
Matrix = npt.NDArray[np.float64]


def to_grey(graph: Graph, tensors: Mapping[str, Array]) -> tuple[Graph, Tensors]:
    """Return the graph with 1 channel in and out: luma(graph(g, g, g)). Works best before the fusion passes.

    Raises OptionError where the graph has other than 3 channels in and out.
    """
    if (graph.channels, graph.out_channels) != (3, 3):
        raise OptionError(f"{graph.channels} channels in, {graph.out_channels} out; a grey form needs 3 and 3")
    folding = _Folding(graph, tensors)
    output = folding.mixed(graph.output, np.array([LUMA]))
    if output == INPUT:  # luma((g, g, g)) = g, which needs a node all the same
        output = folding.emit(Pointwise(folding.fresh(graph.output), (INPUT,), ()))
    kept = {node.name for node in folding.nodes} - {output}
    ranges = {folding.plain.get(x, ""): tensor for x, tensor in graph.ranges.items()}
    ranges = {x: tensor for x, tensor in ranges.items() if x in kept}
    return Graph(graph.scale, 1, 1, tuple(folding.nodes), output, ranges), folding.tensors


class _Folding:
    """Rebuild the nodes that the output needs, each in the form in which it is needed."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Array]) -> None:
        self.old = {node.name: node for node in graph.nodes}
        self.shapes = check(graph, tensors)
        self.tensors: Tensors = dict(tensors)
        self.nodes: list[Node] = []
        self.taken: set[str] = {INPUT}
        self.plain: dict[str, str] = {}
        self.grey: dict[str, str] = {}
        self.readers = Counter(x for node in graph.nodes for x in node.inputs)
        self.replicated = {INPUT}  # values whose three channels are equal
        for node in graph.nodes:
            if isinstance(node, Resize) and node.inputs[0] in self.replicated:
                self.replicated.add(node.name)

    def fresh(self, name: str) -> str:
        name = fresh_name(name, self.taken)
        self.taken.add(name)
        return name

    def emit(self, node: Node) -> str:
        self.nodes.append(node)
        return node.name

    def value(self, name: str) -> str:
        """Return the new value that equals the old `name`; make first what it reads."""
        pending = [name]
        while pending:
            missing = [x for x in self._reads(pending[-1]) if x not in self.plain]
            if missing:
                pending += missing
            else:
                made = pending.pop()
                if made not in self.plain:
                    self.plain[made] = self._made(made)
        return self.plain[name]

    def _reads(self, name: str) -> tuple[str, ...]:
        if name in self.replicated:
            return ()
        node = self.old[name]
        return node.inputs[1:] if self._sums_input(node) else node.inputs

    def _made(self, name: str) -> str:
        if name in self.replicated:
            weight = self._store("replicate.weight", np.ones((self.shapes[name][0], 1, 1, 1)))
            return self.emit(Conv(self.fresh(f"{name}.replicated"), (self.single(name),), weight))
        node = self.old[name]
        inputs = tuple(self.plain[x] for x in self._reads(name))
        if isinstance(node, Conv) and self._sums_input(node):
            inputs = (self.single(node.inputs[0]), *inputs)
            weight = self.tensors[node.weight].astype(np.float64).sum(1, keepdims=True)
            node = replace(node, weight=self._store(f"{node.weight}.grey", weight))
        return self.emit(replace(node, name=self.fresh(name), inputs=inputs))

    def _sums_input(self, node: Node) -> bool:
        return isinstance(node, Conv) and node.groups == 1 and node.inputs[0] in self.replicated

    def single(self, name: str) -> str:
        """Return the new value that is one channel of the old, replicated `name`."""
        if name == INPUT:
            return INPUT
        if name not in self.grey:
            node = self.old[name]
            inputs = (self.single(node.inputs[0]),)
            self.grey[name] = self.emit(replace(node, name=self.fresh(name), inputs=inputs))
        return self.grey[name]

    def mixed(self, name: str, M: Matrix) -> str:
        """Return the new value M @ channels of the old value `name`, folded as far as that is exact."""
        if name in self.replicated:
            sums, single = M.sum(1), self.single(name)
            return single if len(sums) == 1 and abs(sums[0] - 1) < 1e-12 else self._conv1x1(single, sums[:, None])
        if not self._folds(name):
            return self._conv1x1(self.value(name), M)
        node = self.old[name]
        if isinstance(node, Conv):
            return self._mixed_conv(node, M)
        if isinstance(node, Pointwise):
            parts = tuple(self.mixed(x, M) for x in (node.inputs[0], node.inputs[node.steps[0].input]))
            return self.emit(Pointwise(self.fresh(name), parts, (Step("add", input=1),)))
        phases = np.eye(node.factor**2 if isinstance(node, PixelShuffle) else 1)
        x = self.mixed(node.inputs[0], np.kron(M, phases).astype(np.float64))
        return self.emit(replace(node, name=self.fresh(name), inputs=(x,)))

    def _folds(self, name: str) -> bool:
        """Return whether a mix of the channels of `name` costs nothing: nobody else reads it and it is linear."""
        if name in self.replicated:
            return True
        node = self.old[name]
        if self.readers[name] > 1:
            return False
        if isinstance(node, Pointwise):
            return [s.op for s in node.steps] == ["add"] and all(self._folds(x) for x in node.inputs)
        if isinstance(node, Conv):
            return node.groups == 1 and not node.steps
        return isinstance(node, (PixelShuffle, Resize)) and self._folds(node.inputs[0])

    def _mixed_conv(self, node: Conv, M: Matrix) -> str:
        weight = np.einsum("mk,kcyx->mcyx", M, self.tensors[node.weight].astype(np.float64))
        if self._sums_input(node):
            weight, x = weight.sum(1, keepdims=True), self.single(node.inputs[0])
        else:
            x = self.value(node.inputs[0])
        bias = None
        if node.bias is not None:
            bias = self._store(f"{node.bias}.grey", M @ self.tensors[node.bias].astype(np.float64))
        return self.emit(Conv(self.fresh(node.name), (x,), self._store(f"{node.weight}.grey", weight), bias))

    def _conv1x1(self, x: str, M: Matrix) -> str:
        weight = self._store("luma.weight", M[:, :, None, None])
        return self.emit(Conv(self.fresh("luma"), (x,), weight))

    def _store(self, wanted: str, values: npt.ArrayLike) -> str:
        array = as_float32(values)
        name, count = wanted, 1
        while name in self.tensors and not np.array_equal(self.tensors[name], array):
            count += 1
            name = f"{wanted}.{count}"
        self.tensors[name] = array
        return name
