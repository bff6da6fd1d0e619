"""What precisions there are, and how far a result may be from the same network computed in float64."""

from __future__ import annotations

from typing import Literal

from fastsr.errors import OptionError

Precision = Literal["fp32", "tf32", "fp16", "bf16", "int8", "fp8"]

# The largest difference, on pixels of 0..1 and relative to the largest result above 1. What rounds coarser is measured
# in dB instead: see INT8_PSNR.
TOLERANCES: dict[str, float] = {
    "fp32": 1e-5,  # IEEE single precision, in any order of summation
    "tf32": 1e-3,  # products of 10-bit mantissas, summed in fp32; what NVIDIA's tensor cores do unless told otherwise
    "fp16": 2e-3,  # values and weights of 10-bit mantissas, summed in fp32
    "bf16": 16e-3,  # the same with 7 bits
}
# The least PSNR, in dB with peak 1, of an int8 network's result against its fp32 result. Rounding noise at this level
# costs a network that itself reaches 32 dB less than 0.7 dB; a wrong scale or zero point gives below 25 dB.
INT8_PSNR = 38.0
LEAST_PSNR = {"int8": INT8_PSNR, "fp8": 30.0}  # fp8 has 3 bits behind the leading one where int8 has up to 6


def checked_precision(precision: str | None, possible: tuple[str, ...], who: str) -> str:
    """Return the precision, the first possible one for None. Raises OptionError: what `who` can do instead."""
    if precision is None:
        return possible[0]
    if precision not in possible:
        raise OptionError(f"precision is {precision!r}; {who} has {', '.join(possible)}")
    return precision
