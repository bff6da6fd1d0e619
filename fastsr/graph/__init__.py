"""The compiler: networks come in, are fused and folded, and leave as `.fsr` files that every back end reads."""

from fastsr.graph.compiler import compile_model
from fastsr.graph.ir import Graph
from fastsr.graph.model import CompiledModel

__all__ = ["CompiledModel", "Graph", "compile_model"]
