"""What came out: one row for each engine and setting, one verdict for each bar."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

OK, DIFFERS, FAILED = "ok", "differs", "failed"


@dataclass
class Row:
    """One engine in one setting; None: not measured.

    width, height: LR pixels. ms: median of the rounds; fastest, slowest: of the same. megapixels_s: of the result.
    of_fastsr: time in FastSR's times on as many threads, in the same precision and ISA level if there are several.
    of_peak: the share of the measured arithmetic peak, the network counted as direct convolution. memory_mb: above
    input and result; process_mb: the whole process. difference: the largest from the fp32 result, 0..1. psnr_db: of
    the result against the fp32 result. loss_db: luma PSNR lost on HR images, mean of the sets. status: OK, DIFFERS
    (from the fp32 result by more than is tolerated, so not timed) or FAILED; note says why.
    """

    case: str
    model: str
    scale: int
    width: int
    height: int
    engine: str
    version: str
    precision: str
    threads: int
    isa: str
    status: str = OK
    note: str = ""
    rounds: int = 0
    ms: float | None = None
    fastest_ms: float | None = None
    slowest_ms: float | None = None
    megapixels_s: float | None = None
    of_fastsr: float | None = None
    of_peak: float | None = None
    memory_mb: float | None = None
    process_mb: float | None = None
    difference: float | None = None
    psnr_db: float | None = None
    loss_db: float | None = None

    def fail(self, status: str, note: str) -> None:
        self.status, self.note = status, " ".join(note.split())


@dataclass(frozen=True)
class Verdict:
    """A figure beside its bar. value: None where it could not be measured; note says why, or what it compares.

    at_least: whether more is better; judged: False where the case was run in small, which says nothing about the bar.
    """

    case: str
    figure: str
    value: float | None
    bar: float
    aim: float
    at_least: bool
    unit: str = ""
    note: str = ""
    judged: bool = True

    @property
    def met(self) -> bool | None:
        """Say whether the bar is met; None: not measured, or not judged."""
        if self.value is None or not self.judged:
            return None
        return self.value >= self.bar if self.at_least else self.value <= self.bar


@dataclass
class Report:
    """Everything that one run of `fastsr bench` found. machine: {what: text}; peaks: {threads: {name: rate}}."""

    machine: dict[str, str]
    peaks: dict[int, dict[str, float]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Keep a remark, once."""
        if text not in self.notes:
            self.notes.append(text)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"verdicts": [asdict(verdict) | {"met": verdict.met} for verdict in self.verdicts]}
