"""What each ONNX operation means to the graph. Shapes are (N, C, H, W) at the size at which the network is read.

Each function below takes (builder, node) and returns one operand, or a list of them for several outputs.
A constant is a NumPy array; everything that depends on the pixels is a Value, or waits for the operation that
completes it (Padded, Folded).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Union

import numpy as np
import numpy.typing as npt

from fastsr.errors import UnsupportedOperationError
from fastsr.graph.builder import GraphBuilder, as_float32
from fastsr.graph.ir import INPUT, MAX_SCALE, ResizeMode

Known = npt.NDArray[Any]
Shape = tuple[int, ...]
Float64 = npt.NDArray[np.float64]
FLOAT_TYPES = (1, 10, 11, 16)  # TensorProto's float, float16, double, bfloat16
FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Value:
    """A value of the graph, by name. shape: (N, C, H, W)."""

    name: str
    shape: Shape


@dataclass(frozen=True)
class Padded:
    """A value with zeros around it, which a convolution takes. pads: top, left, bottom, right."""

    value: Value
    pads: tuple[int, int, int, int]


@dataclass(frozen=True)
class Folded:
    """A value reshaped to six axes, and transposed if `order` is given: a pixel shuffle that is half written."""

    value: Value
    shape: Shape
    order: Shape | None = None


@dataclass(frozen=True)
class Quantized:
    """A value between its QuantizeLinear and its DequantizeLinear. low, high: the ends of its integers, times scale."""

    value: Value
    low: float
    high: float
    step: tuple[float, int]  # scale and zero point


Operand = Union[Value, Padded, Folded, Quantized, Known, None]


@dataclass
class OnnxNode:
    """One node with its operands in place of their names."""

    op: str
    name: str
    where: str
    opset: int
    inputs: list[Operand]
    outputs: list[str]
    options: dict[str, Any]

    def unsupported(self, why: str) -> UnsupportedOperationError:
        return UnsupportedOperationError(f"{self.where}: {self.op} {self.name!r}: {why}")

    def is_constant(self) -> bool:
        return not any(isinstance(x, (Value, Padded, Folded, Quantized)) for x in self.inputs)

    def operand(self, index: int) -> Operand:
        return self.inputs[index] if index < len(self.inputs) else None

    def value(self, index: int = 0) -> Value:
        x = self.operand(index)
        if isinstance(x, Padded):
            raise self.unsupported("it reads a padded image; zero padding is possible only in front of a Conv")
        if isinstance(x, Folded):
            raise self.unsupported("it reads a reshaped image; only the three steps of a pixel shuffle are known")
        if isinstance(x, Quantized):
            raise self.unsupported("it reads integers; DequantizeLinear alone does, behind a QuantizeLinear")
        if not isinstance(x, Value):
            raise self.unsupported(f"its input {index} is a constant, a value computed from the image is needed")
        return x

    def constant(self, index: int) -> Known | None:
        x = self.operand(index)
        if x is None or isinstance(x, np.ndarray):
            return x
        raise self.unsupported(f"its input {index} is computed from the image's pixels, a constant is needed")

    def needed(self, index: int) -> Known:
        x = self.constant(index)
        if x is None:
            raise self.unsupported(f"its input {index} is missing")
        return x

    def ints(self, index: int, option: str) -> list[int] | None:
        """Return whole numbers that are an input in newer opsets and an option in older ones."""
        x = self.constant(index)
        if x is not None:
            return [int(v) for v in x.reshape(-1)]
        return [int(v) for v in self.options[option]] if option in self.options else None

    def text(self, option: str, default: str) -> str:
        value = self.options.get(option, default)
        return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)

    def axis(self, default: int) -> int:
        return int(self.options.get("axis", default)) % 4

    def per_channel(self, constant: Known, x: Value) -> Float64:
        """Return a constant that is broadcast over x (N, C, H, W) as (C,)."""
        shape = (1,) * (4 - constant.ndim) + constant.shape
        if len(shape) != 4 or shape[0] != 1 or shape[2:] != (1, 1) or shape[1] not in (1, x.shape[1]):
            raise self.unsupported(
                f"a constant of shape {constant.shape} on {x.shape[1]} channels; one number, or one for each channel "
                "(C, 1, 1), is possible"
            )
        return np.broadcast_to(constant.astype(np.float64).reshape(-1), (x.shape[1],))


Operation = Callable[[GraphBuilder, OnnxNode], Union[Operand, list[Operand]]]


def apply(b: GraphBuilder, node: OnnxNode) -> list[Operand]:
    """Append what `node` means to the graph; return its outputs. Raises UnsupportedOperationError."""
    if node.op not in OPERATIONS:
        raise node.unsupported("it is known for constants only, and this one depends on the pixels")
    result = OPERATIONS[node.op](b, node)
    return result if isinstance(result, list) else [result]


# ---- convolutions


def _conv(b: GraphBuilder, node: OnnxNode) -> Operand:
    x = node.operand(0)
    x, around = (x.value, x.pads) if isinstance(x, Padded) else (node.value(), (0, 0, 0, 0))
    w = _kernel(node)
    kernel: Shape = w.shape[2:]
    if set(node.options.get("strides", [1, 1])) != {1}:
        raise node.unsupported(f"strides {list(node.options['strides'])}; 1 is possible")
    auto = node.text("auto_pad", "NOTSET")
    own = _same_pads([k - 1 for k in kernel], auto) if auto.startswith("SAME") else node.options.get("pads", [0] * 4)
    top, left, bottom, right = (int(a) + p for a, p in zip(own, around, strict=True))
    if (top + bottom, left + right) != (kernel[0] - 1, kernel[1] - 1) or min(top, left, bottom, right) < 0:
        raise node.unsupported(
            f"pads {[top, left, bottom, right]} with a kernel of {kernel[0]}x{kernel[1]} change the image's size; "
            "zero padding that keeps it is needed"
        )
    # A kernel of even size, or one padded unevenly, is an odd one with zeros.
    ry, rx = max(top, bottom), max(left, right)
    w = np.pad(w, ((0, 0), (0, 0), (ry - top, ry - bottom), (rx - left, rx - right)))
    y = b.conv(x.name, w, _bias(node, w.shape[0]), groups=int(node.options.get("group", 1)), name=node.name)
    return Value(y, (x.shape[0], w.shape[0], *x.shape[2:]))


def _conv_transpose(b: GraphBuilder, node: OnnxNode) -> Operand:
    """Write a transposed convolution of stride s as a convolution to s^2 channels for each, and a pixel shuffle.

    Output s*q + r takes input q + d through tap k = r + p - s*d, p being the padding before.
    """
    x, w = node.value(), _kernel(node)
    groups = int(node.options.get("group", 1))
    s = int(node.options.get("strides", [1, 1])[0])
    if set(node.options.get("strides", [1, 1])) != {s} or not 1 <= s <= MAX_SCALE:
        raise node.unsupported(f"strides {list(node.options['strides'])}; equal ones of 1 to {MAX_SCALE} are possible")
    extra = [int(v) for v in node.options.get("output_padding", [0, 0])]
    kernel = w.shape[2:]
    auto = node.text("auto_pad", "NOTSET")
    excess = [k - s + e for k, e in zip(kernel, extra, strict=True)]
    pads = _same_pads(excess, auto) if auto.startswith("SAME") else [int(v) for v in node.options.get("pads", [0] * 4)]
    if "output_shape" in node.options or [pads[0] + pads[2], pads[1] + pads[3]] != excess:
        raise node.unsupported(
            f"kernel {kernel[0]}x{kernel[1]}, stride {s}, pads {pads}, output_padding {extra}: the result is not "
            f"{s} times the input; kernel - stride + output_padding = pads before + pads after is needed"
        )
    C, K = w.shape[:2]
    if x.shape[1] != C or C % groups:
        raise node.unsupported(f"weight {w.shape} with {groups} groups does not fit {x.shape[1]} channels")
    taps = [_transposed_taps(k, s, p) for k, p in zip(kernel, pads[:2], strict=True)]
    ry, rx = (max((abs(d) for _, d, _ in t), default=0) for t in taps)
    out = np.zeros((groups, K, s, s, C // groups, 2 * ry + 1, 2 * rx + 1), np.float32)
    grouped = w.reshape(groups, C // groups, K, *kernel).swapaxes(1, 2)
    for r, dy, ky in taps[0]:
        for c, dx, kx in taps[1]:
            out[:, :, r, c, :, ry + dy, rx + dx] = grouped[:, :, :, ky, kx]
    bias = _bias(node, groups * K)
    if bias is not None:
        bias = np.repeat(bias, s * s)
    flat = out.reshape(groups * K * s * s, C // groups, 2 * ry + 1, 2 * rx + 1)
    y = b.conv(x.name, flat, bias, groups=groups, name=node.name)
    y = b.pixel_shuffle(y, s, name=f"{node.name}.shuffle")
    return Value(y, (x.shape[0], groups * K, x.shape[2] * s, x.shape[3] * s))


def _transposed_taps(size: int, s: int, pad: int) -> list[tuple[int, int, int]]:
    """Return every (phase r, input offset d, kernel tap k) with k = r + pad - s*d."""
    return [((k - pad) % s, ((k - pad) % s + pad - k) // s, k) for k in range(size)]


def _kernel(node: OnnxNode) -> Known:
    w = node.needed(1)
    if w.ndim != 4:
        raise node.unsupported(f"its weight has {w.ndim} axes; images (N, C, H, W) are possible")
    if set(node.options.get("dilations", [1, 1])) != {1}:
        raise node.unsupported(f"dilations {list(node.options['dilations'])}; 1 is possible")
    return as_float32(w)


def _bias(node: OnnxNode, K: int) -> Known | None:
    bias = node.constant(2)
    if bias is not None and bias.shape != (K,):
        raise node.unsupported(f"bias {bias.shape}, ({K},) is needed")
    return bias


def _same_pads(excess: list[int], auto: str) -> list[int]:
    less, more = [e // 2 for e in excess], [e - e // 2 for e in excess]
    return less + more if auto == "SAME_UPPER" else more + less


def _pad(b: GraphBuilder, node: OnnxNode) -> Operand:
    x = node.operand(0)
    if not isinstance(x, Padded):
        x = Padded(node.value(), (0, 0, 0, 0))
    pads, filler, axes = node.ints(1, "pads"), node.constant(2), node.ints(3, "axes")
    axes = [a % 4 for a in axes] if axes is not None else [0, 1, 2, 3]
    if pads is None or len(pads) != 2 * len(axes):
        raise node.unsupported(f"pads {pads} for the axes {axes}")
    around = dict.fromkeys((a, side) for a in range(4) for side in (0, 1)) | {
        (a, side): pads[i + side * len(axes)] for i, a in enumerate(axes) for side in (0, 1)
    }
    if not any(around.values()):
        return x.value if not any(x.pads) else x
    if node.text("mode", "constant") != "constant" or (filler is not None and filler.any()):
        raise node.unsupported(f"mode {node.text('mode', 'constant')!r}; padding with zeros is possible")
    if any(around[a, side] for a in (0, 1) for side in (0, 1)):
        raise node.unsupported(f"pads {pads}; height and width alone can be padded")
    more = [around[2, 0], around[3, 0], around[2, 1], around[3, 1]]
    top, left, bottom, right = (p + (m or 0) for p, m in zip(x.pads, more, strict=True))
    return Padded(x.value, (top, left, bottom, right))


# ---- arithmetic


_ONE, _ZERO = np.ones(1), np.zeros(1)


def _binary(b: GraphBuilder, node: OnnxNode) -> Operand:
    left, right = node.operand(0), node.operand(1)
    if isinstance(left, np.ndarray):
        x = node.value(1)
        c = node.per_channel(left, x)
        if node.op == "Div":
            raise node.unsupported("a constant divided by a value; a value divided by a constant is possible")
        scale, offset = {"Add": (_ONE, c), "Sub": (-_ONE, c), "Mul": (c, _ZERO)}[node.op]
    elif isinstance(right, np.ndarray):
        x = node.value(0)
        c = node.per_channel(right, x)
        if node.op == "Div" and not c.all():
            raise node.unsupported("division by zero")
        c = 1 / c if node.op == "Div" else -c if node.op == "Sub" else c
        scale, offset = (_ONE, c) if node.op in ("Add", "Sub") else (c, _ZERO)
    else:
        return _values(b, node)
    return replace(x, name=b.affine(x.name, scale, offset, name=node.name))


def _values(b: GraphBuilder, node: OnnxNode) -> Operand:
    x, y = node.value(0), node.value(1)
    if node.op == "Div":
        raise node.unsupported("a value divided by a value; a value divided by a constant is possible")
    C = max(x.shape[1], y.shape[1])
    x, y = (_widened(b, v, C, node.name) if v.shape[1] == 1 else v for v in (x, y))
    if x.shape != y.shape:
        raise node.unsupported(f"values of shapes {x.shape} and {y.shape}; equal ones are possible")
    if node.op == "Sub":
        y = replace(y, name=b.affine(y.name, -1.0, name=f"{node.name}.negative"))
    join = b.mul if node.op == "Mul" else b.add
    return replace(x, name=join(x.name, y.name, name=node.name))


def _widened(b: GraphBuilder, x: Value, C: int, name: str) -> Value:
    """Repeat a value of one channel C times."""
    if C == 1:
        return x
    wide = b.conv(x.name, np.ones((C, 1, 1, 1)), name=f"{name}.widened")
    return Value(wide, (x.shape[0], C, *x.shape[2:]))


def _neg(b: GraphBuilder, node: OnnxNode) -> Operand:
    return replace(node.value(), name=b.affine(node.value().name, -1.0, name=node.name))


def _batch_norm(b: GraphBuilder, node: OnnxNode) -> Operand:
    x = node.value()
    if node.options.get("training_mode", 0):
        raise node.unsupported("training_mode 1; export the network in eval mode")
    gamma, beta, mean, var = (node.needed(i).astype(np.float64) for i in (1, 2, 3, 4))
    if any(v.shape != (x.shape[1],) for v in (gamma, beta, mean, var)):
        raise node.unsupported(f"its constants do not fit {x.shape[1]} channels")
    scale = gamma / np.sqrt(var + node.options.get("epsilon", 1e-5))
    return replace(x, name=b.affine(x.name, scale, beta - mean * scale, name=node.name))


# ---- activations


def _relu(b: GraphBuilder, node: OnnxNode) -> Operand:
    return replace(node.value(), name=b.step(node.value().name, "relu", name=node.name))


def _sigmoid(b: GraphBuilder, node: OnnxNode) -> Operand:
    return replace(node.value(), name=b.step(node.value().name, "sigmoid", name=node.name))


def _tanh(b: GraphBuilder, node: OnnxNode) -> Operand:
    return replace(node.value(), name=b.step(node.value().name, "tanh", name=node.name))


def _leaky_relu(b: GraphBuilder, node: OnnxNode) -> Operand:
    slope = float(node.options.get("alpha", 0.01))
    return replace(node.value(), name=b.step(node.value().name, "leaky_relu", slope, name=node.name))


def _prelu(b: GraphBuilder, node: OnnxNode) -> Operand:
    x = node.value()
    return replace(x, name=b.prelu(x.name, node.per_channel(node.needed(1), x), name=node.name))


def _clip(b: GraphBuilder, node: OnnxNode) -> Operand:
    x, low, high = node.value(), node.constant(1), node.constant(2)
    limits = [float(low.reshape(-1)[0]) if low is not None else -FLOAT32_MAX]
    limits.append(float(high.reshape(-1)[0]) if high is not None else FLOAT32_MAX)
    limits = [min(max(v, -FLOAT32_MAX), FLOAT32_MAX) for v in limits]
    if limits == [0, FLOAT32_MAX]:
        return replace(x, name=b.step(x.name, "relu", name=node.name))
    if limits == [-FLOAT32_MAX, FLOAT32_MAX]:
        return x
    return replace(x, name=b.step(x.name, "clip", *limits, name=node.name))


def _hard_sigmoid(b: GraphBuilder, node: OnnxNode) -> Operand:
    alpha, beta = float(node.options.get("alpha", 0.2)), float(node.options.get("beta", 0.5))
    y = b.affine(node.value().name, alpha, beta, name=f"{node.name}.affine")
    return replace(node.value(), name=b.step(y, "clip", 0, 1, name=node.name))


def _hard_swish(b: GraphBuilder, node: OnnxNode) -> Operand:
    x = node.value()
    y = b.step(b.affine(x.name, 1 / 6, 0.5, name=f"{node.name}.affine"), "clip", 0, 1, name=f"{node.name}.gate")
    return replace(x, name=b.mul(y, x.name, name=node.name))


# ---- channels


def _concat(b: GraphBuilder, node: OnnxNode) -> Operand:
    parts = [node.value(i) for i in range(len(node.inputs))]
    if node.axis(0) != 1:
        raise node.unsupported(f"axis {node.options.get('axis')}; 1, the channels, is possible")
    if len({(p.shape[0], *p.shape[2:]) for p in parts}) != 1:
        raise node.unsupported(f"values of shapes {[p.shape for p in parts]}; equal heights and widths are needed")
    N, _, H, W = parts[0].shape
    return Value(b.concat(*(p.name for p in parts), name=node.name), (N, sum(p.shape[1] for p in parts), H, W))


def _split(b: GraphBuilder, node: OnnxNode) -> list[Operand]:
    x = node.value()
    if node.axis(0) != 1:
        raise node.unsupported(f"axis {node.options.get('axis', 0)}; 1, the channels, is possible")
    C, count = x.shape[1], len(node.outputs)
    sizes = node.ints(1, "split")
    if sizes is None:
        each = -(-C // count)
        sizes = [each] * (count - 1) + [C - each * (count - 1)]
    if sum(sizes) != C or len(sizes) != count or min(sizes) < 1:
        raise node.unsupported(f"parts {sizes} of {C} channels")
    ends = np.cumsum(sizes)
    return [_channels(b, x, int(end - size), int(end), node.name) for size, end in zip(sizes, ends, strict=True)]


def _slice(b: GraphBuilder, node: OnnxNode) -> Operand:
    x = node.value()
    starts, ends = node.ints(1, "starts"), node.ints(2, "ends")
    if starts is None or ends is None or len(starts) != len(ends):
        raise node.unsupported("its starts and ends do not match")
    axes = node.ints(3, "axes") or list(range(len(starts)))
    steps = node.ints(4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis % 4]
        begin, stop = (min(max(v + size if v < 0 else v, 0), size) for v in (start, end))
        if step != 1 or begin >= stop or (axis % 4 != 1 and (begin, stop) != (0, size)):
            raise node.unsupported(
                f"{start}:{end}:{step} of axis {axis}, which is {size} long; a range of the channels is possible"
            )
        if axis % 4 == 1:
            x = _channels(b, x, begin, stop, node.name)
    return x


def _channels(b: GraphBuilder, x: Value, begin: int, end: int, name: str) -> Value:
    return Value(b.slice(x.name, begin, end, name=name), (x.shape[0], end - begin, *x.shape[2:]))


# ---- sizes


def _depth_to_space(b: GraphBuilder, node: OnnxNode) -> Operand:
    return _shuffled(b, node, node.value(), int(node.options["blocksize"]), node.text("mode", "DCR") == "DCR")


def _shuffled(b: GraphBuilder, node: OnnxNode, x: Value, s: int, depth_first: bool) -> Value:
    """depth_first: the channels come as (s, s, C), ONNX's DCR, and not as (C, s, s)."""
    N, C, H, W = x.shape
    if not 1 <= s <= MAX_SCALE or C % (s * s):
        raise node.unsupported(f"block {s} for {C} channels; a multiple of block^2, block <= {MAX_SCALE}, is needed")
    name = x.name
    if depth_first and s > 1:
        order = np.arange(C).reshape(s * s, C // (s * s)).T.reshape(-1)
        name = b.conv(name, np.eye(C)[order][:, :, None, None], name=f"{node.name}.order")
    return Value(b.pixel_shuffle(name, s, name=node.name), (N, C // (s * s), H * s, W * s))


def _reshape(b: GraphBuilder, node: OnnxNode) -> Operand:
    x = node.operand(0)
    if not isinstance(x, Folded):
        x = node.value()
    shape = _target_shape(node, x.shape)
    if isinstance(x, Value):
        if shape == x.shape:
            return x
        if len(shape) == 6:
            return Folded(x, shape)
        raise node.unsupported(f"{x.shape} to {shape}; only Reshape-Transpose-Reshape as a pixel shuffle is known")
    N, C, H, W = x.value.shape
    for order, axis, depth_first in (((0, 1, 4, 2, 5, 3), 2, False), ((0, 3, 4, 1, 5, 2), 1, True)):
        s = x.shape[axis]
        K = max(C // (s * s), 1)
        folded = (N, s, s, K, H, W) if depth_first else (N, K, s, s, H, W)
        if x.order == order and x.shape == folded and shape == (N, K, H * s, W * s):
            return _shuffled(b, node, x.value, s, depth_first)
    raise node.unsupported(
        f"{x.value.shape} as {x.shape}, transposed {x.order}, as {shape} is no pixel shuffle; "
        "(N, C, s, s, H, W) transposed (0, 1, 4, 2, 5, 3) is possible"
    )


def _target_shape(node: OnnxNode, shape: Shape) -> Shape:
    if isinstance(node.operand(0), Folded):
        folded = node.operand(0)
        assert isinstance(folded, Folded)
        shape = tuple(folded.shape[a] for a in folded.order) if folded.order is not None else folded.shape
    wanted = node.ints(1, "shape") or []
    if not node.options.get("allowzero", 0):
        wanted = [shape[i] if v == 0 and i < len(shape) else v for i, v in enumerate(wanted)]
    total, fixed = int(np.prod(shape)), int(np.prod([v for v in wanted if v != -1], initial=1))
    wanted = [total // max(fixed, 1) if v == -1 else v for v in wanted]
    if int(np.prod(wanted)) != total or min(wanted, default=0) < 1:
        raise node.unsupported(f"{shape} cannot become {wanted}; is a size fixed that should be free?")
    return tuple(wanted)


def _transpose(b: GraphBuilder, node: OnnxNode) -> Operand:
    x = node.operand(0)
    order = tuple(int(v) for v in node.options.get("perm", ()))
    if isinstance(x, Folded) and x.order is None:
        return replace(x, order=order)
    if order == (0, 1, 2, 3):
        return node.value()
    raise node.unsupported(f"perm {list(order)}; only Reshape-Transpose-Reshape as a pixel shuffle is known")


def _resize(b: GraphBuilder, node: OnnxNode) -> Operand:
    x = node.value()
    old = node.op == "Upsample"  # asymmetric, nearest or linear; gone since opset 10
    f = _factor(node, x, node.constant(1 if old else 2), None if old else node.constant(3))
    if f == 1:
        return x
    kind = node.text("mode", "nearest")
    place = "asymmetric" if old else node.text("coordinate_transformation_mode", "half_pixel")
    mode: ResizeMode
    if kind == "nearest":
        rule = "floor" if old else node.text("nearest_mode", "round_prefer_floor")
        if not _is_plain_nearest(f, place, rule):
            raise node.unsupported(
                f"nearest with {place}, {rule} at factor {f}; asymmetric with floor or half_pixel is possible"
            )
        mode = "nearest"
    elif place in ("half_pixel", "pytorch_half_pixel") and kind in ("linear", "cubic"):
        mode = "bilinear" if kind == "linear" else "bicubic"
    else:
        raise node.unsupported(f"{kind} with {place}; half_pixel (align_corners=False) is possible")
    if kind == "cubic" and node.options.get("exclude_outside", 0):
        raise node.unsupported("exclude_outside 1; 0 is possible")
    a = float(node.options.get("cubic_coeff_a", -0.75))
    y = b.resize(x.name, f, mode, a if mode == "bicubic" else -0.5, name=node.name)
    return Value(y, (*x.shape[:2], x.shape[2] * f, x.shape[3] * f))


def _factor(node: OnnxNode, x: Value, scales: Known | None, sizes: Known | None) -> int:
    axes = [int(a) % 4 for a in node.options.get("axes", range(4))]
    if sizes is not None and sizes.size:
        if node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise node.unsupported("keep_aspect_ratio_policy; 'stretch' is possible")
        if sizes.size != len(axes):
            raise node.unsupported(f"sizes {sizes.tolist()} for the axes {axes}")
        ratios = [float(v) / x.shape[a] for v, a in zip(sizes.reshape(-1), axes, strict=True)]
    elif scales is not None and scales.size == len(axes):
        ratios = [float(v) for v in scales.reshape(-1)]
    else:
        raise node.unsupported("it has neither sizes nor scales")
    by_axis = dict.fromkeys(range(4), 1.0) | dict(zip(axes, ratios, strict=True))
    f = by_axis[2]
    if by_axis[0] != 1 or by_axis[1] != 1 or by_axis[3] != f or f != round(f) or not 1 <= f <= MAX_SCALE:
        raise node.unsupported(
            f"factors {[by_axis[a] for a in range(4)]} for (N, C, H, W); "
            f"one whole factor of 1 to {MAX_SCALE} for height and width is possible"
        )
    return int(f)


def _is_plain_nearest(f: int, place: str, rule: str) -> bool:
    """Return whether output o is input floor(o / f), as far as ONNX's rules go."""
    o = np.arange(4 * f)
    if place not in ("asymmetric", "half_pixel", "pytorch_half_pixel"):
        return False
    at = o / f if place == "asymmetric" else (o + 0.5) / f - 0.5
    rounded = {
        "floor": np.floor(at),
        "ceil": np.ceil(at),
        "round_prefer_floor": np.ceil(at - 0.5),
        "round_prefer_ceil": np.floor(at + 0.5),
    }.get(rule)
    return rounded is not None and bool((np.clip(rounded, 0, 3) == o // f).all())


# ---- integers: where a QDQ network rounds a value, its range is noted, and the rounding is left out


def _quantize(b: GraphBuilder, node: OnnxNode) -> Operand:
    scale, zero = _step(node)
    kind = np.uint8 if node.constant(2) is None else node.needed(2).dtype
    if "output_dtype" in node.options or not np.issubdtype(kind, np.integer):
        raise node.unsupported(f"integers of type {kind} by output_dtype {node.options.get('output_dtype')}")
    ends = np.iinfo(kind)
    return Quantized(node.value(), scale * (ends.min - zero), scale * (ends.max - zero), (scale, zero))


def _dequantize(b: GraphBuilder, node: OnnxNode) -> Operand:
    q = node.operand(0)
    if not isinstance(q, Quantized):
        raise node.unsupported("its input is a value that was not made by a QuantizeLinear")
    if q.step != _step(node):
        raise node.unsupported(f"scale and zero point {_step(node)}; those of its QuantizeLinear, {q.step}, are needed")
    x = q.value
    if x.name == INPUT:  # the engine takes the image as it is
        return x
    if q.low == 0:  # quantizers leave out a Relu or Clip in front, since integers end there
        x = replace(x, name=b.step(x.name, "clip", q.low, q.high, name=node.name))
    b.bound(x.name, q.low, q.high)
    return x


def _step(node: OnnxNode) -> tuple[float, int]:
    scale, zero = node.needed(1), node.constant(2)
    if scale.size != 1 or (zero is not None and zero.size != 1):
        raise node.unsupported(f"{scale.size} scales; one for all of a value is possible (weights may have more)")
    return float(scale.reshape(-1)[0]), 0 if zero is None else int(zero.reshape(-1)[0])


# ---- no change


def _same(b: GraphBuilder, node: OnnxNode) -> Operand:
    return node.inputs[0]


def _dropout(b: GraphBuilder, node: OnnxNode) -> Operand:
    training = node.constant(2)
    if training is not None and training.any():
        raise node.unsupported("training_mode 1; export the network in eval mode")
    return node.value()


def _cast(b: GraphBuilder, node: OnnxNode) -> Operand:
    if node.op == "Cast" and int(node.options["to"]) not in FLOAT_TYPES:
        raise node.unsupported(f"type {node.options['to']}; a cast between float types is possible")
    return node.inputs[0]


def _shape(b: GraphBuilder, node: OnnxNode) -> Operand:
    shape = node.value().shape
    return np.array(shape[slice(node.options.get("start", 0), node.options.get("end", None))], np.int64)


OPERATIONS: dict[str, Operation] = {
    "Add": _binary,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "CastLike": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "DequantizeLinear": _dequantize,
    "Div": _binary,
    "Dropout": _dropout,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "Identity": _same,
    "LeakyRelu": _leaky_relu,
    "Mul": _binary,
    "Neg": _neg,
    "PRelu": _prelu,
    "Pad": _pad,
    "QuantizeLinear": _quantize,
    "Relu": _relu,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Sigmoid": _sigmoid,
    "Slice": _slice,
    "Split": _split,
    "Sub": _binary,
    "Tanh": _tanh,
    "Transpose": _transpose,
    "Upsample": _resize,
}

# Evaluated at once where they do not depend on the pixels: sizes, and weights that are computed.
# fmt: off
ELEMENTWISE = frozenset([
    "Add", "And", "Clip", "Div", "Equal", "Greater", "Less", "Max", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Where"
])
CONSTANT_OPERATIONS = ELEMENTWISE | frozenset([
    "Abs", "Cast", "CastLike", "Ceil", "Concat", "Constant", "ConstantOfShape", "DequantizeLinear", "Exp", "Expand",
    "Flatten", "Floor", "Gather", "Identity", "Neg", "Not", "QuantizeLinear", "Range", "Reciprocal", "ReduceProd",
    "Reshape", "Round", "Shape", "Size", "Slice", "Split", "Sqrt", "Squeeze", "Tile", "Transpose", "Unsqueeze"
])
# fmt: on
