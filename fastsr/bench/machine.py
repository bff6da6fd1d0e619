"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from datetime import date
from pathlib import Path

from fastsr import _native
from fastsr.errors import OptionError
from fastsr.version import __version__


def describe() -> dict[str, str]:
    """Return date, processor, system, versions and how busy the machine was at the start."""
    described = {
        "date": str(date.today()),
        "processor": f"{_processor()}, {os.cpu_count()} logical cores, {_native.selected_isa()}",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "FastSR": __version__,
    }
    if hasattr(os, "getloadavg"):
        described["load at the start"] = f"{os.getloadavg()[0]:.1f}"
    return described


def usable_isa_levels() -> list[str]:
    return [name for name, level in _native.isa_levels().items() if level["usable"]]


def check_isa(name: str) -> str:
    """Return an ISA level's name. Raises OptionError unless this processor has it."""
    if name not in usable_isa_levels():
        raise OptionError(f"isa is {name!r}; this processor has {', '.join(usable_isa_levels())}")
    return name


def best_isa() -> str:
    return str(_native.selected_isa())


def default_threads() -> int:
    return int(_native.default_threads())


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)
    return named or platform.processor() or platform.machine()
