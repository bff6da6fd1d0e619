"""bf16: what strips, threads and regions promise holds, and results are as near as rounding to bf16 allows."""

from __future__ import annotations

import numpy as np
import pytest
from test_engine import ALL_LEVELS, native_model, run, same_bits
from test_int8 import mixed_graph

import fastsr
from fastsr import _native, evaluation
from fastsr.errors import OptionError
from fastsr.graph import reference
from fastsr.graph.builder import GraphBuilder
from fastsr.graph.compiler import assemble
from fastsr.graph.ir import INPUT, Conv
from fastsr.metrics import psnr

NETWORKS = [("fmen", 4), ("vdsr", 2), ("srresnet", 4)]


def rounded(x):
    """Return float64 values rounded to 8 bits of mantissa, half to even."""
    mantissa, exponent = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(mantissa, 8)), exponent - 8)


def twin(model, graph, algorithms, x):
    """The slow twin: float64, but weights and inputs of bf16 convolutions are rounded; x: (C, H, W)."""
    read = {n.inputs[0] for n in graph.nodes if isinstance(n, Conv) and algorithms[n.name] == "direct_bf16"}
    results = {INPUT: x}
    for node in graph.nodes:
        tensors = dict(model.tensors)
        if isinstance(node, Conv) and algorithms[node.name] == "direct_bf16":
            tensors[node.weight] = rounded(tensors[node.weight].astype(np.float64))
        value = reference.node_value(node, [results[name] for name in node.inputs], tensors)
        results[node.name] = rounded(value) if node.name in read else value
    return results[graph.output]


@pytest.mark.parametrize("level", ALL_LEVELS)
@pytest.mark.parametrize(("name", "scale"), NETWORKS)
def test_as_near_as_the_twin_at_every_level(name, scale, level, random_image):
    model, native = native_model(name, scale)
    graph, network = model.graph(scale, 3), native.network(scale, 3, level, bf16=True)
    assert list(network.algorithms.values()).count("direct_bf16") > 8
    x = 0.3 + 0.4 * fastsr.upscale(random_image(3, 5, 3, "float32"), "bicubic", scale=3)  # smooth, as images are
    planes = x.transpose(2, 0, 1).astype(np.float64)
    exact = reference.run(graph, model.tensors, planes)
    error, least = (
        float(np.sqrt(np.mean((y - exact) ** 2)))
        for y in (run(network, x).transpose(2, 0, 1), twin(model, graph, network.algorithms, planes))
    )
    assert 0.6 * least < error < 1.4 * least < 4e-3


@pytest.mark.parametrize(("name", "scale"), NETWORKS)
@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 29), (31, 1), (7, 13), (17, 67), (5, 211)])
def test_same_bits_for_threads_and_strips(name, scale, h, w, random_image):
    _, native = native_model(name, scale)
    network = native.network(scale, 3, bf16=True)
    x = random_image(h, w, 3, "float32")
    wanted = run(network, x, threads=1, strip=h)
    for threads, strip in ((1, 3), (2, 1), (4, 8)):
        assert same_bits(run(network, x, threads=threads, strip=strip), wanted), (threads, strip)


@pytest.mark.parametrize(("name", "scale"), NETWORKS)
def test_regions_and_panels_are_the_crop_of_the_whole(name, scale, random_image):
    _, native = native_model(name, scale)
    network = native.network(scale, 3, bf16=True)
    h, w = 41, 83
    x = random_image(h, w, 3, "float32")
    whole = run(network, x)
    for box in [(0, 0, 1, 1), (82, 40, 83, 41), (40, 30, 41, 31), (5, 7, 60, 39)]:
        crop = np.ascontiguousarray(whole[box[1] * scale : box[3] * scale, box[0] * scale : box[2] * scale])
        reads = network.reads(h, w, box)
        part = x[reads[1] : reads[3], reads[0] : reads[2]]
        assert same_bits(run(network, part, box=box, origin=(reads[1], reads[0]), shape=(h, w)), crop), box
    full = network.plan(h, w, (0, 0, w, h), _native.Options(strip=1, threads=1))
    budget = full["memory"] * 9 // 10
    assert network.plan(h, w, (0, 0, w, h), _native.Options(max_memory=budget, threads=1))["panels"] > 1
    assert same_bits(run(network, x, max_memory=budget, threads=1), whole)


@pytest.mark.parametrize("seed", [0, 1, *range(3, 17)])  # 2 has no layer behind another
def test_random_graphs(seed, random_image):
    """Near float64, and regions as the whole, whoever reads a value in whatever layout."""
    model = mixed_graph(seed)
    network = _native.Model(model.to_bytes()).network(1, 3, bf16=True)
    assert "direct_bf16" in network.algorithms.values()
    x = random_image(13, 70, 3, "float32")
    whole = run(network, x, threads=2, strip=1 + seed % 5)
    exact = reference.run(model.graph(1, 3), model.tensors, x.transpose(2, 0, 1)).transpose(1, 2, 0)
    assert np.abs(whole - exact).max() < 0.03 * max(1.0, np.abs(exact).max())
    box, reads = (33, 4, 50, 9), network.reads(13, 70, (33, 4, 50, 9))
    part = x[reads[1] : reads[3], reads[0] : reads[2]]
    crop = np.ascontiguousarray(whole[4:9, 33:50])
    assert same_bits(run(network, part, box=box, origin=(reads[1], reads[0]), shape=(13, 70)), crop)


def test_a_value_that_is_an_operand_only(random_image):
    """The second layer is read by nobody but the third one's addition; the image is mixed by a 1x1 layer first."""
    rng = np.random.default_rng(0)
    b = GraphBuilder(3)

    def conv(x, K, size=3):
        return b.conv(x, rng.standard_normal((K, b.channels[x], size, size)) / (size * np.sqrt(b.channels[x])))

    image = conv(INPUT, 3, 1)
    p, q = conv(image, 12), conv(image, 12)
    model = assemble("operand", [b.finish(conv(b.add(conv(p, 12), q), 3))])
    network = _native.Model(model.to_bytes()).network(1, 3, bf16=True)
    assert list(network.algorithms.values()) == ["direct", "winograd", "winograd", "direct_bf16", "direct_bf16"]
    x = random_image(13, 70, 3, "float32")
    exact = reference.run(model.graph(1, 3), model.tensors, x.transpose(2, 0, 1)).transpose(1, 2, 0)
    assert np.abs(run(network, x) - exact).max() < 0.02


@pytest.mark.parametrize(("name", "scale"), [("fmen", 4), ("srresnet", 4)])
def test_little_psnr_is_lost(name, scale, data):
    folder = data / "benchmarks" / "Set5"
    scores = {}
    for precision in ("fp32", "bf16"):
        sr = fastsr.load(name, scale=scale, backend="native", precision=precision)
        scores[precision] = evaluation.mean(evaluation.evaluate(sr.upscale, scale, evaluation.references(folder)))
    assert scores["bf16"] != scores["fp32"]
    assert scores["fp32"]["psnr"] - scores["bf16"]["psnr"] < 0.02


def test_what_users_see(random_image):
    x = fastsr.upscale(random_image(4, 5, 3), "bicubic", scale=3) // 2 + 60
    fp32, bf16 = (fastsr.load("fmen", backend="native", precision=p) for p in ("fp32", "bf16"))
    assert bf16.precision == "bf16"
    assert 40 < psnr(fp32.upscale(x), bf16.upscale(x)) < 80
    with pytest.raises(OptionError, match="cannot run in bf16"):
        fastsr.load("bicubic", backend="native", precision="bf16").upscale(x)
