"""Formatters and checkers pass."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def cpp_sources():
    folders = [ROOT / "csrc", ROOT / "examples", ROOT / "fastsr" / "bench"]
    return sorted(
        str(p) for f in folders for p in f.rglob("*") if p.suffix in (".cpp", ".hpp", ".inl", ".h", ".c", ".cu")
    )


@pytest.mark.parametrize(
    "command",
    [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"], ["clang-format", "--dry-run", "-Werror"]],
    ids=["ruff-check", "ruff-format", "mypy", "clang-format"],
)
def test_checker_passes(command):
    name = command[0]
    program = Path(sys.executable).with_name(name)
    if not program.exists() and shutil.which(name) is None and importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    arguments = command[1:] + (cpp_sources() if name == "clang-format" else [])
    path = str(program) if program.exists() else name
    result = subprocess.run([path, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-4000:]
