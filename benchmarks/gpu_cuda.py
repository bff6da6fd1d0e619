"""Check the back end `cuda` on the GPU that is here: bits, precision, memory, images on the device, PyCUDA; time it.

    FASTSR_CUDA=ON pip install . && python -m benchmarks.gpu_cuda
    compute-sanitizer --tool memcheck python -m benchmarks.gpu_cuda --small      # also racecheck, synccheck, initcheck

Prints one line a check, `ok`, `FAILED` or `skipped` with the reason; the exit status is 1 if any failed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr import _native
from fastsr.backends import cuda
from fastsr.backends.base import Job, ValueRange
from fastsr.errors import MemoryBudgetError
from fastsr.models import open_model

Array = npt.NDArray[Any]
MODELS = (("fmen", 4), ("srresnet", 4), ("vdsr", 2))
SHAPES = ((1, 1), (7, 13), (1, 97), (131, 67), (180, 320))
SMALL = ((1, 1), (7, 13))
HALF_TOLERANCE = 2e-3
ROUNDS = 20
VALUES = ValueRange(0, 1)


class SkippedError(Exception):
    """A check that cannot be made here, and why."""


def image(shape: tuple[int, int], channels: int = 3) -> Array:
    return np.random.default_rng(shape).random((*shape, channels), dtype=np.float32)


def upscale(runner: cuda.CudaRunner, x: Array, max_memory: int | None = None) -> Array:
    h, w = x.shape[:2]
    y = np.full((h * runner.scale, w * runner.scale, runner.out_channels), np.nan, x.dtype)
    runner.run(x, y, Job(h, w, (0, 0, w, h), (0, 0), VALUES), max_memory)
    return y


def native(model: Any, scale: int, x: Array) -> Array:
    """Return the native engine's result by direct convolution."""
    h, w = x.shape[:2]
    network = _native.Model(model.to_bytes()).network(scale, x.shape[2], winograd=False)
    y = np.empty((h * scale, w * scale, network.out_channels), np.float32)
    network.run(x, y, h, w, (0, 0), (0, 0, w, h), (1.0, 0.0, 1.0, 0.0, 0.0, 0.0), _native.Options())
    return y


def check_fp32(shapes: Sequence[tuple[int, int]]) -> str:
    for name, scale in MODELS:
        model = open_model(name)
        runner = cuda.CudaRunner(model, scale, 3, precision="fp32")
        for shape in shapes:
            x = image(shape)
            got, wanted = upscale(runner, x), native(model, scale, x)
            if not np.array_equal(got, wanted):
                off = float(np.abs(got - wanted).max())
                raise AssertionError(f"{name} {shape}: {int((got != wanted).sum())} samples differ, by up to {off:.1e}")
    return "the native engine's bits"


def check_fp16(shapes: Sequence[tuple[int, int]]) -> str:
    worst = 0.0
    for name, scale in MODELS:
        model = open_model(name)
        runner = cuda.CudaRunner(model, scale, 3, precision="fp16")
        for shape in shapes:
            x = image(shape)
            off = float(np.abs(upscale(runner, x) - native(model, scale, x)).max())
            if not off <= HALF_TOLERANCE:
                raise AssertionError(f"{name} {shape}: off by {off:.1e}; {HALF_TOLERANCE:.0e} is allowed")
            worst = max(worst, off)
    return f"off by at most {worst:.1e}"


