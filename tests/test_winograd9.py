"""9x9 layers with few outputs, alone and behind pixel shuffles: near float64, the same bits for everything."""

from __future__ import annotations

import numpy as np
import pytest
from test_engine import INTEGER_LEVELS, run, same_bits

from fastsr import _native
from fastsr.graph import reference
from fastsr.graph.builder import GraphBuilder
from fastsr.graph.calibrate import calibrate
from fastsr.graph.compiler import assemble
from fastsr.graph.ir import INPUT

SHAPES = [(1, 1), (1, 29), (31, 1), (7, 13), (5, 67), (9, 128), (23, 50)]


def network_with(factor, channels, outputs, seed=0):
    """Return 3x3 layers, a pixel shuffle (factor > 1), a 9x9 layer and steps, one of which reads a bicubic skip."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(3)

    def conv(x, K, size):
        weight = rng.standard_normal((K, b.channels[x], size, size)) / (size * np.sqrt(b.channels[x]))
        return b.conv(x, weight, 0.1 * rng.standard_normal(K))

    x = b.step(conv(INPUT, 11, 3), "relu")
    x = b.step(conv(x, channels * factor**2, 3), "leaky_relu", 0.1)
    x = b.pixel_shuffle(x, factor) if factor > 1 else x
    x = conv(x, outputs, 9)
    skip = conv(b.resize(INPUT, factor, "bicubic") if factor > 1 else INPUT, outputs, 1)
    y = b.step(b.add(x, skip), "clip", -1.0, 1.0)
    y = conv(y, 3, 1)
    return calibrate(assemble("parts", [b.finish(y)]), [rng.random((20, 40, 3), dtype=np.float32)])


CASES = [(1, 4, 3, {}), (2, 5, 3, {"winograd9_int"}), (2, 64, 1, {"winograd9_int"}), (3, 4, 4, {}), (4, 6, 2, {})]


@pytest.mark.parametrize(("factor", "channels", "outputs", "in_integers"), CASES)
@pytest.mark.parametrize("integers", [False, True], ids=["fp32", "int8"])
def test_near_float64_and_same_bits(factor, channels, outputs, in_integers, integers, random_image):
    model = network_with(factor, channels, outputs)
    native, graph = _native.Model(model.to_bytes()), model.graph(factor, 3)
    networks = [native.network(factor, 3, level, integers=integers) for level in INTEGER_LEVELS]
    used = set(networks[0].algorithms.values())
    assert used >= ((set(in_integers) or {"winograd9"}) if integers else {"winograd9", "winograd"})
    for h, w in SHAPES:
        x = random_image(h, w, 3, "float32")
        wanted = run(networks[0], x)
        exact = reference.run(graph, model.tensors, x.transpose(2, 0, 1)).transpose(1, 2, 0)
        assert np.abs(wanted - exact).max() < (0.04 if integers else 1e-5)
        for i, network in enumerate(networks):
            assert same_bits(run(network, x, threads=1 + i % 3, strip=1 + 3 * i), wanted)


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("integers", [False, True], ids=["fp32", "int8"])
def test_regions_and_panels_are_the_crop_of_the_whole(factor, integers, random_image):
    """Boxes that begin anywhere in a tile of 3 and in one of 4."""
    model = network_with(factor, 5, 3, seed=1)
    network = _native.Model(model.to_bytes()).network(factor, 3, integers=integers)
    h, w = 40, 190
    x = random_image(h, w, 3, "float32")
    wanted = run(network, x)
    for left, top, right, bottom in [(0, 0, 1, 1), (65, 7, 71, 20), (64, 11, 129, 12), (130, 39, 190, 40)]:
        box = (left, top, right, bottom)
        reads = network.reads(h, w, box)
        part = np.ascontiguousarray(x[reads[1] : reads[3], reads[0] : reads[2]])
        crop = np.ascontiguousarray(wanted[top * factor : bottom * factor, left * factor : right * factor])
        assert same_bits(run(network, part, box=box, origin=(reads[1], reads[0]), shape=(h, w)), crop)
    full = network.plan(h, w, (0, 0, w, h), _native.Options(strip=1, threads=1))
    budget = full["memory"] * 7 // 8
    assert network.plan(h, w, (0, 0, w, h), _native.Options(max_memory=budget, threads=1))["panels"] > 1
    assert same_bits(run(network, x, max_memory=budget, threads=1), wanted)
