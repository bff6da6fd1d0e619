"""From a graph to a list of kernel launches that a person can read: no GPU, no PyTorch and no Triton needed.

Each launch is one kernel over a whole value. What is fused, in this order:
- a pixel shuffle into the convolution before it, and steps behind the shuffle too;
- the caller's pixels into the first convolutions and resizes, and the way back to pixels into the last one;
- an ERB (two 3x3 convolutions of equal channels) into one launch;
- an HFAB (squeeze, ERBs, excite, gate) into as many as `Fusion` says.

Memory: values whose last reader is done give their slot to later ones (`assign_slots`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Union

import numpy as np
import numpy.typing as npt

from fastsr.graph.ir import (
    INPUT,
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
)
from fastsr.graph.resize import resize_weights

# Names that no node can have, so that values and nodes share one table.
PIXELS = "[pixels]"  # the caller's image that goes in, where a launch reads it as it is
RESULT = "[result]"  # the caller's image that comes out
ALIGNED = 8  # channels; 16 bytes of half precision are one load
MOST_OPERANDS = 3  # of one launch; what is beyond becomes a launch of its own
MOST_CHAIN_CHANNELS = 128

Hfab = Literal["off", "tail", "whole"]


@dataclass(frozen=True)
class Fusion:
    """What is fused beyond single convolutions.

    erb: two 3x3 convolutions of equal channels, whose intermediate value nobody else reads, become one launch.
    hfab: "tail" computes the last ERB, excite and gate in one launch, the squeeze and other ERBs before it;
    "whole" all of an HFAB with one ERB; "off" nothing.

    A fused tile recomputes a halo. For FMEN's HFAB and tiles of 16 x 16 pixels "tail" costs 1.13 times the
    arithmetic and halves the launches; "whole" costs 1.5 times, because the squeeze, which reads most, is done on
    22 x 22 pixels. So "tail" it is until somebody measures otherwise.
    """

    erb: bool = True
    hfab: Hfab = "tail"


DEFAULT = Fusion()
SINGLE = Fusion(erb=False, hfab="off")


@dataclass(frozen=True)
class Value:
    """A (H, W, C) value in device memory.

    pitch: elements from pixel to pixel; scale: relative to the input; kind: "int8" or "fp8", or "" for the precision's
    own type.
    """

    name: str
    channels: int
    pitch: int
    scale: int
    kind: str = ""

    @property
    def elements(self) -> int:
        """Elements for each LR pixel."""
        return self.pitch * self.scale**2


@dataclass(frozen=True)
class Epilogue:
    """What happens to accumulated values on their way to memory; see kernels.py for the steps.

    vectors: (K,) each, in the order in which the kernel finds them; operands: names of values.
    """

    steps: tuple[str, ...] = ()
    arguments: tuple[int, ...] = ()
    vectors: tuple[Array, ...] = field(default=(), repr=False, compare=False)
    operands: tuple[str, ...] = ()
    factor: int = 1  # of a pixel shuffle


@dataclass(frozen=True)
class ConvLaunch:
    """Convolve x with weight (K, C, kh, kw), groups written out; add bias (K,); then the epilogue."""

    x: str
    y: str
    weight: Array = field(repr=False, compare=False)
    bias: Array = field(repr=False, compare=False)
    epilogue: Epilogue = field(default_factory=Epilogue)
    kernel: str = field(default="conv", init=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape


@dataclass(frozen=True)
class ChainLaunch:
    """Several 3x3 convolutions, each the only reader of the one before."""

    x: str
    y: str
    convs: tuple[ConvLaunch, ...]
    kernel: str = field(default="chain", init=False)


@dataclass(frozen=True)
class PointwiseLaunch:
    """Apply the epilogue to channels first.. of x; store them as channels into.. of y (of `fill`, padding included)."""

    x: str
    y: str
    channels: int
    first: int = 0
    into: int = 0
    fill: int = 0
    epilogue: Epilogue = field(default_factory=Epilogue)
    kernel: str = field(default="pointwise", init=False)


@dataclass(frozen=True)
class ResizeLaunch:
    """Enlarge x by the phase weights (factor, taps)."""

    x: str
    y: str
    factor: int
    phases: npt.NDArray[np.float64] = field(repr=False, compare=False)
    kernel: str = field(default="resize", init=False)


Launch = Union[ConvLaunch, ChainLaunch, PointwiseLaunch, ResizeLaunch]


@dataclass(frozen=True)
class Plan:
    """The launches, in order; the values between them; slots: {value: slot}; widths: elements of a slot a LR pixel."""

    graph: Graph
    launches: tuple[Launch, ...]
    values: Mapping[str, Value]
    slots: Mapping[str, int]
    widths: tuple[int, ...]


def lower(graph: Graph, tensors: Mapping[str, Array], fusion: Fusion = DEFAULT) -> Plan:
    """Turn a graph into launches. Raises GraphError for a graph that cannot run."""
    lowering = _Lowering(graph, tensors)
    launches = _fuse_chains(lowering.launches, lowering.values, fusion)
    slots, widths = assign_slots(launches, lowering.values)
    return Plan(graph, launches, lowering.values, slots, widths)


def reads(launch: Launch) -> tuple[str, ...]:
    """Return the names of the values that the launch reads, operands included."""
    if isinstance(launch, ChainLaunch):
        return (launch.x, *launch.convs[-1].epilogue.operands)
    if isinstance(launch, ResizeLaunch):
        return (launch.x,)
    return (launch.x, *launch.epilogue.operands)


def assign_slots(launches: Sequence[Launch], values: Mapping[str, Value]) -> tuple[dict[str, int], tuple[int, ...]]:
    """Give each value a slot of memory that no value alive at the same time has; a slot's values are of one kind.

    A result may take the slot of an operand that dies there: each element is read by who writes it, before.
    """
    last = {name: i for i, launch in enumerate(launches) for name in (*reads(launch), launch.y)}
    slots: dict[str, int] = {}
    widths: list[int] = []
    kinds: list[str] = []
    free: list[int] = []
    for i, launch in enumerate(launches):
        dying = {name for name in reads(launch) if name in slots and last[name] == i}
        if launch.y in values and launch.y not in slots:
            need, kind = values[launch.y].elements, values[launch.y].kind
            in_place = [n for n in sorted(dying) if n != launch.x and _same_place(launch, n, values)]
            if in_place:
                slots[launch.y] = slots[in_place[0]]
                dying.discard(in_place[0])
            else:
                # The smallest that is large enough, or else the largest, made larger.
                usable = [s for s in free if kinds[s] == kind]
                fitting = sorted((s for s in usable if widths[s] >= need), key=lambda s: widths[s])
                taken = fitting[0] if fitting else max(usable, key=lambda s: widths[s], default=None)
                if taken is None:
                    taken = len(widths)
                    widths.append(need)
                    kinds.append(kind)
                else:
                    free.remove(taken)
                    widths[taken] = max(widths[taken], need)
                slots[launch.y] = taken
        free.extend(slots[name] for name in sorted(dying))
    return slots, tuple(widths)


def _same_place(launch: Launch, name: str, values: Mapping[str, Value]) -> bool:
    if isinstance(launch, ResizeLaunch) or (isinstance(launch, PointwiseLaunch) and launch.into):
        return False
    epilogue = launch.convs[-1].epilogue if isinstance(launch, ChainLaunch) else launch.epilogue
    before_shuffle = epilogue.factor == 1 or not any(
        epilogue.operands[a] == name and s in ("add", "mul")
        for s, a in zip(epilogue.steps, epilogue.arguments, strict=True)
    )
    mine, other = values[launch.y], values[name]
    alike = (mine.elements, mine.kind) == (other.elements, other.kind)
    return before_shuffle and name in epilogue.operands and alike


class _Lowering:
    """One pass over the nodes; `launches` and `values` are the result."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Array]) -> None:
        self.tensors = tensors
        self.shapes = check(graph, tensors)
        self.readers = Counter(x for node in graph.nodes for x in node.inputs)
        self.graph = graph
        self.values: dict[str, Value] = {}
        self.launches: list[Launch] = []
        self.network_input: str | None = None  # the image as a value, made when somebody needs it
        waiting: dict[str, list[Node]] = {}  # nodes that will be one launch with the node that reads the last of them
        for node in graph.nodes:
            nodes = [*waiting.pop(node.inputs[0], []), node]
            if self._waits(nodes):
                waiting[node.name] = nodes
            else:
                self._emit(nodes)
        assert not waiting

    def _alone(self, node: Node) -> Node | None:
        """Return the node that reads this value, if it is one, as its main input, and reads it once."""
        if self.readers[node.name] != 1 or node.name == self.graph.output:
            return None
        reader = self.graph.consumers(node.name)[0]
        return reader if reader.inputs[0] == node.name else None

    def _waits(self, nodes: list[Node]) -> bool:
        first, last = nodes[0], nodes[-1]
        reader = self._alone(last)
        if isinstance(last, Conv):
            return isinstance(reader, PixelShuffle) and _fitting(last.steps) == len(last.steps)
        if isinstance(last, PixelShuffle) and isinstance(first, Conv) and isinstance(reader, Pointwise):
            return _operand_count(first) + _operand_count(reader) <= MOST_OPERANDS
        return False

    def _emit(self, nodes: list[Node]) -> None:
        first, last = nodes[0], nodes[-1]
        if isinstance(first, Conv):
            self._conv(first, nodes[1:], last.name)
        elif isinstance(first, Resize):
            x = self._source(first.inputs[0], direct=True)
            y = self._target(last.name, aligned=True)
            self._add(ResizeLaunch(x, y, first.factor, resize_weights(first)))
        elif isinstance(first, Concat):
            self._concat(first)
        elif isinstance(first, Slice):
            self._add(
                PointwiseLaunch(
                    self._source(first.inputs[0]),
                    self._target(first.name, aligned=True),
                    first.end - first.begin,
                    first.begin,
                )
            )
        elif isinstance(first, PixelShuffle):
            x = self._source(first.inputs[0])
            y = self._target(first.name, aligned=False)
            C = self.shapes[first.inputs[0]][0]
            self._add(PointwiseLaunch(x, y, C, epilogue=Epilogue(factor=first.factor)))
        else:
            assert isinstance(first, Pointwise)
            self._pointwise(first.inputs[0], first.steps, first.inputs, first.name)

    def _conv(self, node: Conv, rest: list[Node], name: str) -> None:
        weight = dense(self.tensors[node.weight], node.groups)
        K = len(weight)
        bias = np.zeros(K, np.float32) if node.bias is None else self.tensors[node.bias]
        fits = _fitting(node.steps)
        shuffle = rest[0] if rest and isinstance(rest[0], PixelShuffle) else None
        factor = 1 if shuffle is None else shuffle.factor
        x = self._source(node.inputs[0], direct=True)
        if fits < len(node.steps):  # the other steps in launches of their own
            y = self._value(f"{node.name}[{fits}]", K, self.shapes[node.name][1], aligned=True)
            self._add(ConvLaunch(x, y, weight, bias, self._epilogue(node.steps[:fits], node.inputs, K, 1)))
            self._pointwise(y, node.steps[fits:], node.inputs, node.name)
            return
        epilogue = self._epilogue(node.steps, node.inputs, K, factor)
        if len(rest) > 1:
            behind = rest[1]
            assert isinstance(behind, Pointwise)
            epilogue = _joined(epilogue, self._epilogue(behind.steps, behind.inputs, K, factor, after=True))
        y = self._target(name, aligned=factor == 1)
        self._add(ConvLaunch(x, y, weight, bias, epilogue))

    def _pointwise(self, x: str, steps: tuple[Step, ...], inputs: tuple[str, ...], name: str) -> None:
        channels, scale = self.shapes[name]
        fits = _fitting(steps)
        source = self._source(x)
        while fits < len(steps):
            y = self._value(f"{name}[-{len(steps)}]", channels, scale, aligned=True)
            self._add(PointwiseLaunch(source, y, channels, epilogue=self._epilogue(steps[:fits], inputs, channels, 1)))
            source, steps = y, steps[fits:]
            fits = _fitting(steps)
        y = self._target(name, aligned=True)
        self._add(PointwiseLaunch(source, y, channels, epilogue=self._epilogue(steps, inputs, channels, 1)))

    def _concat(self, node: Concat) -> None:
        y = self._value(node.name, *self.shapes[node.name], aligned=True)
        value, into = self.values[y], 0
        for i, part in enumerate(node.inputs):
            C = self.shapes[part][0]
            fill = value.pitch - into if i == len(node.inputs) - 1 else C
            self._add(PointwiseLaunch(self._source(part), y, C, into=into, fill=fill))
            into += C
        if node.name == self.graph.output:
            self._add(PointwiseLaunch(y, RESULT, value.channels))

    def _epilogue(
        self, steps: tuple[Step, ...], inputs: tuple[str, ...], K: int, factor: int, after: bool = False
    ) -> Epilogue:
        """after: the steps come behind the shuffle, where a value has K / factor^2 channels."""
        names: list[str] = []
        arguments: list[int] = []
        vectors: list[Array] = []
        operands: list[str] = []
        for step in steps:
            if STEP_FIELDS[step.op][2]:
                names.append(f"{step.op}_after" if after else step.op)
                operand = self._source(inputs[step.input])
                if operand not in operands:
                    operands.append(operand)
                arguments.append(operands.index(operand))
                continue
            names.append("prelu" if step.op == "leaky_relu" else step.op)
            arguments.append(len(vectors))
            mine = [self.tensors[name] for name in step.tensors]
            mine += [np.full(K, p, np.float32) for p in step.params]
            if after:
                mine = [v if len(v) == K else np.tile(v, factor * factor) for v in mine]
            elif factor > 1:
                mine = [shuffled(v, factor) for v in mine]
            vectors += mine
        return Epilogue(tuple(names), tuple(arguments), tuple(vectors), tuple(operands), factor)

    def _source(self, name: str, direct: bool = False) -> str:
        """Return the value to read. direct: the reader can take the caller's pixels as they are."""
        if name != INPUT:
            return name
        if direct:
            return PIXELS
        if self.network_input is None:
            self.network_input = self._value(INPUT, self.graph.channels, 1, aligned=True)
            self.launches.append(PointwiseLaunch(PIXELS, INPUT, self.graph.channels))
        return self.network_input

    def _target(self, name: str, aligned: bool) -> str:
        if name == self.graph.output and not self.readers[name]:
            return RESULT
        return self._value(name, *self.shapes[name], aligned=aligned)

    def _value(self, name: str, channels: int, scale: int, aligned: bool) -> str:
        pitch = -(-channels // ALIGNED) * ALIGNED if aligned else channels
        self.values[name] = Value(name, channels, pitch, scale)
        return name

    def _add(self, launch: Launch) -> None:
        self.launches.append(launch)
        if launch.y == self.graph.output:  # somebody reads the network's result too
            last_part = not isinstance(launch, PointwiseLaunch) or launch.fill == 0
            if last_part:
                self.launches.append(PointwiseLaunch(launch.y, RESULT, self.shapes[launch.y][0]))


def _operand_count(node: Conv | Pointwise) -> int:
    return sum(STEP_FIELDS[step.op][2] for step in node.steps)


def _fitting(steps: tuple[Step, ...]) -> int:
    """Return how many of the steps one launch can do."""
    operands = 0
    for i, step in enumerate(steps):
        operands += STEP_FIELDS[step.op][2]
        if operands > MOST_OPERANDS:
            return i
    return len(steps)


def _joined(first: Epilogue, second: Epilogue) -> Epilogue:
    """Return the epilogue that does one, then the other."""
    operands = list(first.operands)
    arguments = list(first.arguments)
    for step, argument in zip(second.steps, second.arguments, strict=True):
        if step.endswith("_after"):
            # A value is not shared between the two: it lies at another scale.
            arguments.append(len(first.operands) + argument)
        else:
            arguments.append(len(first.vectors) + argument)
    operands += second.operands
    return Epilogue(
        first.steps + second.steps,
        tuple(arguments),
        first.vectors + second.vectors,
        tuple(operands),
        first.factor,
    )


def dense(weight: Array, groups: int) -> Array:
    """Write a grouped convolution's weight (K, C / groups, kh, kw) out as (K, C, kh, kw), zeros between groups.

    Tensor cores multiply blocks of 16 channels at least; groups are small.
    """
    if groups == 1:
        return weight
    K, C, kh, kw = weight.shape
    full = np.zeros((K, C * groups, kh, kw), np.float32)
    for g in range(groups):
        rows = slice(g * (K // groups), (g + 1) * (K // groups))
        full[rows, g * C : (g + 1) * C] = weight[rows]
    return full


def shuffled(vector: npt.NDArray[Any], factor: int) -> npt.NDArray[Any]:
    """Reorder the output channels (first axis) from (c, dy, dx) to (dy, dx, c)."""
    if factor == 1:
        return vector
    C = len(vector) // factor**2
    rest = vector.shape[1:]
    return np.ascontiguousarray(np.moveaxis(vector.reshape(C, factor, factor, *rest), 0, 2).reshape(-1, *rest))


def _fuse_chains(launches: Sequence[Launch], values: dict[str, Value], fusion: Fusion) -> tuple[Launch, ...]:
    readers = Counter(name for launch in launches for name in reads(launch))
    fused: list[Launch] = []
    i = 0
    while i < len(launches):
        run = _run_of_convs(launches[i:], readers)
        take = _stages(run, readers, fusion)
        if take > 1:
            convs = run[:take]
            fused.append(ChainLaunch(convs[0].x, convs[-1].y, tuple(convs)))
            for conv in convs[:-1]:
                del values[conv.y]
        else:
            take = 1
            fused.append(launches[i])
        i += take
    return tuple(fused)


def _run_of_convs(launches: Sequence[Launch], readers: Mapping[str, int]) -> list[ConvLaunch]:
    """Return the plain 3x3 convolutions that follow one another, each the only reader of the one before."""
    run: list[ConvLaunch] = []
    for launch in launches:
        plain = (
            isinstance(launch, ConvLaunch)
            and launch.shape[2:] == (3, 3)
            and launch.epilogue.factor == 1
            and launch.x != PIXELS
            and launch.y != RESULT
            and max(launch.shape[:2]) <= MOST_CHAIN_CHANNELS
        )
        if not plain:
            break
        assert isinstance(launch, ConvLaunch)
        if run and (launch.x != run[-1].y or readers[launch.x] != 1 or run[-1].epilogue.operands):
            break
        run.append(launch)
    return run


def _stages(run: list[ConvLaunch], readers: Mapping[str, int], fusion: Fusion) -> int:
    """Return how many convolutions from the start of the run become one launch."""
    if len(run) < 2:
        return 1
    if fusion.hfab != "off":
        erbs = _hfab_erbs(run)
        if erbs is not None:
            return 4 if fusion.hfab == "whole" and erbs == 1 else 1
        tail = _erbs_before_excite(run)
        if tail is not None:
            return 3 if tail == 1 else 2
    first, second = run[0], run[1]
    square = len({*first.shape[:2], *second.shape[:2]}) == 1
    return 2 if fusion.erb and square and first.epilogue.steps else 1


def _hfab_erbs(run: list[ConvLaunch]) -> int | None:
    """Return the number of ERBs of the HFAB that begins here with its squeeze, or None."""
    squeeze = run[0]
    K, C = squeeze.shape[:2]
    if C <= K:
        return None
    erbs = _erbs_before_excite(run[1:])
    if erbs is None or run[1 + 2 * erbs].epilogue.operands != (squeeze.x,):
        return None
    return erbs


def _erbs_before_excite(run: list[ConvLaunch]) -> int | None:
    """Return the number of ERBs that begin here and end in an excite with a gate, or None."""
    for i, conv in enumerate(run):
        K, C = conv.shape[:2]
        if conv.epilogue.steps[-2:] == ("sigmoid", "mul") and K > C:
            return i // 2 if i and i % 2 == 0 else None
        if K != C:
            return None
    return None
