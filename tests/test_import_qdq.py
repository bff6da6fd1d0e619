"""ONNX networks that were quantized (QDQ): weights come in as they are, and what values are rounded to as ranges."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="needs onnx")
ort = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import fastsr  # noqa: E402
from fastsr.errors import UnsupportedOperationError  # noqa: E402
from fastsr.graph import reference  # noqa: E402
from fastsr.graph.compiler import compile_model  # noqa: E402
from fastsr.graph.from_onnx import from_onnx  # noqa: E402
from fastsr.graph.ir import Conv  # noqa: E402

RNG = np.random.default_rng(5)


def net(tail=(), outputs=12):
    """Return conv 3-16, Relu, conv 16-16, Relu, a residual, conv to `outputs`, then `tail`."""
    shapes = {"w1": (16, 3, 3, 3), "w2": (16, 16, 3, 3), "w3": (outputs, 16, 3, 3)}
    weights = {name: RNG.normal(0, (2 / np.prod(s[1:])) ** 0.5, s) for name, s in shapes.items()}
    weights |= {f"b{i}": RNG.normal(0, 0.1, shapes[f"w{i}"][0]) for i in (1, 2, 3)}
    pads = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], "c1", **pads),
        helper.make_node("Relu", ["c1"], ["r1"], "r1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "c2", **pads),
        helper.make_node("Relu", ["c2"], ["r2"], "r2"),
        helper.make_node("Add", ["r2", "r1"], ["a"], "a"),
        helper.make_node("Conv", ["a", "w3", "b3"], ["c3" if tail else "y"], "c3", **pads),
        *tail,
    ]
    made = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()]
    ends = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "H", "W"])]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, "h", "w"])
    graph = helper.make_graph(nodes, "net", ends, [result], made)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


SHUFFLE = (helper.make_node("DepthToSpace", ["c3"], ["y"], "up", blocksize=2, mode="CRD"),)


def smooth(height, width, channels=3):
    y, x = np.mgrid[:height, :width]
    waves = [0.5 + 0.4 * np.sin(x / (3 + k) + y / 5 + k) for k in range(channels)]
    return np.stack(waves).astype(np.float32)


def decibels(a, b):
    return -10 * np.log10(np.mean(np.square(a - b, dtype=np.float64)))


def quantized(model, folder, **options):
    """Return the model as ONNX Runtime's quantizer makes it."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Images(CalibrationDataReader):
        def __init__(self):
            self.images = iter([{"image": smooth(24, 20 + k)[None]} for k in range(4)])

        def get_next(self):
            return next(self.images, None)

    onnx.save(model, folder / "float.onnx")
    options = {"quant_format": QuantFormat.QDQ, **options}
    quantize_static(folder / "float.onnx", folder / "qdq.onnx", Images(), **options)
    return onnx.load(folder / "qdq.onnx")


def run_ort(model, x):
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x[None]})[0][0]


def settings():
    from onnxruntime.quantization import QuantType

    signed = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8}
    return {
        "uint8": {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True},
        "int8": {**signed, "per_channel": True},
        "symmetric": {**signed, "extra_options": {"ActivationSymmetric": True, "WeightSymmetric": True}},
    }


