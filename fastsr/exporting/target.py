"""Which of a model's networks is exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fastsr.errors import OptionError
from fastsr.graph.ir import Array, Graph, check
from fastsr.graph.model import CompiledModel
from fastsr.models import preferred_scale


@dataclass(frozen=True)
class Target:
    """One network of a model."""

    model: CompiledModel
    graph: Graph

    @property
    def tensors(self) -> Mapping[str, Array]:
        return self.model.tensors

    def value_channels(self) -> dict[str, int]:
        """Return the channels of each value of the graph."""
        return {name: channels for name, (channels, _) in check(self.graph, self.tensors).items()}


def target_of(model: CompiledModel, scale: int | None, channels: int | None) -> Target:
    """Choose scale 4 (or the largest) and 3 channels (or what there is) where None. Raises OptionError."""
    if scale is None:
        scale = preferred_scale(model.scales)
    if channels is None:
        there = [graph.channels for graph in model.graphs if graph.scale == scale]
        channels = 3 if 3 in there or not there else there[0]
    if not isinstance(channels, int):
        raise OptionError(f"channels is {channels!r}; a whole number is needed")
    return Target(model, model.graph(scale, channels))
