"""The native engine's promises: the same bits however a result is computed, and the right ones."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from fastsr import _native
from fastsr.errors import OptionError, PixelValueError
from fastsr.graph import reference
from fastsr.models import open_model

NETWORKS = [("fmen", 4), ("fmen", 3), ("fmen", 2), ("vdsr", 2), ("vdsr", 3), ("vdsr", 4), ("srresnet", 4)]
BASELINES = [("bicubic", 3), ("bilinear", 2), ("nearest", 4)]
# One pixel, one row, one column, odd, prime, wider than tall, beyond one vector, beyond one segment.
SHAPES = [(1, 1), (1, 29), (31, 1), (2, 2), (7, 13), (17, 67), (5, 211)]
UNIT = (1.0, 0.0, 1.0, 0.0, 0.0, 0.0)  # values as they are
ALL_LEVELS = [name for name, level in _native.isa_levels().items() if level["usable"]]
INTEGER_LEVELS = [n for n in ALL_LEVELS if not n.endswith("_bf16")]  # those differ in bf16 only: test_bf16.py
LEVELS = [n for n in ALL_LEVELS if "_" not in n]  # and these in integers: test_int8.py


def native_model(name, scale):
    model = open_model(name, scale)
    return model, _native.Model(model.to_bytes())


def run(network, x, *, box=None, mapping=UNIT, origin=(0, 0), shape=None, **options):
    h, w = shape or x.shape[:2]
    box = box or (0, 0, w, h)
    s = network.scale
    out = np.full(((box[3] - box[1]) * s, (box[2] - box[0]) * s, network.out_channels), 77, x.dtype)
    network.run(x, out, h, w, origin, box, mapping, _native.Options(**options))
    return out


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize(("name", "scale"), NETWORKS + BASELINES)
@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 29), (31, 1), (7, 13)])
def test_equals_slow_reference(name, scale, channels, h, w, random_image):
    model, native = native_model(name, scale)
    x = random_image(h, w, channels, "float32")
    wanted = reference.run(model.graph(scale, channels), model.tensors, x.transpose(2, 0, 1)).transpose(1, 2, 0)
    got = run(native.network(scale, channels), x)
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= 2e-5


@pytest.mark.parametrize(("name", "scale"), NETWORKS)
def test_equals_pytorch(name, scale, random_image):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    from fastsr.backends.torch_ref import TorchRunner

    model, native = native_model(name, scale)
    x = random_image(41, 53, 3, "float32")
    wanted = TorchRunner(model.graph(scale, 3), model.tensors).run(x.transpose(2, 0, 1)).transpose(1, 2, 0)
    assert np.abs(run(native.network(scale, 3), x) - wanted).max() <= 2e-5


@pytest.mark.parametrize(("name", "scale"), NETWORKS + BASELINES)
@pytest.mark.parametrize(("h", "w"), SHAPES)
def test_same_bits_for_threads_strips_and_levels(name, scale, h, w, random_image):
    _, native = native_model(name, scale)
    x = random_image(h, w, 3, "float32")
    wanted = run(native.network(scale, 3, LEVELS[-1]), x, threads=1, strip=h)
    for level in LEVELS[1:]:
        network = native.network(scale, 3, level)
        for threads in (1, 2, 4):
            for strip in (1, 3, 8):
                assert same_bits(run(network, x, threads=threads, strip=strip), wanted), (level, threads, strip)
    if h * w <= 91:  # the scalar level is slow
        assert same_bits(run(native.network(scale, 3, "scalar"), x, threads=2), wanted)


@pytest.mark.parametrize(("name", "scale"), NETWORKS + BASELINES)
def test_region_is_the_crop_of_the_whole(name, scale, random_image):
    _, native = native_model(name, scale)
    network = native.network(scale, 3)
    h, w = 61, 83
    x = random_image(h, w, 3, "float32")
    whole = run(network, x)
    boxes = [(0, 0, 1, 1), (82, 60, 83, 61), (40, 30, 41, 31), (0, 10, 83, 11), (13, 0, 14, 61), (5, 7, 60, 41)]
    for left, top, right, bottom in boxes:
        box = (left, top, right, bottom)
        crop = whole[top * scale : bottom * scale, left * scale : right * scale]
        for strip in (0, 1):
            assert same_bits(run(network, x, box=box, strip=strip), np.ascontiguousarray(crop)), box
        # The same from nothing but the pixels that the plan says are read.
        reads = network.reads(h, w, box)
        part = x[reads[1] : reads[3], reads[0] : reads[2]]
        got = run(network, part, box=box, origin=(reads[1], reads[0]), shape=(h, w))
        assert same_bits(got, np.ascontiguousarray(crop)), box


@pytest.mark.parametrize(("name", "scale"), NETWORKS)
def test_panels_within_a_budget_give_the_same_bits(name, scale, random_image):
    _, native = native_model(name, scale)
    network = native.network(scale, 3)
    h, w = 11, 700  # wide: the halo of a panel in tiles is
    x = random_image(h, w, 3, "float32")
    whole = run(network, x)
    full = network.plan(h, w, (0, 0, w, h), _native.Options(strip=1))
    budget = full["memory"] * 4 // 5
    plan = network.plan(h, w, (0, 0, w, h), _native.Options(max_memory=budget))
    assert plan["panels"] > 1
    assert plan["memory"] <= budget
    assert same_bits(run(network, x, max_memory=budget), whole)


def test_panels_wider_than_any_table():
    """Three million columns in panels: each window is as wide as its panel needs."""
    _, native = native_model("nearest", 2)
    x = (np.arange(3_000_000) % 251).astype(np.uint8)[None, :, None]
    got = run(native.network(2, 1), x, mapping=(1.0, 0.0, 1.0, 0.0, 0.0, 255.0), max_memory=40_000_000, threads=1)
    assert np.array_equal(got, x.repeat(2, 0).repeat(2, 1))


def test_flush_to_zero_in_the_caller_changes_nothing(random_image):
    """PyTorch can set the calling thread to flush subnormal numbers; results stay those of the other threads."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    _, native = native_model("nearest", 2)
    x = np.full((40, 40, 1), 1e-42, np.float32)
    wanted = run(native.network(2, 1), x, threads=1)
    assert wanted.all()
    torch.set_flush_denormal(True)
    try:
        assert same_bits(run(native.network(2, 1), x, threads=1), wanted)
    finally:
        torch.set_flush_denormal(False)


