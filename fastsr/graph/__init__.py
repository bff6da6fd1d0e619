"""The compiler: networks come in, are fused and folded, and leave as `.fsr` files that every back end reads.

`fastsr.graph.compiler` is imported by who compiles: to open a file takes less.
"""

from fastsr.graph.ir import Graph
from fastsr.graph.model import CompiledModel

__all__ = ["CompiledModel", "Graph"]
