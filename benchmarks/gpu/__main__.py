"""Check and time FastSR on the GPU that is here, beside PyTorch and TensorRT; write gpu.md and gpu.json.

    python -m benchmarks.gpu -o gpu-results --data DIR      # DIR/benchmarks/Set5/*.png, for PSNR
    python -m benchmarks.gpu --dry-run                      # no GPU: whether the script itself works

Each step that fails, or is not installed, is named in the table with its reason, and the others go on. The results are
written after each step, so that stopping it loses only the step that runs. With the default --limit of 450 seconds all
of it ends in less than 8 minutes.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from benchmarks.gpu import cases, checks, eight_bits, entrants, report, timing
from benchmarks.gpu.cases import Case
from benchmarks.gpu.entrants import Entrant
from benchmarks.gpu.report import Report

STEP = 90.0  # seconds that one step may take
LAST = 20.0  # seconds between the limit and the end of the process, whatever runs then
ROUNDS = 30
DRY_SHAPES = ((1, 1), (3, 5))


class OverdueError(Exception):
    """A step took longer than it may."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu-results"), help="folder for the results")
    parser.add_argument("--data", type=Path, default=os.environ.get("FASTSR_DATA"), help="folder with benchmarks/Set5")
    parser.add_argument("--limit", type=float, default=450, help="seconds that all of it may take")
    parser.add_argument("--tune", action="store_true", help="first measure block sizes; keep them in the results")
    parser.add_argument("--dry-run", action="store_true", help="run on the CPU, with small cases")
    options = parser.parse_args(arguments)
    dry = options.dry_run
    try:
        device: timing.Device = timing.Dry() if dry else timing.Cuda()
    except Exception as error:
        print(f"no GPU: {error}; --dry-run tries the script without one", file=sys.stderr)
        return 2
    results = Report(report.about(device.name))
    bars = () if dry else cases.BARS
    end = time.monotonic() + options.limit
    steps = Steps(results, end, lambda: results.write(options.output, bars))
    if not dry:
        _stop_at(end + LAST, results, lambda: results.write(options.output, bars))
        os.environ["FASTSR_CACHE"] = str(options.output / "cache")
    if options.tune:
        with steps.step("autotune", STEP):
            _tune()
    data = None if options.data is None else Path(options.data) / "benchmarks"
    backends = ("native",) if dry else ("triton", "cuda", "tensorrt")
    for name, reason in _unavailable(backends).items():
        results.failures[f"back end {name}"] = reason
    usable = [name for name in backends if f"back end {name}" not in results.failures]
    quick = cases.DRY_CASES if dry else cases.CASES
    field = entrants.DRY_ENTRANTS if dry else entrants.ENTRANTS
    for check in checks.checks(usable, data, DRY_SHAPES if dry else checks.SHAPES):
        with steps.step(check.name, STEP):
            results.checks[check.name] = check.run()
        if time.monotonic() > end - options.limit / 2:
            results.failures["the checks after that"] = "half of the time is for the figures"
            break
    for turn in sorted({e.turn for e in field}):
        for case in quick:
            _measure(case, [e for e in field if e.turn == turn or e.name == cases.OURS], device, steps)
    if data is not None and "triton" in usable:
        _losses(data, steps)
    results.write(options.output, bars)
    print((options.output / "gpu.md").read_text())
    return 0 if all(ok for ok, _ in results.checks.values()) else 1


class Steps:
    """Run steps so that one which fails or hangs costs the others nothing."""

    def __init__(self, results: Report, end: float, write: Callable[[], None]) -> None:
        self.results, self._end, self._write = results, end, write

    @contextmanager
    def step(self, name: str, most: float) -> Iterator[None]:
        """Run the block for `most` seconds at most; note its failure, and write the results."""
        left = self._end - time.monotonic()
        before = signal.signal(signal.SIGALRM, _overdue)
        try:
            signal.setitimer(signal.ITIMER_REAL, max(min(most, left), 0.001))
            yield
        except Exception as error:
            why = "the time was over" if isinstance(error, OverdueError) else f"{type(error).__name__}: {error}"
            self.results.failures[name] = why
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            if time.monotonic() >= self._end:
                self.results.stopped = f"the limit was reached at {name}"
            self._write()

    @property
    def over(self) -> bool:
        return time.monotonic() >= self._end


def _measure(case: Case, field: Sequence[Entrant], device: timing.Device, steps: Steps) -> None:
    """Set up, check, weigh and time the entrants of a case."""
    results = steps.results
    figures = results.figures.setdefault(case.name, {})
    ready: dict[str, entrants.Ready] = {}
    wanted: Any = None
    for entrant in field:
        name = f"{case.name}, {entrant.name}"
        if steps.over or name in results.failures:
            continue
        with steps.step(name, STEP):
            made = entrant.make(case, device)
            if wanted is None:
                wanted = _expected(case)
            made.run()
            off = float(np.abs(np.clip(made.result(), 0, 1) - wanted).max())
            made.idle()
            ready[entrant.name] = made
            figures[entrant.name] = figures.get(entrant.name, {}) | {"off": off}
            if made.weigh is None:
                figures[entrant.name]["bytes"] = max(device.peak(made.eager) - made.held, 0.0)
            elif (taken := made.weigh()) is not None:
                figures[entrant.name] |= {"bytes": taken, "by_driver": 1.0}
    with steps.step(f"{case.name}, timing", STEP):
        seconds = timing.interleaved(device, {name: made.run for name, made in ready.items()}, ROUNDS, 15)
        for name, value in seconds.items():
            figures[name]["ms"] = value * 1e3


def _losses(data: Path, steps: Steps) -> None:
    """Measure what 8 bits cost in PSNR."""
    for case, precision in eight_bits.pairs():
        name = report.loss_name(case, precision)
        if steps.over:
            break
        with steps.step(f"{name}, PSNR on Set5", STEP):
            steps.results.losses[name] = eight_bits.loss(case.model, case.scale, precision, data)


def _expected(case: Case) -> Any:
    """Return what the CPU's engine makes of the case, in floats."""
    import fastsr
    from fastsr.bench.pictures import synthetic

    sr = fastsr.load(case.model, scale=case.scale, backend="native")
    return np.clip(sr.upscale(synthetic(case.height, case.width).astype(np.float32) / 255), 0, 1)


def _tune() -> None:
    from fastsr.backends.triton.autotune import autotune
    from fastsr.models import open_model

    for case in cases.CASES[:1]:
        autotune(open_model(case.model, case.scale), case.scale, case.height, case.width, "fp16", most=8)


def _unavailable(wanted: Sequence[str]) -> dict[str, str]:
    import fastsr

    known = fastsr.backends()
    reasons = {name: known.get(name, "this version of FastSR has no such back end") for name in wanted}
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _overdue(signum: int, frame: FrameType | None) -> None:
    raise OverdueError


def _stop_at(end: float, results: Report, write: Callable[[], None]) -> None:
    """End the process then, even if something that hears no signal still runs."""

    def wait() -> None:
        time.sleep(max(end - time.monotonic(), 0))
        results.stopped = "a step did not end, and the process was"
        with suppress(Exception):  # the step may be changing the results right now; what was written before is whole
            write()
        os._exit(3)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