@pytest.mark.parametrize("kind", ["uint8", "int8", "symmetric"])
def test_networks_of_onnx_runtimes_quantizer(kind, tmp_path):
    model = net(SHUFFLE)
    rounded = quantized(model, tmp_path, **settings()[kind])
    relus = sum(node.op_type == "Relu" for node in rounded.graph.node)
    assert relus == (2 if kind == "symmetric" else 0)  # where they are left out, integers end at zero
    compiled = compile_model(rounded)
    graph, plain = compiled.graph(2, 3), compile_model(model).graph(2, 3)
    assert [type(node) for node in graph.nodes] == [type(node) for node in plain.nodes]  # nothing is left of Q and DQ
    x = smooth(21, 34)
    ours = reference.run(graph, compiled.tensors, x)
    theirs, floats = run_ort(rounded, x), run_ort(model, x)
    # What is left between the two is the rounding of values, which is what the quantizer lost, or less.
    span = np.ptp(floats)
    lost = decibels(floats / span, theirs / span)
    assert decibels(ours / span, theirs / span) > max(40, lost - 0.5)
    assert decibels(ours / span, floats / span) > lost  # and its weights are nearly the network's own
    for name in (node.inputs[0] for node in graph.nodes if isinstance(node, Conv) and node.inputs[0] != "input"):
        low, high = compiled.tensors[graph.ranges[name]]
        values = dict(reference.values(graph, compiled.tensors, x))[name]
        assert (low <= 0).all()
        assert np.mean((values >= low[:, None, None] - 1e-6) & (values <= high[:, None, None] + 1e-6)) > 0.99
    y = x.transpose(1, 2, 0)
    exact, whole = (fastsr.load(compiled, scale=2, precision=p).upscale(y) for p in ("fp32", "int8"))
    assert np.abs(exact.transpose(2, 0, 1) - ours).max() < 1e-5 * max(1, span)
    assert decibels(whole / span, exact / span) > lost  # our integers have finer steps
    grey = fastsr.load(compiled, scale=2, precision="int8").upscale(y[:, :, 0])
    assert decibels(grey / span, fastsr.load(compiled, scale=2).upscale(y[:, :, 0]) / span) > lost


def test_weights_are_exact(tmp_path):
    rounded = quantized(net(SHUFFLE), tmp_path, **settings()["int8"])
    graph, tensors = from_onnx(rounded)
    stored = {t.name: numpy_helper.to_array(t) for t in rounded.graph.initializer}
    for node in (node for node in graph.nodes if isinstance(node, Conv)):
        w = f"w{node.name[1]}"
        scale = stored[f"{w}_scale"].astype(np.float64)[:, None, None, None]
        wanted = scale * stored[f"{w}_quantized"].astype(np.float64)
        assert np.array_equal(tensors[node.weight], wanted.astype(np.float32))


@pytest.mark.parametrize("model", ["fmen", "vdsr"])
def test_our_own_export_comes_back(model, tmp_path):
    fastsr.export(model, tmp_path / "net.onnx", scale=2, precision="int8")
    again = compile_model(tmp_path / "net.onnx")
    shipped = fastsr.load(model, scale=2).model
    own, came = shipped.graph(2, 3), again.graph(2, 3)
    assert [type(node) for node in came.nodes] == [type(node) for node in own.nodes]
    x = smooth(17, 23)
    theirs = run_ort(onnx.load(tmp_path / "net.onnx"), x)
    floats = reference.run(own, shipped.tensors, x)
    ours = reference.run(came, again.tensors, x)
    lost = decibels(floats, theirs)
    assert decibels(ours, theirs) > max(40, lost - 0.5)
    assert decibels(ours, floats) > lost
    read = {node.inputs[0] for node in came.nodes if isinstance(node, Conv)} - {"input"}
    assert read & came.ranges.keys()
    assert all(again.tensors[came.ranges[name]].shape[0] == 2 for name in came.ranges)


def qdq(nodes, **constants):
    made = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in ("image", "y")]
    graph = helper.make_graph(nodes, "qdq", ends[:1], ends[1:], made)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


STEP = {"s": np.float32(0.1), "z": np.uint8(3)}


@pytest.mark.parametrize(
    ("nodes", "constants", "reason"),
    [
        ([("QuantizeLinear", "image s z", "q"), ("DequantizeLinear", "q t z", "y")],
         {"t": np.float32(0.2)}, "0.2.*0.1"),
        ([("QuantizeLinear", "image t z", "q"), ("DequantizeLinear", "q t z", "y")],
         {"t": np.ones(3, np.float32), "z": np.zeros(3, np.uint8)}, "3 scales"),
        ([("QuantizeLinear", "image s z", "q"), ("Relu", "q", "t"), ("DequantizeLinear", "t s z", "y")], {},
         "reads integers"),
        ([("DequantizeLinear", "image s z", "y")], {}, "QuantizeLinear"),
    ],
)  # fmt: skip
def test_what_is_no_pair_is_refused(nodes, constants, reason):
    made = [helper.make_node(op, inputs.split(), [output], output) for op, inputs, output in nodes]
    model = qdq(made, **{**STEP, **constants})
    with pytest.raises(Exception, match=reason) as caught:
        from_onnx(model)
    assert isinstance(caught.value, (UnsupportedOperationError, fastsr.ModelFileError))
