"""MNN on the CPU, from ONNX by its own converter; int8 by its own quantizer (KL).

The converter and the quantizer are called as the wheel's extension module: the commands `mnnconvert` and `mnnquant`
around it install a logging package with pip and report usage over the network.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastsr.bench.network import Network
from fastsr.bench.peers import Array, Run
from fastsr.errors import BackendError
from fastsr.io import write_image

NAME = "MNN"
PACKAGES = {"MNN": "MNN", "onnx": "onnx"}
PRECISIONS = ("fp32", "int8")


def environment(isa: str) -> Mapping[str, str] | None:
    """Nothing holds its kernels to an ISA level."""
    return None


def prepare(network: Network, precision: str, folder: Path) -> str:
    model = folder / "fp32.mnn"
    _tool("mnnconvert", "-f", "ONNX", "--modelFile", network.portable_onnx(), "--MNNModel", model, "--bizCode", "bench")
    if not model.exists():
        raise BackendError("MNN's converter refuses the network")
    if precision == "fp32":
        return ""
    _quantize(network, model, folder)
    return "quantized by MNN (KL)"


def load(network: Network, precision: str, folder: Path, size: tuple[int, int], threads: int) -> Run:
    import MNN

    runtime = MNN.nn.create_runtime_manager(({"backend": "CPU", "numThread": threads, "precision": "high"},))
    path = str(folder / f"{precision}.mnn")
    module = MNN.nn.load_module_from_file(path, ["input"], ["output"], runtime_manager=runtime)

    held: list[Any] = []  # what read() returns is the variable's memory

    def run(x: Array) -> Array:
        held[:] = [module.forward(MNN.expr.const(x, list(x.shape), MNN.expr.NCHW))]
        result: Array = held[0].read()
        return result

    return run


def _quantize(network: Network, model: Path, folder: Path) -> None:
    pictures = np.load(network.folder / "pictures.npy")
    images = folder / "pictures"
    images.mkdir()
    for i, picture in enumerate(pictures):
        write_image(images / f"{i}.png", picture)
    settings = {
        "format": "RGB",
        "mean": [0, 0, 0],
        "normal": [1 / 255] * 3,
        "width": pictures.shape[2],
        "height": pictures.shape[1],
        "path": str(images),
        "used_image_num": len(pictures),
        "feature_quantize_method": "KL",
        "weight_quantize_method": "MAX_ABS",
    }
    (folder / "quantize.json").write_text(json.dumps(settings))
    target = folder / "int8.mnn"
    _tool("mnnquant", model, target, folder / "quantize.json")
    if not target.exists():
        raise BackendError("MNN's quantizer refuses the network")


def _tool(name: str, *arguments: str | Path) -> None:
    """Run one of MNN's tools, which print and may abort, in a process of its own."""
    command = [sys.executable, "-c", f"import sys, _tools; _tools.{name}(sys.argv)", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        last = (result.stderr or result.stdout).strip().splitlines()[-1:]
        raise BackendError(f"MNN's {name} ended with code {result.returncode}: {' '.join(last)}")
