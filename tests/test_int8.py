"""Integers: the promises of floats hold, a twin that rounds values to the same steps is near, little PSNR is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from test_engine import ALL_LEVELS, INTEGER_LEVELS, native_model, run, same_bits
from test_winograd import three_layers

import fastsr
from fastsr import _native, evaluation
from fastsr.cli import cli
from fastsr.errors import GraphError, ModelFileError, OptionError
from fastsr.graph import reference
from fastsr.graph.builder import GraphBuilder
from fastsr.graph.calibrate import calibrate
from fastsr.graph.compiler import assemble
from fastsr.graph.ir import INPUT, Conv
from fastsr.graph.model import CompiledModel
from fastsr.io import write_image
from fastsr.metrics import psnr
from fastsr.models import open_model

NETWORKS = [("fmen", 4), ("fmen", 3), ("fmen", 2), ("vdsr", 2), ("srresnet", 4)]
SHAPES = [(1, 1), (1, 29), (31, 1), (7, 13), (17, 67), (5, 211)]
# B^T of Winograd's F(4x4, 3x3); what quantizer.hpp derives the steps from.
TERMS = np.array(
    [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0]]
    + [[0, -2, -1, 2, 1, 0], [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]]
)


def in_integers(model, scale, channels=3, level=""):
    return _native.Model(model.to_bytes()).network(scale, channels, level, integers=True)


def step_of(low, high):
    """The least step for which no term of a tile of whole numbers between low and high leaves 16 bits."""
    factors = np.einsum("ia,jb->ijab", TERMS, TERMS).reshape(36, 36)
    largest = np.maximum(factors * low, factors * high).sum(1).max()
    least = np.minimum(factors * low, factors * high).sum(1).min()
    return max(largest, -least) / 32767


def rounded_to_steps(model, graph, x):
    """The slow twin: float64, but every value that has ranges is rounded to its steps. x: (C, H, W)."""
    results = {INPUT: x}

    def rounded(name, value):
        low, high = model.tensors[graph.ranges[name]].astype(np.float64)
        for c in range(len(value)):
            lo, hi = min(low[c], 0), max(high[c], 0)
            step = step_of(lo, hi)
            if step > 0:
                value[c] = np.clip(np.rint(value[c] / step), np.ceil(lo / step), np.floor(hi / step)) * step
            else:
                value[c] = 0
        return value

    for node in graph.nodes:
        value = reference.node_value(node, [results[name] for name in node.inputs], model.tensors)
        results[node.name] = rounded(node.name, value.copy()) if node.name in graph.ranges else value
    return results[graph.output]


@pytest.mark.parametrize(("name", "scale"), NETWORKS)
@pytest.mark.parametrize(("h", "w"), SHAPES)
def test_same_bits_for_threads_strips_and_levels(name, scale, h, w, random_image):
    _, native = native_model(name, scale)
    x = random_image(h, w, 3, "float32")
    wanted = run(native.network(scale, 3, INTEGER_LEVELS[-1], integers=True), x, threads=1, strip=h)
    for level in INTEGER_LEVELS[1:]:
        network = native.network(scale, 3, level, integers=True)
        for threads, strip in ((1, 3), (2, 1), (4, 8)):
            assert same_bits(run(network, x, threads=threads, strip=strip), wanted), (level, threads, strip)
    if h * w <= 91:  # the scalar level is slow
        assert same_bits(run(native.network(scale, 3, "scalar", integers=True), x, threads=2), wanted)


@pytest.mark.parametrize(("name", "scale"), NETWORKS)
def test_region_panels_and_tiles_are_the_crop_of_the_whole(name, scale, random_image):
    _, native = native_model(name, scale)
    network = native.network(scale, 3, integers=True)
    h, w = 61, 83
    x = random_image(h, w, 3, "float32")
    whole = run(network, x)
    for box in [(0, 0, 1, 1), (82, 60, 83, 61), (40, 30, 41, 31), (13, 0, 14, 61), (5, 7, 60, 41)]:
        crop = np.ascontiguousarray(whole[box[1] * scale : box[3] * scale, box[0] * scale : box[2] * scale])
        reads = network.reads(h, w, box)
        part = x[reads[1] : reads[3], reads[0] : reads[2]]
        assert same_bits(run(network, part, box=box, origin=(reads[1], reads[0]), shape=(h, w)), crop), box


@pytest.mark.parametrize(("name", "scale"), [("fmen", 4), ("srresnet", 4)])
def test_panels_within_a_budget_give_the_same_bits(name, scale, random_image):
    _, native = native_model(name, scale)
    network = native.network(scale, 3, integers=True)
    h, w = 9, 900
    x = random_image(h, w, 3, "float32")
    full = network.plan(h, w, (0, 0, w, h), _native.Options(strip=1, threads=1))
    budget = full["memory"] * 3 // 4
    assert network.plan(h, w, (0, 0, w, h), _native.Options(max_memory=budget, threads=1))["panels"] > 1
    assert same_bits(run(network, x, max_memory=budget, threads=1), run(network, x))


@pytest.mark.parametrize(("name", "scale"), NETWORKS)
def test_no_worse_than_the_twin_that_rounds_to_the_same_steps(name, scale, random_image):
    """The difference from float64 is as large as that of the twin, whose weights and sums are not rounded at all."""
    model, native = native_model(name, scale)
    graph = model.graph(scale, 3)
    x = 0.3 + 0.4 * fastsr.upscale(random_image(6, 9, 3, "float32"), "bicubic", scale=3)  # smooth, as images are
    exact = reference.run(graph, model.tensors, x.transpose(2, 0, 1))
    twin = rounded_to_steps(model, graph, x.transpose(2, 0, 1).astype(np.float64))
    got = run(native.network(scale, 3, integers=True), x).transpose(2, 0, 1)
    error, least = (float(np.sqrt(np.mean((y - exact) ** 2))) for y in (got, twin))
    assert 0.6 * least < error < 1.4 * least < 4e-3


@pytest.mark.parametrize("level", INTEGER_LEVELS)
@pytest.mark.parametrize(("channels", "middle"), [(11, 12), (13, 11), (50, 16), (11, 65), (64, 130)])
def test_every_level_on_odd_channels(level, channels, middle, random_image):
    """Cells of odd channels, register blocks and passes of every remainder, with every kind of step."""
    model = three_layers(channels, middle, np.random.default_rng(channels * middle))
    seen = [random_image(24, 70, 3, "float32", seed) for seed in range(3)]
    model = calibrate(model, seen)
    network = in_integers(model, 1, 3, level)
    assert set(network.algorithms.values()) == {"winograd", "winograd_int"}
    for h, w in ((1, 1), (7, 13), (5, 67), (9, 128)):
        x = random_image(h, w, 3, "float32")
        exact = reference.run(model.graph(1, 3), model.tensors, x.transpose(2, 0, 1)).transpose(1, 2, 0)
        error = np.abs(run(network, x) - exact).max() / max(1.0, np.abs(exact).max())
        assert 1e-6 < error < 0.03


def mixed_graph(seed):
    """Return a network whose values are read in cells, in tiles and plain, some of them all at once.

    Convolutions with up to two operands, joins and activations in any order; a fifth of the ranges is not known.
    """
    rng = np.random.default_rng(seed)
    b, C = GraphBuilder(3), int(rng.choice([11, 12, 13, 16]))
    values = [INPUT]

    def conv(x, K, size):
        weight = rng.standard_normal((K, b.channels[x], size, size)) / (size * np.sqrt(b.channels[x]))
        return b.conv(x, weight, 0.1 * rng.standard_normal(K))

    for i in range(rng.integers(5, 10)):
        x = values[-1 - int(rng.integers(0, min(3, len(values))))]
        kind = rng.random() if i > 1 else 0.0
        if kind < 0.75:
            y = conv(x, C, 3 if rng.random() < 0.85 else 1)
            equal = [v for v in values if b.channels[v] == C]
            for other in rng.choice(equal, rng.integers(0, 3)) if equal else []:
                y = (b.add if rng.random() < 0.5 else b.mul)(y, str(other))
            y = b.step(y, "sigmoid") if rng.random() < 0.3 else y
        else:
            y = b.step(x, "relu") if kind < 0.88 else b.concat(x, str(rng.choice(values)))
        values.append(y)
    model = assemble("mixed", [b.finish(conv(values[-1], 3, 3))])
    model = calibrate(model, [rng.random((24, 40, 3), dtype=np.float32) for _ in range(2)])
    graphs = [replace(g, ranges={v: t for v, t in g.ranges.items() if rng.random() < 0.8}) for g in model.graphs]
    return CompiledModel("mixed", tuple(graphs), model.tensors)


@pytest.mark.parametrize("seed", range(16))
def test_random_graphs(seed, random_image):
    """The same bits everywhere, and near float64, whoever reads a value in whatever layout."""
    model = mixed_graph(seed)
    native, graph = _native.Model(model.to_bytes()), model.graph(1, 3)
    x = random_image(13, 70, 3, "float32")
    try:
        networks = [native.network(1, 3, level, integers=True) for level in INTEGER_LEVELS]
    except OptionError:
        assert not any(
            isinstance(n, Conv) and n.inputs[0] in graph.ranges and model.tensors[n.weight].shape[2:] == (3, 3)
            for n in graph.nodes
        )
        return
    assert "winograd_int" in networks[0].algorithms.values()
    wanted = run(networks[-1], x)
    for network in networks:
        assert same_bits(run(network, x, threads=2, strip=1 + seed % 5), wanted)
    box, reads = (33, 4, 50, 9), networks[-1].reads(13, 70, (33, 4, 50, 9))
    part = x[reads[1] : reads[3], reads[0] : reads[2]]
    crop = np.ascontiguousarray(wanted[4:9, 33:50])
    assert same_bits(run(networks[-1], part, box=box, origin=(reads[1], reads[0]), shape=(13, 70)), crop)
    exact = reference.run(graph, model.tensors, x.transpose(2, 0, 1)).transpose(1, 2, 0)
    assert np.abs(wanted - exact).max() < 0.05 * max(1.0, np.abs(exact).max())


@pytest.mark.parametrize("level", ALL_LEVELS)
def test_forced_isa_level_ran(level):
    code = (
        "import numpy as np, fastsr\n"
        "from fastsr import _native\n"
        "x = np.random.default_rng(0).random((5, 7, 3), dtype=np.float32)\n"
        "sr = fastsr.load('fmen', threads=1, precision='int8')\n"
        "sr.upscale(x)\n"
        "print(sr.isa, sr.precision, [k for k, v in _native.isa_levels().items() if v['conv_rows']])\n"
    )
    environment = {**os.environ, "FASTSR_ISA": level}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"{level} int8 ['{level}']"


@pytest.mark.parametrize(("name", "scale"), [("fmen", 4), ("fmen", 2), ("vdsr", 4), ("srresnet", 4)])
def test_little_psnr_is_lost(name, scale, data):
    """Mean luma PSNR on Set5 (not calibrated on): less than 0.05 dB below fp32, the same file."""
    folder = data / "benchmarks" / "Set5"
    scores = {}
    for precision in ("fp32", "int8"):
        sr = fastsr.load(name, scale=scale, precision=precision)
        scores[precision] = evaluation.mean(evaluation.evaluate(sr.upscale, scale, evaluation.references(folder)))
    assert scores["int8"] != scores["fp32"]
    assert scores["fp32"]["psnr"] - scores["int8"]["psnr"] < 0.05


def test_memory_is_about_half():
    """Rows of 16-bit integers, where they were floats."""
    _, native = native_model("fmen", 4)
    options = _native.Options(threads=1, strip=16)
    memory = [
        native.network(4, 3, integers=integers).plan(540, 960, (0, 0, 960, 540), options)["memory"]
        for integers in (False, True)
    ]
    assert memory[1] < 0.65 * memory[0]


def test_what_users_see(random_image):
    x = fastsr.upscale(random_image(4, 5, 3), "bicubic", scale=3) // 2 + 60  # smooth, as images are
    fp32, int8 = (fastsr.load("fmen", precision=p) for p in ("fp32", "int8"))
    assert (fp32.precision, int8.precision, fastsr.load("fmen").precision) == ("fp32", "int8", "fp32")
    a, b = fp32.upscale(x), int8.upscale(x)
    assert not np.array_equal(a, b)
    assert psnr(a, b) > 40
    assert np.array_equal(fastsr.upscale(x, precision="int8"), b)
    assert int8.last_report.precision == "int8"
    rgba = np.dstack([x, x[:, :, 0]])
    assert np.array_equal(fastsr.upscale(rgba[:, :, 3], precision="int8"), int8.upscale(rgba)[:, :, 3])  # grey graph


def test_wrong_precision_is_named():
    with pytest.raises(OptionError, match="precision is 'int4'; one of fp32, "):
        fastsr.load("fmen", precision="int4")
    with pytest.raises(OptionError, match=r"torch.*computes in fp32.*'int8'"):
        fastsr.load("fmen", backend="torch", precision="int8")
    bare = replace(open_model("fmen", 4).graph(4, 3), ranges={})
    model = CompiledModel("bare", (bare,), open_model("fmen", 4).tensors)
    with pytest.raises(OptionError, match="fastsr quantize"):
        fastsr.load(model, precision="int8")
    with pytest.raises(OptionError, match="fastsr quantize"):
        fastsr.load("bicubic", precision="int8")
    with pytest.raises(OptionError, match="no layers"):
        calibrate(open_model("bicubic", 4), [np.full((8, 8), 0.5, np.float32)])


def test_ranges_are_checked():
    model = open_model("fmen", 4)
    graph = model.graph(4, 3)
    name = next(iter(graph.ranges))
    tensors = {**model.tensors, "upside.down": model.tensors[graph.ranges[name]][::-1].copy()}
    for ranges, message in (
        ({"nobody": graph.ranges[name]}, "nobody"),
        ({"input": graph.ranges[name]}, "input"),
        ({name: "nothing"}, "nothing"),
        ({name: "head.bias"}, "head.bias"),
        ({name: "upside.down"}, "upside.down"),
    ):
        with pytest.raises(GraphError, match=message):
            CompiledModel("wrong", (replace(graph, ranges=ranges),), tensors)


def test_the_engine_checks_ranges_too():
    """Files that Python would not write: the engine reads them on its own, and must not read beyond a tensor."""
    model = open_model("fmen", 4)
    graph = model.graph(4, 3)
    tensor = graph.ranges["head"]
    for ranges in (
        {"nobody": tensor},
        {"input": tensor},
        {"head": "nothing"},
        {"head": "head.bias"},
        {"head": "turned"},
    ):
        wrong = CompiledModel("wrong", (graph,), {**model.tensors, "turned": model.tensors[tensor][::-1].copy()})
        object.__setattr__(wrong, "graphs", (replace(graph, ranges=ranges),))
        with pytest.raises(ModelFileError, match=next(iter(ranges))):
            _native.Model(wrong.to_bytes())


def test_quantize_command(tmp_path, random_image):
    photos, net, out = tmp_path / "photos", tmp_path / "net.fsr", tmp_path / "out.fsr"
    photos.mkdir()
    for seed in range(3):
        write_image(photos / f"{seed}.png", fastsr.upscale(random_image(9, 11, 3, seed=seed), "bicubic"))
    model = open_model("fmen", 4)
    bare = tuple(replace(graph, ranges={}) for graph in model.graphs)
    kept = {name: tensor for name, tensor in model.tensors.items() if not name.endswith(".ranges")}
    CompiledModel("net", bare, kept, {"about": "kept"}).save(net)
    arguments = ["quantize", str(net), "--data", str(photos), "-o", str(out)]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "int8 loses" in result.output
    made = CompiledModel.load(out)
    assert made.card["about"] == "kept"
    assert (made.card["int8"]["images"], made.card["int8"]["set"]) == (3, "photos")
    assert set(made.card["int8"]["loss_db"]) == {"x4"}
    x = random_image(7, 13, 3)
    fp32 = fastsr.upscale(x, CompiledModel.load(net))
    assert np.array_equal(fastsr.upscale(x, made), fp32)  # floats compute what they did
    assert not np.array_equal(fastsr.upscale(x, made, precision="int8"), fp32)
    again = CliRunner().invoke(cli, arguments)
    assert again.exit_code != 0  # never replaced unasked
    with pytest.raises(OptionError, match="images is 0"):
        fastsr.quantize(net, photos, images=0)
    with pytest.raises(OptionError, match="no folder"):
        fastsr.quantize(net, tmp_path / "none")
    twice = fastsr.quantize(out, photos)  # calibrated anew, nothing of the old ranges is left
    assert twice.to_bytes() == fastsr.quantize(net, photos).to_bytes()
