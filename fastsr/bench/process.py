"""The `fastsr` command as a whole process: its time from start to end, and the peak of its memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from fastsr.bench.jobs import Job, environment
from fastsr.errors import BackendError

# What the installed `fastsr` script does; and the same, telling its memory at the end.
_PLAIN = "from fastsr.cli import main; main()"
_TELLING = f"""
import atexit, pathlib, sys
atexit.register(lambda: sys.stderr.write(pathlib.Path("/proc/self/status").read_text()))
{_PLAIN}
"""


def command_seconds(arguments: list[str]) -> float:
    """Return the wall time of `fastsr ARGUMENTS`. Raises BackendError if it fails."""
    start = time.perf_counter()
    _run(_PLAIN, arguments)
    return time.perf_counter() - start


def command_peak(arguments: list[str]) -> int:
    """Return the most bytes that were resident in the process `fastsr ARGUMENTS`, files that it maps included.

    Raises BackendError if it fails, or where the system does not tell (Linux does).
    """
    if not Path("/proc/self/status").exists():
        raise BackendError("the peak of memory is measured on Linux only")
    for line in _run(_TELLING, arguments).splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise BackendError("the process did not tell its peak of memory")


def _run(code: str, arguments: list[str]) -> str:
    variables = environment(Job(1, 1, 1)) or dict(os.environ)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed is compiled; a source tree is by its first run
    command = [sys.executable, "-c", code, *arguments]
    result = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BackendError(f"fastsr {' '.join(arguments)} ended with code {result.returncode}: {result.stderr[:300]}")
    return result.stderr
