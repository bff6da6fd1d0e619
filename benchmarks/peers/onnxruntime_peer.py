"""ONNX Runtime's CPU provider, all graph optimizations on."""

import onnxruntime

from benchmarks.peers import Image, Run, to_image, to_planes
from fastsr.graph.model import CompiledModel
from fastsr.graph.to_onnx import to_onnx


def make(model: CompiledModel, scale: int, threads: int) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    blob = to_onnx(model.graph(scale, 3), model.tensors).SerializeToString()
    session = onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"])

    def run(image: Image) -> Image:
        return to_image(session.run(None, {"input": to_planes(image)[None]})[0][0])

    return run
