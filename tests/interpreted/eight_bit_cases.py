"""int8 and fp8 in Triton's interpreter, beside a twin that rounds the same values in float64: see triton_cases.py."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import fastsr
from benchmarks.gpu import cases, entrants, timing
from fastsr.backends.base import ValueRange
from fastsr.backends.triton import executor
from fastsr.backends.triton.plan import DEFAULT, SINGLE, ResizeLaunch, dense
from fastsr.backends.triton.quantize import LARGEST, plan_of
from fastsr.bench.pictures import synthetic
from fastsr.errors import MemoryBudgetError, OptionError
from fastsr.graph import reference
from fastsr.graph.builder import GraphBuilder
from fastsr.graph.calibrate import MARGIN, calibrate
from fastsr.graph.ir import INPUT, Conv
from fastsr.graph.model import CompiledModel
from tests.interpreted.triton_cases import (
    SHAPES,
    WHOLE,
    chain_graph,
    fused,
    image,
    one_conv,
    poisoned,  # noqa: F401  (a fixture)
    smooth,
    tiny_fmen,
    weights,
)
from tests.random_graphs import random_graph

KINDS = ("int8", "fp8")
# Sums of integers are exact; what is in float32 (scales, biases, sigmoids, sums in fp8) may tip a value to the next
# step where the twin's lies within float32's rounding of the middle between two. So nearly all results agree to
# FLOAT32, and the others are as near as one step leads.
FLOAT32 = 1e-6
TIPPED = 0.01


def calibrated(graph, tensors):
    model = CompiledModel("net", (graph,), tensors)
    return calibrate(model, [image(24, 30, 3 if graph.channels == 3 else 1, seed) for seed in range(3)])


def run(model, x, kind, fusion=DEFAULT):
    """Return the result on x (h, w, C) and the plan; what lies between was poisoned."""
    graph = model.graphs[0]
    plan = plan_of(model, graph, kind, fusion, emulated=True)
    made = executor.Executor(plan, kind, torch.device("cpu"))
    h, w = x.shape[:2]
    window = executor.Window(0, 0, h * graph.scale, w * graph.scale)
    captured = executor.capture(made, (h, w), torch.float32, window, ValueRange(0, 1))
    captured.pixels.copy_(torch.from_numpy(x))
    captured.replay()
    assert not captured.flag.item()
    return captured.result.numpy(), plan


def half(x):
    return x.astype(np.float16).astype(np.float64)


def nearest(q, kind):
    q = np.clip(q, -LARGEST[kind], LARGEST[kind])
    if kind == "int8":
        return np.rint(q)
    return torch.from_numpy(q).float().to(torch.float8_e4m3fn).double().numpy()


def twin(model, x, kind, plan):
    """Evaluate the graph in float64, with values and weights rounded as plan.values says that they are kept."""
    graph, tensors = model.graphs[0], model.tensors
    margin = MARGIN if kind == "int8" else 1
    steps = {
        name: np.abs(tensors[graph.ranges[name]]).max(0).astype(np.float64)[:, None, None] / margin / LARGEST[kind]
        for name, value in plan.values.items()
        if value.kind
    }
    pixels = x.transpose(2, 0, 1).astype(np.float64)
    values = {INPUT: half(pixels) if INPUT in plan.values else pixels}
    for node in graph.nodes:
        inputs, seen = [values[name] for name in node.inputs], dict(tensors)
        if isinstance(node, Conv):
            weight = dense(tensors[node.weight], node.groups).astype(np.float64)
            node = replace(node, groups=1)
            if node.inputs[0] in steps:
                weight = weight * steps[node.inputs[0]][None]
                scale = np.maximum(np.abs(weight).max((1, 2, 3), keepdims=True), 1e-30) / LARGEST[kind]
                weight = nearest(weight / scale, kind) * scale / steps[node.inputs[0]][None]
            else:
                weight, inputs[0] = half(weight), half(inputs[0])
            seen[node.weight] = weight
        value = reference.node_value(node, inputs, seen)
        if node.name in steps:
            value = nearest(value / steps[node.name], kind) * steps[node.name]
        elif node.name in plan.values:
            value = half(value)
        values[node.name] = value
    return values[graph.output].transpose(1, 2, 0)


def check(model, shape, kind, fusion=SINGLE):
    x = image(*shape, model.graphs[0].channels)
    y, plan = run(model, x, kind, fusion)
    off = np.abs(y - twin(model, x, kind, plan)) / max(1, np.abs(y).max())
    assert off.max() <= TIPPED, f"{off.max():.1e}"
    assert np.mean(off > FLOAT32) <= 0.05
    assert off.size < 20 or np.ptp(y) > 0.1
    return plan


@pytest.mark.parametrize(("kind", "shape"), [*(("int8", shape) for shape in SHAPES), ("fp8", (7, 13))])
def test_conv(shape, kind):
    plan = check(calibrated(*fused(*one_conv(50, 50, 3, 3))), shape, kind)
    assert [value.kind for value in plan.values.values()] == [kind, ""]  # the last convolution reads floats


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("C", "K", "kh", "kw", "groups"), [(70, 66, 3, 1, 1), (12, 12, 5, 3, 12), (3, 5, 9, 9, 1)])
def test_conv_of_other_shapes(C, K, kh, kw, groups, kind):
    check(calibrated(*fused(*one_conv(C, K, kh, kw, groups))), (7, 13), kind)


@pytest.mark.parametrize(("kind", "fusion"), [("int8", DEFAULT), ("int8", WHOLE), ("fp8", DEFAULT)])
def test_chains_equal_single_convolutions(kind, fusion):
    model = calibrated(*chain_graph(20, 12, 1))
    x = image(9, 10)
    one, plan = run(model, x, kind, fusion)
    other, single = run(model, x, kind, SINGLE)
    assert len(plan.launches) < len(single.launches)
    assert np.array_equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_erb_and_hfab(kind):
    """A chain, whose values in between are in 8 bits too."""
    plan = check(calibrated(*chain_graph(20, 12, 1)), (7, 9), kind)
    assert [value.kind for value in plan.values.values()].count("") == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_random_graphs(seed, kind):
    check(calibrated(*random_graph(seed, steps=9)), [(7, 5), (1, 6), (5, 1)][seed % 3], kind, DEFAULT)


@pytest.mark.parametrize("kind", KINDS)
def test_from_8_bit_pixels_to_8_bit_pixels(kind):
    """As users call it, beside the same in floats; in bands, whose memory is bounded, to the bit."""
    model = tiny_fmen()
    model = calibrate(model, [smooth(20, 24).astype(np.float32)])
    x = (smooth(7, 8) * 255).astype(np.uint8)
    sr = fastsr.load(model, scale=2, backend="triton", precision=kind)
    y = sr.upscale(x)
    wanted = fastsr.load(model, scale=2, backend="native").upscale(x).astype(int)
    assert psnr(y, wanted) > {"int8": 38, "fp8": 28}[kind]
    with pytest.raises(MemoryBudgetError) as raised:
        fastsr.load(model, scale=2, backend="triton", precision=kind, max_memory=1).upscale(x)
    bound = raised.value.least + 20000
    banded = fastsr.load(model, scale=2, backend="triton", precision=kind, max_memory=bound)
    assert np.array_equal(banded.upscale(x), y)


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9))


def test_memory_is_counted_by_what_values_are_kept_in():
    model = calibrated(*chain_graph(20, 12, 1))
    taken = {}
    for kind in ("fp16", "int8"):
        made = executor.Executor(plan_of(model, model.graphs[0], kind), kind, torch.device("cpu"))
        buffers = made.buffers(9, 7)
        tensors = (*buffers.slots, *buffers.slabs.values(), buffers.flag)
        taken[kind] = sum(t.numel() * t.element_size() for t in tensors)
        assert taken[kind] == made.buffer_bytes(9, 7)
    assert {t.dtype for t in buffers.slots} == {torch.int8, torch.float16}
    assert taken["int8"] < 0.7 * taken["fp16"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_without_ranges_is_refused(kind):
    with pytest.raises(OptionError, match=rf"tiny x2 has no ranges for {kind}; fastsr quantize"):
        fastsr.load(tiny_fmen(), scale=2, backend="triton", precision=kind)
    b = GraphBuilder(3)
    eye = np.eye(3)[:, :, None, None]
    model = calibrated(*b.finish(b.conv(b.conv(INPUT, eye * 1e5), eye)))
    with pytest.raises(OptionError, match="fp16, which ends at 65504; the largest is 100000"):
        plan_of(model, model.graphs[0], kind)


@pytest.mark.parametrize("kind", KINDS)
def test_values_that_a_resize_reads_or_writes_stay_in_floats(kind):
    rng = np.random.default_rng(7)
    b = GraphBuilder(3)
    x = b.conv(INPUT, weights(rng, 6, 3, 3, 3))
    y = b.conv(b.resize(x, 2, "nearest"), weights(rng, 3, 6, 3, 3))
    plan = check(
        calibrated(*b.finish(b.add(y, b.resize(b.conv(x, weights(rng, 3, 6, 1, 1)), 2, "bicubic")))), (3, 7), kind
    )
    assert {type(x) for x in plan.launches} >= {ResizeLaunch}
    assert {value.kind for value in plan.values.values()} == {""}


@pytest.mark.parametrize("kind", KINDS)
def test_the_script_for_gpus_runs_them(kind, monkeypatch):
    model = calibrate(tiny_fmen(), [smooth(20, 24).astype(np.float32)])
    monkeypatch.setattr(entrants, "open_model", lambda name, scale: model)
    (entrant,) = (e for e in entrants.ENTRANTS if e.name == cases.EIGHT_BITS[kind])
    ready = entrant.make(cases.Case("small", "tiny", 2, 4, 5), timing.Dry())
    ready.run()
    wanted = fastsr.load(model, scale=2, backend="native").upscale(synthetic(4, 5)) / 255
    assert 1e-3 < np.abs(ready.result() - wanted).max() < 0.2
    assert ready.held == 4 * 5 * 3 * (1 + 4)
