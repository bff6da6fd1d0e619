"""The graph: what is valid, that JSON holds all of it, and that every evaluator agrees with the reference."""

from __future__ import annotations

import contextlib
import copy
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from random_graphs import random_graph

from fastsr.errors import FastSRError, GraphError, OptionError, ShapeError
from fastsr.graph import reference
from fastsr.graph.builder import GraphBuilder
from fastsr.graph.compiler import compile_model
from fastsr.graph.ir import (
    INPUT,
    Conv,
    Graph,
    PixelShuffle,
    Pointwise,
    Step,
    check,
    from_json,
    halo,
    scale_of,
    to_json,
)
from fastsr.graph.passes import optimize

SIZES = [(1, 1), (1, 5), (7, 13)]


def small():
    b = GraphBuilder(3)
    x = b.conv(INPUT, np.ones((4, 3, 3, 5)), np.ones(4), name="head")
    return b.finish(b.pixel_shuffle(b.step(x, "clip", 0, 1, name="act"), 2, name="up"))


def test_importing_fastsr_graph_needs_numpy_alone():
    code = "import fastsr.graph.compiler, sys; assert not {'torch', 'onnx', 'onnxruntime'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("seed", range(60))
def test_json_round_trip(seed):
    graph, tensors = random_graph(seed)
    for g in (graph, optimize(graph, tensors)[0]):
        assert from_json(json.loads(json.dumps(to_json(g)))) == g


@pytest.mark.parametrize("seed", range(40))
def test_damaged_json_gives_a_graph_error_or_a_graph(seed):
    """Replace one random place of the JSON by something else: never anything but a GraphError."""
    rng = np.random.default_rng(seed)
    graph, tensors = random_graph(seed)
    for _ in range(25):
        data = to_json(graph)
        place, key = data, "nodes"
        while isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.9:
            place = place[key]
            key = str(rng.choice(list(place))) if isinstance(place, dict) else int(rng.integers(len(place)))
        junk = [None, -1, 0, 10**400, 1.5, float("nan"), "x", "", [], {}, True, [1], "input", 2**70]
        place[key] = copy.deepcopy(junk[rng.integers(len(junk))])
        with contextlib.suppress(GraphError):
            check(from_json(data), tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: replace(g, scale=3), "scale 2, the graph says"),
        (lambda g: replace(g, out_channels=4), "the graph says 4"),
        (lambda g: replace(g, output="gone"), "'gone' is no node"),
        (lambda g: replace(g, output=INPUT), "'input' is no node"),
        (lambda g: replace(g, nodes=()), "1 to 4096 nodes"),
        (lambda g: replace(g, nodes=g.nodes[::-1]), "not computed before"),
        (lambda g: replace(g, nodes=(g.nodes[0], *g.nodes)), "empty or taken"),
        (lambda g: replace(g, channels=4), r"does not fit 4 channels"),
        (lambda g: replace(g, nodes=(*g.nodes[:2], replace(g.nodes[2], factor=3))), "no multiple of 3"),
        (lambda g: replace(g, nodes=(*g.nodes[:2], replace(g.nodes[2], factor=0))), "factor 0"),
        (lambda g: replace(g, nodes=(replace(g.nodes[0], weight="w"), *g.nodes[1:])), "'w', which does not exist"),
        (lambda g: replace(g, nodes=(replace(g.nodes[0], bias="head.weight"), *g.nodes[1:])), "bias"),
    ],
)
def test_contradictions_are_named(change, message):
    graph, tensors = small()
    with pytest.raises(GraphError, match=message):
        check(change(graph), tensors)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((Step("clip", (0.0,)),), "2 numbers"),
        ((Step("clip", (0.0, float("inf"))),), "not finite"),
        ((Step("add", input=1),), "input 1 of 1"),
        ((Step("prelu", tensors=("head.bias",)),), r"\(3,\) is needed"),
    ],
)
def test_contradictory_steps_are_named(steps, message):
    _, tensors = small()
    graph = Graph(1, 3, 3, (Pointwise("act", (INPUT,), steps),), "act")
    with pytest.raises(GraphError, match=message):
        check(graph, tensors)


def test_halo_and_scale():
    graph, tensors = small()
    assert [halo(node, tensors) for node in graph.nodes] == [(1, 2), (0, 0), (0, 0)]
    assert [scale_of(node) for node in graph.nodes] == [1, 1, 2]


