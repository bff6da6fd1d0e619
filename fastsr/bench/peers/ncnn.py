"""ncnn on the CPU, from ONNX by pnnx, fp32 weights and arithmetic. Its int8 tools are not in its wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastsr.bench.network import Network
from fastsr.bench.peers import Array, Run
from fastsr.errors import BackendError

NAME = "ncnn"
PACKAGES = {"ncnn": "ncnn", "pnnx": "pnnx", "onnx": "onnx"}
PRECISIONS = ("fp32",)


def environment(isa: str) -> Mapping[str, str] | None:
    """Nothing holds its kernels to an ISA level."""
    return None


def prepare(network: Network, precision: str, folder: Path) -> str:
    shutil.copyfile(network.portable_onnx(), folder / "model.onnx")
    C = network.graph.channels
    shapes = [f"inputshape=[1,{C},64,64]", f"inputshape2=[1,{C},48,40]"]  # two sizes, so that both stay free
    command = [sys.executable, "-c", "import sys, pnnx; sys.exit(pnnx.pnnx())", "model.onnx", *shapes, "fp16=0"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if not (folder / "model.ncnn.bin").exists():
        raise BackendError(f"pnnx ended with code {result.returncode}: {result.stderr.strip()[-200:]}")
    return ""


def load(network: Network, precision: str, folder: Path, size: tuple[int, int], threads: int) -> Run:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.load_param(str(folder / "model.ncnn.param"))
    net.load_model(str(folder / "model.ncnn.bin"))

    def run(x: Array) -> Array:
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(x[0]))
        code, result = extractor.extract("out0")
        if code != 0:
            raise BackendError(f"ncnn's extract ended with code {code}")
        return np.asarray(result)[None]

    return run
