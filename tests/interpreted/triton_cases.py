"""The Triton kernels in Triton's interpreter: TRITON_INTERPRET=1 must be set before Triton is imported.

Run by tests/test_triton.py in one process of its own; by hand:
    TRITON_INTERPRET=1 python -m pytest tests/interpreted/triton_cases.py
"""

from __future__ import annotations

import os
import weakref

import numpy as np
import pytest
import torch

import fastsr
from fastsr.backends.base import Job, ValueRange
from fastsr.backends.triton import executor, runner
from fastsr.backends.triton.plan import DEFAULT, SINGLE, Fusion, lower
from fastsr.backends.triton.runner import TritonRunner
from fastsr.errors import (
    BackendError,
    DeviceMemoryError,
    DtypeError,
    MemoryBudgetError,
    NonFiniteWarning,
    OptionError,
    PixelValueError,
    ShapeError,
)
from fastsr.graph import reference
from fastsr.graph.builder import GraphBuilder
from fastsr.graph.ir import INPUT
from fastsr.graph.model import CompiledModel
from fastsr.graph.passes import PASSES, fuse_pointwise
from tests.random_graphs import random_graph

assert os.environ.get("TRITON_INTERPRET") == "1", "set TRITON_INTERPRET=1"
# The largest difference, relative to the largest result above 1. Those of docs/gpu.md; bfloat16 has 3 bits less than
# fp16.
TOLERANCES = {"fp32": 1e-5, "tf32": 1e-3, "fp16": 2e-3, "bf16": 16e-3}
PRECISIONS = tuple(TOLERANCES)  # int8 and fp8: eight_bit_cases.py
SHAPES = [(1, 1), (7, 13), (1, 9), (11, 2)]
WHOLE = Fusion(hfab="whole")


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Fill what is allocated with NaN, or a number that no test expects, so that nothing unwritten looks right."""
    torch.set_num_threads(1)
    empty = torch.empty

    def filled(*args, **kwargs):
        tensor = empty(*args, **kwargs)
        return tensor.fill_(float("nan") if tensor.is_floating_point() else 77)

    monkeypatch.setattr(torch, "empty", filled)


def weights(rng, *shape):
    return rng.standard_normal(shape) / max(np.sqrt(np.prod(shape[1:])), 1)


def image(h, w, channels=3, seed=0):
    return np.random.default_rng([seed, h, w]).random((h, w, channels), np.float32)


def run(graph, tensors, x, precision="fp32", fusion=DEFAULT):
    """Return the network's result on x (h, w, C) as (H, W, K), from a device poisoned before."""
    h, w = x.shape[:2]
    plan = lower(graph, tensors, fusion)
    window = executor.Window(0, 0, h * graph.scale, w * graph.scale)
    made = executor.Executor(plan, precision, torch.device("cpu"))
    captured = executor.capture(made, (h, w), torch.float32, window, ValueRange(0, 1))
    captured.pixels.copy_(torch.from_numpy(x))
    captured.replay()
    assert not captured.flag.item()
    return captured.result.numpy(), plan


def check(graph, tensors, shape, precision="fp32", fusion=DEFAULT):
    x = image(*shape, graph.channels)
    y, plan = run(graph, tensors, x, precision, fusion)
    wanted = reference.run(graph, tensors, x.transpose(2, 0, 1)).transpose(1, 2, 0)
    assert y.shape == wanted.shape
    worst = np.abs(y - wanted).max() / max(1, np.abs(wanted).max())
    assert worst <= TOLERANCES[precision], f"{worst:.1e}"
    return plan


