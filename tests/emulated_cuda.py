"""Builds the module for NVIDIA GPUs with the CPU in the GPU's place."""

from __future__ import annotations

import importlib.util
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest
from cpp_build import ROOT, build_folder, installed_c_library, run


def emulated_module(factory: pytest.TempPathFactory) -> ModuleType:
    """Return the module, built once in a run of the tests from the libraries that the C++ tests use."""
    installed_c_library(factory)
    with build_folder(factory, "plain") as folder:
        path = folder / f"_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
        if not path.exists():
            build(folder / "build", path)
    spec = importlib.util.spec_from_file_location("fastsr._cuda", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(folder: Path, path: Path) -> None:
    import pybind11

    targets = ("fastsr_cuda_emulated", "fastsr_engine")
    run("cmake", "-S", ROOT, "-B", folder, "-DFASTSR_TESTS=ON")
    run("cmake", "--build", folder, "--parallel", "2", "--target", *targets)
    libraries = [next(folder.rglob(f"lib{target}.a")) for target in targets]
    headers = [ROOT / "csrc", pybind11.get_include(), sysconfig.get_paths()["include"]]
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread", "-DFASTSR_CUDA_EMULATED=1"]
    source = ROOT / "csrc" / "python" / "cuda_module.cpp"
    run("c++", *flags, *(f"-I{header}" for header in headers), source, *libraries, "-o", path)
