"""Measure block sizes on the GPU that is here, and keep the fastest in the user's file (configs.user_file)."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fastsr.backends.base import ValueRange
from fastsr.backends.triton import configs
from fastsr.backends.triton.calls import Call, calls
from fastsr.backends.triton.configs import Config, power_of_two
from fastsr.backends.triton.executor import INTERPRETED, Executor, Window
from fastsr.backends.triton.plan import DEFAULT, Fusion, Plan
from fastsr.backends.triton.quantize import plan_of
from fastsr.errors import BackendUnavailableError
from fastsr.graph.model import CompiledModel

HEADING = "Measured by fastsr.backends.triton.autotune on {device}; PyTorch {torch}. Delete to use the shipped ones."
Measure = Callable[[Callable[[], None]], float]  # of a function that launches kernels: seconds
_REPEATS = 5


def candidates(kernel: str, C: int, K: int, precision: str, shipped: Config) -> Iterator[Config]:
    """Yield the shipped configuration, then what is worth trying beside it."""
    yield shipped
    depth = (16, 32) if precision in ("fp32", "tf32") else (32, 64)
    if kernel == "chain":
        for bm, (th, tw), warps, stages, per_sm in itertools.product(
            (64, 128), ((8, 16), (16, 16), (16, 32)), (4, 8), (1, 2, 3), (1, 2, 4)
        ):
            made = Config(bm=bm, bk=depth[-1], th=th, tw=tw, warps=warps, stages=stages, per_sm=per_sm)
            if made != shipped and bm // warps >= 16:
                yield made
        return
    for bm, bk, warps, stages, flat in itertools.product((64, 128, 256), depth, (4, 8), (1, 2, 3, 4), (False, True)):
        made = Config(bm=bm, bn=min(64, power_of_two(K)), bk=bk, flat=flat, warps=warps, stages=stages)
        if made != shipped and bm // warps >= 16:
            yield made


def autotune(
    model: CompiledModel,
    scale: int,
    height: int,
    width: int,
    precision: str = "fp16",
    *,
    channels: int = 3,
    fusion: Fusion = DEFAULT,
    most: int = 12,
    path: Path | None = None,
    measure: Measure | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Config]:
    """Time up to `most` candidates for each kernel of a network at this LR size; write the fastest; return them.

    path: by default configs.user_file(); what it holds for other kernels stays. The keys of the result are
    "kernel channels". Raises BackendUnavailableError without a GPU, unless `measure` is given.
    """
    device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cpu" and measure is None:
        raise BackendUnavailableError("autotune measures on a GPU, and PyTorch finds none")
    plan = plan_of(model, model.graph(scale, channels), precision, fusion, emulated=INTERPRETED)
    executor = Executor(plan, precision, device)
    found: dict[str, Config] = {}
    tuned = [call for call in executor.calls if call.kernel in ("conv", "chain") and call.precision == precision]
    kinds = {_key(call): call for call in tuned}
    for done, (key, call) in enumerate(kinds.items()):
        C, K = call.channels
        tried = itertools.islice(candidates(call.kernel, C, K, precision, call.config), most)
        seconds = {c: _time(plan, executor, call, c, (height, width), measure or time_on_gpu) for c in tried}
        found[key] = min(seconds, key=lambda config: seconds[config])
        if progress is not None:
            progress(done + 1, len(kinds))
    _save(found, precision, executor.sm, device, path or configs.user_file())
    return found


def time_on_gpu(launch: Callable[[], None]) -> float:
    """Return the median seconds of a launch, each after another filled the L2 cache."""
    launch()
    flush = torch.empty(64 << 20, dtype=torch.uint8, device="cuda")
    seconds: list[float] = []
    for _ in range(_REPEATS):
        flush.zero_()
        events: Any = [torch.cuda.Event(enable_timing=True) for _ in range(2)]  # type: ignore[no-untyped-call]
        begin, end = events
        begin.record()
        launch()
        end.record()
        torch.cuda.synchronize()
        seconds.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(seconds)


def _key(call: Call) -> str:
    return f"{call.kernel} {power_of_two(call.channels[0])}x{power_of_two(call.channels[1])}"


def _time(plan: Plan, executor: Executor, call: Call, config: Config, size: tuple[int, int], measure: Measure) -> float:
    """Return the seconds of one call with this configuration; infinity where it cannot be compiled or run."""
    index = next(i for i, known in enumerate(executor.calls) if known is call)
    made = calls(plan, executor.precision, executor.sm, emulated=executor.device.type == "cpu", config=config)[index]
    alone = Executor(plan, executor.precision, executor.device, only=made)
    window = Window(0, 0, size[0] * plan.graph.scale, size[1] * plan.graph.scale)
    options: dict[str, Any] = {"dtype": torch.uint8, "device": executor.device}
    pixels = torch.zeros((*size, plan.graph.channels), **options)
    result = torch.zeros((window.rows, window.columns, plan.graph.out_channels), **options)
    buffers = alone.buffers(*size)
    for tensor in (*buffers.slots, *buffers.slabs.values()):
        tensor.fill_(1)
    try:
        return measure(lambda: alone.enqueue(pixels, result, window, ValueRange(0, 255, 0, 255), buffers))
    except Exception:  # too much shared memory, registers, or device memory: each Triton version has its own errors
        return float("inf")


def _save(found: dict[str, Config], precision: str, sm: int, device: torch.device, path: Path) -> None:
    tables: dict[int, dict[str, dict[str, dict[str, Config]]]] = {}
    if path.exists():
        for known, kernels in configs.load(path).items():
            tables[known] = {
                kernel: {
                    a: {key: replace(Config(), **line) for key, line in lines.items()} for a, lines in table.items()
                }
                for kernel, table in kernels.items()
            }
    arithmetic = "half" if precision in ("fp16", "bf16") else precision
    for key, config in found.items():
        kernel, channels = key.split()
        tables.setdefault(sm, {}).setdefault(kernel, {}).setdefault(arithmetic, {})[channels] = config
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(configs.dump(tables, HEADING.format(device=name, torch=torch.__version__)))
    temporary.replace(path)