def test_reference_convolution_by_hand():
    x = np.arange(12.0).reshape(1, 3, 4)
    b = GraphBuilder(1)
    w = np.arange(9.0).reshape(1, 1, 3, 3)
    y = reference.run(*b.finish(b.conv(INPUT, w, [0.5])), x)
    padded = np.pad(x[0], 1)
    assert y[0, 0, 0] == (w[0, 0] * padded[:3, :3]).sum() + 0.5
    assert y[0, 2, 3] == (w[0, 0] * padded[2:5, 3:6]).sum() + 0.5


def test_reference_pixel_shuffle_by_hand():
    graph = Graph(2, 4, 1, (PixelShuffle("up", (INPUT,), 2),), "up")
    y = reference.run(graph, {}, np.arange(4.0).reshape(4, 1, 1))
    assert (y == [[[0, 1], [2, 3]]]).all()


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_reproduces_a_ramp(factor):
    """Keys' kernel with a = -0.5 is exact on straight lines, away from the border."""
    b = GraphBuilder(1)
    graph, tensors = b.finish(b.resize(INPUT, factor, "bicubic"))
    y = reference.run(graph, tensors, np.arange(10.0).reshape(1, 1, 10))[0, 0]
    expected = (np.arange(10 * factor) + 0.5) / factor - 0.5
    assert np.allclose(y[2 * factor : -2 * factor], expected[2 * factor : -2 * factor])


@pytest.mark.parametrize("shape", [(3, 0, 4), (1, 4, 4), (4, 4)])
def test_reference_refuses_other_images(shape):
    with pytest.raises(ShapeError, match=r"\(3, H, W\) is needed"):
        reference.run(*small(), np.zeros(shape))


@pytest.mark.parametrize("source", [3, None, "model.pt", b"bytes"])
def test_what_cannot_be_compiled_is_named(source):
    with pytest.raises(OptionError, match=r"\.onnx"):
        compile_model(source)


def runner(kind):
    if kind == "torch":
        pytest.importorskip("torch", reason="needs PyTorch")
        from fastsr.backends.torch_ref import TorchRunner

        return TorchRunner
    pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")
    pytest.importorskip("onnx", reason="needs onnx")
    from fastsr.backends.onnx_rt import OnnxRunner

    return OnnxRunner


@pytest.mark.parametrize("kind", ["torch", "onnx"])
@pytest.mark.parametrize("seed", range(40))
def test_runners_equal_the_reference(kind, seed):
    built = optimize(*random_graph(seed)) if seed % 2 else random_graph(seed)
    run = runner(kind)(*built, threads=1).run
    for H, W in SIZES:
        x = np.random.default_rng(seed).random((3, H, W), np.float32)
        expected = reference.run(*built, x)
        y = run(x)
        assert y.dtype == np.float32
        assert y.shape == expected.shape
        assert np.abs(y - expected).max() <= 1e-5 * max(np.abs(expected).max(), 1)


@pytest.mark.parametrize("kind", ["torch", "onnx"])
@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("factor", [2, 3, 4, 5, 8])
def test_resize_is_right_at_the_border(kind, mode, factor):
    b = GraphBuilder(2)
    built = b.finish(b.resize(INPUT, factor, mode, -0.6))
    run = runner(kind)(*built, threads=1).run
    for H, W in [(1, 1), (1, 2), (2, 3), (5, 4)]:
        x = np.random.default_rng(H).random((2, H, W), np.float32)
        assert np.abs(run(x) - reference.run(*built, x)).max() <= 1e-5


@pytest.mark.parametrize("kind", ["torch", "onnx"])
def test_runners_refuse_other_images_and_threads(kind):
    make = runner(kind)
    with pytest.raises(ShapeError, match=r"\(3, H, W\) is needed"):
        make(*small()).run(np.zeros((1, 4, 4), np.float32))
    with pytest.raises(OptionError, match="threads is 0"):
        make(*small(), threads=0)


@pytest.mark.parametrize("kind", ["torch_ref", "onnx_rt"])
def test_missing_packages_are_named(kind, monkeypatch):
    import importlib

    module = importlib.import_module(f"fastsr.backends.{kind}")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    reason = module.why_unavailable()
    assert "pip install 'fastsr[" in reason
    make = module.TorchRunner if kind == "torch_ref" else module.OnnxRunner
    with pytest.raises(FastSRError, match="not installed"):
        make(*small())


def test_conv_is_a_plain_record():
    assert Conv("c", (INPUT,), "w") == Conv("c", (INPUT,), "w", None, 1, ())
