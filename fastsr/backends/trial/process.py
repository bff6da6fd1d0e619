"""One measurement in a process of its own, so that a kernel that faults or hangs on this GPU does so there alone.

The parent writes the model, the native engine's result and a request into a temporary folder, and reads the child's
output from files: pipes would keep it waiting for what the child itself has started.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fastsr.backends.base import Backend
from fastsr.backends.trial.measure import Figures, Task, are_whole, measured
from fastsr.errors import OutputError
from fastsr.graph.model import CompiledModel

SWITCH = "FASTSR_TRIAL"  # "0": no trial
LIMIT = 180.0  # seconds for one back end, in which it may have to compile kernels or to build an engine
_GRACE = 10.0  # seconds for a process to go that was killed; a driver that hangs may keep it longer
_REASON = 300  # characters of what a process said last
_MODEL, _EXACT, _REQUEST, _OUTPUT, _ERRORS = "model.fsr", "exact.npy", "request.json", "output", "errors"
# No "-m": it would put the current folder first, whatever lies there. The path is the parent's, for the same imports.
_CODE = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; import json; request = json.load(sys.stdin); "
    "sys.path[:] = request['path']; from fastsr.backends.trial.process import answer; answer(request)"
)


class NotStartedError(Exception):
    """No process can be started, for this reason."""


def python() -> str:
    """Return the Python that runs this. Raises NotStartedError where a program contains it."""
    if getattr(sys, "frozen", False):
        raise NotStartedError("this program is frozen and has no Python to start beside it")
    name = Path(sys.executable or "").name.lower()
    if "python" not in name and "pypy" not in name:
        raise NotStartedError(f"this program has no Python to start beside it (sys.executable is {sys.executable!r})")
    return sys.executable


def measured_apart(backend: Backend, task: Task, limit: float = LIMIT) -> Figures:
    """Return what `measured` does, but found in a new process by the back end of this name.

    A process that takes longer than `limit` seconds, is ended by a signal or ends badly is a back end that failed, even
    if it gave figures before: the user's process would have ended so too. Raises NotStartedError.
    """
    import tempfile  # what no trial needs is not imported

    try:
        with tempfile.TemporaryDirectory(prefix="fastsr-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            _ask(folder, backend, task)
            code = _run(folder, limit)
            if code is None:
                return {"failed": f"took longer than {limit:g} s"}
            found = _figures(folder, backend.name)
            return {"failed": _end(folder, code)} if code or found is None else found
    except (OSError, OutputError) as error:
        raise NotStartedError(f"no process can be started: {error}") from error


def _ask(folder: Path, backend: Backend, task: Task) -> None:
    task.model.save(folder / _MODEL)
    np.save(folder / _EXACT, task.exact)
    path = [p for p in sys.path if isinstance(p, str) and p]  # "" is the current folder
    home = str(Path(__file__).absolute().parents[3])
    request = {
        "path": path if home in path else [home, *path],
        "folder": str(folder),
        "backend": backend.name,
        "scale": task.scale,
        "channels": task.channels,
        "threads": task.threads,
        "precision": task.precision,
    }
    (folder / _REQUEST).write_text(json.dumps(request), encoding="ascii")


def _run(folder: Path, limit: float) -> int | None:
    """Return the process's exit code; None: it took too long, and was killed."""
    import subprocess

    with (
        (folder / _REQUEST).open("rb") as request,
        (folder / _OUTPUT).open("wb") as output,
        (folder / _ERRORS).open("wb") as errors,
    ):
        process = subprocess.Popen(
            [python(), "-c", _CODE],
            stdin=request,
            stdout=output,
            stderr=errors,
            env=os.environ | {SWITCH: "0"},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                process.kill()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_GRACE)


def _figures(folder: Path, name: str) -> Figures | None:
    """Return the last line that holds figures; libraries print before and behind it."""
    for line in reversed((folder / _OUTPUT).read_bytes().splitlines()):
        with suppress(ValueError, RecursionError):
            found: Figures = json.loads(line)
            if are_whole(name, found):
                return found
    return None


def _end(folder: Path, code: int) -> str:
    """Say how the process ended, and what it said last."""
    how = f"exit code {code}"
    if code < 0:
        how = next((s.name for s in signal.Signals if s == -code), f"signal {-code}")
    said = (folder / _ERRORS).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    return ": ".join([f"its process ended with {how}", *said])[:_REASON]


def answer(request: dict[str, Any]) -> None:
    """Measure what the request asks for, and write the figures: the new process's part."""
    from fastsr.backends import BACKENDS

    _leave_no_core()
    folder = Path(request["folder"])
    model, exact = CompiledModel.load(folder / _MODEL), np.load(folder / _EXACT)
    task = Task(model, request["scale"], request["channels"], request["threads"], request["precision"], exact)
    backend = next(backend for backend in BACKENDS if backend.name == request["backend"])
    sys.stdout.write("\n" + json.dumps(measured(backend, task)) + "\n")


def _leave_no_core() -> None:
    """Let a crash leave no core file: with a GPU's memory mapped it is gigabytes, in the user's folder."""
    with suppress(ImportError, OSError, ValueError):  # Windows has no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
