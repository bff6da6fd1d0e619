"""The machine's measured peaks: peak.cpp, compiled here and now."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("peak.cpp")
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-O3", "-std=c++17", "-pthread")


class Peaks:
    """Measure peaks, compiling once. why_unavailable: None, or the reason why there are none.

    folder: where the program is built.
    """

    def __init__(self, folder: Path) -> None:
        self._program = folder / "peak"
        self.why_unavailable = self._build()

    def measure(self, threads: int, *, reads: bool) -> dict[str, float]:
        """Return {name: rate} on `threads` threads together: fma_* GFLOP/s, int8_* GOP/s, read_* GB/s. Or {}."""
        if self.why_unavailable is not None:
            return {}
        command = [str(self._program), str(threads), *([] if reads else ["compute"])]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            self.why_unavailable = "the peaks are measured on x86 with AVX2 only"
            return {}
        return {name: float(value) for name, value in map(str.split, result.stdout.splitlines())}

    def _build(self) -> str | None:
        candidates = (os.environ.get("CXX"), *COMPILERS)
        compiler = next((path for name in candidates if name and (path := shutil.which(name))), None)
        if compiler is None:
            return f"no C++ compiler ({', '.join(COMPILERS)}), so the machine's peaks are not measured"
        command = [compiler, *FLAGS, str(SOURCE), "-o", str(self._program)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            return f"{compiler} does not compile peak.cpp, so the machine's peaks are not measured"
        return None


def compute_peak(peaks: dict[str, float], precision: str, isa: str | None) -> float | None:
    """Return the arithmetic peak that a level could reach, GFLOP/s or GOP/s; isa None: the best level."""
    if precision == "int8":
        return peaks.get("int8_avx512_vnni") if isa is None or isa.startswith("avx512") else None
    if isa is None or isa.startswith("avx512"):
        return peaks.get("fma_avx512", peaks.get("fma_avx2"))
    return peaks.get("fma_avx2") if isa.startswith("avx2") else None
