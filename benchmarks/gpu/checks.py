"""Whether what runs on the GPU is right: against float64, against the CPU's engine, and in PSNR."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fastsr
from fastsr import evaluation
from fastsr.backends import trial
from fastsr.backends.precision import LEAST_PSNR
from fastsr.backends.precision import TOLERANCES as DOCUMENTED
from fastsr.graph import reference
from fastsr.models import open_model

# The largest difference on pixels of 0..1, for each precision: docs/gpu.md.
TOLERANCES = DOCUMENTED
SHAPES = ((1, 1), (7, 13), (1, 61), (67, 129))
NETWORKS = (("fmen", 4), ("fmen", 3), ("vdsr", 2), ("srresnet", 4), ("bicubic", 3))
LOST_DB = 0.01  # of PSNR, at most
SETS = ("Set5",)
SANITIZERS = ("memcheck", "racecheck", "synccheck", "initcheck")


@dataclass(frozen=True)
class Check:
    """Something that must hold. run: () -> (whether it does, the figures in words)."""

    name: str
    run: Callable[[], tuple[bool, str]]


def checks(backends: Sequence[str], data: Path | None, shapes: Sequence[tuple[int, int]] = SHAPES) -> Iterator[Check]:
    """Yield the checks for the back ends that can run here, cheapest first."""
    found = [b for b in known_backends() if b.name in backends]
    for backend in found:
        for precision in backend.precisions:
            if precision in LEAST_PSNR:  # what rounds coarser is judged in dB; eight_bits.py has the other networks
                yield Check(f"{backend.name} {precision}, fmen x4 in dB", partial(_near, backend.name, precision))
                continue
            for model, scale in NETWORKS:
                name = f"{backend.name} {precision}, {model} x{scale} beside float64"
                yield Check(name, partial(_agrees, backend.name, precision, model, scale, shapes))
            yield Check(f"{backend.name} {precision}, 8-bit pixels", partial(_bytes, backend.name, precision, shapes))
        yield Check(f"{backend.name}, bands of rows", partial(_bands, backend.name))
    if data is not None:
        for backend in found:
            for precision in backend.precisions:
                if precision in TOLERANCES and precision != "bf16":
                    name = f"{backend.name} {precision}, PSNR on Set5"
                    yield Check(name, partial(_psnr, backend.name, precision, data))
    if any(backend.gpu for backend in found):
        yield Check("what backend='auto' takes", _automatic)
    if "cuda" in backends:
        for tool in SANITIZERS:
            yield Check(f"compute-sanitizer {tool}, cuda", partial(_sanitized, tool))


def known_backends() -> list[Any]:
    from fastsr.backends import BACKENDS

    return list(BACKENDS)


def image(height: int, width: int) -> npt.NDArray[np.float32]:
    """Return pixels of 0..1 that change smoothly, with noise."""
    rng = np.random.default_rng([height, width])
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    waves = 0.5 + 0.3 * np.sin(0.21 * x + 0.13 * y * (c + 1))
    noisy: npt.NDArray[np.float32] = np.clip(waves + 0.05 * rng.standard_normal(waves.shape), 0, 1).astype(np.float32)
    return noisy


def _agrees(
    backend: str, precision: str, model: str, scale: int, shapes: Sequence[tuple[int, int]]
) -> tuple[bool, str]:
    sr = fastsr.load(model, scale=scale, backend=backend, precision=precision)
    compiled = open_model(model, scale)
    graph = compiled.graph(scale, 3)
    worst = 0.0
    for h, w in shapes:
        x = image(h, w)
        wanted = reference.run(graph, compiled.tensors, x.transpose(2, 0, 1)).transpose(1, 2, 0)
        y = sr.upscale(x)
        if not np.isfinite(y).all():
            return False, f"NaN or infinity at {w}x{h}"
        worst = max(worst, float(np.abs(y - wanted).max() / max(1, np.abs(wanted).max())))
    return worst <= TOLERANCES[precision], f"largest difference {worst:.1e}, {TOLERANCES[precision]:.0e} is allowed"


def _near(backend: str, precision: str) -> tuple[bool, str]:
    """Compare an 8-bit result with float64."""
    x = trial.picture(3)
    compiled = open_model("fmen", 4)
    wanted = reference.run(compiled.graph(4, 3), compiled.tensors, x.transpose(2, 0, 1)).transpose(1, 2, 0)
    y = fastsr.load("fmen", scale=4, backend=backend, precision=precision).upscale(x)
    found = float(-10 * np.log10(max(float(np.mean((y - wanted) ** 2)), 1e-12)))
    return found >= LEAST_PSNR[precision], f"{found:.1f} dB, {LEAST_PSNR[precision]:g} is the least"


def _bytes(backend: str, precision: str, shapes: Sequence[tuple[int, int]]) -> tuple[bool, str]:
    """Integers may differ from the CPU's by what the precision allows, rounded up."""
    sr, native = (fastsr.load("fmen", backend=b, precision=p) for b, p in ((backend, precision), ("native", None)))
    allowed = int(np.ceil(TOLERANCES[precision] * 255))
    worst = 0
    for h, w in shapes:
        x = np.rint(image(h, w) * 255).astype(np.uint8)
        worst = max(worst, int(np.abs(sr.upscale(x).astype(int) - native.upscale(x)).max()))
    return worst <= allowed, f"largest difference {worst}, {allowed} is allowed"


def _automatic() -> tuple[bool, str]:
    """Whether the trial of "auto" ends in a back end that runs; its figures stay in the results' cache folder."""
    sr = fastsr.load("fmen", scale=4)
    refused = "".join(f"; {name} {why}" for name, why in sr.skipped.items())
    return bool(sr.why), f"{sr.backend}: {sr.why or 'no trial was made'}{refused}"


def _bands(backend: str) -> tuple[bool, str]:
    """A bound on memory changes no pixel."""
    x = np.rint(image(200, 64) * 255).astype(np.uint8)
    whole = fastsr.load("fmen", backend=backend).upscale(x)
    try:
        fastsr.load("fmen", backend=backend, max_memory=1).upscale(x)
        return False, "one byte was enough"
    except fastsr.MemoryBudgetError as error:
        least = error.least
    banded = fastsr.load("fmen", backend=backend, max_memory=2 * least).upscale(x)
    return bool(np.array_equal(whole, banded)), f"{2 * least} bytes; the least is {least}"


def _sanitized(tool: str) -> tuple[bool, str]:
    """Run the back end's own checks on small images under one of NVIDIA's sanitizers."""
    program = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if program is None:
        raise RuntimeError("compute-sanitizer is not installed; it comes with the CUDA toolkit")
    checks = [sys.executable, "-m", "benchmarks.gpu_cuda", "--small"]
    command = [program, "--tool", tool, "--error-exitcode", "9", *checks]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    summary = [line.strip("= ") for line in result.stdout.splitlines() if "SUMMARY" in line]
    return result.returncode == 0, "; ".join(summary) or f"it ended with code {result.returncode}"


def _psnr(backend: str, precision: str, data: Path) -> tuple[bool, str]:
    scores = []
    for name, kind in ((backend, precision), ("native", None)):
        sr = fastsr.load("fmen", backend=name, precision=kind)
        results = [evaluation.mean(evaluation.evaluate(sr.upscale, 4, evaluation.references(data / s))) for s in SETS]
        scores.append(sum(r["psnr"] for r in results) / len(SETS))
    return scores[0] >= scores[1] - LOST_DB, f"{scores[0]:.3f} dB; the CPU in fp32 {scores[1]:.3f} dB"
