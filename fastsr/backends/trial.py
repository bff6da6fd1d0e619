"""Which back end is the fastest here: GPU back ends beside the native engine on a small image, once; then from a file.

A back end that raises, or whose result is not the native engine's as closely as precision.py says, is not taken. The
file, trials.json in the user's folder for caches, holds the figures and what they depend on; deleting it repeats the
trials.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.backends.base import Backend, BoundedRunner, Job, Runner, ValueRange
from fastsr.backends.folder import cache_folder
from fastsr.backends.nvidia import driver, why_no_gpu
from fastsr.backends.precision import LEAST_PSNR, TOLERANCES
from fastsr.errors import FastSRError
from fastsr.graph.model import CompiledModel
from fastsr.io.atomic import atomic_output
from fastsr.version import __version__

SWITCH = "FASTSR_TRIAL"  # "0": no trial
NATIVE = "native"
HEIGHT, WIDTH = 61, 83  # LR pixels: a few hundred milliseconds of the native engine, whatever the network
RUNS = 3  # of which the fastest counts
ENOUGH = 0.5  # seconds, after which no further run begins
KEPT = 64  # trials in the file
_PACKAGES = ("torch", "triton", "tensorrt", "tensorrt-rtx", "onnxruntime-gpu")

Figures = dict[str, Any]  # of a back end: "ms", and "difference" or "psnr"; or "failed"


@dataclass(frozen=True)
class Outcome:
    """What a trial found.

    chosen: the fastest back end that was right, or None; why: how fast and how near, or why no other was taken;
    refused: {back end: why it was not taken}.
    """

    chosen: str | None
    why: str
    refused: Mapping[str, str] = field(default_factory=dict)


def possible() -> bool:
    """Say whether there is an NVIDIA GPU and FASTSR_TRIAL isn't "0". Where there is no driver: one look for it."""
    return os.environ.get(SWITCH) != "0" and why_no_gpu() is None


def run(
    candidates: Sequence[Backend],
    native: Backend,
    model: CompiledModel,
    scale: int,
    channels: int,
    threads: int | None,
    precision: str | None,
) -> Outcome:
    """Return the fastest of the candidates that computes this network rightly, as measured now or before.

    native: the reference, in fp32, whether or not it is a candidate. precision: None is fp32, and nothing less exact.
    """
    wanted = precision or "fp32"
    tried = [b for b in candidates if wanted == (precision or b.precisions[0])]
    path = cache_folder() / "trials.json"
    key = _key([b.name for b in tried], model, scale, channels, threads, wanted)
    figures = _read(path).get(key)
    if figures is None or set(figures) != {b.name for b in tried}:
        figures = _measure(tried, native, model, scale, channels, threads, wanted)
        _keep(path, key, figures)
    return judge(figures, wanted)


def judge(figures: Mapping[str, Figures], precision: str) -> Outcome:
    """Return the fastest back end that is right. figures: {back end: what `_measure` found}."""
    wrong = {name: found for name, row in figures.items() if (found := _fault(row, precision))}
    right = {name: float(row["ms"]) for name, row in figures.items() if name not in wrong}
    if not right:
        return Outcome(None, "", wrong)
    chosen = min(right, key=lambda name: right[name])
    slower = {n: f"takes {ms / right[chosen]:.1f} times as long as {chosen}" for n, ms in right.items() if n != chosen}
    if chosen == NATIVE:
        others = "".join(f"; {name} {reason}" for name, reason in (wrong | slower).items())
        return Outcome(chosen, f"{right[chosen]:.1f} ms{others}", wrong | slower)
    fast = f"{right[NATIVE] / right[chosen]:.1f} times native" if NATIVE in right else f"{right[chosen]:.1f} ms"
    return Outcome(chosen, f"{fast}, {_nearness(figures[chosen])}", wrong | slower)


def _fault(row: Figures, precision: str) -> str | None:
    """Return None, or what is wrong with a back end's result. NaN is wrong."""
    if "failed" in row:
        return f"failed: {row['failed']}"
    if "psnr" in row and not row["psnr"] >= LEAST_PSNR[precision]:
        return f"has {_nearness(row)}; {LEAST_PSNR[precision]:g} dB is the least"
    if "difference" in row and not row["difference"] <= TOLERANCES[precision]:
        return f"has {_nearness(row)}; {TOLERANCES[precision]:g} is allowed"
    return None


def _nearness(row: Figures) -> str:
    return f"{row['psnr']:.1f} dB of native" if "psnr" in row else f"a largest difference of {row['difference']:.0e}"


def _measure(
    tried: Sequence[Backend],
    native: Backend,
    model: CompiledModel,
    scale: int,
    channels: int,
    threads: int | None,
    precision: str,
) -> dict[str, Figures]:
    image = picture(channels)
    exact, _ = _timed(native.runner(model, scale, channels, threads, "fp32"), image, runs=0)
    figures: dict[str, Figures] = {}
    for backend in tried:
        try:
            result, ms = _timed(backend.runner(model, scale, channels, threads, precision), image, RUNS)
        except Exception as error:  # PyTorch, Triton and ONNX Runtime have errors of their own
            figures[backend.name] = {"failed": f"{type(error).__name__}: {error}"}
            continue
        figures[backend.name] = {"ms": ms}
        if backend.name != NATIVE:
            figures[backend.name] |= _near(result, exact, precision)
    return figures


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


def picture(channels: int) -> npt.NDArray[np.float32]:
    """Return the pixels of a trial, (HEIGHT, WIDTH, channels) of 0..1: waves, as smooth as photos are, and an edge."""
    y, x, c = np.mgrid[0:HEIGHT, 0:WIDTH, 0:channels]
    waves = 0.5 + 0.3 * np.sin(0.21 * x + 0.13 * y * (c + 1)) + 0.1 * (x > y)
    pixels: npt.NDArray[np.float32] = waves.astype(np.float32)
    return pixels


def _key(
    names: Sequence[str], model: CompiledModel, scale: int, channels: int, threads: int | None, precision: str
) -> str:
    """Return all that the figures depend on, for people to read."""
    gpu = driver().gpu()
    versions = [f"fastsr {__version__}"]
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions.append(f"{package} {importlib.metadata.version(package)}")
    what = f"{model.name} x{scale}, {channels} channels, {precision}, {model.sha256}"
    where = (
        f"{gpu.name} ({gpu.capability}), driver {gpu.driver}, {os.cpu_count()} processors, {threads or 'all'} threads"
    )
    return "; ".join((what, where, ", ".join(versions), ", ".join(names)))


def _read(path: Path) -> dict[str, dict[str, Figures]]:
    """Return the trials in the file; those that are not whole, or a file that is damaged, do not count."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: rows for key, rows in found.items() if isinstance(rows, dict) and all(map(_whole, rows.items()))}


def _whole(item: tuple[str, Any]) -> bool:
    name, row = item
    if not isinstance(row, dict):
        return False
    if set(row) == {"failed"}:
        return isinstance(row["failed"], str)
    needed = ({"ms"},) if name == NATIVE else ({"ms", "difference"}, {"ms", "psnr"})
    return set(row) in needed and all(isinstance(value, float) for value in row.values())


def _keep(path: Path, key: str, figures: dict[str, Figures]) -> None:
    """Write the figures to the file. Where it cannot be written, the next process tries again."""
    trials = _read(path)
    trials.pop(key, None)
    trials = dict([*trials.items(), (key, figures)][-KEPT:])
    with suppress(OSError, FastSRError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_output(path, overwrite=True) as file:
            file.write(json.dumps(trials, indent=1).encode())
