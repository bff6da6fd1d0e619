"""The back end for NVIDIA GPUs, on an emulated one: the same kernels and executor, run by the CPU."""

from __future__ import annotations

import shutil
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import pytest
from emulated_cuda import emulated_module
from random_graphs import random_graph

import fastsr
from fastsr import _native
from fastsr.backends import cuda
from fastsr.backends.base import Job, ValueRange
from fastsr.errors import (
    BackendUnavailableError,
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
from fastsr.graph.compiler import assemble

UNIT = (1.0, 0.0, 1.0, 0.0, 0.0, 0.0)
VALUES = ValueRange(0, 1)

if not sys.platform.startswith("linux") or shutil.which("cmake") is None or shutil.which("c++") is None:
    pytest.skip("Linux, cmake and a C++ compiler are needed", allow_module_level=True)
pytest.importorskip("pybind11")


@pytest.fixture(scope="module")
def emulated(tmp_path_factory):
    return emulated_module(tmp_path_factory)


@pytest.fixture
def gpu(emulated, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastsr._cuda", emulated)
    yield emulated
    emulated.schedule(0)
    emulated.set_device_memory(1 << 40)


def small_model(seed=1, gain=1.0, channels=3):
    """A network of two convolutions and a pixel shuffle, x2."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(channels)
    x = b.conv("input", gain * rng.standard_normal((10, channels, 3, 3)) / 3, rng.standard_normal(10))
    x = b.step(x, "leaky_relu", 0.1)
    x = b.pixel_shuffle(b.conv(x, rng.standard_normal((4 * channels, 10, 3, 3)) / 9, None), 2)
    graph, tensors = b.finish(x)
    return assemble("small", [(graph, {k: np.asarray(v, np.float32) for k, v in tensors.items()})])


def run(network, options, x, box=None):
    h, w = x.shape[:2]
    box = box or (0, 0, w, h)
    shape = (box[3] - box[1]) * network.scale, (box[2] - box[0]) * network.scale, network.out_channels
    out = np.full(shape, np.nan, np.float32)
    network.run(x, out, h, w, (0, 0), box, UNIT, options)
    return out


@pytest.mark.parametrize("seed", range(14))
def test_random_graphs(seed, gpu):
    """fp32 has the bits of the native engine's direct convolution; fp16 is near float64."""
    graph, tensors = random_graph(seed, channels=1 + seed % 4, steps=8 + seed % 13)
    model = assemble("random", [(graph, {k: np.asarray(v, np.float32) for k, v in tensors.items()})])
    blob = model.to_bytes()
    native = _native.Model(blob).network(graph.scale, graph.channels, winograd=False)
    exact, fast, slow = (
        gpu.Model(blob).network(graph.scale, graph.channels, precision, is_slow)
        for precision, is_slow in [("fp32", False), ("fp16", False), ("fp32", True)]
    )
    rng = np.random.default_rng([seed, 1])
    for h, w in [(1, 1), (1, 11), (7, 13)]:
        x = rng.standard_normal((h, w, graph.channels), dtype=np.float32)
        wanted = run(native, _native.Options(), x)
        gpu.schedule(seed)
        np.testing.assert_array_equal(run(exact, gpu.Options(strip=seed % 4), x), wanted)
        np.testing.assert_array_equal(run(slow, gpu.Options(), x), wanted)
        true = reference.run(model.graph(graph.scale, graph.channels), model.tensors, x.transpose(2, 0, 1))
        true = true.transpose(1, 2, 0)
        assert np.abs(run(fast, gpu.Options(strip=2), x) - true).max() <= 2e-2 * (1 + np.abs(true).max())
        left, top = int(rng.integers(w)), int(rng.integers(h))
        box = left, top, int(rng.integers(left, w)) + 1, int(rng.integers(top, h)) + 1
        np.testing.assert_array_equal(run(exact, gpu.Options(), x, box), run(native, _native.Options(), x, box))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("channels", [0, 3])
def test_pixel_types(dtype, channels, gpu, random_image):
    model = small_model(channels=channels or 1)
    x = random_image(9, 14, channels, dtype)
    got = fastsr.load(model, scale=2, backend="cuda").upscale(x)
    wanted = fastsr.load(model, scale=2, backend="native").upscale(x)
    assert got.dtype == x.dtype
    assert got.shape == wanted.shape
    assert np.abs(got.astype(np.float64) - wanted).max() <= (1e-5 if dtype == "float32" else 1)
    back = x[::-1, ::2]  # strides, of which some are negative
    np.testing.assert_array_equal(
        fastsr.load(model, scale=2, backend="cuda").upscale(back),
        fastsr.load(model, scale=2, backend="cuda").upscale(back.copy()),
    )


def test_a_shipped_model(gpu, random_image):
    x = random_image(5, 6, 3, "float32")
    upscaler = fastsr.load("fmen", backend="cuda")
    assert upscaler.backend == "cuda"
    native = fastsr.upscale(x, "fmen")
    assert np.abs(upscaler.upscale(x) - native).max() <= 2e-5
    fast = fastsr.load("fmen", backend="cuda", precision="fp16").upscale(x)
    assert 0 < np.abs(fast - native).max() <= 2e-3


def test_stream_and_memory(gpu, random_image):
    model = small_model()
    x = random_image(70, 40, 3)
    wanted = fastsr.load(model, scale=2, backend="cuda").upscale(x)
    with pytest.raises(MemoryBudgetError) as caught:
        fastsr.load(model, scale=2, backend="cuda", max_memory=1000).upscale(x)
    least = caught.value.least
    small = fastsr.load(model, scale=2, backend="cuda", max_memory=least)
    np.testing.assert_array_equal(small.upscale(x), wanted)
    with pytest.raises(MemoryBudgetError):
        fastsr.load(model, scale=2, backend="cuda", max_memory=least - 1).upscale(x)
    got = np.zeros_like(wanted)

    class Rows:
        shape, dtype = x.shape, x.dtype

        def read(self, y0, y1):
            return x[y0:y1].copy()

        def write(self, y0, rows):
            got[y0 : y0 + len(rows)] = rows

    fastsr.load(model, scale=2, backend="cuda").stream(Rows(), Rows())
    np.testing.assert_array_equal(got, wanted)
    calls = []
    fastsr.load(model, scale=2, backend="cuda").upscale(x, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (140, 140)


def test_little_device_memory(gpu, random_image):
    runner = cuda.CudaRunner(small_model(), 2, 3)
    x = random_image(40, 40, 3, "float32")
    job = Job(40, 40, (0, 0, 40, 40), (0, 0), VALUES)
    first, second = np.empty((2, 80, 80, 3), np.float32)
    runner.run(x, first, job, None)
    runner.release()
    gpu.set_device_memory(100_000)
    runner.run(x, second, job, None)
    np.testing.assert_array_equal(first, second)
    runner.release()
    gpu.set_device_memory(10_000)
    with pytest.raises(DeviceMemoryError, match="at least"):
        runner.run(x, second, job, None)


def test_many_threads(gpu, random_image):
    runner = cuda.CudaRunner(small_model(), 2, 3)
    images = [random_image(9 + i % 2, 14, 3, "float32") for i in range(8)]

    def upscale(x):
        y = np.empty((2 * x.shape[0], 28, 3), np.float32)
        runner.run(x, y, Job(x.shape[0], 14, (0, 0, 14, x.shape[0]), (0, 0), VALUES), None)
        return y

    wanted = [upscale(x) for x in images]
    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(upscale, images), wanted, strict=True):
            np.testing.assert_array_equal(got, want)


def test_what_fp16_cannot_hold_is_computed_again(gpu, random_image):
    model = small_model(gain=1e5)
    x = random_image(20, 9, 3, "float32")
    job = Job(20, 9, (0, 0, 9, 20), (0, 0), VALUES)
    exact, fast = np.empty((2, 40, 18, 3), np.float32)
    cuda.CudaRunner(model, 2, 3).run(x, exact, job, None)
    with pytest.warns(NonFiniteWarning, match="9 x 20"):
        cuda.CudaRunner(model, 2, 3, precision="fp16").run(x, fast, job, None)
    np.testing.assert_array_equal(exact, fast)
    assert np.isfinite(exact).all()


def test_bad_pixels_and_errors_in_callbacks(gpu, random_image):
    upscaler = fastsr.load(small_model(), scale=2, backend="cuda")
    x = random_image(20, 9, 3, "float32")
    x[17, 3, 1] = np.inf
    with pytest.raises(PixelValueError):
        upscaler.upscale(x)

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscaler.upscale(random_image(20, 9, 3), progress=stop)
    upscaler.upscale(random_image(20, 9, 3))


# ---- images on the device ----


class Cai:
    """Anybody's array on the device: here a NumPy array's memory."""

    def __init__(self, array, **more):
        self.array = array
        self.shape = array.shape
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "strides": array.strides,
            "version": 3,
            **more,
        }


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_device_images(precision, dtype, gpu, random_image):
    model = small_model()
    runner = cuda.CudaRunner(model, 2, 3, precision=precision)
    values = ValueRange(0, 255, 0, 255) if dtype == "uint8" else VALUES
    x = random_image(11, 8, 3, dtype)
    wanted = np.empty((22, 16, 3), dtype)
    runner.run(x, wanted, Job(11, 8, (0, 0, 8, 11), (0, 0), values), None)
    result = runner.run_tensor(Cai(x), values, None)
    assert isinstance(result, gpu.DeviceArray)
    assert result.shape == (22, 16, 3)
    np.testing.assert_array_equal(result.get(), wanted)
    np.testing.assert_array_equal(np.from_dlpack(result), wanted)
    del result
    np.testing.assert_array_equal(runner.run_tensor(x, values, None).get(), wanted)  # by DLPack
    planar = np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0)[::-1]
    out = np.zeros((22, 16, 3), dtype)
    out_view = out.transpose(1, 0, 2)[::-1].transpose(1, 0, 2)
    assert runner.run_tensor(Cai(planar[::-1], stream=16), values, None, out=Cai(out_view)).array is out_view
    np.testing.assert_array_equal(out_view, wanted)
    again = gpu.DeviceArray((11, 8, 3), np.dtype(dtype))
    again.set(x)
    np.testing.assert_array_equal(runner.run_tensor(again, values, 100_000, stream=32).get(), wanted)


