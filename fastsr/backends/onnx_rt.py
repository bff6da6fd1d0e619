"""The graph in ONNX Runtime, through the same ONNX file that an export writes."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

import numpy as np

from fastsr.errors import BackendError, BackendUnavailableError, OptionError, ShapeError
from fastsr.graph.ir import INPUT, Array, Graph
from fastsr.graph.to_onnx import OUTPUT, to_onnx

INSTALL = "pip install 'fastsr[onnx]'"


def why_unavailable() -> str | None:
    """Return why this back end cannot run here, or None."""
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(missing)} not installed: {INSTALL}" if missing else None


class OnnxRunner:
    """Run one graph with ONNX Runtime on the CPU.

    threads: how many one operation may use; None leaves the choice to ONNX Runtime.
    Raises BackendUnavailableError without the packages onnx and onnxruntime.
    """

    def __init__(self, graph: Graph, tensors: Mapping[str, Array], threads: int | None = None) -> None:
        reason = why_unavailable()
        if reason is not None:
            raise BackendUnavailableError(reason)
        if threads is not None and threads < 1:
            raise OptionError(f"threads is {threads}; 1 or more is needed")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors only
        self._channels = graph.channels
        blob = to_onnx(graph, tensors).SerializeToString()
        try:
            self._session = onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own errors share no base class
            raise BackendError(f"ONNX Runtime refuses the model: {error}") from error

    def run(self, x: Array) -> Array:
        """Return the network's output. x: (C, H, W) float32 -> (out_channels, scale * H, scale * W) float32."""
        if x.ndim != 3 or x.shape[0] != self._channels or 0 in x.shape:
            raise ShapeError(f"the image is {x.shape}; ({self._channels}, H, W) is needed")
        try:
            result: Array = self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(x[None], np.float32)})[0][0]
        except Exception as error:
            raise BackendError(f"ONNX Runtime failed on an image of {x.shape}: {error}") from error
        return result