def check_memory(shapes: Sequence[tuple[int, int]]) -> str:
    runner = cuda.CudaRunner(open_model("fmen"), 4, 3, precision="fp16")
    x = image(shapes[-1])
    h, w = x.shape[:2]
    wanted = upscale(runner, x)
    ample = runner.memory(h, w, (0, 0, w, h), None)
    try:
        least = runner.memory(h, w, (0, 0, w, h), 1)
    except MemoryBudgetError as error:
        least = error.least
    for budget in (least, (least + ample) // 2):
        if not np.array_equal(upscale(runner, x, budget), wanted):
            raise AssertionError(f"{x.shape}: other pixels with {budget} bytes")
    return f"same pixels with {least} and {ample} bytes"


def check_device_arrays(shapes: Sequence[tuple[int, int]]) -> str:
    module = importlib.import_module("fastsr._cuda")
    runner = cuda.CudaRunner(open_model("fmen"), 4, 3, precision="fp16")
    x = image(shapes[-1])
    array = module.DeviceArray(x.shape, x.dtype)
    array.set(x)
    if not np.array_equal(runner.run_tensor(array, VALUES, None).get(), upscale(runner, x)):
        raise AssertionError("other pixels than from the host")
    return "same pixels as from the host"


def check_torch(shapes: Sequence[tuple[int, int]]) -> str:
    torch: Any = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
    if torch is None or not torch.cuda.is_available():
        raise SkippedError("no PyTorch with CUDA")
    runner = cuda.CudaRunner(open_model("fmen"), 4, 3, precision="fp16")
    x = image(shapes[-1])
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        tensor = torch.from_numpy(x).permute(2, 0, 1).contiguous().cuda(non_blocking=True).permute(1, 2, 0)
        result = runner.run_tensor(tensor, VALUES, None, stream=stream.cuda_stream)
    if not np.array_equal(result.cpu().numpy(), upscale(runner, x)):
        raise AssertionError("other pixels than from the host")
    return "planar tensors on a stream of their own"


def check_pycuda(shapes: Sequence[tuple[int, int]]) -> str:
    if importlib.util.find_spec("pycuda") is None:
        raise SkippedError("PyCUDA is not installed")
    from fastsr.adapters.pycuda import GpuArrayUpscaler

    driver: Any = importlib.import_module("pycuda.driver")
    gpuarray: Any = importlib.import_module("pycuda.gpuarray")
    driver.init()
    context = driver.Device(0).make_context()  # not the primary one
    try:
        upscaler = GpuArrayUpscaler("fmen", scale=4, precision="fp16", context=context)
        x = image(shapes[-1])
        stream = driver.Stream()
        got = upscaler.upscale(gpuarray.to_gpu_async(x, stream=stream), stream=stream).get()
        upscaler.close()
    finally:
        context.pop()
        context.detach()
    if not np.array_equal(got, upscale(cuda.CudaRunner(open_model("fmen"), 4, 3, precision="fp16"), x)):
        raise AssertionError("other pixels than in the primary context")
    return "in a context of its own"


def time_device(shapes: Sequence[tuple[int, int]]) -> str:
    module = importlib.import_module("fastsr._cuda")
    if shapes is SMALL:
        raise SkippedError("small images")
    runner = cuda.CudaRunner(open_model("fmen"), 4, 3, precision="fp16")
    figures = []
    for height, width in ((180, 320), (540, 960)):
        source = module.DeviceArray((height, width, 3), np.dtype(np.uint8))
        source.set(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))
        target = module.DeviceArray((4 * height, 4 * width, 3), np.dtype(np.uint8))
        values = ValueRange(0, 255, 0, 255)
        rounds = []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            runner.run_tensor(source, values, None, out=target)
            rounds.append(time.perf_counter() - begun)
        figures.append(f"{width}x{height} {1e3 * statistics.median(rounds):.3f} ms")
    return "FMEN x4 fp16, uint8 on the device, median of " + f"{ROUNDS}: " + ", ".join(figures)


CHECKS: tuple[tuple[str, Callable[[Sequence[tuple[int, int]]], str]], ...] = (
    ("fp32", check_fp32),
    ("fp16", check_fp16),
    ("memory", check_memory),
    ("device arrays", check_device_arrays),
    ("PyTorch", check_torch),
    ("PyCUDA", check_pycuda),
    ("time", time_device),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="small images, for compute-sanitizer")
    shapes = SMALL if parser.parse_args(arguments).small else SHAPES
    if reason := cuda.why_unavailable():
        print(reason, file=sys.stderr)
        return 2
    print(importlib.import_module("fastsr._cuda").device_name())
    failed = False
    for name, check in CHECKS:
        try:
            print(f"{name}: ok, {check(shapes)}")
        except SkippedError as reason:
            print(f"{name}: skipped, {reason}")
        except Exception as error:  # the other checks go on
            failed = True
            print(f"{name}: FAILED, {type(error).__name__}: {error}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
