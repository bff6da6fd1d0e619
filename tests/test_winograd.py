"""Winograd's convolutions: as exact as the promise says, and chosen by the layer alone."""

from __future__ import annotations

import numpy as np
import pytest
from test_engine import LEVELS, NETWORKS, native_model, run, same_bits

from fastsr import _native
from fastsr.graph import reference
from fastsr.graph.builder import GraphBuilder
from fastsr.graph.compiler import assemble
from fastsr.graph.ir import INPUT, Conv
from fastsr.imresize import crop_to_multiple, downscale
from fastsr.io import read_image
from fastsr.metrics import psnr


@pytest.mark.parametrize(("name", "scale"), NETWORKS)
def test_near_float64_and_direct(name, scale, random_image):
    """With the shipped weights, on noise, the worst that an image can be: below 1e-5 of a range of 1."""
    model, native = native_model(name, scale)
    x = random_image(21, 70, 3, "float32")
    exact = reference.run(model.graph(scale, 3), model.tensors, x.transpose(2, 0, 1)).transpose(1, 2, 0)
    fast, direct = (run(native.network(scale, 3, winograd=w), x) for w in (True, False))
    assert not same_bits(fast, direct)  # two algorithms did run
    assert np.abs(fast - exact).max() < 2e-5
    assert np.abs(direct - exact).max() < 2e-5


@pytest.mark.parametrize("name", ["fmen", "srresnet"])
def test_psnr_unchanged(name, data):
    """Mean luma PSNR of Set5, of results before rounding: equal to 0.001 dB."""
    _, native = native_model(name, 4)
    scores = {True: [], False: []}
    for path in sorted((data / "benchmarks" / "Set5").glob("*.png")):
        hr = crop_to_multiple(read_image(path).pixels, 4)
        lr = downscale(hr, 4).astype(np.float32)
        for winograd, found in scores.items():
            sr = run(native.network(4, 3, winograd=winograd), lr, mapping=(1 / 255, 0.0, 255.0, 0.0, 0.0, 0.0))
            found.append(psnr(hr.astype(np.float32), sr, border=4, luma=True, data_range=255))
    assert abs(np.mean(scores[True]) - np.mean(scores[False])) < 0.001


def three_layers(C, K, rng):
    """Values in tiles with every kind of step: C channels, K with two operands, C again."""
    b = GraphBuilder(3)

    def conv(x, channels):
        fan_in = 9 * b.channels[x]
        weight = rng.standard_normal((channels, b.channels[x], 3, 3)) / np.sqrt(fan_in)
        return b.conv(x, weight, rng.standard_normal(channels) * 0.1)

    first = b.prelu(conv(INPUT, C), rng.random(C))
    gate = b.step(conv(first, K), "sigmoid")
    middle = b.add(b.mul(gate, b.step(conv(first, K), "leaky_relu", 0.1)), conv(first, K))
    last = b.step(conv(middle, C), "clip", -1.5, 2.0)
    return assemble("three_layers", [b.finish(conv(last, 11))])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(("channels", "middle"), [(11, 12), (13, 11), (16, 50), (50, 16), (11, 65), (64, 130)])
def test_every_level_on_odd_channels(level, channels, middle, random_image):
    """Register blocks and passes of every remainder, tiled and plain, against float64."""
    rng = np.random.default_rng(channels * middle)
    model = three_layers(channels, middle, rng)
    network = _native.Model(model.to_bytes()).network(1, 3, level)
    assert set(network.algorithms.values()) == {"winograd"}
    for h, w in ((1, 1), (7, 13), (5, 67), (9, 128)):
        x = random_image(h, w, 3, "float32")
        exact = reference.run(model.graph(1, 3), model.tensors, x.transpose(2, 0, 1)).transpose(1, 2, 0)
        assert np.abs(run(network, x) - exact).max() < 2e-5 * max(1, np.abs(exact).max())


def test_layers_are_chosen_whatever_the_image():
    """3x3 in one group with enough channels is Winograd's, and 9x9 with few outputs; the rest is direct."""
    model, native = native_model("srresnet", 4)
    network = native.network(4, 3)
    kernels = {n.name: model.tensors[n.weight].shape for n in model.graph(4, 3).nodes if isinstance(n, Conv)}
    assert {(64, 3, 9, 9), (64, 64, 3, 3), (3, 64, 9, 9)} <= set(kernels.values())
    by_kernel = {(64, 3, 9, 9): "direct", (3, 64, 9, 9): "winograd9"}
    assert network.algorithms == {n: by_kernel.get(k, "winograd") for n, k in kernels.items()}
    assert set(native.network(4, 3, winograd=False).algorithms.values()) == {"direct"}
