"""The named cases: what FastSR holds itself to, each measured by `fastsr bench --case NAME`.

Bars are for 2 cores with AVX-512 VNNI and 2 threads. A case measures whatever is needed to judge it, the installed
competitors included.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fastsr.bench import process
from fastsr.bench.jobs import OURS, Job
from fastsr.bench.measure import Bench
from fastsr.bench.peers import find_peer
from fastsr.bench.pictures import synthetic
from fastsr.bench.results import Row, Verdict
from fastsr.errors import BackendError, OptionError
from fastsr.io import open_sink, write_image

THREADS = 2
BUDGET = 16_000_000
COMMAND_ROUNDS = 11
QUICK = 8  # times smaller, each side
SMALLEST = 16  # LR pixels


@dataclass(frozen=True)
class Bar:
    """A bar, the aim beyond it, and whether a figure has to be above or below."""

    bar: float
    aim: float
    at_least: bool = True
    unit: str = ""

    def judge(self, bench: Bench, case: Case, figure: str, value: float | None, note: str = "") -> None:
        """Add the verdict to the report."""
        bench.report.verdicts.append(
            Verdict(case.name, figure, value, self.bar, self.aim, self.at_least, self.unit, note, not case.quick)
        )


@dataclass(frozen=True)
class Case:
    """A named case. height, width: LR pixels. quick: run in small, to see that it works; bars are not judged then."""

    name: str
    about: str
    model: str
    scale: int
    height: int
    width: int
    measure: Callable[[Bench, Case], None]
    quick: bool = False

    def in_small(self) -> Case:
        small = (max(SMALLEST, side // QUICK) for side in (self.height, self.width))
        return replace(self, height=next(small), width=next(small), quick=True)

    def job(self, **options: object) -> Job:
        """Return FastSR's job; options: Job's fields."""
        return replace(Job(self.scale, self.height, self.width, threads=THREADS), **options)  # type: ignore[arg-type]


def beside_peers(bar: Bar, precision: str = "fp32", *, isa: str | None = None, int8_bar: Bar | None = None) -> Measure:
    """Judge FastSR's time against the fastest peer's, and (int8_bar) against OpenVINO's int8."""

    def measure(bench: Bench, case: Case) -> None:
        peers = [peer for peer in bench.installed_peers() if _takes_part(bench, peer, precision, isa)]
        jobs = [case.job(engine=engine, precision=precision, isa=isa) for engine in (OURS, *peers)]
        if int8_bar is not None and "openvino" in peers:
            jobs.append(case.job(engine="openvino", precision="int8"))
        rows = bench.compare(case.name, case.model, jobs)
        ours = rows[0]
        rivals = [row for row in rows[1:] if row.precision == precision and row.ms is not None]
        best = min(rivals, key=_ms, default=None)
        _judge_ratio(bench, case, bar, f"best {precision} peer's time / FastSR's {precision}", best, ours)
        if int8_bar is not None:
            int8 = next((row for row in rows if row.precision == "int8" and row.ms is not None), None)
            _judge_ratio(bench, case, int8_bar, "OpenVINO's int8 time / FastSR's fp32", int8, ours)
        if precision == "int8" and bench.settings.quality:
            LOSS.judge(bench, case, "luma PSNR that int8 loses, mean of the sets", ours.loss_db, ours.note)

    return measure


def threads_scale(bar: Bar) -> Measure:
    """Judge the time on one thread against that on two."""

    def measure(bench: Bench, case: Case) -> None:
        one, two = bench.compare(case.name, case.model, [case.job(threads=1), case.job(threads=2)])
        _judge_ratio(bench, case, bar, "time on 1 thread / on 2", one, two)

    return measure


def memory(bar: Bar) -> Measure:
    """Judge the memory above input and result of an 8-bit picture; peers beside it."""

    def measure(bench: Bench, case: Case) -> None:
        peers = [case.job(engine=peer) for peer in bench.installed_peers()]
        rows = bench.compare(case.name, case.model, [case.job(pixels="uint8"), *peers], timed=False)
        bar.judge(bench, case, "memory above input and result", rows[0].memory_mb, rows[0].note)

    return measure


