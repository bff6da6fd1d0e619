"""A compiled model: graphs, weights, and what is known about them; saved as a `.fsr` file."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fastsr.errors import GraphError, ModelFileError, OptionError, OutputError
from fastsr.graph import container
from fastsr.graph.ir import Array, Graph, check, from_json, tensor_names, to_json


@dataclass(frozen=True, eq=False)
class CompiledModel:
    """One network, ready for every back end.

    graphs: one for each (scale, channels); tensors: float32, shared by the graphs; card: free-form, plain JSON
    values: what the model was trained on, its limits, its licence.
    Raises GraphError where graphs and tensors contradict each other.
    """

    name: str
    graphs: tuple[Graph, ...]
    tensors: Mapping[str, Array]
    card: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.graphs:
            raise GraphError("a model needs at least one graph")
        if len({(g.scale, g.channels) for g in self.graphs}) != len(self.graphs):
            raise GraphError("two graphs have the same scale and channels")
        for name, tensor in self.tensors.items():
            if tensor.dtype != np.float32 or not np.isfinite(tensor).all():
                raise GraphError(f"tensor {name!r} is {tensor.dtype}, finite float32 values are needed")
        for graph in self.graphs:
            check(graph, self.tensors)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CompiledModel:
        """Read a `.fsr` file. Raises ModelFileError, ModelIntegrityError, ModelVersionError."""
        try:
            size = os.stat(path).st_size
            if size > container.MAX_FILE:
                raise ModelFileError(f"{path}: {size} bytes; {container.MAX_FILE} are possible")
            data = Path(path).read_bytes()
        except OSError as error:
            raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error
        return cls.from_bytes(data, where=str(path))

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "the model") -> CompiledModel:
        """Read what `to_bytes` wrote. where: what the errors call it. Raises as `load` does."""
        tensors, meta = container.read(data, where)
        model = container.from_json_text(meta["fastsr.model"], f"{where}, fastsr.model")
        card = container.from_json_text(meta["fastsr.card"], f"{where}, fastsr.card")
        if not isinstance(model, dict) or set(model) != {"name", "graphs"} or not isinstance(card, dict):
            raise ModelFileError(f"{where}: fastsr.model needs a name and graphs, fastsr.card an object")
        name, graphs = model["name"], model["graphs"]
        if not isinstance(name, str) or not isinstance(graphs, list):
            raise ModelFileError(f"{where}: the name is no string, or the graphs are no list")
        try:
            made = cls(name, tuple(from_json(graph) for graph in graphs), tensors, card)
        except GraphError as error:
            raise ModelFileError(f"{where}: {error}") from error
        made.__dict__.update(_file=data, sha256=meta["fastsr.sha256"])
        return made

    def to_bytes(self) -> bytes:
        """Return the `.fsr` file as bytes: the same model gives the same bytes."""
        model = {"name": self.name, "graphs": [to_json(graph) for graph in self.graphs]}
        try:
            card = container.to_json_text(dict(self.card))
        except (TypeError, ValueError) as error:
            raise OptionError(f"the card is no plain JSON ({error}); use strings, numbers, lists, dicts") from error
        return container.write(self.tensors, container.to_json_text(model), card)

    def file_bytes(self) -> bytes:
        """Return a `.fsr` file's bytes with a true hash: those that this model was read from, or `to_bytes`."""
        data: bytes | None = self.__dict__.get("_file")  # the tensors are views of it, so it is there anyway
        return self.to_bytes() if data is None else data

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `.fsr` file, whole or not at all. Raises OutputError."""
        data, target = self.to_bytes(), Path(path)
        temporary = target.with_name(f".{target.name[:100]}.{os.urandom(8).hex()}.tmp")
        try:
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise OutputError(f"{target}: cannot be written: {error.strerror or error}") from error

    def graph(self, scale: int, channels: int) -> Graph:
        """Return the graph for this scale and these channels. Raises OptionError, which lists what exists."""
        for graph in self.graphs:
            if (graph.scale, graph.channels) == (scale, channels):
                return graph
        known = ", ".join(f"x{g.scale} for {g.channels} channels" for g in self.graphs)
        raise OptionError(f"{self.name} has no graph for scale {scale} and {channels} channels; it has {known}")

    @property
    def scales(self) -> tuple[int, ...]:
        return tuple(sorted({graph.scale for graph in self.graphs}))

    @cached_property
    def sha256(self) -> str:
        """The hash that the `.fsr` file states, or would: it names weights, graphs and card."""
        meta = container.read(self.to_bytes(), self.name)[1]
        return meta["fastsr.sha256"]

    def parameters(self, scale: int, channels: int) -> int:
        """Count the numbers in the tensors that this graph reads."""
        names = {name for node in self.graph(scale, channels).nodes for name in tensor_names(node)}
        return sum(self.tensors[name].size for name in names)
