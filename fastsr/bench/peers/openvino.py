"""OpenVINO on the CPU: latency mode, fp32 arithmetic, shape fixed; int8 by NNCF, or from QDQ."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from fastsr.bench.network import Network
from fastsr.bench.peers import Array, Run

NAME = "OpenVINO"
PACKAGES = {"openvino": "openvino"}
PRECISIONS = ("fp32", "int8")


def environment(isa: str) -> Mapping[str, str] | None:
    """oneDNN, which runs the convolutions, obeys a variable."""
    return {"ONEDNN_MAX_CPU_ISA": "AVX2"} if isa == "avx2" else None


def prepare(network: Network, precision: str, folder: Path) -> str:
    import openvino

    given = (network.folder / "qdq.onnx").exists()
    if precision == "fp32":
        model, how = openvino.Core().read_model(network.onnx()), ""
    elif find_spec("nncf") is None or given:
        model, how = openvino.Core().read_model(network.qdq_onnx()), "from QDQ ONNX"
    else:
        model, how = _quantized(network), "quantized by NNCF"
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return how


def load(network: Network, precision: str, folder: Path, size: tuple[int, int], threads: int) -> Run:
    import openvino

    core = openvino.Core()
    model = core.read_model(folder / "model.xml")
    model.reshape([1, network.graph.channels, *size])
    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", options).create_infer_request()

    def run(x: Array) -> Array:
        result: Array = request.infer({0: x}, share_inputs=True, share_outputs=True)[0]
        return result

    return run


def _quantized(network: Network) -> object:
    import nncf
    import openvino

    logging.getLogger("nncf").setLevel(logging.ERROR)
    pictures = network.pictures()
    return nncf.quantize(
        openvino.Core().read_model(network.onnx()),
        nncf.Dataset(pictures),
        subset_size=len(pictures),
        preset=nncf.QuantizationPreset.MIXED,
    )