def test_halo_is_exact(random_image):
    """Computed directly, a pixel just inside the halo changes the result; one outside never does."""
    _, native = native_model("fmen", 4)
    network = native.network(4, 3, winograd=False)
    assert network.halo == (34, 34)
    x = random_image(71, 71, 3, "float32")
    box = (35, 35, 36, 36)
    wanted = run(network, x, box=box)
    inside, outside = x.copy(), x.copy()
    outside[0] += 0.5
    outside[:, 70] += 0.5
    inside[1:70, 1:70] += 0.5
    assert same_bits(run(network, outside, box=box), wanted)
    assert not same_bits(run(network, inside, box=box), wanted)


@pytest.mark.parametrize("level", LEVELS)
def test_forced_isa_level_ran(level):
    """FASTSR_ISA forces a level: its own counter of convolved rows moves, the others' do not."""
    code = (
        "import numpy as np, fastsr\n"
        "from fastsr import _native\n"
        "x = np.random.default_rng(0).random((5, 7, 3), dtype=np.float32)\n"
        "sr = fastsr.load('fmen', threads=1)\n"
        "sr.upscale(x)\n"
        "print(sr.isa, {k: v['conv_rows'] for k, v in _native.isa_levels().items()})\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "FASTSR_ISA": level},
        capture_output=True,
        text=True,
        check=True,
    )
    isa, _, counts = result.stdout.strip().partition(" ")
    assert isa == level
    ran = {name: rows for name, rows in ast.literal_eval(counts).items() if rows}
    assert list(ran) == [level]


def test_unknown_isa_level():
    _, native = native_model("fmen", 4)
    with pytest.raises(OptionError, match=r"sse9.*usable: scalar"):
        native.network(4, 3, "sse9")


