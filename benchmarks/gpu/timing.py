"""How long a run takes on the device, and how much of its memory it takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

Run = Callable[[], Any]  # enqueues one run on the current stream; its result stays on the device


class Device(Protocol):
    """name: what the table says; recorded: whether runs can be recorded as CUDA graphs."""

    name: str
    recorded: bool

    def record(self, run: Run) -> Run: ...
    def seconds(self, run: Run, repeats: int) -> float: ...
    def peak(self, run: Run) -> float: ...


class Cuda:
    """The GPU that PyTorch uses."""

    recorded = True

    def __init__(self) -> None:
        import torch

        self._torch: Any = torch
        self.name: str = torch.cuda.get_device_name()

    def record(self, run: Run) -> Run:
        """Return a replay of the run's kernels as a CUDA graph."""
        torch = self._torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                run()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            kept = run()

        def replay() -> Any:
            graph.replay()
            return kept

        return replay

    def seconds(self, run: Run, repeats: int) -> float:
        """Return the seconds of one of `repeats` runs in a row."""
        begin, end = (self._torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(repeats):
            run()
        end.record()
        self._torch.cuda.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / repeats

    def peak(self, run: Run) -> float:
        """Return the most bytes that PyTorch had allocated during the run, above what was there before."""
        torch = self._torch
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        kept = run()
        torch.cuda.synchronize()
        del kept
        return float(torch.cuda.max_memory_allocated() - before)


class Dry:
    """The CPU in place of a GPU: for trying the script, not for figures."""

    name = "no GPU (dry run)"
    recorded = False

    def record(self, run: Run) -> Run:
        return run

    def seconds(self, run: Run, repeats: int) -> float:
        begin = time.perf_counter()
        for _ in range(repeats):
            run()
        return (time.perf_counter() - begin) / repeats

    def peak(self, run: Run) -> float:
        run()
        return 0.0


def interleaved(
    device: Device, runs: Mapping[str, Run], rounds: int, budget: float, clock: Callable[[], float] = time.monotonic
) -> dict[str, float]:
    """Return the median seconds of each run, taken in turns so that all see the same state of the machine.

    rounds: at most; fewer where they would take longer than `budget` seconds, one at least.
    """
    repeats = {}
    for name, run in runs.items():
        run()
        repeats[name] = max(1, min(20, int(0.02 / max(device.seconds(run, 1), 1e-6))))
    measured: dict[str, list[float]] = {name: [] for name in runs}
    begin = clock()
    for _ in range(rounds):
        for name, run in runs.items():
            measured[name].append(device.seconds(run, repeats[name]))
        if clock() - begin > budget:
            break
    return {name: statistics.median(values) for name, values in measured.items()}
