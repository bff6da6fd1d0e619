"""Interpolation as a model: a graph of one node, run by the same engine as the networks."""

from __future__ import annotations

from functools import lru_cache

from fastsr.graph.ir import INPUT, Graph, Resize, ResizeMode
from fastsr.graph.model import CompiledModel

BASELINE_SCALES = (2, 3, 4, 6, 8)


@lru_cache(maxsize=32)
def interpolation(mode: ResizeMode, scale: int) -> CompiledModel:
    """Return nearest, bilinear or bicubic enlargement: pixel centres at half-integers, edge pixels repeated."""
    graphs = tuple(
        Graph(scale, channels, channels, (Resize("resize", (INPUT,), mode, scale),), "resize") for channels in (3, 1)
    )
    card = {"description": f"{mode} interpolation", "trained on": "nothing"}
    return CompiledModel(mode, graphs, {}, card)