def test_torch_tensors(gpu, random_image):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = random_image(6, 7, 3)
    values = ValueRange(0, 255, 0, 255)
    runner = cuda.CudaRunner(small_model(), 2, 3)
    result = runner.run_tensor(torch.from_numpy(x).flip(0), values, None)
    assert isinstance(result, torch.Tensor)
    np.testing.assert_array_equal(result.numpy(), runner.run_tensor(Cai(x[::-1].copy()), values, None).get())


def test_grey_device_images(gpu, random_image):
    runner = cuda.CudaRunner(small_model(channels=1), 2, 1)
    x = random_image(6, 7, 0, "float32")
    result = runner.run_tensor(Cai(x), VALUES, None)
    assert result.shape == (12, 14)
    np.testing.assert_array_equal(result.get()[..., None], runner.run_tensor(Cai(x[..., None]), VALUES, None).get())


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (Cai(np.ones((4, 4, 3), np.float64)), DtypeError),
        (Cai(np.ones((4, 4, 3), ">u2")), DtypeError),
        (Cai(np.ones((4, 4, 1), np.float32)), ShapeError),
        (Cai(np.ones((0, 4, 3), np.float32)), ShapeError),
        (Cai(np.ones((2, 4, 4, 3), np.float32)), ShapeError),
        (Cai(np.ones((4, 4, 3), np.float32), mask=1), OptionError),
        (Cai(np.ones((4, 12, 4), np.uint8)[:, :, 1:].view()), DtypeError),
        (Cai(np.ones(97, np.uint8)[1:].view()[:96].view(), shape=(2, 4, 3), typestr="<f4", strides=None), OptionError),
        ([1, 2, 3], OptionError),
    ],
    ids=["f64", "big-endian", "channels", "empty", "axes", "mask", "u4", "address", "list"],
)
def test_wrong_device_images(image, error, gpu):
    if error is DtypeError and image.__cuda_array_interface__["typestr"] == "|u1":
        image.__cuda_array_interface__["typestr"] = "<u4"
    with pytest.raises(error):
        cuda.CudaRunner(small_model(), 2, 3).run_tensor(image, VALUES, None)


