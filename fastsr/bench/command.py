"""`fastsr bench`: the command's options, its progress, and what it writes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastsr.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastsr.bench.jobs import Job
    from fastsr.bench.measure import Bench, Settings
    from fastsr.bench.results import Report

SIZES = ("128x128", "320x180", "480x270")
SECONDS = 30.0  # for the rounds of all groups together, where --rounds does not say how many
ATTEMPTS = 3  # of a case, where the machine was not quiet
OUTPUTS = ("bench.md", "bench.csv", "bench.json", "bench.svg")
_BAR_FORMAT = "{desc}{elapsed}"


class _Pixels(click.ParamType[tuple[int, int]]):
    """WIDTHxHEIGHT in LR pixels; converted to (height, width)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        width, _, height = str(value).lower().partition("x")
        if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            self.fail(f"{value!r} is no size; such as 320x180, width and height, is needed", param, ctx)
        return int(height), int(width)


@click.command()
@click.option("--model", default="fmen", show_default=True, metavar="NAME", help="A name, or a .fsr file.")
@click.option("--scale", type=click.IntRange(1), metavar="S", help="Times as large; by default 4, or what there is.")
@click.option(
    "--size", "sizes", type=_Pixels(), multiple=True, default=SIZES, show_default=True, metavar="WxH", help="LR pixels."
)
@click.option(
    "--precision", "precisions", multiple=True, default=("fp32",), show_default=True, metavar="NAME", help="fp32, int8."
)
@click.option("--threads", multiple=True, type=click.IntRange(1), metavar="N", help="By default 1 and all cores.")
@click.option("--isa", "levels", multiple=True, metavar="NAME", help="ISA level; by default the best. See doctor.")
@click.option(
    "--backend",
    "backends",
    multiple=True,
    default=("native",),
    show_default=True,
    metavar="NAME",
    help="Of FastSR; see doctor.",
)
@click.option(
    "--pixels",
    "kinds",
    multiple=True,
    type=click.Choice(["float32", "uint8"]),
    default=("float32",),
    show_default=True,
    help="What FastSR gets: float32 for the bare engine, uint8 as users call it.",
)
@click.option("--peers", is_flag=True, help="Add the competitors that are installed: pip install 'fastsr[bench]'.")
@click.option(
    "--peer",
    "named",
    multiple=True,
    metavar="NAME",
    help="This competitor only, from --list, or a module of your own; also with --case.",
)
@click.option("--case", "cases", multiple=True, metavar="NAME", help="A named case, or all; see --list.")
@click.option("--quick", is_flag=True, help="Run cases in small, to see that they work.")
@click.option("--rounds", type=click.IntRange(1), metavar="N", help="By default 3 to 7, as time allows; of cases 7.")
@click.option("--memory/--no-memory", default=True, help="Whether to measure memory.")
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="HR images that the peers' int8 is calibrated on; by default made-up pictures.",
)
@click.option(
    "--quality",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="A set of HR images, on which int8's loss is measured. Several: their mean.",
)
@click.option(
    "--qdq",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="An int8 network as QDQ ONNX, for the peers that take it.",
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help=f"Folder for {', '.join(OUTPUTS)}."
)
@click.option("--overwrite", is_flag=True, help="Replace what is there.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@click.option("--list", "listing", is_flag=True, help="List the cases and the competitors, and exit.")
def bench(
    cases: tuple[str, ...],
    quick: bool,
    output: Path | None,
    overwrite: bool,
    quiet: bool,
    listing: bool,
    **options: Any,
) -> None:
    """Measure speed and memory on this machine.

    By default FMEN x4 on three picture sizes, on one thread and on all cores: less than a minute. Options that can
    be given several times are combined with each other. Each engine runs in a process of its own; rounds are
    interleaved and medians reported; results are checked, and a wrong one is not timed.

    \b
    Examples:
      fastsr bench
      fastsr bench --size 320x180 --peers -o bench/
      fastsr bench --model vdsr --size 64x64 --isa avx2 --isa avx512
      fastsr bench --case fmen-320x180
      fastsr bench --case all -o bench/
    """
    if listing:
        _show_list()
        return
    import tempfile

    from fastsr.bench.measure import Bench

    paths = _check_outputs(output, overwrite)
    settings = _settings(options, judged=bool(cases) and not quick)
    with tempfile.TemporaryDirectory(prefix="fastsr-bench-") as folder, _progress(quiet) as tell:
        run = Bench(Path(folder), settings, tell)
        for _ in _run_cases(run, cases, quick) if cases else _run_sweep(run, options):
            _write(run.report, paths)  # after each part, so that an interrupted run leaves something
    _show(run.report)
    for path in paths:
        click.echo(str(path))


def _settings(options: dict[str, Any], judged: bool) -> Settings:
    """Return how to measure. judged: cases, whose figures have to be as good as this machine gives them."""
    from fastsr.bench.measure import MOST_ROUNDS, Settings

    return Settings(
        rounds=options["rounds"] or (MOST_ROUNDS if judged else None),
        seconds=SECONDS / len(options["sizes"]),
        attempts=ATTEMPTS if judged else 1,
        memory=options["memory"],
        calibrate=options["calibrate"],
        qdq=options["qdq"],
        quality=options["quality"],
        peers=options["named"],
    )


def _run_cases(run: Bench, names: tuple[str, ...], quick: bool) -> Iterator[None]:
    """Measure the cases; yield after each."""
    from fastsr.bench.cases import select

    for case in select(names):
        case = case.in_small() if quick else case
        case.measure(run, case)
        yield


def _run_sweep(run: Bench, options: dict[str, Any]) -> Iterator[None]:
    """Measure every combination of the options, one group for each picture size; yield after each."""
    from fastsr.bench.peers import PEERS

    with_peers = options["peers"] or options["named"]
    peers = run.installed_peers() if with_peers else []
    if not with_peers:
        run.report.note(f"--peers adds the competitors: {', '.join(PEERS)}")
    scale = options["scale"] or _scale(options["model"])
    for height, width in options["sizes"]:
        jobs = _jobs(scale, height, width, peers, options)
        run.compare(f"{width}x{height}", options["model"], jobs)
        yield


def _jobs(scale: int, height: int, width: int, peers: list[str], options: dict[str, Any]) -> list[Job]:
    from fastsr.bench import machine
    from fastsr.bench.jobs import OURS, PRECISIONS, Job
    from fastsr.bench.peers import find_peer

    for precision in options["precisions"]:
        if precision not in PRECISIONS:
            raise OptionError(f"precision is {precision!r}; {', '.join(PRECISIONS)} are measured")
    levels: list[str | None] = [machine.check_isa(level) for level in options["levels"]]
    threads = sorted(set(options["threads"] or (1, machine.default_threads())))
    jobs = []
    for precision, n, isa in product(options["precisions"], threads, levels or [None]):
        common = Job(scale, height, width, precision=precision, threads=n, isa=isa)
        for backend, kind in product(options["backends"], options["kinds"]):
            jobs.append(_changed(common, engine=OURS, backend=backend, pixels=kind))
        jobs += [_changed(common, engine=peer) for peer in peers if precision in find_peer(peer).PRECISIONS]
    return jobs


def _changed(job: Job, **fields: Any) -> Job:
    from dataclasses import replace

    return replace(job, **fields)


def _scale(model: str) -> int:
    from fastsr.models import open_model, preferred_scale

    return preferred_scale(open_model(model).scales)


# ---- what the user sees ----


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show the present step on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda step: None
        return
    from tqdm import tqdm

    with tqdm(bar_format=_BAR_FORMAT, leave=False, file=sys.stderr) as bar:

        def tell(step: str) -> None:
            bar.set_description_str(f"{step}  ")

        yield tell


def _show_list() -> None:
    from fastsr.bench.cases import CASES
    from fastsr.bench.peers import PEERS, find_peer, version, why_missing

    width = max(len(case.name) for case in CASES)
    click.echo("cases:")
    for case in CASES:
        click.echo(f"  {case.name:{width}}  {case.about}")
    click.echo("competitors:")
    for name in PEERS:
        peer = find_peer(name)
        state = f"{peer.NAME} {version(peer)}, {' and '.join(peer.PRECISIONS)}"
        click.echo(f"  {name:{width}}  {why_missing(peer) or state}")


def _show(report: Report) -> None:
    from fastsr.bench.tables import EXPLANATION, peak_lines, speed_table, verdict_table

    click.echo("; ".join(f"{key}: {text}" for key, text in report.machine.items()))
    for line in peak_lines(report):
        click.echo(line)
    if report.rows:
        click.echo("\n" + "\n".join(speed_table(report.rows)) + "\n\n" + EXPLANATION)
    if report.verdicts:
        click.echo("\n" + "\n".join(verdict_table(report.verdicts)))
    for note in report.notes:
        click.echo(f"note: {note}", err=True)


def _check_outputs(folder: Path | None, overwrite: bool) -> list[Path]:
    """Return the files to write, before any work is done. Raises OutputError."""
    from fastsr.io.atomic import check_output

    if folder is None:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in OUTPUTS]
    for path in paths:
        check_output(path, overwrite=overwrite)
    return paths


def _write(report: Report, paths: list[Path]) -> None:
    from fastsr.bench.plot import to_svg
    from fastsr.bench.tables import to_csv, to_json, to_markdown
    from fastsr.io import atomic_output

    command = "fastsr " + " ".join(sys.argv[1:])
    texts = (to_markdown(report, command), to_csv(report), to_json(report, command), to_svg(report))
    for path, text in zip(paths, texts if paths else (), strict=True):
        with atomic_output(path, overwrite=True) as file:
            file.write(text.encode())
