"""ONNX Runtime's CPU provider, all graph optimizations on, into a buffer that is kept; int8 from QDQ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fastsr.bench.network import Network
from fastsr.bench.peers import Array, Run

NAME = "ONNX Runtime"
PACKAGES = {"onnxruntime": "onnxruntime", "onnx": "onnx"}
PRECISIONS = ("fp32", "int8")


def environment(isa: str) -> Mapping[str, str] | None:
    """Nothing holds its kernels to an ISA level."""
    return None


def prepare(network: Network, precision: str, folder: Path) -> str:
    _file(network, precision)
    return "from QDQ ONNX" if precision == "int8" else ""


def load(network: Network, precision: str, folder: Path, size: tuple[int, int], threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(_file(network, precision), options, providers=["CPUExecutionProvider"])
    results: dict[tuple[int, ...], Array] = {}

    def run(x: Array) -> Array:
        N, _, H, W = x.shape
        shape = N, network.graph.out_channels, network.scale * H, network.scale * W
        if shape not in results:
            results[shape] = np.empty(shape, np.float32)
        y = results[shape]
        binding = session.io_binding()
        binding.bind_cpu_input("input", x)
        binding.bind_output("output", "cpu", 0, np.float32, shape, y.ctypes.data)
        session.run_with_iobinding(binding)
        return y

    return run


def _file(network: Network, precision: str) -> Path:
    return network.qdq_onnx() if precision == "int8" else network.onnx()
