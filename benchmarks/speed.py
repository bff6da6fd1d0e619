"""Time FastSR beside its peers in one run, and measure the memory of each in a process of its own.

    python -m benchmarks.speed                 # the cases of the README
    python -m benchmarks.speed --case fmen 4 256 256 --threads 2 --rounds 11

All peers get the same weights, pixels and thread count; results are checked against each other (at most one level
apart in 8 bits); rounds are interleaved and medians reported. "FMA peak" counts the network as direct convolution,
against the multiply-add rate that benchmarks/peak.cpp measures on as many threads in the same run.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np

import fastsr
from benchmarks.peers import PEERS, Image, Run, make
from fastsr.graph.ir import Conv, check
from fastsr.graph.model import CompiledModel
from fastsr.models import open_model

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Case:
    """height, width: LR pixels."""

    model: str
    scale: int
    height: int
    width: int

    @classmethod
    def parse(cls, words: list[str]) -> Case:
        return cls(words[0], int(words[1]), int(words[2]), int(words[3]))

    def __str__(self) -> str:
        return f"{self.model} x{self.scale}, {self.width}x{self.height}"


CASES = [Case("fmen", 4, 180, 320), Case("fmen", 4, 540, 960), Case("vdsr", 4, 64, 64), Case("srresnet", 4, 128, 128)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--case", nargs=4, action="append", metavar=("MODEL", "SCALE", "H", "W"), help="H, W: LR pixels"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--memory-of", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        peer, *numbers = options.memory_of
        print(peak_memory(peer, Case.parse(numbers), options.threads))
        return
    cases = [Case.parse(words) for words in options.case] if options.case else CASES
    peak = fma_peak(options.threads)
    print(f"{date.today()}, {describe_machine()}, {options.threads} threads")
    print(f"FMA peak {peak:.0f} GFLOP/s; medians of {options.rounds} interleaved rounds\n")
    print("| case | engine | ms | of FastSR's time | FMA peak | memory, MB |")
    print("|---|---|--:|--:|--:|--:|")
    rows = []
    for case in cases:
        rows += bench(case, options.threads, options.rounds, peak)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def bench(case: Case, threads: int, rounds: int, peak: float) -> list[dict[str, object]]:
    """Print and return one case's rows."""
    model = open_model(case.model, case.scale)
    image = test_image(case)
    runs: dict[str, Run] = {}
    for peer in PEERS:
        try:
            runs[peer] = make(peer, model, case.scale, threads)
        except ImportError as error:
            print(f"{peer} is left out: {error}", file=sys.stderr)
    results = {peer: run(image) for peer, run in runs.items()}
    for peer, result in results.items():
        apart = int(np.abs(result.astype(int) - results["native"]).max())
        assert apart <= 1, f"{peer}'s result is {apart} levels from ours"
    del results
    times = quiet_times(runs, image, rounds, threads, peak)
    rows = []
    flops = 2.0 * multiply_adds(model, case.scale) * case.height * case.width
    ours = statistics.median(times["native"])
    for peer in runs:
        median = statistics.median(times[peer])
        megabytes = memory_in_own_process(peer, case, threads) / 1e6
        share = flops / median / 1e9 / peak
        print(
            f"| {case} | {peer} | {median * 1e3:.0f} | {median / ours:.2f} | {share:.0%} | {megabytes:.0f} |",
            flush=True,
        )
        rows.append({"case": str(case), "engine": peer, "ms": median * 1e3, "memory_mb": megabytes})
    return rows


def quiet_times(runs: dict[str, Run], image: Image, rounds: int, threads: int, peak: float) -> dict[str, list[float]]:
    """Return each peer's seconds of interleaved rounds; again, up to twice, if the machine was slow meanwhile."""
    for attempt in range(3):
        times: dict[str, list[float]] = {peer: [] for peer in runs}
        for _ in range(rounds):
            for peer, run in runs.items():
                start = time.perf_counter()
                run(image)
                times[peer].append(time.perf_counter() - start)
        after = fma_peak(threads)
        spread = max(max(t) / min(t) for t in times.values())
        if after > 0.9 * peak and spread < 1.3:
            break
        print(f"attempt {attempt + 1}: FMA peak {after:.0f}, slowest / fastest round {spread:.2f}", file=sys.stderr)
    return times


def test_image(case: Case) -> Image:
    """Return random pixels, smooth enough that results are not all clamped."""
    height, width = case.height, case.width
    noise = np.random.default_rng(0).integers(0, 256, (height + 2, width + 2, 3)).astype(np.float64)
    smooth = sum(noise[y : y + height, x : x + width] for y in range(3) for x in range(3)) / 9
    return np.asarray(smooth).astype(np.uint8)


def multiply_adds(model: CompiledModel, scale: int) -> float:
    """Return multiply-adds per LR pixel, counted as direct convolution."""
    graph = model.graph(scale, 3)
    shapes = check(graph, model.tensors)
    convs = [node for node in graph.nodes if isinstance(node, Conv)]
    return float(sum(model.tensors[node.weight].size * shapes[node.name][1] ** 2 for node in convs))


def memory_in_own_process(peer: str, case: Case, threads: int) -> int:
    numbers = [case.model, str(case.scale), str(case.height), str(case.width)]
    command = [sys.executable, "-m", "benchmarks.speed", "--threads", str(threads), "--memory-of", peer, *numbers]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_memory(peer: str, case: Case, threads: int) -> int:
    """Return the bytes by which the resident set peaks above what was there before, less the result."""
    image = test_image(case)
    run = make(peer, open_model(case.model, case.scale), case.scale, threads)
    run(image[:8, :8])  # code and weights that load on first use
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = resident("VmRSS")
    result = run(image)
    return resident("VmHWM") - before - result.nbytes


def resident(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise KeyError(key)


def fma_peak(threads: int) -> float:
    """Return GFLOP/s of nothing but multiply-adds in registers."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "peak"
        source = str(HERE / "peak.cpp")
        subprocess.run(
            ["c++", "-O3", "-march=native", "-std=c++17", "-pthread", source, "-o", str(program)], check=True
        )
        return float(subprocess.run([str(program), str(threads)], check=True, capture_output=True, text=True).stdout)


def describe_machine() -> str:
    import onnxruntime
    import torch

    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    versions = f"ONNX Runtime {onnxruntime.__version__}, PyTorch {torch.__version__}"
    return f"{cpu} ({fastsr.doctor()['isa']}), FastSR {fastsr.__version__}, {versions}"


if __name__ == "__main__":
    main()