def file_to_file(bar: Bar) -> Measure:
    """Judge the peak of the whole process that upscales a very tall file into a file."""

    def measure(bench: Bench, case: Case) -> None:
        for suffix in (".png", ".tif"):
            bench.tell(f"{case.name}: writing the {suffix} picture")
            source, target = bench.folder / f"tall{suffix}", bench.folder / "tall_x4.tif"
            _write_tall(source, case.height, case.width)
            bench.tell(f"{case.name}: upscaling the {suffix} picture")
            options = ["--model", case.model, "--scale", str(case.scale), "--threads", str(THREADS), "-q"]
            peak, note = None, ""
            try:
                peak = process.command_peak(["upscale", str(source), "-o", str(target), *options]) / 1e6
            except BackendError as error:
                note = str(error)
            bar.judge(bench, case, f"peak of the process, {suffix} to .tif", peak, note)
            for path in (source, target):
                path.unlink(missing_ok=True)

    return measure


def tight_budget(bar: Bar) -> Measure:
    """Judge the time in little memory against the time without a bound; the bits have to be the same."""

    def measure(bench: Bench, case: Case) -> None:
        free, bound = case.job(pixels="uint8"), case.job(pixels="uint8", max_memory=BUDGET)
        unbounded, bounded = bench.compare(case.name, case.model, [free, bound])
        same = bench.results_equal(case.model, [free, bound])
        value = _ratio(bounded, unbounded) if same else None
        note = "same bits" if same else "the bits differ, so the time does not count"
        bar.judge(bench, case, "time with max_memory=16MB / without", value, note)

    return measure


def whole_command(bar: Bar) -> Measure:
    """Judge the time of `fastsr upscale` on a small PNG, from the start of the process to its end."""

    def measure(bench: Bench, case: Case) -> None:
        source, target = bench.folder / "small.png", bench.folder / "small_x4.png"
        write_image(source, synthetic(case.height, case.width), overwrite=True)
        arguments = ["upscale", str(source), "-o", str(target), "--overwrite", "-q", "--threads", str(THREADS)]
        arguments += ["--model", case.model, "--scale", str(case.scale)]
        times = []
        for i in range(2 if case.quick else COMMAND_ROUNDS + 1):
            bench.tell(f"{case.name}: run {i}")
            times.append(process.command_seconds(arguments))
        del times[0]  # reads files that are not in memory yet, and may compile sources
        bar.judge(bench, case, "wall time of the process", statistics.median(times))

    return measure


def eight_bits(bar: Bar) -> Measure:
    """Judge what an 8-bit image in and out costs over the bare engine on float pixels."""

    def measure(bench: Bench, case: Case) -> None:
        image, bare = bench.compare(case.name, case.model, [case.job(pixels="uint8"), case.job(pixels="float32")])
        _judge_ratio(bench, case, bar, "time of uint8 in and out / of the bare float engine", image, bare)

    return measure


Measure = Callable[[Bench, Case], None]
LOSS = Bar(0.05, 0.03, at_least=False, unit="dB")
_NO_SLOWER = Bar(1.0, 1.0)
_FMEN = ("fmen", 4)
_VDSR = ("vdsr", 4)  # LR 64x64 is 256x256 in its convolutions
_SRGAN = ("srresnet", 4)

