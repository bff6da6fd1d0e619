"""Which back end is the fastest here: GPU back ends beside the native engine on a small image, once; then from a file.

measure.py   a back end's time, and its distance from the native engine
process.py   the same for a GPU back end, in a process of its own

A back end that raises, crashes or hangs, or whose result is not the native engine's as closely as precision.py says, is
not taken. The file, trials.json in the user's folder for caches, holds the figures and what they depend on; deleting it
repeats the trials.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fastsr.backends.base import Backend
from fastsr.backends.folder import cache_folder
from fastsr.backends.nvidia import driver, why_no_gpu
from fastsr.backends.precision import LEAST_PSNR, TOLERANCES
from fastsr.backends.trial.measure import NATIVE, Figures, Task, are_whole, exact_result, measured
from fastsr.backends.trial.process import SWITCH, NotStartedError, measured_apart, python
from fastsr.errors import FastSRError
from fastsr.graph.model import CompiledModel
from fastsr.io.atomic import atomic_output
from fastsr.version import __version__

KEPT = 64  # trials in the file
_PACKAGES = ("torch", "triton", "tensorrt", "tensorrt-rtx", "onnxruntime-gpu")


@dataclass(frozen=True)
class Outcome:
    """What a trial found.

    chosen: the fastest back end that was right, or None; why: how fast and how near, or why no other was taken, or why
    there was no trial; refused: {back end: why it was not taken}.
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
    Each GPU back end runs in a new process. Where none can be started, a CPU back end is returned untried.
    """
    wanted = precision or "fp32"
    tried = [b for b in candidates if wanted == (precision or b.precisions[0])]
    path = cache_folder() / "trials.json"
    key = _key([b.name for b in tried], model, scale, channels, threads, wanted)
    figures = _read(path).get(key)
    if figures is None or set(figures) != {b.name for b in tried}:
        try:
            figures = _measure(tried, native, model, scale, channels, threads, wanted)
        except NotStartedError as error:
            return _untried(tried, str(error))
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
    """Return {back end: its figures}. Raises NotStartedError."""
    if any(backend.gpu for backend in tried):
        python()
    exact = exact_result(native, model, scale, channels, threads)
    task = Task(model, scale, channels, threads, precision, exact)
    return {backend.name: (measured_apart if backend.gpu else measured)(backend, task) for backend in tried}


def _untried(tried: Sequence[Backend], reason: str) -> Outcome:
    """Return the CPU's back end, if one is among them."""
    chosen = next((backend.name for backend in tried if not backend.gpu), None)
    gpus = [backend.name for backend in tried if backend.gpu]
    by_name = " or ".join(f"backend={name!r}" for name in gpus)
    refused = {name: f"was not tried, as {reason}; backend={name!r} takes it all the same" for name in gpus}
    return Outcome(chosen, f"no trial, as {reason}; {by_name} takes a GPU all the same", refused)


def _key(
    names: Sequence[str], model: CompiledModel, scale: int, channels: int, threads: int | None, precision: str
) -> str:
    """Return all that the figures depend on, for people to read."""
    import importlib.metadata

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
    return {
        key: rows
        for key, rows in found.items()
        if isinstance(rows, dict) and all(are_whole(name, row) for name, row in rows.items())
    }


def _keep(path: Path, key: str, figures: dict[str, Figures]) -> None:
    """Write the figures to the file. Where it cannot be written, the next process tries again."""
    trials = _read(path)
    trials.pop(key, None)
    trials = dict([*trials.items(), (key, figures)][-KEPT:])
    with suppress(OSError, FastSRError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_output(path, overwrite=True) as file:
            file.write(json.dumps(trials, indent=1).encode())
