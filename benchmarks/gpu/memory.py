"""Device memory as the driver sees it, for who does not allocate through PyTorch: in a process of its own.

    python -m benchmarks.gpu.memory cuda fp16 fmen 4 540 960      # prints bytes

What other processes take or give back meanwhile counts too, so nothing else should use the GPU.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import fastsr
from benchmarks.gpu.cases import Case
from fastsr.bench.pictures import synthetic

POLL = 0.0005  # seconds between looks


def main(arguments: Sequence[str]) -> None:
    backend, precision, model = arguments[:3]
    scale, height, width = map(int, arguments[3:])
    from fastsr.backends.nvidia import driver

    gpu = driver()
    sr = fastsr.load(model, scale=scale, backend=backend, precision=precision)
    image = synthetic(height, width)
    sr.upscale(image[:8, :8])  # the context, the kernels and the weights are there before
    sr.release()

    def free() -> int:
        gpu.enter()
        return gpu.free_memory()

    print(most_taken(free, lambda: sr.upscale(image)))


def most_taken(free: Callable[[], int], run: Callable[[], Any]) -> int:
    """Return the most bytes that were taken while `run` ran, of those that were free before."""
    before = free()
    least, over = [before], threading.Event()

    def look() -> None:
        while not over.is_set():
            least[0] = min(least[0], free())
            time.sleep(POLL)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        run()
    finally:
        over.set()
        thread.join()
    return before - min(least[0], free())


def weigh(backend: str, precision: str, case: Case) -> float:
    """Return the bytes that a back end takes on the device for a case. Raises RuntimeError with what went wrong."""
    arguments = [backend, precision, case.model, str(case.scale), str(case.height), str(case.width)]
    command = [sys.executable, "-m", "benchmarks.gpu.memory", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"its memory could not be measured: {done.stderr.strip().splitlines()[-1:]}")
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main(sys.argv[1:])