CASES = [
    Case("fmen-320x180", "FMEN x4, LR 320x180, fp32, beside the peers", *_FMEN, 180, 320,
         beside_peers(Bar(3.2, 4.0), int8_bar=_NO_SLOWER)),
    Case("fmen-256x256", "FMEN x4, LR 256x256, fp32, beside the peers", *_FMEN, 256, 256,
         beside_peers(Bar(3.2, 4.0), int8_bar=_NO_SLOWER)),
    Case("vdsr-256x256", "VDSR, 256x256 (x4, LR 64x64), fp32, beside the peers", *_VDSR, 64, 64,
         beside_peers(Bar(2.0, 2.5))),
    Case("srgan-128x128", "SRGAN's generator x4, LR 128x128, fp32, beside the peers", *_SRGAN, 128, 128,
         beside_peers(Bar(2.5, 3.5))),
    Case("fmen-int8-320x180", "FMEN x4, LR 320x180, int8, beside the int8 peers", *_FMEN, 180, 320,
         beside_peers(Bar(1.7, 2.1), "int8")),
    Case("fmen-int8-256x256", "FMEN x4, LR 256x256, int8, beside the int8 peers", *_FMEN, 256, 256,
         beside_peers(Bar(1.7, 2.1), "int8")),
    Case("vdsr-int8-256x256", "VDSR, 256x256 (x4, LR 64x64), int8, beside the int8 peers", *_VDSR, 64, 64,
         beside_peers(Bar(1.0, 1.2), "int8")),
    Case("srgan-int8-128x128", "SRGAN's generator x4, LR 128x128, int8, beside the int8 peers", *_SRGAN, 128, 128,
         beside_peers(Bar(1.5, 2.0), "int8")),
    Case("fmen-avx2", "FMEN x4, LR 320x180, fp32, all held to AVX2 that can be", *_FMEN, 180, 320,
         beside_peers(Bar(2.0, 2.5), isa="avx2")),
    Case("threads", "FMEN x4, LR 320x180, fp32, 1 thread and 2", *_FMEN, 180, 320, threads_scale(Bar(1.8, 1.95))),
    Case("uint8", "FMEN x4, LR 320x180, 8-bit image in and out, and the bare float engine", *_FMEN, 180, 320,
         eight_bits(Bar(1.05, 1.0, at_least=False))),
    Case("memory", "FMEN x4, LR 960x540, memory above input and result", *_FMEN, 540, 960,
         memory(Bar(48, 24, at_least=False, unit="MB"))),
    Case("budget", "FMEN x4, LR 960x540, max_memory=16MB and no bound", *_FMEN, 540, 960,
         tight_budget(Bar(1.5, 1.2, at_least=False))),
    Case("file", "FMEN x4, LR 960x54000, file to file, memory of the process (3 GB of disk)", *_FMEN, 54000, 960,
         file_to_file(Bar(120, 80, at_least=False, unit="MB"))),
    Case("command", "`fastsr upscale` on a 64x64 PNG, the whole process", *_FMEN, 64, 64,
         whole_command(Bar(0.35, 0.2, at_least=False, unit="s"))),
]  # fmt: skip


def _takes_part(bench: Bench, peer: str, precision: str, isa: str | None) -> bool:
    """Say whether a competitor can be measured so; note which cannot be held to an ISA level."""
    module = find_peer(peer)
    if isa is not None and module.environment(isa) is None:
        bench.report.note(f"{module.NAME} is not compared on {isa}: nothing holds it to that")
        return False
    return precision in module.PRECISIONS


def _judge_ratio(bench: Bench, case: Case, bar: Bar, figure: str, row: Row | None, to: Row) -> None:
    if row is None:
        bar.judge(bench, case, figure, None, "no competitor gave a right result")
        return
    if row.ms is None or to.ms is None:
        bar.judge(bench, case, figure, None, (row if row.ms is None else to).note)
        return
    bar.judge(bench, case, figure, row.ms / to.ms, f"{row.engine} {row.ms:.3g} ms, {to.engine} {to.ms:.3g} ms")


def _ratio(row: Row, to: Row) -> float | None:
    return None if row.ms is None or to.ms is None else row.ms / to.ms


def _ms(row: Row) -> float:
    assert row.ms is not None
    return row.ms


def _write_tall(path: Path, height: int, width: int) -> None:
    block = synthetic(min(height, width), width)
    with open_sink(path, (height, width, 3), block.dtype, overwrite=True) as sink:
        for y0 in range(0, height, len(block)):
            sink.write(y0, block[: height - y0])


def select(names: Sequence[str]) -> list[Case]:
    """Return the cases of these names, in the list's order; "all" is all of them. Raises OptionError."""
    known = [case.name for case in CASES]
    for name in names:
        if name != "all" and name not in known:
            raise OptionError(f"there is no case {name!r}; all, {', '.join(known)} would do")
    return [case for case in CASES if case.name in names or "all" in names]
