"""TensorRT and TensorRT-RTX: the graph as an engine that is built once for a GPU, and kept.

Nothing here is imported before there is a GPU: `import fastsr` and the CPU's way stay as light as they are.
"""

from __future__ import annotations

from fastsr.backends.base import Runner
from fastsr.backends.nvidia import why_no_gpu
from fastsr.graph.model import CompiledModel

PRECISIONS = ("fp32", "tf32", "fp16", "int8")


def why_unavailable() -> str | None:
    """Return None, or why no engine can run here and what to install."""
    reason = why_no_gpu()
    if reason is not None:
        return reason
    from fastsr.backends.tensorrt.library import why_no_library

    return why_no_library()


def runner(
    model: CompiledModel, scale: int, channels: int, threads: int | None, precision: str | None = None
) -> Runner:
    """Return one network on TensorRT; its engine is built now if there is none. threads is for CPU back ends."""
    from fastsr.backends.tensorrt.network import runner as make

    return make(model, scale, channels, threads, precision)
