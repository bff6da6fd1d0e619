"""The compiler's passes change how a network is computed and never what it computes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from random_graphs import random_graph

from fastsr.errors import OptionError
from fastsr.graph import passes, reference
from fastsr.graph.builder import GraphBuilder
from fastsr.graph.grey import LUMA, to_grey
from fastsr.graph.ir import INPUT, check

RNG = np.random.default_rng(1)


def normal(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def image(graph, seed=0, H=5, W=7):
    return np.random.default_rng(seed).random((graph.channels, H, W))


def assert_equal_networks(before, after, tolerance=1e-5):
    check(*after)
    x = image(before[0])
    expected = reference.run(*before, x)
    assert np.abs(reference.run(*after, x) - expected).max() <= tolerance * max(np.abs(expected).max(), 1)


def ops(graph):
    return [(node.op, *(step.op for step in getattr(node, "steps", ()))) for node in graph.nodes]


@pytest.mark.parametrize("seed", range(120))
def test_random_networks_survive_every_pass(seed):
    built = random_graph(seed)
    for rewrite in passes.PASSES:
        assert_equal_networks(built, rewrite(*built))
    optimized = passes.optimize(*built)
    assert_equal_networks(built, optimized)
    assert len(optimized[0].nodes) <= len(built[0].nodes)
    assert passes.optimize(*optimized)[0] == optimized[0]


@pytest.mark.parametrize("seed", range(120))
def test_grey_form_of_random_networks(seed):
    built = random_graph(seed)
    grey = to_grey(*built)
    check(*grey)
    g = image(grey[0])
    expected = np.tensordot(LUMA, reference.run(*built, np.repeat(g, 3, 0)), 1)
    limit = 1e-6 * max(np.abs(expected).max(), 1)
    assert np.abs(reference.run(*grey, g)[0] - expected).max() <= limit
    assert np.abs(reference.run(*passes.optimize(*grey), g)[0] - expected).max() <= 5 * limit


def ends(value):
    return np.stack([value.min((1, 2)), value.max((1, 2))]).astype(np.float32)


@pytest.mark.parametrize("seed", range(40))
def test_ranges_stay_with_their_values(seed):
    graph, tensors = random_graph(seed)
    g = image(graph, seed)[:1]
    ranges = {}
    for name, value in reference.values(graph, tensors, np.repeat(g, 3, 0)):
        if name != graph.output:
            ranges[name] = f"{name}.ranges"
            tensors[ranges[name]] = ends(value)
    built = replace(graph, ranges=ranges), tensors
    passed = [rewrite(*built) for rewrite in passes.PASSES]
    for after in [*passed, passes.optimize(*built), to_grey(*built), passes.optimize(*to_grey(*built))]:
        check(*after)
        x = g if after[0].channels == 1 else np.repeat(g, 3, 0)
        found = dict(reference.values(*after, x))
        for name, tensor in after[0].ranges.items():
            limit = 1e-5 * max(np.abs(found[name]).max(), 1)
            assert np.abs(after[1][tensor] - ends(found[name])).max() <= limit, name
    fused = passes.optimize(*built)[0]
    assert len(fused.ranges) >= (len(fused.nodes) - 1) // 2  # most of what is left


@pytest.mark.parametrize(("channels_in", "channels_out"), [(1, 3), (3, 1)])
def test_grey_form_needs_colour(channels_in, channels_out):
    b = GraphBuilder(channels_in)
    built = b.finish(b.conv(INPUT, normal(channels_out, channels_in, 3, 3)))
    with pytest.raises(OptionError, match=f"{channels_in} channels in, {channels_out} out"):
        to_grey(*built)


def test_grey_form_costs_nothing_for_a_plain_network():
    b = GraphBuilder(3)
    y = b.step(b.conv(INPUT, normal(8, 3, 3, 3), normal(8)), "relu")
    y = b.pixel_shuffle(b.conv(y, normal(12, 8, 3, 3), normal(12)), 2)
    graph, tensors = to_grey(*b.finish(b.add(y, b.resize(INPUT, 2, "bicubic"))))
    assert [n.op for n in graph.nodes if n.op == "conv"] == ["conv", "conv"]
    assert {tensors[n.weight].shape for n in graph.nodes if n.op == "conv"} == {(8, 1, 3, 3), (4, 8, 3, 3)}


def test_grey_form_mixes_behind_a_clip():
    b = GraphBuilder(3)
    built = b.finish(b.step(b.conv(INPUT, normal(3, 3, 3, 3)), "clip", 0, 1))
    graph, tensors = to_grey(*built)
    assert tensors[graph.node(graph.output).weight].shape == (1, 3, 1, 1)


def test_dead_nodes_go():
    b = GraphBuilder(2)
    b.step(INPUT, "tanh")
    graph, _ = passes.remove_dead_nodes(*b.finish(b.step(INPUT, "relu")))
    assert ops(graph) == [("pointwise", "relu")]


def test_identities_go():
    b = GraphBuilder(2)
    y = b.conv(b.concat(b.affine(b.slice(INPUT, 0, 2))), normal(2, 2, 1, 1))
    graph, _ = passes.remove_identities(*b.finish(b.pixel_shuffle(b.step(y, "leaky_relu", 1.0), 1)))
    assert ops(graph) == [("conv",)]
    assert graph.output == graph.nodes[0].name


def test_network_that_does_nothing_keeps_one_node():
    b = GraphBuilder(2)
    built = b.finish(b.affine(INPUT))
    graph, _ = passes.optimize(*built)
    assert len(graph.nodes) == 1
    assert_equal_networks(built, passes.optimize(*built))


def test_attention_fuses_into_its_last_convolution():
    b = GraphBuilder(3)
    x = b.conv(INPUT, normal(4, 3, 3, 3))
    gate = b.step(b.conv(x, normal(4, 4, 3, 3)), "sigmoid")
    built = b.finish(b.mul(x, gate))  # x first: the gate's maker comes last and takes the product
    graph, _ = passes.fuse_pointwise(*built)
    assert ops(graph) == [("conv",), ("conv", "sigmoid", "mul")]
    assert_equal_networks(built, (graph, built[1]))


def test_of_two_makers_the_last_one_takes_the_sum():
    b = GraphBuilder(3)
    first = b.conv(INPUT, normal(4, 3, 3, 3), name="first")
    last = b.conv(INPUT, normal(4, 3, 3, 3), name="last")
    built = b.finish(b.step(b.add(first, last), "relu"))
    graph, _ = passes.fuse_pointwise(*built)
    assert [(n.name, n.inputs) for n in graph.nodes] == [("first", ("input",)), ("last", ("input", "first"))]
    assert ops(graph)[1] == ("conv", "add", "relu")


def test_value_with_two_readers_is_kept():
    b = GraphBuilder(3)
    x = b.conv(INPUT, normal(4, 3, 3, 3))
    built = b.finish(b.mul(b.step(x, "sigmoid"), x))
    graph, _ = passes.fuse_pointwise(*built)
    assert ops(graph) == [("conv",), ("pointwise", "sigmoid", "mul")]
    assert_equal_networks(built, (graph, built[1]))


def test_affine_folds_into_weights():
    b = GraphBuilder(3)
    y = b.affine(b.affine(b.conv(INPUT, normal(4, 3, 3, 3)), normal(4), normal(4)), 0.1, 2.0)
    built = b.finish(b.step(y, "relu"))
    after = passes.optimize(*built)
    assert ops(after[0]) == [("conv", "relu")]
    assert_equal_networks(built, after, 1e-6)


def test_1x1_convolution_joins_the_one_before():
    b = GraphBuilder(3)
    y = b.conv(b.conv(INPUT, normal(8, 3, 3, 3), normal(8)), normal(8, 8, 1, 1), normal(8))
    built = b.finish(b.step(y, "relu"))
    after = passes.optimize(*built)
    assert ops(after[0]) == [("conv", "relu")]
    assert_equal_networks(built, after)


def test_1x1_convolution_that_widens_stays():
    b = GraphBuilder(3)
    built = b.finish(b.conv(b.conv(INPUT, normal(2, 3, 5, 5)), normal(32, 2, 1, 1)))
    assert len(passes.optimize(*built)[0].nodes) == 2


def test_activation_moves_before_the_shuffle_and_the_sum_stays():
    b = GraphBuilder(3)
    y = b.pixel_shuffle(b.conv(INPUT, normal(12, 3, 3, 3)), 2)
    y = b.affine(b.prelu(y, [0.1, 0.2, 0.3]), [1, 2, 3], [4, 5, 6])
    built = b.finish(b.step(b.add(y, b.resize(INPUT, 2, "nearest")), "clip", 0, 1))
    after = passes.optimize(*built)
    assert ops(after[0]) == [("conv", "prelu", "affine"), ("pixel_shuffle",), ("resize",), ("pointwise", "add", "clip")]
    assert_equal_networks(built, after)


def test_passes_change_no_tensor_in_place():
    graph, tensors = random_graph(3)
    copies = {name: tensor.copy() for name, tensor in tensors.items()}
    passes.optimize(graph, tensors)
    assert tensors.keys() == copies.keys()
    assert all(np.array_equal(tensors[name], copies[name]) for name in copies)


def test_gate_with_residual_is_not_fused_into_its_own_operand():
    """x * a + x: two steps of one node read x."""
    b = GraphBuilder(3)
    x = b.conv(INPUT, normal(4, 3, 3, 3), None)
    y = b.add(b.mul(b.slice(b.concat(INPUT, INPUT), 0, 4), x), x)
    before = b.finish(b.conv(y, normal(3, 4, 1, 1), None))
    assert_equal_networks(before, passes.optimize(*before))


def test_no_node_gets_more_steps_than_loaders_take():
    b = GraphBuilder(3)
    y = b.conv(INPUT, normal(3, 3, 3, 3), None)
    for i in range(150):
        y = b.step(y, "tanh" if i % 2 else "sigmoid")
    before = b.finish(y)
    after = passes.optimize(*before)
    assert [len(getattr(node, "steps", ())) for node in after[0].nodes] == [64, 64, 22]
    assert_equal_networks(before, after)