def one_conv(C, K, kh, kw, groups=1, seed=1):
    """A convolution between values: behind one from the image, before one to it."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(3)
    x = b.step(b.conv(INPUT, weights(rng, C, 3, 1, 1), weights(rng, C)), "tanh")
    y = b.conv(x, weights(rng, K, C // groups, kh, kw), weights(rng, K), groups=groups)
    return b.finish(b.conv(b.step(y, "leaky_relu", 0.1), weights(rng, 3, K, 1, 1)))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_conv(shape, precision):
    check(*one_conv(50, 50, 3, 3), shape, precision, SINGLE)


@pytest.mark.parametrize(
    ("C", "K", "kh", "kw", "groups"), [(3, 5, 9, 9, 1), (70, 66, 3, 1, 1), (12, 12, 5, 3, 12), (8, 4, 1, 7, 2)]
)
def test_conv_of_other_shapes(C, K, kh, kw, groups):
    check(*one_conv(C, K, kh, kw, groups), (7, 13))


def chain_graph(width, mid, erbs, seed=2):
    """ERB(width), then an HFAB with `erbs` ERBs of `mid` channels, between a head and a tail, as in FMEN."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(3)

    def conv(x, K, slope=None):
        y = b.conv(x, weights(rng, K, b.channels[x], 3, 3), weights(rng, K))
        return y if slope is None else b.step(y, "leaky_relu", slope)

    x = conv(conv(conv(INPUT, width), width, 0.1), width)
    y = conv(x, mid, 0.1)
    for _ in range(erbs):
        y = conv(conv(y, mid, 0.1), mid)
    y = b.mul(b.step(conv(y, width), "sigmoid"), x)
    graph, tensors = b.finish(b.pixel_shuffle(conv(y, 12), 2))
    return fused(graph, tensors)


def fused(graph, tensors):
    for change in PASSES:
        graph, tensors = change(graph, tensors)
    return graph, tensors


@pytest.mark.parametrize(("precision", "fusion"), [*((p, DEFAULT) for p in PRECISIONS), ("fp16", WHOLE)])
def test_erb_and_hfab(precision, fusion):
    plan = check(*chain_graph(20, 12, 1), (7, 9), precision, fusion)
    assert [x.kernel for x in plan.launches].count("chain") == 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 10), (9, 3), (9, 10)])
def test_chains_equal_single_convolutions(shape):
    """Tiles meet without a seam: the fused network gives what the unfused one does, to the rounding."""
    graph, tensors = chain_graph(12, 8, 2)
    x = image(*shape)
    one, plan = run(graph, tensors, x)
    other, single = run(graph, tensors, x, fusion=SINGLE)
    assert len(plan.launches) < len(single.launches)
    assert np.abs(one - other).max() <= 2e-6


STEPS = {
    "relu": lambda b, x, r: b.step(x, "relu"),
    "sigmoid": lambda b, x, r: b.step(x, "sigmoid"),
    "tanh": lambda b, x, r: b.step(x, "tanh"),
    "clip": lambda b, x, r: b.step(x, "clip", -0.3, 0.4),
    "prelu": lambda b, x, r: b.prelu(x, weights(r, b.channels[x])),
    "affine": lambda b, x, r: b.affine(x, weights(r, b.channels[x]) + 1, weights(r, b.channels[x])),
}


@pytest.mark.parametrize("step", STEPS)
def test_steps_alone_and_behind_a_shuffle(step):
    """Each step in a convolution that shuffles, behind its shuffle, and in a launch of its own."""
    rng = np.random.default_rng(3)
    b = GraphBuilder(3)
    x = b.conv(INPUT, weights(rng, 20, 3, 3, 3), weights(rng, 20))
    y = STEPS[step](b, b.pixel_shuffle(STEPS[step](b, x, rng), 2), rng)
    z = STEPS[step](b, b.resize(x, 2, "nearest"), rng)
    graph, tensors = b.finish(b.concat(y, b.slice(z, 2, 5)))
    check(*fuse_pointwise(graph, tensors), (5, 7))


@pytest.mark.parametrize(
    ("mode", "cubic_a"), [("nearest", -0.5), ("bilinear", -0.5), ("bicubic", -0.5), ("bicubic", -0.75)]
)
def test_resize(mode, cubic_a):
    b = GraphBuilder(3)
    x = b.resize(b.resize(INPUT, 3, mode, cubic_a), 2, mode, cubic_a)
    check(*b.finish(b.add(x, b.resize(INPUT, 6, "nearest"))), (3, 5))


def test_many_operands():
    """More additions and multiplications than one launch takes, some of a value behind the shuffle."""
    rng = np.random.default_rng(4)
    b = GraphBuilder(3)
    others = [b.conv(INPUT, weights(rng, 12, 3, 1, 1)) for _ in range(5)]
    x = b.conv(INPUT, weights(rng, 12, 3, 3, 3))
    for i, other in enumerate(others):
        x = b.mul(x, other) if i % 2 else b.add(x, other)
    y = b.add(b.pixel_shuffle(x, 2), b.resize(INPUT, 2, "bilinear"))
    check(*fuse_pointwise(*b.finish(y)), (4, 5))


