"""Measure jobs beside each other: convert, check the results, time in interleaved rounds, then memory and quality."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fastsr.bench import machine
from fastsr.bench.check import OUR_TOLERANCE, Planes, compare
from fastsr.bench.client import Client
from fastsr.bench.jobs import OURS, Job, peer_of
from fastsr.bench.network import Network, multiply_adds, planes
from fastsr.bench.peak import Peaks, compute_peak
from fastsr.bench.peers import PEERS, Peer, find_peer, require, version, why_missing
from fastsr.bench.pictures import calibration, synthetic
from fastsr.bench.results import DIFFERS, FAILED, Report, Row
from fastsr.errors import BackendError, OptionError
from fastsr.graph import reference
from fastsr.models import open_model
from fastsr.version import __version__

FEWEST_ROUNDS, MOST_ROUNDS = 3, 7
# A machine counts as quiet if no engine's rounds spread further, and the FMA peak after them is what it was before.
QUIET_SPREAD = 1.3
QUIET_PEAK = 0.9
PAUSE = 0.1  # seconds before each run: idle threads of the engine before it may spin for a while
PROOF = (19, 23)  # LR height and width of the picture on which FastSR itself is checked against float64


@dataclass(frozen=True)
class Settings:
    """How to measure.

    rounds: of each group; None: 3 to 7, as many as fit into `seconds`. attempts: how often a group is timed again
    where the machine was not quiet. memory: whether to measure it. calibrate: HR images for int8; qdq: an int8
    network to use instead. quality: folders of HR images, each a set, for the loss of int8. peers: who may take part,
    by name; empty: whoever is installed.
    """

    rounds: int | None = None
    seconds: float = 10.0
    attempts: int = 1
    memory: bool = True
    calibrate: Path | None = None
    qdq: Path | None = None
    quality: tuple[Path, ...] = ()
    peers: tuple[str, ...] = ()


class Bench:
    """Measure jobs and collect the rows in `report`. folder: for files that are not kept. tell: takes each step."""

    def __init__(self, folder: Path, settings: Settings, tell: Callable[[str], None]) -> None:
        self.folder = folder
        self.settings = settings
        self.report = Report(machine.describe())
        self.tell = tell
        tell("building the program that measures the machine's peaks")
        self._peaks = Peaks(folder)
        self._networks: dict[tuple[str, int], Network] = {}
        self._prepared: dict[tuple[Path, str, str], str | BackendError] = {}
        self._proved: set[Path] = set()

    def installed_peers(self) -> list[str]:
        """Return the peers that take part and can run here; note what is missing.

        Raises BackendUnavailableError where one that was named is missing: it says what to install.
        """
        found = []
        for name in self.settings.peers or PEERS:
            peer = find_peer(name)
            if self.settings.peers:
                require(peer)
            elif (reason := why_missing(peer)) is not None:
                self.report.note(reason)
                continue
            found.append(name)
        return found

    def network(self, model: str, scale: int) -> Network:
        """Return a model's network in the form that workers read. model: a name or a .fsr file."""
        if (model, scale) not in self._networks:
            pictures = calibration(self.settings.calibrate, scale)
            folder = self.folder / f"network-{len(self._networks)}"
            made = Network.create(folder, open_model(model, scale), scale, pictures)
            if self.settings.qdq is not None:
                made.give_qdq(self.settings.qdq)
            self._networks[model, scale] = made
        return self._networks[model, scale]

    def compare(self, case: str, model: str, jobs: Sequence[Job], *, timed: bool = True) -> list[Row]:
        """Measure jobs of one network and picture size beside each other; return their rows, also in the report.

        timed: False for memory alone.
        """
        network = self.network(model, jobs[0].scale)
        truth = self._truth(network, jobs[0])
        rows = [_row(case, model, job) for job in jobs]
        with ExitStack() as stack:
            ready = []
            for row, job in zip(rows, jobs, strict=True):
                self.tell(f"{case}: {_spoken(row)}: loading, checking its result")
                client = self._ready(stack, network, row, job, truth)
                if client is not None:
                    ready.append((row, client))
            del truth
            if timed and ready:
                self._time(case, network, ready)
        if self.settings.memory or not timed:
            for row, client in ready:
                self._measure_memory(network, row, client.job)
        self._measure_quality(network, [(row, client.job) for row, client in ready])
        self.report.rows += rows
        return rows

    def results_equal(self, model: str, jobs: Sequence[Job]) -> bool:
        """Say whether FastSR gives the same bits for these jobs."""
        network = self.network(model, jobs[0].scale)
        first, *others = (self._result(network, job) for job in jobs)
        return all(np.array_equal(first, other) for other in others)

    def peaks(self, threads: int) -> dict[str, float]:
        """Measure the machine's peaks, those of reading once only; the report keeps the best that were seen."""
        found = self._peaks.measure(threads, reads=threads not in self.report.peaks)
        if self._peaks.why_unavailable is not None:
            self.report.note(self._peaks.why_unavailable)
        best = self.report.peaks.setdefault(threads, {})
        best.update({name: max(rate, best.get(name, 0)) for name, rate in found.items()})
        return found

    # ---- results ----

    def _truth(self, network: Network, job: Job) -> Planes:
        """Return FastSR's fp32 result on the job's picture, FastSR having been proved on a small one."""
        ours = Job(job.scale, *PROOF, threads=machine.default_threads())
        if network.folder not in self._proved:
            self.tell("checking FastSR against float64")
            wanted = reference.run(network.graph, network.model.tensors, planes(synthetic(*PROOF)))
            error = float(np.abs(self._result(network, ours) - wanted).max())
            if not error <= OUR_TOLERANCE:
                raise BackendError(f"FastSR's result differs from float64 by {error:.2g}; {OUR_TOLERANCE:g} is allowed")
            self._proved.add(network.folder)
            self.report.note(
                f"{network.model.name} x{network.scale}: FastSR differs from float64 by at most {error:.1g}"
            )
        self.tell("computing the result to check against")
        return self._result(network, replace(ours, height=job.height, width=job.width))

    def _result(self, network: Network, job: Job) -> Planes:
        with Client(network, job) as client:
            client.ask("open")
            return self._saved(client)

    def _saved(self, client: Client) -> Planes:
        path = self.folder / "result.npy"
        client.ask("save", path=str(path))
        result: Planes = np.load(path)
        path.unlink()
        return result

    def _ready(self, stack: ExitStack, network: Network, row: Row, job: Job, truth: Planes) -> Client | None:
        """Return a worker that holds the engine, its result checked; None, with the reason in the row, otherwise."""
        try:
            row.note = self._prepare(network, job)
            client = stack.enter_context(Client(network, job))
            client.ask("open")
            compared = compare(self._saved(client), truth, job)
        except (BackendError, OptionError) as error:
            row.fail(FAILED, str(error))
            return None
        if compared.wrong is not None:
            row.fail(DIFFERS, compared.wrong)
            client.close()
            return None
        if job.precision == "fp32":
            row.difference = compared.difference
        else:
            row.psnr_db = compared.psnr_db
        return client

    def _prepare(self, network: Network, job: Job) -> str:
        """Convert the network for the engine, once, in a process of its own; return how."""
        key = network.folder, job.engine, job.precision
        if key not in self._prepared:
            try:
                with Client(network, replace(job, isa=None)) as client:
                    self._prepared[key] = str(client.ask("prepare")["note"])
            except BackendError as error:
                self._prepared[key] = error
        outcome = self._prepared[key]
        if isinstance(outcome, BackendError):
            raise outcome
        return outcome

    # ---- time ----

    def _time(self, case: str, network: Network, ready: list[tuple[Row, Client]]) -> None:
        threads = max(row.threads for row, _ in ready)
        before = self.peaks(threads)
        for attempt in range(self.settings.attempts):
            times = self._rounds(case, [client for _, client in ready])
            spread = max(max(t) / min(t) for t in times)
            after = self.peaks(threads)
            slowed = _arithmetic(after) < QUIET_PEAK * _arithmetic(self.report.peaks[threads])
            if spread <= QUIET_SPREAD and not slowed:
                break
            self.tell(f"{case}: the machine was not quiet, attempt {attempt + 1}")
        else:
            self.report.note(
                f"{case}: the machine was not quiet: slowest / fastest round {spread:.2f}, "
                f"FMA peak {_arithmetic(before):.0f} before and {_arithmetic(after):.0f} GFLOP/s after"
            )
        for (row, _), seconds in zip(ready, times, strict=True):
            self._fill(network, row, seconds)
        for row, client in ready:
            mine = [other for other, its in ready if its.job.engine == OURS and other.threads == row.threads]
            if client.job.engine != OURS:
                mine.sort(key=lambda other: (other.precision != row.precision, other.isa != row.isa))
            if mine and mine[0].ms and row.ms:
                row.of_fastsr = row.ms / mine[0].ms

    def _rounds(self, case: str, clients: list[Client]) -> list[list[float]]:
        times: list[list[float]] = [[] for _ in clients]
        begin = time.monotonic()
        done = 0
        while not self._enough(done, time.monotonic() - begin):
            for seconds, client in zip(times, clients, strict=True):
                self.tell(f"{case}: round {done + 1}, {client.job.label}")
                time.sleep(PAUSE)
                seconds.append(float(client.ask("run")["seconds"]))
            done += 1
        return times

    def _enough(self, done: int, seconds: float) -> bool:
        if self.settings.rounds is not None:
            return done >= self.settings.rounds
        return done >= MOST_ROUNDS or (done >= FEWEST_ROUNDS and seconds >= self.settings.seconds)

    def _fill(self, network: Network, row: Row, seconds: list[float]) -> None:
        median = statistics.median(seconds)
        row.rounds = len(seconds)
        row.ms, row.fastest_ms, row.slowest_ms = median * 1e3, min(seconds) * 1e3, max(seconds) * 1e3
        pixels = row.width * row.height
        row.megapixels_s = pixels * row.scale**2 / median / 1e6
        isa = row.isa if row.isa in machine.usable_isa_levels() else None
        peaks = self.report.peaks.get(row.threads) or self.peaks(row.threads)
        peak = compute_peak(peaks, row.precision, isa)
        if peak:
            row.of_peak = 2 * multiply_adds(network) * pixels / median / 1e9 / peak

    # ---- memory and quality ----

    def _measure_memory(self, network: Network, row: Row, job: Job) -> None:
        self.tell(f"{row.case}: {_spoken(row)}: memory, in a process of its own")
        try:
            with Client(network, job) as client:
                answer = client.ask("memory")
        except BackendError as error:
            self.report.note(f"{row.engine}: no memory figure: {error}")
            return
        row.memory_mb, row.process_mb = answer["bytes"] / 1e6, answer["process_bytes"] / 1e6

    def _measure_quality(self, network: Network, ready: Iterable[tuple[Row, Job]]) -> None:
        """Fill in what int8 loses against FastSR's fp32 on the sets."""
        lossy = [(row, job) for row, job in ready if job.precision != "fp32"]
        if not self.settings.quality or not lossy:
            return
        exact = self._psnr(network, replace(lossy[0][1], engine=OURS, precision="fp32", isa=None, pixels="float32"))
        for row, job in lossy:
            self.tell(f"{row.case}: {_spoken(row)}: quality")
            try:
                row.loss_db = float(np.mean(exact) - np.mean(self._psnr(network, job)))
            except BackendError as error:
                self.report.note(f"{row.engine}: no quality figure: {error}")

    def _psnr(self, network: Network, job: Job) -> list[float]:
        with Client(network, job) as client:
            found: list[float] = client.ask("quality", folders=[str(folder) for folder in self.settings.quality])[
                "psnr"
            ]
        return found


def _row(case: str, model: str, job: Job) -> Row:
    peer: Peer | None = None if job.engine == OURS else peer_of(job)
    return Row(
        case=case,
        model=Path(model).stem,
        scale=job.scale,
        width=job.width,
        height=job.height,
        engine=job.label,
        version=__version__ if peer is None else version(peer),
        precision=job.precision,
        threads=job.threads,
        isa=job.isa or (machine.best_isa() if peer is None and job.backend == "native" else "its own choice"),
    )


def _spoken(row: Row) -> str:
    return f"{row.engine} {row.precision}, {row.threads} thread{'s' if row.threads > 1 else ''}"


def _arithmetic(peaks: dict[str, float]) -> float:
    return compute_peak(peaks, "fp32", None) or 0.0
