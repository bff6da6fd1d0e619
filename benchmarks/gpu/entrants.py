"""Who runs a network on the GPU. Each is made by a function that may fail: the table then says why.

Kernel time is that of CUDA-graph replays. FastSR's triton takes uint8 pixels and gives uint8 pixels, conversions
included; PyTorch and TensorRT take and give planes of their own type, without them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import fastsr
from benchmarks.gpu import cases, memory
from benchmarks.gpu.cases import Case
from benchmarks.gpu.timing import Device, Run
from fastsr.backends.torch_ref import TorchRunner
from fastsr.bench.pictures import synthetic
from fastsr.models import open_model

Planes = npt.NDArray[np.float32]
DRIVERS = ("cuda", "tensorrt")  # back ends that allocate by the driver


@dataclass
class Ready:
    """An entrant set up for a case.

    run: recorded, for timing; eager: as it is, for memory, of which `held` bytes are input and result;
    result: () -> (H, W, 3) values 0..1, of the last run; idle: gives memory back that is kept from run to run;
    weigh: for who does not allocate through PyTorch: () -> bytes by the driver, or None where nobody asks for them.
    """

    run: Run
    eager: Run
    result: Callable[[], Planes]
    held: int = 0
    idle: Callable[[], Any] = lambda: None
    weigh: Callable[[], float | None] | None = None


@dataclass(frozen=True)
class Entrant:
    """name: in the table; make: (case, device) -> Ready; turn: when it comes, if time is left; bars need 0 and 1."""

    name: str
    make: Callable[[Case, Device], Ready]
    turn: int = 0


def _triton(precision: str, fusion: str, case: Case, device: Device) -> Ready:
    import torch

    from fastsr.backends.base import ValueRange
    from fastsr.backends.triton import plan, why_unavailable
    from fastsr.backends.triton.configs import check_capability
    from fastsr.backends.triton.executor import INTERPRETED, Executor, Window, capture
    from fastsr.backends.triton.quantize import plan_of

    reason = why_unavailable()
    if reason is not None:
        raise RuntimeError(reason)
    chosen = {"": plan.DEFAULT, "single": plan.SINGLE, "whole": plan.Fusion(hfab="whole")}[fusion]
    model = open_model(case.model, case.scale)
    lowered = plan_of(model, model.graph(case.scale, 3), precision, chosen, emulated=INTERPRETED)
    executor = Executor(lowered, precision, torch.device("cuda" if device.recorded else "cpu"))
    if device.recorded:
        check_capability(precision, executor.sm)
    window = Window(0, 0, case.height * case.scale, case.width * case.scale)
    values = ValueRange(0, 255, 0, 255)
    pixels = torch.from_numpy(synthetic(case.height, case.width))

    def make() -> Any:
        captured = capture(executor, (case.height, case.width), torch.uint8, window, values)
        captured.pixels.copy_(pixels)
        captured.replay()
        return captured

    captured = make()
    held = captured.pixels.numel() + captured.result.numel()
    return Ready(captured.replay, make, lambda: captured.result.cpu().numpy().astype(np.float32) / 255, held)


def _bounded(limit: int, case: Case, device: Device) -> Ready:
    """triton in bands of rows within a bound on memory, the way users call it."""
    import torch

    sr = fastsr.load(case.model, scale=case.scale, backend="triton", precision="fp16", max_memory=limit)
    image = torch.from_numpy(synthetic(case.height, case.width)).to("cuda" if device.recorded else "cpu")
    kept: dict[str, Any] = {}

    def run() -> Any:
        kept["result"] = sr.upscale(image)
        return kept["result"]

    run()
    return Ready(
        run, run, lambda: kept["result"].cpu().numpy().astype(np.float32) / 255, kept["result"].numel(), sr.release
    )


def _user_call(backend: str, precision: str | None, case: Case, device: Device) -> Ready:
    """A back end as users call it: NumPy to NumPy, copies to and from the device included."""
    sr = fastsr.load(case.model, scale=case.scale, backend=backend, precision=precision)
    image = synthetic(case.height, case.width)
    kept: dict[str, Any] = {}

    def run() -> Any:
        kept["result"] = sr.upscale(image)

    run()

    def weigh() -> float | None:
        asked = any(bar.case == case.name and bar.what == "bytes" for bar in cases.BARS)  # each takes seconds
        return memory.weigh(backend, sr.precision, case) if asked else None

    by_driver = weigh if backend in DRIVERS else None
    return Ready(run, run, lambda: kept["result"].astype(np.float32) / 255, idle=sr.release, weigh=by_driver)


def _torch(compiled: bool, precision: str, case: Case, device: Device) -> Ready:
    import torch

    dtype = {"fp16": torch.float16, "fp32": torch.float32}[precision if device.recorded else "fp32"]
    where = "cuda" if device.recorded else "cpu"
    model = open_model(case.model, case.scale)
    network = TorchRunner(model.graph(case.scale, 3), model.tensors)
    network.place(where, dtype)
    image = torch.from_numpy(synthetic(case.height, case.width)).to(where).permute(2, 0, 1)[None]
    x = (image.to(dtype) / 255).to(memory_format=torch.channels_last)
    forward: Any = network.forward
    if compiled:
        forward = torch.compile(forward, mode="max-autotune-no-cudagraphs", dynamic=False)

    def run() -> Any:
        with torch.inference_mode():
            return forward(x)

    held = run().numel() * dtype.itemsize
    recorded = device.record(run)
    return Ready(recorded, run, lambda: recorded()[0].permute(1, 2, 0).float().cpu().numpy(), held)


def _tensorrt(case: Case, device: Device) -> Ready:
    """An engine for this size alone, fp16 planes in and out. Its working memory comes from PyTorch, which counts it."""
    from fastsr.backends.tensorrt import why_unavailable

    reason = why_unavailable()
    if reason is not None:
        raise RuntimeError(reason)
    import torch

    from fastsr.backends.nvidia import driver
    from fastsr.backends.tensorrt.build import Profile, build
    from fastsr.backends.tensorrt.engine import Engine
    from fastsr.backends.tensorrt.library import find_library
    from fastsr.graph.ir import INPUT
    from fastsr.graph.to_onnx import OUTPUT, to_onnx

    library, model, size = find_library(), open_model(case.model, case.scale), (case.height, case.width)
    onnx = to_onnx(model.graph(case.scale, 3), model.tensors, compute="fp16", io="fp16").SerializeToString()
    aimed = [driver().gpu().capability] if library.capabilities() else []
    engine = Engine(library, build(library, onnx, 3, Profile(size, size, size), capabilities=aimed).engine, 3, driver())
    context = engine.new_context()
    where = "cuda" if device.recorded else "cpu"
    x = torch.from_numpy(synthetic(*size)).to(where).permute(2, 0, 1)[None].half().div(255).contiguous()
    if not context.set_input_shape(INPUT, tuple(x.shape)):
        raise RuntimeError(f"{library.name} refuses an image of {size}")
    context.set_tensor_address(INPUT, x.data_ptr())
    shape, needs = tuple(context.get_tensor_shape(OUTPUT)), int(context.update_device_memory_size_for_shapes())

    def run() -> Any:
        y = torch.empty(shape, dtype=x.dtype, device=x.device)
        work = torch.empty(max(needs, 1), dtype=torch.uint8, device=x.device)
        context.set_device_memory(work.data_ptr(), needs)
        context.set_tensor_address(OUTPUT, y.data_ptr())
        stream = torch.cuda.current_stream().cuda_stream if device.recorded else 1
        if not context.execute_async_v3(stream):
            raise RuntimeError(f"{library.name} failed: {library.logger.take()[-3:]}")
        return y

    held = run().numel() * x.element_size()
    recorded = device.record(run)

    def result() -> Planes:
        planes: Planes = recorded()[0].permute(1, 2, 0).float().cpu().numpy()
        return planes

    return Ready(recorded, run, result, held, idle=lambda: engine)  # the context must not outlive its engine


ENTRANTS = (
    Entrant(cases.OURS, partial(_triton, "fp16", "")),
    Entrant("triton fp16, single convolutions", partial(_triton, "fp16", "single")),
    Entrant("triton fp16, whole HFAB", partial(_triton, "fp16", "whole")),
    Entrant("triton bf16", partial(_triton, "bf16", "")),
    *(Entrant(name, partial(_triton, precision, ""), turn=2) for precision, name in cases.EIGHT_BITS.items()),
    Entrant("triton tf32", partial(_triton, "tf32", "")),
    Entrant("triton fp32", partial(_triton, "fp32", "")),
    Entrant(cases.BOUNDED, partial(_bounded, 64_000_000)),
    Entrant("triton fp16, user's call", partial(_user_call, "triton", "fp16")),
    Entrant("cuda fp32, user's call", partial(_user_call, "cuda", "fp32")),
    Entrant("cuda fp16, user's call", partial(_user_call, "cuda", "fp16")),
    Entrant("tensorrt fp16, user's call", partial(_user_call, "tensorrt", "fp16"), turn=1),
    Entrant(cases.EAGER, partial(_torch, False, "fp16")),
    Entrant(cases.TENSORRT, _tensorrt, turn=1),
    Entrant(cases.COMPILED, partial(_torch, True, "fp16"), turn=1),
)
DRY_ENTRANTS = (
    Entrant("native, user's call", partial(_user_call, "native", None)),
    Entrant(cases.EAGER, partial(_torch, False, "fp32")),
    Entrant("triton fp16, user's call", partial(_user_call, "triton", "fp16")),  # no GPU: the table must say so
)