@pytest.mark.parametrize("seed", range(6))
def test_random_graphs(seed):
    check(*random_graph(seed, steps=9), [(7, 5), (1, 6), (5, 1)][seed % 3])


def test_networks_that_give_back_their_input():
    b = GraphBuilder(3)
    check(*b.finish(b.concat(b.slice(INPUT, 1, 3), b.slice(INPUT, 0, 1))), (3, 4))
    b = GraphBuilder(3)
    check(*b.finish(b.add(INPUT, INPUT)), (3, 4))
    b = GraphBuilder(4)
    check(*b.finish(b.pixel_shuffle(INPUT, 2)), (3, 4))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_whole_fmen(precision):
    """All of a small FMEN, from 8-bit pixels to 8-bit pixels, beside the CPU's engine."""
    model = tiny_fmen()
    x = (smooth(6, 11) * 255).astype(np.uint8)
    native = fastsr.load(model, scale=2, backend="native").upscale(x).astype(int)
    sr = fastsr.load(model, scale=2, backend="triton", precision=precision)
    assert (sr.backend, sr.precision) == ("triton", precision)
    worst = np.abs(sr.upscale(x) - native).max()
    assert worst <= {"fp32": 1, "tf32": 1, "fp16": 1, "bf16": 5}[precision]


def smooth(h, w):
    y, x, c = np.mgrid[0:h, 0:w, 0:3]
    return 0.5 + 0.4 * np.sin(0.7 * x + 0.5 * y * (c + 1) + c)


def tiny_fmen():
    graph, tensors = chain_graph(12, 8, 1)
    return CompiledModel("tiny", (graph,), tensors)


def two_convs():
    """A network with little work for tests of what is around the kernels."""
    rng = np.random.default_rng(5)
    b = GraphBuilder(3)
    x = b.conv(INPUT, weights(rng, 8, 3, 3, 3), weights(rng, 8))
    graph, tensors = b.finish(b.pixel_shuffle(b.conv(x, weights(rng, 12, 8, 3, 3)), 2))
    return CompiledModel("two", (graph,), tensors)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_pixels_and_value_ranges(dtype, random_image):
    x = random_image(5, 8, 3, dtype)
    model = tiny_fmen()
    options = {} if dtype != "uint16" else {"value_range": (1000, 40000)}
    wanted = fastsr.load(model, scale=2, backend="native").upscale(x, **options)
    y = fastsr.load(model, scale=2, backend="triton").upscale(x, **options)
    assert y.dtype == x.dtype
    limit = 1e-5 if dtype == "float32" else 1
    assert np.abs(y.astype(float) - wanted.astype(float)).max() <= limit
    if dtype != "float32":
        assert (y == wanted).mean() > 0.98


def test_half_floats_regions_and_tiles(random_image):
    model = two_convs()
    sr, native = (fastsr.load(model, scale=2, backend=name) for name in ("triton", "native"))
    x = random_image(6, 7, 3)
    y = sr.upscale(x)
    assert np.array_equal(sr.region(x, (3, 2, 6, 4)), y[4:8, 6:12])
    half = x.astype(np.float16) / 255
    assert np.abs(sr.upscale(half) - native.upscale(half)).max() < 2e-3
    tile = next(iter(sr.tiles(x.shape, 5)))
    left, top, right, bottom = tile.read
    assert np.array_equal(sr.upscale_tile(x[top:bottom, left:right], tile), y[:10, :10])


