"""The report as a picture: bars of time, one group for each network and picture size, as SVG."""

from __future__ import annotations

from itertools import groupby
from xml.sax.saxutils import escape

from fastsr.bench.results import Report, Row

_WIDTH, _LABEL, _VALUE = 960, 420, 130  # pixels: the picture, room for labels at the left, for figures at the right
_BAR, _PITCH, _TITLE = 16, 22, 30
_OURS, _OTHERS = "#c2410c", "#94a3b8"
_FONT = "font-family='sans-serif' font-size='13' fill='#1e293b'"


def to_svg(report: Report) -> str:
    """Return an SVG picture of all rows that were timed; shorter bars are faster, each group has its own scale."""
    parts: list[str] = []
    y = 10
    timed = [row for row in report.rows if row.ms is not None]
    for title, group in groupby(timed, key=_title):
        rows = list(group)
        longest = max(row.ms or 0.0 for row in rows)
        parts.append(f"<text x='10' y='{y + 18}' {_FONT} font-weight='bold'>{escape(title)}</text>")
        y += _TITLE
        for row in rows:
            parts += _bar(row, y, longest)
            y += _PITCH
        y += _TITLE // 2
    about = f"FastSR {report.machine.get('FastSR', '')}, {report.machine.get('processor', '')}"
    parts.append(f"<text x='10' y='{y + 14}' {_FONT} opacity='0.7'>{escape(about)}</text>")
    size = f"width='{_WIDTH}' height='{y + 30}' viewBox='0 0 {_WIDTH} {y + 30}'"
    ground = "<rect width='100%' height='100%' fill='white'/>"
    return f"<svg xmlns='http://www.w3.org/2000/svg' {size}>\n{ground}\n" + "\n".join(parts) + "\n</svg>\n"


def _title(row: Row) -> str:
    size = f"{row.width}x{row.height}"
    name = "" if row.case == size else f"{row.case}: "
    return f"{name}{row.model} x{row.scale}, LR {size}"


def _bar(row: Row, y: int, longest: float) -> list[str]:
    assert row.ms is not None
    length = max(1.0, (_WIDTH - _LABEL - _VALUE) * row.ms / longest)
    ours = row.engine.startswith("FastSR")
    threads = f"{row.threads} thread{'s' if row.threads > 1 else ''}"
    isa = f", {row.isa}" if ours else ""
    label = f"{row.engine}, {row.precision}, {threads}{isa}"
    memory = f", {row.memory_mb:.0f} MB" if row.memory_mb is not None else ""
    return [
        f"<text x='{_LABEL - 8}' y='{y + 13}' {_FONT} text-anchor='end'>{escape(label)}</text>",
        f"<rect x='{_LABEL}' y='{y}' width='{length:.1f}' height='{_BAR}' fill='{_OURS if ours else _OTHERS}'/>",
        f"<text x='{_LABEL + length + 6:.1f}' y='{y + 13}' {_FONT}>{row.ms:.3g} ms{memory}</text>",
    ]
