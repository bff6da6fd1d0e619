"""The graph in ONNX Runtime, through the same ONNX file that an export writes, on one of its execution providers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastsr.backends.nonfinite import FiniteRunner
from fastsr.backends.nvidia import why_no_gpu
from fastsr.errors import BackendError, BackendUnavailableError, DeviceMemoryError, OptionError, ShapeError
from fastsr.graph.ir import INPUT, Array, Graph

INSTALL = "pip install 'fastsr[onnx]'"
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
# The TensorRT provider has no switch for TF32, which TensorRT uses unless told otherwise.
PRECISIONS = {"cpu": ("fp32", "fp16"), "cuda": ("fp32", "tf32", "fp16"), "tensorrt": ("tf32", "fp16")}


def why_unavailable(provider: str = "cpu") -> str | None:
    """Return why ONNX Runtime cannot run here with this provider (cpu, cuda, tensorrt), or None."""
    if provider != "cpu" and (reason := why_no_gpu()) is not None:
        return reason
    missing = [name for name in ("onnx", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        gpu = "" if provider == "cpu" else "; for GPUs: pip install onnx onnxruntime-gpu"
        return f"{' and '.join(missing)} not installed: {INSTALL}{gpu}"
    if provider == "cpu":
        return None
    import onnxruntime

    there = onnxruntime.get_available_providers()
    if _PROVIDERS[provider] in there:
        return None
    return f"ONNX Runtime has {', '.join(there)} only, not {_PROVIDERS[provider]}: pip install onnxruntime-gpu"


def runner_maker(provider: str, precision: str) -> Callable[[Graph, Mapping[str, Array], int | None], Any]:
    """Return what makes an ArrayRunner; fp16 results that are not finite are computed again in fp32."""

    def make(graph: Graph, tensors: Mapping[str, Array], threads: int | None) -> Any:
        runner = OnnxRunner(graph, tensors, threads, provider, precision)
        if precision != "fp16":
            return runner
        exact = PRECISIONS[provider][0]
        name = "onnx" if provider == "cpu" else f"onnx-{provider}"
        return FiniteRunner(runner.run, lambda: OnnxRunner(graph, tensors, threads, provider, exact).run, name)

    return make


class OnnxRunner:
    """Run one graph with ONNX Runtime.

    threads: how many one operation may use on the CPU; None leaves the choice to ONNX Runtime.
    provider, precision: of PRECISIONS. Another provider than the one asked for is never used.
    Raises BackendUnavailableError without the packages onnx and onnxruntime, or the provider.
    """

    def __init__(
        self,
        graph: Graph,
        tensors: Mapping[str, Array],
        threads: int | None = None,
        provider: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        reason = why_unavailable(provider)
        if reason is not None:
            raise BackendUnavailableError(reason)
        if threads is not None and threads < 1:
            raise OptionError(f"threads is {threads}; 1 or more is needed")
        import onnxruntime

        from fastsr.graph.to_onnx import to_onnx

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors only
        self._channels = graph.channels
        self._provider = provider
        blob = to_onnx(graph, tensors, compute="fp16" if precision == "fp16" else "fp32").SerializeToString()
        chosen: Any = _PROVIDERS[provider]
        if provider == "cuda":
            chosen = chosen, {"use_tf32": "0" if precision == "fp32" else "1"}
        try:
            self._session = onnxruntime.InferenceSession(blob, options, providers=[chosen])
        except Exception as error:  # ONNX Runtime's own errors share no base class
            raise BackendError(f"ONNX Runtime refuses the model: {error}") from error
        used = self._session.get_providers()
        if used[:1] != [_PROVIDERS[provider]]:
            raise BackendUnavailableError(
                f"{_PROVIDERS[provider]} cannot start here, ONNX Runtime would use {', '.join(used)}: its CUDA, cuDNN "
                "or TensorRT libraries are missing or of another version"
            )

    def run(self, x: Array) -> Array:
        """Return the network's output. x: (C, H, W) float32 -> (out_channels, scale * H, scale * W) float32.

        Raises DeviceMemoryError, BackendError.
        """
        if x.ndim != 3 or x.shape[0] != self._channels or 0 in x.shape:
            raise ShapeError(f"the image is {x.shape}; ({self._channels}, H, W) is needed")
        from fastsr.graph.to_onnx import OUTPUT

        try:
            result: Array = self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(x[None], np.float32)})[0][0]
        except Exception as error:
            said = f"ONNX Runtime failed on an image of {x.shape}: {error}"
            if self._provider != "cpu" and any(words in str(error).lower() for words in _NO_MEMORY):
                raise DeviceMemoryError(said) from error
            raise BackendError(said) from error
        return result


_NO_MEMORY = ("out of memory", "failed to allocate memory", "cuda_error_out_of_memory")
