"""How fast a back end is on a small image, and how near to the native engine."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.backends.base import Backend, BoundedRunner, Job, Runner, ValueRange
from fastsr.backends.precision import TOLERANCES
from fastsr.graph.model import CompiledModel

NATIVE = "native"
HEIGHT, WIDTH = 61, 83  # LR pixels: a few hundred milliseconds of the native engine, whatever the network
RUNS = 3  # of which the fastest counts
ENOUGH = 0.5  # seconds, after which no further run begins

Figures = dict[str, Any]  # of a back end: "ms", and "difference" or "psnr" but for native; or "failed"


@dataclass(frozen=True)
class Task:
    """What is measured: a network in one precision. exact: the native engine's fp32 result of `picture`."""

    model: CompiledModel
    scale: int
    channels: int
    threads: int | None
    precision: str
    exact: npt.NDArray[np.float32]


def exact_result(
    native: Backend, model: CompiledModel, scale: int, channels: int, threads: int | None
) -> npt.NDArray[np.float32]:
    """Return the result that others are compared with."""
    return _timed(native.runner(model, scale, channels, threads, "fp32"), picture(channels), runs=0)[0]


def measured(backend: Backend, task: Task) -> Figures:
    """Return the back end's figures, measured in this process."""
    try:
        runner = backend.runner(task.model, task.scale, task.channels, task.threads, task.precision)
        result, ms = _timed(runner, picture(task.channels), RUNS)
    except Exception as error:  # PyTorch, Triton and ONNX Runtime have errors of their own
        return {"failed": f"{type(error).__name__}: {error}"}
    return {"ms": ms} if backend.name == NATIVE else {"ms": ms} | _near(result, task.exact, task.precision)


def are_whole(name: str, figures: Any) -> bool:
    """Say whether these are a back end's figures, all of them and nothing else."""
    if not isinstance(figures, dict):
        return False
    if set(figures) == {"failed"}:
        return isinstance(figures["failed"], str)
    needed = ({"ms"},) if name == NATIVE else ({"ms", "difference"}, {"ms", "psnr"})
    return set(figures) in needed and all(isinstance(value, float) for value in figures.values())


def picture(channels: int) -> npt.NDArray[np.float32]:
    """Return the pixels of a trial, (HEIGHT, WIDTH, channels) of 0..1: waves, as smooth as photos are, and an edge."""
    y, x, c = np.mgrid[0:HEIGHT, 0:WIDTH, 0:channels]
    waves = 0.5 + 0.3 * np.sin(0.21 * x + 0.13 * y * (c + 1)) + 0.1 * (x > y)
    pixels: npt.NDArray[np.float32] = waves.astype(np.float32)
    return pixels


def _near(result: npt.NDArray[np.float32], exact: npt.NDArray[np.float32], precision: str) -> Figures:
    off = result.astype(np.float64) - exact
    if precision in TOLERANCES:
        return {"difference": float(np.abs(off).max() / max(1, np.abs(exact).max()))}
    return {"psnr": float(-10 * np.log10(max(float(np.mean(off**2)), 1e-12)))}


def _timed(runner: Runner, image: npt.NDArray[np.float32], runs: int) -> tuple[npt.NDArray[np.float32], float]:
    """Return the first result, and the milliseconds of the fastest of the runs after it."""
    scale, (H, W, _) = runner.scale, image.shape
    job = Job(H, W, (0, 0, W, H), (0, 0), ValueRange(0, 1))

    def result() -> npt.NDArray[np.float32]:
        made = np.full((H * scale, W * scale, runner.out_channels), np.nan, np.float32)
        runner.run(image, made, job, None)
        return made

    first = result()
    seconds: list[float] = []
    while len(seconds) < runs and sum(seconds) < ENOUGH:
        begin = time.perf_counter()
        result()
        seconds.append(time.perf_counter() - begin)
    if isinstance(runner, BoundedRunner):
        runner.release()
    return first, min(seconds, default=0.0) * 1e3
