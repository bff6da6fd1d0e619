"""Is a result the network's result? Nobody's wrong result is timed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fastsr.bench.jobs import OURS, Job

Planes = npt.NDArray[np.float32]

# Largest difference in 0..1 that fp32 may have: ours as promised, a peer's half a level of 8 bits (engines with large
# Winograd tiles need some of it). int8 results are judged by their PSNR against the fp32 result.
OUR_TOLERANCE = 1e-4
PEER_TOLERANCE = 0.5 / 255
INT8_LEAST_PSNR = 30.0


@dataclass(frozen=True)
class Comparison:
    """difference: the largest, in 0..1; psnr_db: peak 1, infinite for equal results; wrong: None, or what is wrong."""

    difference: float
    psnr_db: float
    wrong: str | None


def compare(result: Planes, reference: Planes, job: Job) -> Comparison:
    """Compare a result with the fp32 result. Both (3, H, W), 0..1; that of an 8-bit job is rounded and clamped."""
    if result.shape != reference.shape:
        return Comparison(np.inf, 0.0, f"its result is {result.shape}, not {reference.shape}")
    tolerance = OUR_TOLERANCE if job.engine == OURS else PEER_TOLERANCE
    if job.engine == OURS and job.pixels == "uint8":
        reference, tolerance = np.clip(reference, 0, 1), tolerance + 0.5 / 255
    error = np.abs(result - reference, dtype=np.float64)
    difference = float(error.max())
    mean_square = float(np.mean(error**2))
    psnr_db = float("inf") if mean_square == 0 else -10 * float(np.log10(mean_square))
    wrong = None
    if not np.isfinite(difference):
        wrong = "its result holds NaN or infinity"
    elif job.precision == "fp32" and difference > tolerance:
        wrong = f"its result differs by {difference:.2g} of 0..1; {tolerance:.2g} is tolerated"
    elif job.precision != "fp32" and psnr_db < INT8_LEAST_PSNR:
        wrong = f"its result is {psnr_db:.1f} dB from the fp32 result; {INT8_LEAST_PSNR:g} dB are needed"
    return Comparison(difference, psnr_db, wrong)
