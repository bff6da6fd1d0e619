"""The rooms: imports point one way, PyTorch stays in its places, files stay short."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Which rooms of fastsr a room may import, besides itself and errors.
MAY_IMPORT = {
    "errors": set(),
    "version": set(),
    "imresize": set(),
    "metrics": set(),
    "graph": set(),
    "io": {"consistency", "imresize", "_native"},
    "models": {"graph"},
    "backends": {"graph", "io", "models", "version", "_native", "_cuda"},
    "adapters": {"backends", "graph", "models", "pixels"},
    "alpha": set(),
    "consistency": {"imresize"},
    "pixels": {"backends"},
    "finishing": {"backends", "consistency", "pixels"},
    "upscaler": {"alpha", "backends", "consistency", "finishing", "graph", "models", "pixels", "version"},
    "medical": {"alpha", "backends", "consistency", "graph", "io", "models", "pixels", "upscaler", "version"},
    "diagnostics": {"backends", "graph", "models", "version", "_native"},
    "evaluation": {"imresize", "io", "metrics"},
    "describe": {"io", "medical", "models"},
    "compare": {"imresize", "io", "metrics", "pixels", "upscaler"},
    "exporting": {"backends", "graph", "io", "models"},
    "quantization": {"evaluation", "graph", "imresize", "models", "upscaler"},
    "api": {
        "backends",
        "consistency",
        "diagnostics",
        "exporting",
        "graph",
        "io",
        "medical",
        "models",
        "quantization",
        "upscaler",
    },
    "bench": {"backends", "graph", "imresize", "io", "metrics", "models", "upscaler", "version", "_native"},
    "cli": {
        "api",
        "backends",
        "bench",
        "compare",
        "consistency",
        "describe",
        "evaluation",
        "exporting",
        "graph",
        "io",
        "medical",
        "models",
        "quantization",
        "upscaler",
        "version",
        "metrics",
        "diagnostics",
    },
}
MAY_USE_TORCH = {
    "fastsr/backends/torch_ref.py",
    "fastsr/backends/triton/__init__.py",
    "fastsr/backends/triton/autotune.py",
    "fastsr/backends/triton/executor.py",
    "fastsr/backends/triton/runner.py",
    "fastsr/bench/peers/torch_compiled.py",
    "fastsr/bench/peers/torch_eager.py",
    "fastsr/graph/from_torch.py",
}
SHARED_BY_BACKENDS = {
    f"fastsr.backends.{name}" for name in ("arrays", "base", "folder", "nonfinite", "nvidia", "precision")
}
CPP_MAY_INCLUDE = {
    "core": {"core"},
    "graph": {"core", "graph"},
    "cpu": {"core", "graph", "cpu"},
    "runtime": {"core", "graph", "cpu", "runtime"},
    "cuda": {"core", "graph", "runtime", "cuda"},
    "python": {"core", "graph", "cpu", "runtime", "cuda", "python"},
    "include": {"fastsr"},
    "capi": {"core", "graph", "cpu", "runtime", "cuda", "capi", "fastsr"},
    "tests": {"core", "graph", "cpu", "runtime", "cuda", "fastsr", "tests"},
}


def python_files(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            if node.module == "fastsr":
                yield from (f"fastsr.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("path", python_files("fastsr"), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    relative = path.relative_to(ROOT / "fastsr")
    room = relative.parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for module in imported(path):
        parts = module.split(".")
        assert parts[0] not in ("training", "benchmarks", "tests"), f"{path} imports {module}"
        if parts[0] == "torch":
            assert path.relative_to(ROOT).as_posix() in MAY_USE_TORCH, f"{path} imports torch"
        if parts[0] == "fastsr" and len(parts) > 1 and parts[1] not in (room, "errors"):
            assert parts[1] in MAY_IMPORT[room] | ({"__version__"} if room in ("cli", "diagnostics") else set()), (
                f"{room} imports {module}"
            )
    if relative.parts[0] == "backends" and relative.as_posix() != "backends/__init__.py":
        own = "fastsr.backends." + relative.parts[1].removesuffix(".py")
        others = {m for m in imported(path) if m.startswith("fastsr.backends.") and not f"{m}.".startswith(f"{own}.")}
        assert others <= SHARED_BY_BACKENDS, f"{path} imports another back end"


@pytest.mark.parametrize("path", python_files("training"), ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_imports_benchmarks_or_tests(path):
    assert not [m for m in imported(path) if m.split(".")[0] in ("benchmarks", "tests")]


def cpp_files():
    return sorted(p for p in (ROOT / "csrc").rglob("*") if p.suffix in (".cpp", ".hpp", ".inl", ".h", ".c", ".cu"))


@pytest.mark.parametrize("path", cpp_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_includes_point_one_way(path):
    room = path.relative_to(ROOT / "csrc").parts[0]
    for include in re.findall(r'#include "([^"]+)"', path.read_text()):
        assert include.split("/")[0] in CPP_MAY_INCLUDE[room], f"{path} includes {include}"


def test_files_stay_short():
    files = python_files("fastsr") + python_files("training") + cpp_files()
    long = {str(p.relative_to(ROOT)): n for p in files if (n := len(p.read_text().splitlines())) > 700}
    assert not long