def test_bands_keep_the_memory_and_the_pixels(random_image, monkeypatch):
    """A bound on memory changes no pixel; what is allocated stays within it; the error states the least."""
    x = random_image(13, 3, 3)
    job = Job(13, 3, (0, 0, 3, 13), (0, 0), ValueRange(0, 255, 0, 255))
    made = TritonRunner(two_convs(), 2, 3, "fp32")
    whole = np.zeros((26, 6, 3), np.uint8)
    made.run(x, whole, job, None)
    everything = made.memory(13, 3, job.box, None)
    with pytest.raises(MemoryBudgetError) as raised:
        made.memory(13, 3, job.box, 1000)
    least = raised.value.least
    assert str(least) in str(raised.value)
    assert 1000 < least < everything
    sizes = []
    alive = []
    real = executor.capture

    def watched(*args):
        assert not [c for c in alive if c() is not None], "two sizes hold memory at once"
        captured = real(*args)
        alive.append(weakref.ref(captured))
        buffers = captured.buffers
        held = (*buffers.slots, *buffers.slabs.values(), buffers.flag, captured.pixels, captured.result)
        sizes.append(sum(t.numel() * t.element_size() for t in held))
        return captured

    monkeypatch.setattr(runner, "capture", watched)
    for limit in (least, (least + everything) // 2):
        banded = np.zeros_like(whole)
        made.release()
        made.run(x, banded, job, limit)
        assert np.array_equal(banded, whole)
        weights = made._executor("fp32").weight_bytes
        assert 0 < max(sizes) + weights <= limit
        assert len(made._captured) == 1
    assert len(sizes) >= 4


def test_device_out_of_memory_means_smaller_bands(random_image, monkeypatch):
    x = random_image(18, 2, 3)
    job = Job(18, 2, (0, 0, 2, 18), (0, 0), ValueRange(0, 255, 0, 255))
    made = TritonRunner(two_convs(), 2, 3, "fp32")
    whole, banded = np.zeros((2, 36, 4, 3), np.uint8)
    made.run(x, whole, job, None)
    made.release()
    real = executor.capture
    most = 9  # rows

    def small(*args):
        if args[1][0] > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return real(*args)

    monkeypatch.setattr(runner, "capture", small)
    made.run(x, banded, job, None)
    assert np.array_equal(banded, whole)
    most = 2
    made.release()
    with pytest.raises(DeviceMemoryError, match="at least") as raised:
        made.run(x, banded, job, None)
    assert str(raised.value.least) in str(raised.value)


def overflowing(factor):
    """A network whose middle reaches `factor` and whose result is the image again."""
    b = GraphBuilder(3)
    eye = np.eye(3)[:, :, None, None]
    x = b.conv(INPUT, eye * factor)
    return CompiledModel("big", (b.finish(b.conv(x, eye / factor))[0],), b.tensors)


@pytest.mark.filterwarnings("ignore:.*encountered in matmul:RuntimeWarning")  # NumPy, under the interpreter
def test_overflow_in_fp16_is_repeated_in_fp32(random_image):
    x = random_image(4, 5, 3)
    sr = fastsr.load(overflowing(1e6), scale=1, backend="triton", precision="fp16")
    with pytest.warns(NonFiniteWarning, match="fp32"):
        y = sr.upscale(x)
    assert np.array_equal(x, y)
    sr = fastsr.load(overflowing(1e38), scale=1, backend="triton")
    with pytest.raises(BackendError, match="not finite"):
        sr.upscale(np.full((2, 2, 3), 1e3, np.float32))


def test_tensors_in_and_out(random_image):
    """PyTorch tensors, any strides, and arrays that know DLPack only; the result stays where the image is."""
    sr = fastsr.load(two_convs(), scale=2, backend="triton")
    x = random_image(5, 8, 3)
    wanted = sr.upscale(x)
    planes = torch.from_numpy(x.transpose(2, 0, 1).copy())
    y = sr.upscale(planes.permute(1, 2, 0))
    assert isinstance(y, torch.Tensor)
    assert np.array_equal(y.numpy(), wanted)

    class Foreign:
        shape, dtype = x.shape, x.dtype
        __dlpack__ = planes.permute(1, 2, 0).__dlpack__
        __dlpack_device__ = planes.__dlpack_device__

    assert np.array_equal(sr.upscale(Foreign()).numpy(), wanted)
    with pytest.raises(ShapeError, match="H, W"):
        sr.upscale(planes)
    with pytest.raises(DtypeError, match="int32"):
        sr.upscale(planes.permute(1, 2, 0).int())
    with pytest.raises(PixelValueError):
        sr.upscale(torch.full((3, 3, 3), float("nan")))
    consistent = fastsr.load(two_convs(), scale=2, backend="triton", consistency="block-mean")
    with pytest.raises(OptionError, match="NumPy"):
        consistent.upscale(planes.permute(1, 2, 0))
