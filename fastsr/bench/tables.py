"""The report as text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields

from fastsr.bench.results import OK, Report, Row, Verdict

_SPEED_HEAD = (
    "case",
    "engine",
    "precision",
    "threads",
    "ISA",
    "ms",
    "of FastSR's time",
    "MP/s",
    "of peak",
    "memory, MB",
)
_SPEED_ALIGN = "lllrlrrrrrl"
_VERDICT_HEAD = ("case", "figure", "measured", "bar", "aim", "met", "")
_VERDICT_ALIGN = "llrrrll"


def to_markdown(report: Report, command: str) -> str:
    """Return the whole report, ready for a document."""
    lines = [f"`{command}`", "", "; ".join(f"{key}: {text}" for key, text in report.machine.items()) + ".", ""]
    lines += peak_lines(report)
    if report.rows:
        lines += ["", *speed_table(report.rows), "", EXPLANATION]
    if report.verdicts:
        lines += ["", *verdict_table(report.verdicts)]
    if report.notes:
        lines += ["", *(f"- {note}" for note in report.notes)]
    return "\n".join(lines) + "\n"


EXPLANATION = (
    "ms: median of interleaved rounds. MP/s: megapixels of the result. of peak: share of the arithmetic peak that was "
    "measured in the same run, the network counted as direct convolution. memory: resident at most during a run, above "
    "what was before loading and above input and result, each figure in a process of its own. difference: the largest "
    "from FastSR's fp32 result, in levels of 8 bits; for int8 the PSNR against it."
)


def speed_table(rows: Sequence[Row]) -> list[str]:
    """Return the rows as a Markdown table, aligned."""
    return _table((*_SPEED_HEAD, "difference, remarks"), [_speed_cells(row) for row in rows], _SPEED_ALIGN)


def verdict_table(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the bars as a Markdown table, aligned."""
    return _table(_VERDICT_HEAD, [_verdict_cells(verdict) for verdict in verdicts], _VERDICT_ALIGN)


def peak_lines(report: Report) -> list[str]:
    """Return one line for each number of threads."""
    return [
        f"Peaks on {threads} thread{'s' if threads > 1 else ''}: "
        + ", ".join(f"{name} {rate:.0f}" for name, rate in peaks.items())
        + " (GFLOP/s, int8 GOP/s, read GB/s)."
        for threads, peaks in sorted(report.peaks.items())
        if peaks
    ]


def to_csv(report: Report) -> str:
    """Return the rows, every field a column."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in report.rows)
    return text.getvalue()


def to_json(report: Report, command: str) -> str:
    return json.dumps({"command": command} | report.to_json(), indent=1, allow_nan=False) + "\n"


def _speed_cells(row: Row) -> list[str]:
    case = f"{row.model} x{row.scale}, {row.width}x{row.height}"
    if row.status != OK:
        return [
            case,
            f"{row.engine} {row.version}",
            row.precision,
            str(row.threads),
            row.isa,
            row.status,
            *[""] * 4,
            row.note,
        ]
    return [
        case,
        f"{row.engine} {row.version}",
        row.precision,
        str(row.threads),
        row.isa,
        _number(row.ms),
        "" if row.of_fastsr is None else f"{row.of_fastsr:.2f}",
        _number(row.megapixels_s),
        "" if row.of_peak is None else f"{row.of_peak:.0%}",
        "" if row.memory_mb is None else f"{row.memory_mb:.0f}",
        _difference(row),
    ]


def _difference(row: Row) -> str:
    parts = []
    if row.difference is not None:
        parts.append(f"{row.difference * 255:.1g}")
    if row.psnr_db is not None:
        parts.append(f"{row.psnr_db:.1f} dB")
    if row.loss_db is not None:
        parts.append(f"loses {row.loss_db:.3f} dB")
    return ", ".join([*parts, *filter(None, [row.note])])


def _verdict_cells(verdict: Verdict) -> list[str]:
    unit = f" {verdict.unit}" if verdict.unit else ""
    met = {True: "yes", False: "NO", None: "not measured" if verdict.value is None else "not judged: run in small"}
    return [
        verdict.case,
        verdict.figure,
        "" if verdict.value is None else f"{verdict.value:.3g}{unit}",
        f"{'>=' if verdict.at_least else '<='} {verdict.bar:g}{unit}",
        f"{verdict.aim:g}{unit}",
        met[verdict.met],
        verdict.note,
    ]


def _number(value: float | None) -> str:
    """Write three digits, and no exponent."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> list[str]:
    rows = [[cell.replace("|", "/") for cell in row] for row in (head, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(row, widths, align, strict=True)
        ]
        lines.append(f"| {' | '.join(cells)} |")
    rule = [
        ("-" * (width - 1) + ":") if side == "r" else "-" * width for width, side in zip(widths, align, strict=True)
    ]
    return [lines[0], f"| {' | '.join(rule)} |", *lines[1:]]
