"""The results so far, as JSON and as a page that a person reads. Written whole after each step."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.gpu import cases, eight_bits
from benchmarks.gpu.cases import Bar
from fastsr.version import __version__


@dataclass
class Report:
    """about: what it was measured on; checks: {name: [passed, figures]}; figures: {case: {entrant: {what: number}}}.

    failures: {what was tried: why it failed}; stopped: why not everything was done, or ""; losses: of int8 and fp8 on
    Set5 in dB, by `loss_name`.
    """

    about: dict[str, str]
    checks: dict[str, tuple[bool, str]] = field(default_factory=dict)
    figures: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    stopped: str = ""
    losses: dict[str, float] = field(default_factory=dict)

    def bars(self, bars: Sequence[Bar]) -> list[tuple[str, str, str]]:
        """Return (case, bar, verdict) of each."""
        return [(bar.case, bar.text, bar.judge(self.figures.get(bar.case, {}))) for bar in bars]

    def write(self, folder: Path, bars: Sequence[Bar]) -> None:
        """Write gpu.json and gpu.md, each whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (("gpu.json", json.dumps(asdict(self), indent=1)), ("gpu.md", self.page(bars))):
            temporary = folder / f".{name}.tmp"
            temporary.write_text(text)
            os.replace(temporary, folder / name)

    def page(self, bars: Sequence[Bar]) -> str:
        lines = ["# FastSR on a GPU", ""]
        lines += [f"- {name}: {value}" for name, value in self.about.items()]
        if self.stopped:
            lines += ["", f"Not everything was run: {self.stopped}."]
        lines += [
            "",
            "Command: `python -m benchmarks.gpu`. Medians of interleaved CUDA-graph replays; a user's call is",
        ]
        lines += [
            "NumPy to NumPy or tensor to tensor, copies included. Memory is above weights, input and result: the most",
            "that PyTorch's allocator gave; with (driver), the most that was gone from what the driver calls free, in",
            "a process of its own.",
            "",
        ]
        for case, entrants in self.figures.items():
            lines += [f"## {case}", "", "| | ms | device memory, MB | largest difference |", "|---|--:|--:|--:|"]
            for entrant, numbers in entrants.items():
                lines.append(
                    f"| {entrant} | {_cell(numbers, 'ms')} | {_cell(numbers, 'MB')} | {_cell(numbers, 'off')} |"
                )
            lines.append("")
        lines += self._eight_bits()
        if bars:
            lines += ["## Bars", "", "| case | bar | |", "|---|---|---|"]
            lines += [f"| {case} | {text} | {verdict} |" for case, text, verdict in self.bars(bars)] + [""]
        passed = sum(ok for ok, _ in self.checks.values())
        lines += ["## Checks", "", f"{passed} of {len(self.checks)} passed.", "", "| check | | |", "|---|---|---|"]
        lines += [f"| {name} | {'passed' if ok else 'FAILED'} | {text} |" for name, (ok, text) in self.checks.items()]
        if self.failures:
            lines += ["", "## Not run, or failed", "", "| what | why |", "|---|---|"]
            lines += [f"| {name} | {_one_line(why)} |" for name, why in self.failures.items()]
        return "\n".join(lines) + "\n"

    def _eight_bits(self) -> list[str]:
        """Return the lines that say where int8 and fp8 pay, of what was measured."""
        rows = []
        for case in cases.CASES:
            figures = self.figures.get(case.name, {})
            for precision, entrant in cases.EIGHT_BITS.items():
                lost = self.losses.get(loss_name(case, precision))
                if entrant in figures or lost is not None:
                    rows.append(f"| {case.name} | {precision} | {eight_bits.verdict(figures, precision, lost)} |")
        rule = f"The rule: {eight_bits.FACTOR} times fp16, at most {eight_bits.LOST_DB} dB lost on Set5 against fp32."
        return ["## 8 bits", "", rule, "", "| case | precision | |", "|---|---|---|", *rows, ""] if rows else []


def loss_name(case: cases.Case, precision: str) -> str:
    return f"{case.model} x{case.scale} {precision}"


def about(device: str) -> dict[str, str]:
    """Return what the figures were measured on."""
    versions: dict[str, Any] = {"FastSR": __version__, "Python": platform.python_version()}
    for name in ("torch", "triton", "tensorrt", "tensorrt_rtx"):
        try:
            versions[name] = __import__(name).__version__
        except Exception:  # not installed, or broken: either way there is no version to state
            continue
    described = {"device": device, "date": str(date.today())}
    return described | {"versions": ", ".join(f"{name} {version}" for name, version in versions.items())}


def _cell(numbers: dict[str, float], what: str) -> str:
    if what == "MB":
        by = " (driver)" if numbers.get("by_driver") else ""
        return f"{numbers['bytes'] / 1e6:.1f}{by}" if "bytes" in numbers else ""
    if what not in numbers:
        return ""
    return f"{numbers[what]:.3f}" if what == "ms" else f"{numbers[what]:.1e}"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300].replace("|", "/")
