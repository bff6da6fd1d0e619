"""Whether int8 and fp8 pay: 1.3 times as fast as fp16, and within 0.1 dB of fp32 on Set5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import fastsr
from benchmarks.gpu.cases import CASES, EIGHT_BITS, OURS, Case
from fastsr import evaluation

FACTOR = 1.3
LOST_DB = 0.1


def pairs() -> Iterator[tuple[Case, str]]:
    """Yield each network once, with each precision; the first case's comes first."""
    seen = set()
    for case in CASES:
        for precision in EIGHT_BITS:
            if (case.model, case.scale, precision) not in seen:
                seen.add((case.model, case.scale, precision))
                yield case, precision


def loss(model: str, scale: int, precision: str, data: Path, backend: str = "triton") -> float:
    """Return the luma PSNR on Set5, dB, that a back end loses in this precision against the native engine in fp32."""
    scores = []
    for name, kind in (("native", "fp32"), (backend, precision)):
        sr = fastsr.load(model, scale=scale, backend=name, precision=kind)
        results = evaluation.evaluate(sr.upscale, scale, evaluation.references(data / "Set5"))
        scores.append(evaluation.mean(results)["psnr"])
    return scores[0] - scores[1]


def verdict(figures: Mapping[str, Mapping[str, float]], precision: str, lost: float | None) -> str:
    """Return "pays" or "does not pay", with both figures. figures: {entrant: {what: number}} of a case."""
    half, mine = (figures.get(name, {}).get("ms") for name in (OURS, EIGHT_BITS[precision]))
    speed = None if half is None or mine is None else half / mine
    said = "time not measured" if speed is None else f"{speed:.2f} times fp16"
    said += ", PSNR not measured" if lost is None else f", {lost:.3f} dB lost"
    if (speed is not None and speed < FACTOR) or (lost is not None and lost > LOST_DB):
        return f"does not pay: {said}"
    return f"pays: {said}" if speed is not None and lost is not None else f"not known: {said}"
