"""Somebody else's networks through ONNX: what comes out is what ONNX Runtime or PyTorch computes, or a named error."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
import pytest
from random_graphs import random_graph

onnx = pytest.importorskip("onnx", reason="needs onnx")
ort = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from fastsr.errors import FastSRError, GraphError, ModelFileError, UnsupportedOperationError  # noqa: E402
from fastsr.graph import reference  # noqa: E402
from fastsr.graph.compiler import compile_model  # noqa: E402
from fastsr.graph.from_onnx import from_onnx  # noqa: E402
from fastsr.graph.grey import LUMA  # noqa: E402
from fastsr.graph.passes import optimize  # noqa: E402
from fastsr.graph.to_onnx import to_onnx  # noqa: E402

SIZES = [(1, 1), (7, 13), (8, 5)]
NETS = ["espcn", "fsrcnn", "edsr", "imdn", "srvgg"]
RNG = np.random.default_rng(11)


def normal(*shape):
    return (RNG.standard_normal(shape) / np.sqrt(max(np.prod(shape[1:]), 1))).astype(np.float32)


def model_of(nodes, constants=None, channels=4, opset=17, size=("H", "W"), kind=TensorProto.FLOAT):
    """Return an ONNX model from nodes (op, inputs, options); each reads "x" or what comes before: "1", "2", ..."""
    protos = []
    for i, (op, inputs, options) in enumerate(nodes):
        outputs = options.get("outputs") or [str(i + 1)]
        rest = {name: value for name, value in options.items() if name != "outputs"}
        protos.append(helper.make_node(op, inputs, outputs, name=f"{op}_{i + 1}", **rest))
    graph = helper.make_graph(
        protos,
        "test",
        [helper.make_tensor_value_info("x", kind, ["N", channels, *size])],
        [helper.make_tensor_value_info(protos[-1].output[0], kind, ["n", "k", "h", "w"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])


def assert_equals_ort(model, sizes=SIZES, tolerance=1e-5):
    graph, tensors = optimize(*from_onnx(model))
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for H, W in sizes:
        x = np.random.default_rng(H).standard_normal((1, graph.channels, H, W)).astype(np.float32)
        expected = session.run(None, {session.get_inputs()[0].name: x})[0][0]
        y = reference.run(graph, tensors, x[0])
        assert y.shape == expected.shape
        assert np.abs(y - expected).max() <= tolerance * max(np.abs(expected).max(), 1)
    return graph


# ---- exports from PyTorch


def export(net, path, dynamo, opset, free):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    image = torch.rand(1, 3, 20, 24)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            pytest.importorskip("onnxscript", reason="torch.onnx.export(dynamo=True) needs onnxscript")
            shapes = ({2: "h", 3: "w"},) if free else None
            torch.onnx.export(
                net, (image,), path, dynamo=True, opset_version=opset, dynamic_shapes=shapes, external_data=False,
                verbose=False,
            )  # fmt: skip
        else:
            axes = {"image": {0: "n", 2: "h", 3: "w"}} if free else None
            try:
                torch.onnx.export(
                    net, (image,), path, dynamo=False, opset_version=opset, input_names=["image"], dynamic_axes=axes
                )
            except (TypeError, RuntimeError, ImportError) as error:
                pytest.skip(f"this PyTorch no longer exports through TorchScript: {error}")


@pytest.mark.parametrize(
    ("dynamo", "opset", "free"),
    [
        (False, 11, True), (False, 11, False), (False, 13, True), (False, 17, True), (False, 17, False),
        (False, 18, True), (True, 18, True), (True, 18, False), (True, 21, True), (True, 23, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", NETS)
def test_exported_network(name, dynamo, opset, free, tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    from foreign_nets import foreign

    net = foreign(name)
    path = tmp_path / f"{name}.onnx"
    export(net, path, dynamo, opset, free)
    model = compile_model(path)
    assert (model.name, model.scales) == (name, (net.scale,))
    for H, W in SIZES:
        x = torch.rand(1, 3, H, W, generator=torch.Generator().manual_seed(H))
        with torch.no_grad():
            expected = net(x)[0].numpy()
        y = reference.run(model.graph(net.scale, 3), model.tensors, x[0].numpy())
        assert np.abs(y - expected).max() <= 1e-5 * max(np.abs(expected).max(), 1)
        g = x[0, :1].numpy()
        luma = np.tensordot(LUMA, reference.run(model.graph(net.scale, 3), model.tensors, np.repeat(g, 3, 0)), 1)
        assert np.abs(reference.run(model.graph(net.scale, 1), model.tensors, g)[0] - luma).max() <= 1e-6
    from fastsr.backends.torch_ref import TorchRunner

    y = TorchRunner(model.graph(net.scale, 3), model.tensors, threads=1).run(x[0].numpy())
    assert np.abs(y - expected).max() <= 1e-4


@pytest.mark.parametrize(
    ("name", "nodes"),
    [
        ("espcn", ["conv", "conv", "conv", "pixel_shuffle"]),
        ("fsrcnn", ["conv", "conv", "conv", "conv", "conv", "pixel_shuffle"]),
        ("srvgg", ["conv", "conv", "conv", "pixel_shuffle", "resize", "pointwise"]),
    ],
)
def test_exported_network_is_fused(name, nodes, tmp_path):
    pytest.importorskip("torch", reason="needs PyTorch")
    from foreign_nets import foreign

    export(foreign(name), tmp_path / "x.onnx", False, 17, True)
    model = compile_model(tmp_path / "x.onnx")
    assert [node.op for node in model.graph(model.scales[0], 3).nodes] == nodes


def test_sizes_computed_in_the_network(tmp_path):
    """Nets that ask for their own shape, and spell the pixel shuffle by hand."""
    torch = pytest.importorskip("torch", reason="needs PyTorch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 12, 3, padding=1)

        def forward(self, x):
            N, C, H, W = x.shape
            y = self.conv(x).reshape(N, C, 2, 2, H, W).permute(0, 1, 4, 2, 5, 3).reshape(N, C, H * 2, W * 2)
            up = torch.nn.functional.interpolate(x, size=(H * 2, W * 2), mode="bicubic", align_corners=False)
            return y + up

    for dynamo in (False, True):
        export(Net().eval(), tmp_path / "x.onnx", dynamo, 18, True)
        assert_equals_ort(onnx.load(tmp_path / "x.onnx"), [(20, 24), (7, 13)])


# ---- single operations, against ONNX Runtime

C1 = np.array([0.5, -1, 2, 3], np.float32).reshape(4, 1, 1)
i64 = np.array

CASES = {
    "conv_bias": ([("Conv", ["x", "w", "b"], {"pads": [1, 1, 1, 1]})], {"w": normal(6, 4, 3, 3), "b": normal(6)}),
    "conv_groups": ([("Conv", ["x", "w"], {"pads": [0, 2, 0, 2], "group": 2})], {"w": normal(6, 2, 1, 5)}),
    "conv_same_upper": ([("Conv", ["x", "w"], {"auto_pad": "SAME_UPPER"})], {"w": normal(6, 4, 4, 3)}),
    "conv_same_lower": ([("Conv", ["x", "w"], {"auto_pad": "SAME_LOWER"})], {"w": normal(6, 4, 2, 4)}),
    "conv_valid_1x1": ([("Conv", ["x", "w"], {"auto_pad": "VALID"})], {"w": normal(6, 4, 1, 1)}),
    "conv_uneven": ([("Conv", ["x", "w"], {"pads": [2, 0, 0, 1]})], {"w": normal(6, 4, 3, 2)}),
    "pad_conv": (
        [("Pad", ["x", "p"], {}), ("Conv", ["1", "w"], {})],
        {"p": i64([0, 0, 1, 2, 0, 0, 1, 2]), "w": normal(2, 4, 3, 5)},
    ),
    "pad_pad_conv": (
        [("Pad", ["x", "p"], {}), ("Pad", ["1", "p", "z"], {}), ("Conv", ["2", "w"], {"pads": [1, 1, 1, 1]})],
        {"p": i64([0, 0, 1, 0, 0, 0, 1, 0]), "z": np.float32(0), "w": normal(2, 4, 7, 3)},
    ),
    "pad_nothing": ([("Pad", ["x", "p"], {"mode": "reflect"}), ("Relu", ["1"], {})], {"p": i64([0] * 8)}),
    "batch_norm": (
        [("BatchNormalization", ["x", "g", "b", "m", "v"], {"epsilon": 0.01})],
        {"g": normal(4), "b": normal(4), "m": normal(4), "v": np.abs(normal(4))},
    ),
    "relu": ([("Relu", ["x"], {})], {}),
    "leaky_relu": ([("LeakyRelu", ["x"], {})], {}),
    "sigmoid": ([("Sigmoid", ["x"], {})], {}),
    "tanh": ([("Tanh", ["x"], {})], {}),
    "prelu_channels": ([("PRelu", ["x", "c"], {})], {"c": C1}),
    "prelu_one": ([("PRelu", ["x", "c"], {})], {"c": np.array([0.3], np.float32)}),
    "prelu_steep": ([("PRelu", ["x", "c"], {})], {"c": np.array([1.5], np.float32)}),
    "hard_sigmoid": ([("HardSigmoid", ["x"], {})], {}),
    "hard_swish": ([("HardSwish", ["x"], {})], {}),
    "clip": ([("Clip", ["x", "l", "h"], {})], {"l": np.float32(-0.3), "h": np.float32(0.4)}),
    "clip_low": ([("Clip", ["x", "l"], {})], {"l": np.float32(0)}),
    "clip_high": ([("Clip", ["x", "", "h"], {})], {"h": np.float32(0.1)}),
    "clip_nothing": ([("Clip", ["x"], {}), ("Tanh", ["1"], {})], {}),
    "silu": ([("Sigmoid", ["x"], {}), ("Mul", ["x", "1"], {})], {}),
    "square": ([("Mul", ["x", "x"], {})], {}),
    "subtract": ([("Tanh", ["x"], {}), ("Sub", ["1", "x"], {})], {}),
    "negative": ([("Neg", ["x"], {})], {}),
    "wide_gate": ([("Conv", ["x", "w"], {}), ("Tanh", ["1"], {}), ("Mul", ["x", "2"], {})], {"w": normal(1, 4, 1, 1)}),
    **{f"value_{op}_channels": ([(op, ["x", "c"], {})], {"c": C1}) for op in ("Add", "Sub", "Mul", "Div")},
    **{f"number_{op}_value": ([(op, ["c", "x"], {})], {"c": np.float32(3)}) for op in ("Add", "Sub", "Mul")},
    "four_axes": ([("Add", ["x", "c"], {})], {"c": C1[None]}),
    "concat": ([("Tanh", ["x"], {}), ("Concat", ["1", "x", "1"], {"axis": -3})], {}),
    "split_sizes": (
        [("Split", ["x", "s"], {"axis": 1, "outputs": ["a", "b"]}), ("Concat", ["b", "a"], {"axis": 1})],
        {"s": i64([1, 3])},
    ),
    "split_equal": (
        [("Split", ["x"], {"axis": 1, "outputs": ["a", "b"]}), ("Mul", ["b", "a"], {})],
        {},
    ),
    "slice": (
        [("Slice", ["x", "s", "e", "a"], {})],
        {"s": i64([-3, 0]), "e": i64([2**40, 2**62]), "a": i64([1, 3])},
    ),
    "depth_to_space_crd": ([("DepthToSpace", ["x"], {"blocksize": 2, "mode": "CRD"})], {}),
    "depth_to_space_dcr": (
        [("Conv", ["x", "w"], {}), ("DepthToSpace", ["1"], {"blocksize": 3})],
        {"w": normal(18, 4, 1, 1)},
    ),
    "shuffle_crd": (
        [
            ("Conv", ["x", "w"], {}),
            ("Shape", ["x"], {}),
            ("Slice", ["2", "two", "four"], {}),
            ("Concat", ["head", "3"], {"axis": 0}),
            ("Reshape", ["1", "4"], {}),
            ("Transpose", ["5"], {"perm": [0, 1, 4, 2, 5, 3]}),
            ("Mul", ["3", "factor"], {}),
            ("Concat", ["end", "7"], {"axis": 0}),
            ("Reshape", ["6", "8"], {}),
        ],
        {
            "w": normal(12, 4, 1, 1), "two": i64([2]), "four": i64([4]), "head": i64([1, 3, 2, 2]), "factor": i64([2]),
            "end": i64([1, 3]),
        },
    ),
    "shuffle_dcr": (
        [
            ("Conv", ["x", "w"], {}),
            ("Shape", ["x"], {}),
            ("Slice", ["2", "two", "four"], {}),
            ("Concat", ["head", "3"], {"axis": 0}),
            ("Reshape", ["1", "4"], {}),
            ("Transpose", ["5"], {"perm": [0, 3, 4, 1, 5, 2]}),
            ("Mul", ["3", "factor"], {}),
            ("Concat", ["end", "7"], {"axis": 0}),
            ("Reshape", ["6", "8"], {}),
        ],
        {
            "w": normal(12, 4, 1, 1), "two": i64([2]), "four": i64([4]), "head": i64([1, 2, 2, 3]), "factor": i64([2]),
            "end": i64([1, 3]),
        },
    ),
    "reshape_nothing": ([("Reshape", ["x", "s"], {}), ("Relu", ["1"], {})], {"s": i64([0, 0, 0, -1])}),
    "nothing": ([("Identity", ["x"], {}), ("Dropout", ["1"], {}), ("Cast", ["2"], {"to": 1}), ("Relu", ["3"], {})], {}),
    "computed_weights": (
        [
            ("Transpose", ["w"], {"perm": [3, 2, 0, 1]}),
            ("Mul", ["1", "c"], {}),
            ("Conv", ["x", "2"], {"pads": [1] * 4}),
        ],
        {"w": normal(3, 3, 4, 5), "c": np.float32(0.5)},
    ),
    "resize_sizes_from_shape": (
        [
            ("Shape", ["x"], {}),
            ("Cast", ["1"], {"to": 1}),
            ("Mul", ["2", "f"], {}),
            ("Floor", ["3"], {}),
            ("Cast", ["4"], {"to": 7}),
            ("Resize", ["x", "", "", "5"], {"mode": "linear"}),
        ],
        {"f": np.array([1, 1, 3, 3], np.float32)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_operation(case):
    nodes, constants = CASES[case]
    assert_equals_ort(model_of(nodes, constants))


@pytest.mark.parametrize("opset", [11, 13, 16, 18, 21])
@pytest.mark.parametrize("case", ["conv_bias", "clip", "hard_sigmoid", "prelu_channels", "pad_conv", "slice", "concat"])
def test_operation_in_every_opset(case, opset):
    nodes, constants = CASES[case]
    assert_equals_ort(model_of(nodes, constants, opset=opset))


def test_split_by_attribute_and_by_count():
    for opset, options in [(11, {"split": [3, 1]}), (18, {"num_outputs": 2})]:
        nodes = [("Split", ["x"], {"axis": 1, "outputs": ["a", "b"], **options}), ("Tanh", ["a"], {})]
        assert_equals_ort(model_of(nodes, opset=opset))


@pytest.mark.parametrize(
    ("kernel", "stride", "pads", "extra", "groups"),
    [
        (9, 4, [4, 4, 4, 4], 3, 1), (9, 3, [4, 4, 4, 4], 2, 1), (9, 2, [4, 4, 4, 4], 1, 2), (4, 2, [1, 1, 1, 1], 0, 1),
        (2, 2, [0, 0, 0, 0], 0, 1), (3, 1, [1, 1, 1, 1], 0, 1), (6, 3, [1, 2, 2, 1], 0, 4), (8, 2, [0, 6, 6, 0], 0, 1),
    ],
)  # fmt: skip
def test_transposed_convolution(kernel, stride, pads, extra, groups):
    options = {"strides": [stride] * 2, "pads": pads, "output_padding": [extra] * 2, "group": groups}
    constants = {"w": normal(4, 3, kernel, kernel), "b": normal(3 * groups)}
    assert_equals_ort(model_of([("ConvTranspose", ["x", "w", "b"], options)], constants))


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("kernel", [5, 6])
def test_transposed_convolution_of_the_same_size(auto, kernel):
    options = {"strides": [2, 2], "auto_pad": auto}
    assert_equals_ort(model_of([("ConvTranspose", ["x", "w"], options)], {"w": normal(4, 3, kernel, kernel)}))


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize(
    "options",
    [
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        {"mode": "nearest", "coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_ceil"},
        {"mode": "nearest"},
        {"mode": "linear"},
        {"mode": "cubic"},
        {"mode": "cubic", "cubic_coeff_a": -0.5},
    ],
)
def test_resize(options, factor):
    scales = {"s": np.array([1, 1, factor, factor], np.float32)}
    assert_equals_ort(model_of([("Resize", ["x", "", "s"], options)], scales))


def test_resize_of_named_axes():
    scales = {"s": np.array([2, 2], np.float32)}
    assert_equals_ort(model_of([("Resize", ["x", "", "s"], {"axes": [2, 3], "mode": "linear"})], scales, opset=18))


def test_half_precision_is_widened():
    w, b = normal(3, 4, 3, 3).astype(np.float16), normal(3).astype(np.float16)
    half = model_of([("Conv", ["x", "w", "b"], {"pads": [1] * 4})], {"w": w, "b": b}, kind=TensorProto.FLOAT16)
    graph, tensors = from_onnx(half)
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float32)}
    assert np.array_equal(tensors[graph.nodes[0].weight], w.astype(np.float32))


def test_fixed_and_free_sizes_give_the_same_graph():
    nodes, constants = CASES["shuffle_crd"]
    fixed = from_onnx(model_of(nodes, constants, size=(8, 9)))
    assert fixed[0] == from_onnx(model_of(nodes, constants))[0]


@pytest.mark.parametrize("seed", range(30))
def test_what_is_written_is_read_back(seed):
    graph, tensors = optimize(*random_graph(seed))
    back = optimize(*from_onnx(to_onnx(graph, tensors)))
    x = np.random.default_rng(seed).random((3, 5, 6))
    expected = reference.run(graph, tensors, x)
    assert np.abs(reference.run(*back, x) - expected).max() <= 1e-5 * max(np.abs(expected).max(), 1)


def test_local_functions_are_inlined():
    function = helper.make_function(
        "mine", "Gate", ["a"], ["b"],
        [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    graph = helper.make_graph(
        [helper.make_node("Gate", ["x"], ["y"], domain="mine")],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, "H", "W"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, "H", "W"])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    assert_equals_ort(helper.make_model(graph, functions=[function], ir_version=8, opset_imports=opsets))


# ---- what is refused

W3 = {"w": normal(4, 4, 3, 3)}
UP = np.array([1, 1, 2, 2], np.float32)
REFUSED = {
    "stride": ([("Conv", ["x", "w"], {"strides": [2, 2], "pads": [1] * 4})], W3, r"Conv 'Conv_1': strides \[2, 2\]"),
    "dilation": ([("Conv", ["x", "w"], {"dilations": [2, 2], "pads": [2] * 4})], W3, r"dilations \[2, 2\]"),
    "valid": ([("Conv", ["x", "w"], {})], W3, r"pads \[0, 0, 0, 0\] with a kernel of 3x3"),
    "dynamic_weight": ([("Conv", ["x", "x"], {})], {}, "input 1 is computed from the image"),
    "reflect": (
        [("Pad", ["x", "p"], {"mode": "reflect"}), ("Conv", ["1", "w"], {})],
        {"p": i64([0, 0, 1, 1, 0, 0, 1, 1]), **W3},
        "Pad 'Pad_1': mode 'reflect'; padding with zeros is possible",
    ),
    "pad_alone": ([("Pad", ["x", "p"], {}), ("Relu", ["1"], {})], {"p": i64([0, 0, 1, 1, 0, 0, 1, 1])}, "padded image"),
    "transpose_crop": ([("ConvTranspose", ["x", "w"], {"strides": [2, 2]})], W3, "not 2 times the input"),
    "align_corners": (
        [("Resize", ["x", "", "s"], {"mode": "linear", "coordinate_transformation_mode": "align_corners"})],
        {"s": UP},
        "Resize 'Resize_1': linear with align_corners",
    ),
    "fraction": ([("Resize", ["x", "", "s"], {})], {"s": UP * 0.75}, r"factors \[0.75, 0.75, 1.5, 1.5\]"),
    "uneven": ([("Resize", ["x", "", "s"], {})], {"s": np.array([1, 1, 2, 4], np.float32)}, "one whole factor"),
    "ceil": ([("Resize", ["x", "", "s"], {"nearest_mode": "ceil"})], {"s": UP}, "nearest with half_pixel, ceil"),
    "spatial_constant": ([("Add", ["x", "c"], {})], {"c": normal(1, 1, 1, 7)}, r"constant of shape \(1, 1, 1, 7\)"),
    "divide_by_value": ([("Div", ["c", "x"], {})], {"c": np.float32(1)}, "Div 'Div_1'"),
    "divide_values": ([("Tanh", ["x"], {}), ("Div", ["x", "1"], {})], {}, "divided by a value"),
    "crop": (
        [("Slice", ["x", "s", "e", "a"], {})],
        {"s": i64([1]), "e": i64([2**31]), "a": i64([2])},
        r"1:2147483648:1 of axis 2",
    ),
    "pool": ([("GlobalAveragePool", ["x"], {})], {}, "GlobalAveragePool 'GlobalAveragePool_1' is not supported"),
    "sqrt_of_a_value": ([("Sqrt", ["x"], {})], {}, "known for constants only"),
    "softmax": ([("Softmax", ["x"], {"axis": 1})], {}, "supported are Add,"),
    "concat_rows": ([("Concat", ["x", "x"], {"axis": 2})], {}, "axis 2"),
    "transpose": ([("Transpose", ["x"], {"perm": [0, 2, 3, 1]})], {}, r"perm \[0, 2, 3, 1\]"),
    "flatten": ([("Reshape", ["x", "s"], {})], {"s": i64([1, -1])}, "pixel shuffle"),
    "depth": ([("DepthToSpace", ["x"], {"blocksize": 3})], {}, "block 3 for 4 channels"),
    "cast": ([("Cast", ["x"], {"to": 7})], {}, "cast between float types"),
    "large_constant": (
        [("ConstantOfShape", ["s"], {}), ("Add", ["x", "1"], {})], {"s": i64([1 << 20, 1 << 20])}, "may have more than"
    ),
    "large_range": (
        [("Range", ["a", "b", "c"], {}), ("Add", ["x", "1"], {})],
        {"a": i64(0), "b": i64(1 << 60), "c": i64(1)}, "may have more than",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_unsupported_operation_is_named(case):
    nodes, constants, message = REFUSED[case]
    with pytest.raises(UnsupportedOperationError, match=message):
        from_onnx(model_of(nodes, constants))


def test_custom_domain_is_named():
    model = model_of([("Relu", ["x"], {})])
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(UnsupportedOperationError, match=r"com\.example::Relu 'Relu_1'"):
        from_onnx(model)


def test_size_baked_into_a_free_network_is_found():
    nodes = [("Resize", ["x", "", "", "s"], {"mode": "linear"})]
    with pytest.raises(UnsupportedOperationError, match="Resize 'Resize_1'"):
        from_onnx(model_of(nodes, {"s": i64([1, 4, 48, 80])}))


@pytest.mark.parametrize("opset", [9, 10, 24])
def test_other_opsets(opset):
    with pytest.raises(ModelFileError, match=f"opset {opset}; 11 to 23 are read"):
        from_onnx(model_of([("Relu", ["x"], {})], opset=opset))


def test_channels_that_do_not_fit():
    nodes = [("Conv", ["x", "w"], {"pads": [1] * 4})]
    with pytest.raises(GraphError, match="does not fit 3 channels"):
        from_onnx(model_of(nodes, W3, channels=3))


def test_free_channels_and_two_inputs():
    with pytest.raises(ModelFileError, match="channels is free"):
        from_onnx(model_of([("Relu", ["x"], {})], channels="C"))
    model = model_of([("Relu", ["x"], {})])
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1, 4, 8, 8]))
    with pytest.raises(ModelFileError, match="2 inputs and 1 outputs"):
        from_onnx(model)


def test_network_that_returns_its_input():
    with pytest.raises(ModelFileError, match="no image computed from the input"):
        from_onnx(model_of([("Identity", ["x"], {})]))


def test_weights_that_are_not_finite():
    nodes = [("Conv", ["x", "w"], {"pads": [1] * 4})]
    with pytest.raises(GraphError, match="finite"):
        compile_model(model_of(nodes, {"w": np.full((4, 4, 3, 3), np.nan, np.float32)}))


def test_files_that_are_no_onnx(tmp_path):
    path = tmp_path / "x.onnx"
    with pytest.raises(ModelFileError, match="cannot be read"):
        compile_model(path)
    for data in (b"", b"no model at all", bytes(100), b"\x08\x08"):
        path.write_bytes(data)
        with pytest.raises(ModelFileError):
            compile_model(path)


def test_damaged_files_never_raise_anything_else(tmp_path):
    nodes, constants = CASES["shuffle_crd"]
    data = model_of(nodes, constants).SerializeToString()
    path, rng = tmp_path / "x.onnx", np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(len(data), size=rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged[: len(data) if rng.random() < 0.8 else rng.integers(len(data))]))
        with contextlib.suppress(FastSRError):
            compile_model(path)


def test_external_data(tmp_path):
    nodes, constants = [("Conv", ["x", "w"], {"pads": [1] * 4})], {"w": normal(4, 4, 3, 3)}
    path = tmp_path / "x.onnx"
    onnx.save(model_of(nodes, constants), path, save_as_external_data=True, location="x.data", size_threshold=0)
    assert np.array_equal(next(iter(compile_model(path).tensors.values())), constants["w"])
    with pytest.raises(ModelFileError, match="in another file"):
        from_onnx(onnx.load(path, load_external_data=False))
    (tmp_path / "x.data").unlink()
    with pytest.raises(ModelFileError, match=r"keep it beside the \.onnx file"):
        compile_model(path)