def test_wrong_places_for_results(gpu):
    runner = cuda.CudaRunner(small_model(), 2, 3)
    image = Cai(np.ones((4, 4, 3), np.float32))
    for out in (np.ones((8, 8, 3), np.uint8), np.ones((8, 9, 3), np.float32)):
        with pytest.raises(ShapeError, match="out is"):
            runner.run_tensor(image, VALUES, None, out=Cai(out))


# ---- PyCUDA, of which this is as much as the adapter uses ----


class StubContext:
    current: ClassVar[list[StubContext]] = []

    def push(self):
        StubContext.current.append(self)

    @staticmethod
    def pop():
        StubContext.current.pop()

    @staticmethod
    def get_current():
        return StubContext.current[-1] if StubContext.current else None


class StubGpuArray:
    def __init__(self, shape, dtype, allocator=None):
        assert StubContext.current, "memory is allocated without a context"
        self.array = np.zeros(shape, dtype)
        self.allocator = allocator

    shape = property(lambda self: self.array.shape)
    strides = property(lambda self: self.array.strides)
    dtype = property(lambda self: self.array.dtype)
    ptr = property(lambda self: self.array.ctypes.data)


@pytest.fixture
def pycuda(monkeypatch):
    package, driver, gpuarray = (types.ModuleType(n) for n in ("pycuda", "pycuda.driver", "pycuda.gpuarray"))
    package.__spec__ = types.SimpleNamespace()
    driver.Context, driver.mem_alloc = StubContext, object()
    gpuarray.GPUArray, gpuarray.drv = StubGpuArray, driver
    package.driver, package.gpuarray = driver, gpuarray
    for module in (package, driver, gpuarray):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    StubContext.current.clear()
    return package


