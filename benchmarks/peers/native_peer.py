"""FastSR's own CPU engine."""

from benchmarks.peers import Run
from fastsr.graph.model import CompiledModel
from fastsr.upscaler import Upscaler


def make(model: CompiledModel, scale: int, threads: int) -> Run:
    return Upscaler(model, scale, backend="native", threads=threads).upscale
