"""ONNX files: they give what the engine gives, for every network, scale, precision and odd size, or don't appear."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import fastsr
from fastsr import evaluation, metrics
from fastsr.errors import BackendError, FastSRError, GraphError, OptionError, OutputError
from fastsr.graph import qdq as quantized
from fastsr.graph import reference
from fastsr.graph.builder import GraphBuilder
from fastsr.graph.calibrate import calibrate as prepare
from fastsr.graph.ir import INPUT, Conv, check
from fastsr.graph.model import CompiledModel
from fastsr.graph.qdq import Quantization, Scales, from_ranges, of_model, symmetric_scales, weight_scales
from fastsr.imresize import crop_to_multiple, downscale
from fastsr.models import open_model

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from fastsr.exporting import calibrate, check_result, export, onnx_bytes, target_of  # noqa: E402
from fastsr.exporting.check import smooth_images  # noqa: E402
from fastsr.graph.to_onnx import to_onnx  # noqa: E402

SIZES = [(1, 1), (1, 17), (7, 13), (11, 5)]
NETWORKS = [("fmen", 2), ("fmen", 3), ("fmen", 4), ("fmen-medical", 4), ("vdsr", 3), ("srresnet", 4), ("bicubic", 3)]
TOLERANCE = {"fp32": 1e-5, "fp16": 2e-3}


def session(blob, optimized=True):
    options = onnxruntime.SessionOptions()
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"])


def run(blob, x, optimized=True):
    ready = session(blob, optimized)
    dtype = np.float16 if "16" in ready.get_inputs()[0].type else np.float32
    return ready.run(None, {"input": x[None].astype(dtype)})[0][0]


def noise(channels, h, w, seed=0):
    return np.random.default_rng([seed, channels, h, w]).random((channels, h, w), dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "scale", "precision", "io"),
    [(*network, precision, "fp32") for network in NETWORKS for precision in ("fp32", "fp16")]
    + [("vdsr", 2, "fp32", "fp32"), ("vdsr", 4, "fp16", "fp32"), ("bilinear", 2, "fp32", "fp32")]
    + [("nearest", 4, "fp32", "fp32"), ("fmen", 2, "fp16", "fp16"), ("bicubic", 3, "fp16", "fp16")],
)
def test_exported_networks_give_what_the_engine_gives(name, scale, precision, io, tmp_path):
    sr = fastsr.load(name, scale=scale)
    for channels in (1, 3):
        if channels not in {g.channels for g in sr.model.graphs}:
            continue
        options = {"scale": scale, "channels": channels, "precision": precision, "io": io}
        path = fastsr.export(name, tmp_path / f"{channels}.onnx", **options)
        model = onnx.load(path)
        assert model.opset_import[0].version == 17
        assert {p.key: p.value for p in model.metadata_props}["fastsr.sha256"] == sr.model.sha256
        sides = [d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim]
        assert sides == ["N", "", "H", "W"]
        floats = {t.data_type for t in model.graph.initializer if not t.name.startswith(("scales.", "int."))}
        only = onnx.TensorProto.FLOAT16 if precision == "fp16" else onnx.TensorProto.FLOAT
        assert floats <= {only}
        ready = session(path.read_bytes())
        kind = np.float16 if io == "fp16" else np.float32
        for h, w in SIZES:
            x = noise(channels, h, w).astype(kind)
            y = ready.run(None, {"input": x[None]})[0][0]
            assert y.dtype == kind
            wanted = sr.upscale(x.astype(np.float32).transpose(1, 2, 0)).transpose(2, 0, 1)
            assert y.shape == wanted.shape
            assert np.abs(y - wanted).max() <= TOLERANCE[precision], (h, w)


def test_batches(tmp_path):
    path = fastsr.export("fmen", tmp_path / "n.onnx", scale=2)
    x = np.stack([noise(3, 6, 9, seed) for seed in range(3)])
    y = session(path.read_bytes()).run(None, {"input": x})[0]
    for i in range(3):
        np.testing.assert_allclose(y[i], run(path.read_bytes(), x[i]), atol=5e-6)


def one_conv(weight, bias=None, channels=2):
    b = GraphBuilder(channels)
    graph, tensors = b.finish(b.conv(INPUT, np.asarray(weight, np.float32), bias, name="conv"))
    return CompiledModel("one", (graph,), tensors)


def test_a_network_that_differs_does_not_appear(tmp_path, monkeypatch):
    """The check sees 0.1 % of one weight, and no file is left."""
    target = target_of(open_model("fmen", 2), 2, 1)
    assert check_result(onnx_bytes(target, "fp32", "fp32", None), target, "fp32") <= 1e-5
    names = [node.weight for node in target.graph.nodes if isinstance(node, Conv)]
    bent = dict(target.tensors)
    bent[names[-1]] = bent[names[-1]] * np.float32(1.001)
    other = replace(target.model, tensors=bent)
    blob = onnx_bytes(replace(target, model=other), "fp32", "fp32", None)
    with pytest.raises(BackendError, match="differs from the engine"):
        check_result(blob, target, "fp32")
    monkeypatch.setattr("fastsr.exporting.onnx_bytes", lambda *_: blob)
    with pytest.raises(BackendError):
        fastsr.export("fmen", tmp_path / "n.onnx", scale=2, channels=1)
    assert not list(tmp_path.iterdir())


def test_networks_with_large_values_between_are_exported(tmp_path):
    """fp32 itself is off by more than 1e-5 there, whoever computes it; the check knows."""
    rng = np.random.default_rng(5)
    weight = rng.standard_normal((16, 1, 3, 3)) * 1e3
    back = rng.standard_normal((1, 16, 3, 3)) * 1e3
    b = GraphBuilder(1)
    y = b.conv(b.conv(INPUT, weight), back)
    graph, tensors = b.finish(b.affine(b.affine(y, 1.0, 3e9), 1e-5, -3e4))
    model = CompiledModel("large", (graph,), tensors)
    fastsr.export(model, tmp_path / "n.onnx")
    target = target_of(model, 1, 1)
    assert check_result(onnx_bytes(target, "fp32", "fp32", None), target, "fp32") > 1e-5


def test_fp16_overflow_is_refused(tmp_path):
    weight = np.full((2, 2, 1, 1), 3e4)
    with pytest.raises(BackendError, match=r"'conv'.* reaches .*fp16 ends at 65504"):
        fastsr.export(one_conv(weight), tmp_path / "n.onnx", precision="fp16")
    with pytest.raises(GraphError, match=r"'conv.weight' has a value of 70000"):
        fastsr.export(one_conv(weight * (7 / 3)), tmp_path / "n.onnx", precision="fp16")
    assert not list(tmp_path.iterdir())
    fastsr.export(one_conv(weight), tmp_path / "n.onnx", precision="fp32")


@pytest.mark.parametrize("per_channel", [False, True])
def test_int8_is_its_slow_twin_to_the_bit(per_channel):
    """Pixels, weights and scales on grids of powers of two: fp32 is exact there, so nothing may differ."""
    rng = np.random.default_rng(3)
    b = GraphBuilder(3)
    x = b.conv(INPUT, rng.integers(-31, 32, (5, 3, 3, 3)) / 16, rng.integers(-8, 9, 5) / 4, name="a")
    y = b.conv(b.step(x, "relu"), rng.integers(-31, 32, (5, 5, 1, 3)) / 16, name="b")
    graph, tensors = b.finish(b.conv(b.add(y, x), rng.integers(-31, 32, (3, 5, 3, 3)) / 16, name="c"))

    def scales(value, channels):
        shape = (channels,) if per_channel else ()
        step = 2.0 ** rng.integers(-6, -3, shape) * (4 if value != INPUT else 1 / 4)
        return Scales(np.asarray(step, np.float32), np.asarray(rng.integers(-20, 20, shape), np.int8))

    channels = {name: c for name, (c, _) in check(graph, tensors).items()}
    convolutions = [node for node in graph.nodes if isinstance(node, Conv)]
    values = {node.inputs[0]: scales(node.inputs[0], channels[node.inputs[0]]) for node in convolutions}
    quantization = Quantization(
        values, {n.name: np.full(len(tensors[n.weight]), 2.0**-3, np.float32) for n in convolutions}
    )
    quantization.check(graph, channels, tensors)
    blob = to_onnx(graph, tensors, quantization=quantization).SerializeToString()
    for h, w in SIZES:
        x = np.round(noise(3, h, w) * 64).astype(np.float32) / 64
        twin = quantized.run(graph, tensors, x, quantization)
        assert np.abs(twin - reference.run(graph, tensors, x)).max() > 0.1  # it does round
        np.testing.assert_array_equal(run(blob, x, optimized=False), twin)


@pytest.mark.parametrize("per_channel", [False, True])
def test_calibration_finds_the_extremes(per_channel):
    b = GraphBuilder(2)
    x = b.conv(INPUT, np.array([[[[4.0]], [[0]]], [[[0.0]], [[-9]]]]), name="a")
    graph, tensors = b.finish(b.conv(x, np.ones((2, 2, 1, 1)), name="b"))
    images = [noise(2, 5, 7, seed) for seed in range(3)]
    found = calibrate(graph, tensors, images, per_channel=per_channel)
    most = np.max(images, axis=(0, 2, 3)) * np.array([4, 9])
    wanted = symmetric_scales(-most if per_channel else -most.max(), most if per_channel else most.max())
    np.testing.assert_allclose(found.values["a"].scale, wanted.scale, rtol=1e-6)
    np.testing.assert_allclose(found.weights["a"], np.array([4, 9]) / 127, rtol=1e-6)
    assert found.whole is not per_channel


def test_scales_from_the_ranges_of_channels():
    """Ranges that hold what `calibrate` saw give its scales; values without ranges stay in floating point."""
    target = target_of(open_model("fmen", 2), 2, 1)
    image = noise(1, 24, 24)
    image[0, 0, 0] = 1
    found = calibrate(target.graph, target.tensors, [image])
    seen = calibrate(target.graph, target.tensors, [image], per_channel=True)
    ranges = {name: np.stack([-127 * s.scale, 127 * s.scale]) for name, s in seen.values.items() if name != INPUT}
    made = from_ranges(target.graph, target.tensors, ranges)
    assert made.values.keys() == found.values.keys()
    for name, scales in found.values.items():
        np.testing.assert_allclose(made.values[name].scale, scales.scale, rtol=1e-6)
    first, *_ = ranges
    fewer = from_ranges(target.graph, target.tensors, {k: v for k, v in ranges.items() if k != first})
    kinds = [n.op_type for n in onnx.load_model_from_string(onnx_bytes(target, "int8", "fp32", fewer)).graph.node]
    assert kinds.count("QuantizeLinear") == len(found.values) - 1


def test_what_a_precision_costs_on_photos(data, tmp_path):
    """Luma PSNR on Set5: fp16 within 0.01 dB of fp32, int8 within 0.15, calibrated on other photos; about 4 s."""
    photos = {"int8": sorted((data / "benchmarks" / "B100").glob("*.png"))[::12]}
    references = [reference.pixels for reference in evaluation.references(data / "benchmarks" / "Set5")]
    psnr, size = {}, {}
    for precision in ("fp32", "fp16", "int8"):
        path = tmp_path / f"{precision}.onnx"
        fastsr.export("fmen", path, precision=precision, images=photos.get(precision, ()))
        ready, found = session(path.read_bytes()), []
        for hr in map(crop_to_multiple, references, [4] * 5):
            x = (downscale(hr, 4)[None].transpose(0, 3, 1, 2) / 255).astype(np.float32)
            y = ready.run(None, {"input": x})[0][0].transpose(1, 2, 0)
            sr = np.clip(np.rint(y * 255), 0, 255).astype(np.uint8)
            found.append(metrics.psnr(hr, sr, luma=True, border=4))
        psnr[precision], size[precision] = np.mean(found), path.stat().st_size
    assert abs(psnr["fp16"] - psnr["fp32"]) < 0.01
    assert 0.01 < psnr["fp32"] - psnr["int8"] < 0.15
    assert size["fp16"] < 0.51 * size["fp32"]
    assert size["int8"] < 0.4 * size["fp32"]
    kinds = {node.op_type for node in onnx.load(tmp_path / "int8.onnx").graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_int8_of_a_prepared_model_needs_no_images(tmp_path):
    """`quantize` left ranges in the model; the margin that it added costs 8-bit steps and is taken off."""
    bare = open_model("fmen", 2)
    images = [image[0] for image in smooth_images(1)]
    model = prepare(CompiledModel(bare.name, (bare.graph(2, 1),), bare.tensors), images)
    path = fastsr.export(model, tmp_path / "n.onnx", precision="int8")
    wanted = fastsr.upscale(images[0], bare, scale=2)
    result = run(path.read_bytes(), images[0][None])[0]
    assert 38 < -10 * np.log10(np.mean((result - wanted) ** 2)) < 80
    graph = model.graph(2, 1)
    seen = calibrate(graph, model.tensors, [image[None] for image in images])
    for name, scales in of_model(model, graph).values.items():
        if name != INPUT:
            np.testing.assert_allclose(scales.scale, seen.values[name].scale, rtol=1e-4)


@pytest.mark.parametrize(("name", "scale"), [("vdsr", 2), ("srresnet", 4), ("fmen-medical", 4), ("fmen", 3)])
def test_int8_of_every_network(name, scale):
    """Whole values and channels; `check_result` refuses what is farther than 38 dB from fp32."""
    target = target_of(open_model(name, scale), scale, 1)
    images = [image[:, :31, :37] for image in smooth_images(1)]
    for per_channel in (False, True):
        scales = calibrate(target.graph, target.tensors, images, per_channel=per_channel)
        blob = onnx_bytes(target, "int8", "fp32", scales)
        assert check_result(blob, target, "int8", images=images) > 38
        for h, w in SIZES:
            assert np.isfinite(run(blob, noise(1, h, w))).all()


def test_wrong_scales_are_refused(tmp_path):
    model = open_model("fmen", 2)
    target = target_of(model, 2, 1)
    quantization = calibrate(target.graph, target.tensors, [noise(1, 24, 24)])
    last = [n for n in target.graph.nodes if isinstance(n, Conv)][-1].inputs[0]
    bad = Scales(quantization.values[last].scale * np.float32(0.05), np.int8(0))
    worse = replace(quantization, values={**quantization.values, last: bad})
    options = {"scale": 2, "channels": 1, "precision": "int8"}
    with pytest.raises(BackendError, match="dB are needed"):
        export(model, tmp_path / "n.onnx", **options, quantization=worse)
    for change, message in [
        ({"values": {"nobody": bad}}, "no value of the graph"),
        ({"weights": {}}, "needs weight scales"),
        ({"values": {**quantization.values, last: Scales(np.float32(-1), np.int8(0))}}, "positive"),
        ({"values": {**quantization.values, last: Scales(np.ones(3, np.float32), np.int8(0))}}, "is needed"),
    ]:
        with pytest.raises(GraphError, match=message):
            export(
                model,
                tmp_path / "n.onnx",
                scale=2,
                channels=1,
                precision="int8",
                quantization=replace(quantization, **change),
            )
    assert not list(tmp_path.iterdir())


def test_weight_scales_keep_the_largest_weight():
    weight = np.random.default_rng(1).standard_normal((4, 3, 3, 3)).astype(np.float32)
    weight[2] = 0
    scale = weight_scales(weight)
    assert (scale > 0).all()
    np.testing.assert_allclose(scale[[0, 1, 3]] * 127, np.abs(weight).max((1, 2, 3))[[0, 1, 3]], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"to": "mlir"}, OptionError, "onnx or tensorrt"),
        ({"precision": "int4"}, OptionError, "fp32, fp16, int8"),
        ({"io": "fp16"}, OptionError, "io is 'fp16'"),
        ({"images": ["x.png"]}, OptionError, "for precision int8"),
        ({"scale": 5}, OptionError, "no scale 5"),
        ({"channels": 2}, OptionError, "2 channels"),
        ({"compute_capabilities": ["8.6"]}, OptionError, "for engines"),
    ],
)
def test_wrong_options(options, error, message, tmp_path):
    with pytest.raises(error, match=message):
        fastsr.export("fmen", tmp_path / "n.onnx", **options)
    assert not list(tmp_path.iterdir())


def test_int8_needs_ranges_or_images(tmp_path):
    model = open_model("fmen", 4)
    bare = CompiledModel("bare", (replace(model.graph(4, 3), ranges={}),), model.tensors)
    with pytest.raises(OptionError, match="--calibrate"):
        fastsr.export(bare, tmp_path / "n.onnx", precision="int8")
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_unasked(tmp_path):
    path = tmp_path / "n.onnx"
    path.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        fastsr.export("bicubic", path)
    assert path.read_bytes() == b"mine"
    fastsr.export("bicubic", path, overwrite=True)
    assert fastsr.compile(path).graphs[0].scale == 4


def test_command(tmp_path):
    command = [sys.executable, "-m", "fastsr.cli", "export", "bicubic", "--precision", "fp16", "-o", "b.onnx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["b.onnx"]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "exists" in again.stderr
    assert issubclass(OutputError, FastSRError)