@pytest.mark.parametrize(("name", "scale"), NETWORKS)
def test_eight_python_threads_on_one_network(name, scale, random_image):
    _, native = native_model(name, scale)
    network = native.network(scale, 3)
    shapes = [(7, 13), (7, 13), (1, 29), (11, 17)]
    images = [random_image(*shapes[i % 4], 3, "uint8", seed=i) for i in range(8)]
    mapping = (1 / 255, 0.0, 255.0, 0.0, 0.0, 255.0)
    wanted = [run(network, x, mapping=mapping, threads=1) for x in images]
    failures = []

    def work(i):
        for _ in range(4):
            if not same_bits(run(network, images[i], mapping=mapping, threads=2), wanted[i]):
                failures.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_gil_is_released(random_image):
    """Another Python thread moves on while the engine works."""
    _, native = native_model("srresnet", 4)
    network = native.network(4, 3)
    x = random_image(48, 64, 3, "float32")
    ticks = 0
    stop = threading.Event()

    def tick():
        nonlocal ticks
        while not stop.wait(0.001):
            ticks += 1

    ticker = threading.Thread(target=tick)
    ticker.start()
    before = ticks
    run(network, x, threads=1)
    during = ticks - before
    stop.set()
    ticker.join()
    assert during >= 3


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_any_strides(dtype, random_image):
    _, native = native_model("fmen", 4)
    network = native.network(4, 3)
    mapping = UNIT if dtype == "float32" else (1e-4, 0.1, 1e4, -1e3, 0.0, 255.0)
    x = random_image(9, 14, 3, dtype)
    wanted = run(network, x, mapping=mapping)
    planar = np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0)
    wide = np.zeros((18, 42, 5), dtype)
    wide[::-2, ::3, 1:4] = x
    backwards = np.ascontiguousarray(x[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]
    read_only = x.copy()
    read_only.flags.writeable = False
    for view in (planar, wide[::-2, ::3, 1:4], backwards, read_only):
        assert same_bits(run(network, view, mapping=mapping), wanted)
    target = np.zeros((80, 120, 4), dtype)[2:74:2, 1:113:2, 3:0:-1]
    network.run(x, target, 9, 14, (0, 0), (0, 0, 14, 9), mapping, _native.Options())
    assert same_bits(np.ascontiguousarray(target), wanted)


@pytest.mark.parametrize(("dtype", "low", "high"), [("uint8", 0, 255), ("uint16", 0, 65535), ("int16", -32768, 32767)])
def test_integers_are_rounded_half_to_even_and_clamped(dtype, low, high):
    """Nearest-neighbour enlargement with a gain shows the conversion alone."""
    _, native = native_model("nearest", 2)
    network = native.network(2, 1)
    x = np.arange(low, high + 1, max((high - low) // 997, 1)).astype(dtype)[None, :, None]
    got = run(network, x, mapping=(1.0, 0.0, 0.5, 0.0, float(low), float(high)))
    wanted = np.clip(np.rint(x.astype(np.float64) * 0.5), low, high)
    assert (got[::2, ::2] == wanted).all()
    stretched = run(network, x, mapping=(1.0, 0.0, 3.0, 7.0, float(low), float(high)))
    assert (stretched[1::2, 1::2] == np.clip(x.astype(np.float64) * 3 + 7, low, high)).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_refused(bad, random_image):
    _, native = native_model("fmen", 4)
    x = random_image(21, 17, 3, "float32")
    x[13, 4, 1] = bad
    with pytest.raises(PixelValueError, match="NaN or infinite"):
        run(native.network(4, 3), x)
    x[13, 4, 1] = 0.5  # and the network still works afterwards
    run(native.network(4, 3), x)


def test_exceptions_in_callbacks_come_through(random_image):
    _, native = native_model("fmen", 4)
    network = native.network(4, 3)
    x = random_image(60, 60, 3, "float32")
    out = np.empty((240, 240, 3), np.float32)

    def progress(done, total):
        raise RuntimeError(f"stop at {done} of {total}")

    with pytest.raises(RuntimeError, match="of 240"):
        network.run(x, out, 60, 60, (0, 0), (0, 0, 60, 60), UNIT, _native.Options(), progress)
    assert same_bits(run(network, x), run(network, x, threads=1))
