"""The C++ that tests build, once in a run of the tests: the workers of `pytest -n` share it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(*command: object, **options: object) -> str:
    """Return what a command prints. Fails the test, with the end of what was printed, if the command fails."""
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
    return result.stdout


def generator() -> list[str]:
    """Return CMake's option for Ninja, where Ninja is there."""
    return ["-G", "Ninja"] if shutil.which("ninja") else []


@contextmanager
def build_folder(factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """Give this run's folder `name` to one worker at a time; what the last one built there is found again."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"cpp-{name}"
    folder.mkdir(exist_ok=True)
    import fcntl  # not on Windows, where the tests that come here are skipped

    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


def installed_c_library(factory: pytest.TempPathFactory) -> Path:
    """Return where the C library is installed, by the two commands of docs/embedding.md."""
    with build_folder(factory, "plain") as folder:
        build, prefix = folder / "build", folder / "prefix"
        if not (folder / "installed").exists():
            options = ["-DFASTSR_PYTHON=OFF", f"-DCMAKE_INSTALL_PREFIX={prefix}"]
            run("cmake", "-S", ROOT, "-B", build, *generator(), *options)
            run("cmake", "--build", build, "--parallel", "2", "--target", "install")
            (folder / "installed").touch()
    return prefix
