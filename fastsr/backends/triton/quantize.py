"""From a plan in floats to one in int8 or fp8 (e4m3): no GPU, PyTorch or Triton needed.

A value is kept in 8 bits where the model knows the range of its channels (`Graph.ranges`) and convolutions read it.
Everything else stays in fp16: what reads the image, and what makes the result, whose rounding nothing evens out. Each
channel has a step of its own: value = step[c] * q. The weights that read channel c are multiplied by step[c] before
they are rounded, with one scale for each output channel, so the steps cost nothing. What happens outside a sum of
products is made of the epilogue's usual steps:

    behind a sum            affine(scale, bias)
    before an 8-bit store   affine(1 / step, 0), clip, and for int8 round
    an 8-bit operand        affine(1 / step, 0), add, affine(step, 0), which is x + step * q; and mul, affine(step, 0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.backends.triton.plan import (
    DEFAULT,
    RESULT,
    ChainLaunch,
    ConvLaunch,
    Epilogue,
    Fusion,
    Launch,
    Plan,
    PointwiseLaunch,
    ResizeLaunch,
    assign_slots,
    lower,
    shuffled,
)
from fastsr.errors import OptionError
from fastsr.graph.calibrate import CARD
from fastsr.graph.ir import Array, Graph
from fastsr.graph.model import CompiledModel

LARGEST = {"int8": 127.0, "fp8": 448.0}
FLOATS = "fp16"  # what a plan of these precisions computes in where it has no 8 bits
_FLOATS_MAX = float(np.finfo(np.float16).max)
_LEAST_STEP = 1e-12  # of a channel that is always zero
_VECTORS = {"prelu": 1, "affine": 2, "clip": 2}

Steps = Mapping[str, Array]  # value -> (C,)
Op = tuple[str, tuple[Array, ...], str]  # a step, its vectors, its operand or ""


def plan_of(
    model: CompiledModel, graph: Graph, precision: str, fusion: Fusion = DEFAULT, *, emulated: bool = False
) -> Plan:
    """Return the launches of one of the model's graphs in this precision. emulated: for the interpreter.

    Raises GraphError for a graph that cannot run, OptionError where 8 bits need ranges that the model doesn't have.
    """
    plan = lower(graph, model.tensors, fusion)
    return quantized(plan, model, precision, emulated) if precision in LARGEST else plan


def quantized(plan: Plan, model: CompiledModel, kind: str, emulated: bool = False) -> Plan:
    """Return the plan with 8-bit values and weights; see above. Raises OptionError for a model without ranges.

    Whole numbers are too coarse for the margin that `fastsr quantize` puts around what it saw, so int8 takes it off
    again; floats lose nothing by it.
    """
    graph = plan.graph
    if not graph.ranges:
        raise OptionError(f"{model.name} x{graph.scale} has no ranges for {kind}; fastsr quantize finds them on images")
    margin = float(model.card.get(CARD, {}).get("margin", 1.0)) if kind == "int8" else 1.0
    known = {
        value: np.maximum(np.abs(model.tensors[name]).max(0) / np.float32(margin * LARGEST[kind]), _LEAST_STEP)
        for value, name in graph.ranges.items()
    }
    kept = _in_8_bits(plan, known)
    rounding = {"int8": "round", "fp8": "round_e4m3" if emulated else ""}[kind]  # storing fp8 rounds, on a GPU
    rewriting = _Rewriting({name: known[name] for name in kept}, known, kind, rounding)
    launches = tuple(rewriting.launch(launch) for launch in plan.launches)
    values = {name: replace(value, kind=kind if name in kept else "") for name, value in plan.values.items()}
    slots, widths = assign_slots(launches, values)
    return Plan(graph, launches, values, slots, widths)


def _in_8_bits(plan: Plan, known: Steps) -> set[str]:
    """Return the values that convolutions read, and nothing that needs them in floats."""
    wanted: set[str] = set()
    refused: set[str] = set()
    for launch in plan.launches:
        if isinstance(launch, ResizeLaunch):
            refused |= {launch.x, launch.y}
        elif isinstance(launch, (ConvLaunch, ChainLaunch)):
            between = launch.convs[:-1] if isinstance(launch, ChainLaunch) else ()
            can = launch.y != RESULT and all(conv.y in known for conv in between)
            (wanted if can else refused).add(launch.x)
    return (wanted - refused) & known.keys() & plan.values.keys()


class _Rewriting:
    """steps: of the values in 8 bits; known: also of those between the convolutions of a chain.

    rounding: the epilogue's last step before an 8-bit store, or "".
    """

    def __init__(self, steps: Steps, known: Steps, kind: str, rounding: str) -> None:
        self.steps = steps
        self.known = known
        self.kind = kind
        self.rounding = rounding

    def launch(self, launch: Launch) -> Launch:
        if isinstance(launch, ResizeLaunch):
            return launch
        if isinstance(launch, PointwiseLaunch):
            return self._pointwise(launch)
        if isinstance(launch, ConvLaunch):
            return self._conv(launch, self.steps.get(launch.x), self.steps.get(launch.y))
        between = self.known if launch.x in self.steps else {}
        convs = []
        for i, conv in enumerate(launch.convs):
            read = self.steps.get(conv.x) if i == 0 else between.get(conv.x)
            written = self.steps.get(conv.y) if i == len(launch.convs) - 1 else between.get(conv.y)
            convs.append(self._conv(conv, read, written))
        return replace(launch, convs=tuple(convs))

    def _conv(self, launch: ConvLaunch, read: Array | None, written: Array | None) -> ConvLaunch:
        K, factor = len(launch.weight), launch.epilogue.factor
        weight, bias, before = launch.weight, launch.bias, []
        if read is None:
            if np.abs(weight).max(initial=0) > _FLOATS_MAX:
                raise OptionError(
                    f"{self.kind} keeps the weights that make {launch.y} in fp16, which ends at {_FLOATS_MAX:g}; "
                    f"the largest is {np.abs(weight).max():g}: precision 'fp32' can do it"
                )
        else:
            weight = weight * read[None, :, None, None]
            largest = np.abs(weight).reshape(K, -1).max(1)
            scale = np.maximum(largest / LARGEST[self.kind], np.float32(1e-30)).astype(np.float32)
            weight = weight / scale[:, None, None, None]
            if self.kind == "int8":
                weight = np.rint(weight)
            before = [("affine", (shuffled(scale, factor), shuffled(bias, factor)), "")]
            bias = np.zeros(K, np.float32)
        repeated = None if written is None else np.tile(written, factor**2)
        epilogue = self._epilogue(launch.epilogue, before, repeated)
        return replace(launch, weight=weight.astype(np.float32), bias=bias, epilogue=epilogue)

    def _pointwise(self, launch: PointwiseLaunch) -> PointwiseLaunch:
        factor, before = launch.epilogue.factor, []
        if launch.x in self.steps:
            read = self.steps[launch.x][launch.first : launch.first + launch.channels]
            before = [_times(shuffled(read, factor))]
        written = self.steps.get(launch.y)
        if written is not None:
            C = launch.channels // factor**2
            written = np.tile(written[launch.into : launch.into + C], factor**2)
        return replace(launch, epilogue=self._epilogue(launch.epilogue, before, written))

    def _epilogue(self, epilogue: Epilogue, before: Sequence[Op], written: Array | None) -> Epilogue:
        """Return the epilogue between `before` and a store; written: the steps (K,) of what is stored, or None."""
        ops = list(before)
        for op in _ops(epilogue):
            name, _, operand = op
            if operand not in self.steps:
                ops.append(op)
                continue
            step, factor = self.steps[operand], epilogue.factor
            step = np.tile(step, factor**2) if name.endswith("_after") else shuffled(step, factor)
            ops += [_times(1 / step)] if name.startswith("add") else []
            ops += [op, _times(step)]
        if written is not None:
            most = np.full(len(written), LARGEST[self.kind], np.float32)
            ops += [_times(1 / written), ("clip", (-most, most), "")]
            ops += [(self.rounding, (), "")] if self.rounding else []
        return _as_epilogue(ops, epilogue.factor)


def _times(vector: npt.NDArray[Any]) -> Op:
    return "affine", (vector.astype(np.float32), np.zeros(len(vector), np.float32)), ""


def _ops(epilogue: Epilogue) -> list[Op]:
    found: list[Op] = []
    for name, argument in zip(epilogue.steps, epilogue.arguments, strict=True):
        if name.startswith(("add", "mul")):
            found.append((name, (), epilogue.operands[argument]))
        else:
            found.append((name, epilogue.vectors[argument : argument + _VECTORS.get(name, 0)], ""))
    return found


def _as_epilogue(ops: Sequence[Op], factor: int) -> Epilogue:
    arguments: list[int] = []
    vectors: list[Array] = []
    operands: list[str] = []
    for _, mine, operand in ops:
        if operand and operand not in operands:
            operands.append(operand)
        arguments.append(operands.index(operand) if operand else len(vectors))
        vectors += mine
    return Epilogue(tuple(name for name, _, _ in ops), tuple(arguments), tuple(vectors), tuple(operands), factor)