def test_pycuda(gpu, pycuda, random_image):
    from fastsr.adapters.pycuda import GpuArrayUpscaler

    model = small_model()
    with pytest.raises(OptionError, match="autoprimaryctx"):
        GpuArrayUpscaler(model)
    context = StubContext()
    upscaler = GpuArrayUpscaler(model, context=context)
    assert StubContext.current == []
    x = random_image(5, 7, 3)
    wanted = fastsr.load(model, scale=2, backend="cuda").upscale(x)
    context.push()
    image = StubGpuArray(x.shape, x.dtype)
    image.array[...] = x
    result = upscaler.upscale(image, stream=types.SimpleNamespace(handle=48))
    assert isinstance(result, StubGpuArray)
    np.testing.assert_array_equal(result.array, wanted)
    out = StubGpuArray(wanted.shape, x.dtype)
    assert upscaler.upscale(image, out=out, max_memory=100_000) is out
    np.testing.assert_array_equal(out.array, wanted)
    with pytest.raises(ShapeError, match="takes"):
        upscaler.upscale(StubGpuArray((4, 4, 2), np.uint8))
    with pytest.raises(OptionError, match="GPUArray"):
        upscaler.upscale(x.tolist())
    with pytest.raises(OptionError, match="no scale"):
        GpuArrayUpscaler(model, scale=3)
    assert StubContext.current == [context]
    upscaler.close()


def test_pycuda_is_named_where_it_is_missing(gpu):
    if shutil.which("pycuda") or __import__("importlib.util").util.find_spec("pycuda"):
        pytest.skip("PyCUDA is installed")
    from fastsr.adapters.pycuda import GpuArrayUpscaler

    with pytest.raises(BackendUnavailableError, match=r"fastsr\[pycuda\]"):
        GpuArrayUpscaler(small_model())


def test_the_script_for_real_gpus(gpu, monkeypatch, capsys):
    from benchmarks import gpu_cuda

    monkeypatch.setattr(gpu_cuda, "MODELS", (("fmen", 4),))
    monkeypatch.setattr(gpu_cuda, "SMALL", ((1, 1), (3, 5)))
    assert gpu_cuda.main(["--small"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == [name for name, _ in gpu_cuda.CHECKS]
    assert sum(": ok, " in line for line in lines) == 4
    monkeypatch.setattr(gpu_cuda, "upscale", lambda runner, x, max_memory=None: np.zeros(1))
    assert gpu_cuda.main(["--small"]) == 1


# ---- what is there ----


def test_a_build_without_gpu_code_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastsr._cuda", None)
    assert "FASTSR_CUDA=ON" in cuda.why_unavailable()
    with pytest.raises(BackendUnavailableError, match="FASTSR_CUDA=ON"):
        fastsr.load("bicubic", backend="cuda")


def test_wrong_precision(gpu):
    with pytest.raises(OptionError, match="fp32, fp16"):
        cuda.CudaRunner(small_model(), 2, 3, precision="fp8")
