"""What computing in integers needs to know of a network: between which ends the values of its layers lie.

The weights need no preparation: the engine turns them into integers of some 12 bits when it loads a model
(csrc/cpu/pack_winograd.cpp). The values between layers get some 500 steps for each channel, from the ends that are
found here (csrc/cpu/quantizer.hpp); what lies beyond them is cut off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.errors import OptionError, ShapeError
from fastsr.graph import reference
from fastsr.graph.builder import Tensors, fresh_name
from fastsr.graph.ir import Graph
from fastsr.graph.model import CompiledModel

Image = npt.NDArray[Any]  # (H, W) or (H, W, 3), 0 to 1
Ends = npt.NDArray[np.float64]  # (2, C): the least and the largest value of each channel

# Other images reach further than those that were seen: the ends are moved out by this. Cutting off costs more than
# coarser steps do, and most where an image is not like those that were seen: of black and white squares FMEN x4 makes
# in integers what it makes in floats to 32 dB with a margin of 1.25, to 40 dB with this; Set5 loses 0.003 dB more.
MARGIN = 1.6
CARD = "int8"  # the entry of the model card


def calibrate(
    model: CompiledModel, images: Iterable[Image], *, scale: int | None = None, about: Mapping[str, Any] | None = None
) -> CompiledModel:
    """Return the model with the ranges of its layers' values, found on LR images: see `Graph.ranges`.

    images: LR, (H, W) or (H, W, 3) in 0..1; a grey graph sees the BT.601 luma of colour ones, a colour graph grey ones
    as equal colours. scale: the graphs that get ranges, by default all. about: what the card says of it.
    Raises OptionError where there is no image or graph, ShapeError.
    """
    graphs = [graph for graph in model.graphs if scale in (None, graph.scale)]
    if not graphs:
        raise OptionError(f"{model.name} has no scale {scale!r}; it has {', '.join(map(str, model.scales))}")
    if all(len(graph.nodes) < 2 for graph in graphs):
        raise OptionError(f"{model.name} has no layers whose values integers could keep; fp32 is what it can do")
    ends: list[dict[str, Ends]] = [{} for _ in graphs]
    count = 0
    for image in images:
        count += 1
        for graph, found in zip(graphs, ends, strict=True):
            for name, value in reference.values(graph, model.tensors, planes(image, graph.channels)):
                both = np.stack([value.min((1, 2)), value.max((1, 2))])
                if name in found:
                    both = np.stack([np.minimum(found[name][0], both[0]), np.maximum(found[name][1], both[1])])
                found[name] = both.astype(np.float64)
    if count == 0:
        raise OptionError("there is no image to calibrate on")
    stale = {name for graph in graphs for name in graph.ranges.values()}
    kept = {name for graph in model.graphs if graph not in graphs for name in graph.ranges.values()}
    tensors = {name: tensor for name, tensor in model.tensors.items() if name not in stale - kept}
    changed = {id(graph): _with_ranges(graph, found, tensors) for graph, found in zip(graphs, ends, strict=True)}
    card = {**model.card, CARD: {"images": count, "margin": MARGIN, **(about or {})}}
    return CompiledModel(model.name, tuple(changed.get(id(graph), graph) for graph in model.graphs), tensors, card)


def planes(image: Image, channels: int) -> npt.NDArray[Any]:
    """Return an image (H, W) or (H, W, 3) as float32 (channels, H, W), channels 1 or 3. Raises ShapeError."""
    image = np.asarray(image, np.float32)
    if image.ndim == 2:
        return np.broadcast_to(image, (channels, *image.shape))
    if image.ndim != 3 or image.shape[2] != 3:
        raise ShapeError(f"an image is {image.shape}; (H, W) or (H, W, 3) is needed")
    if channels == 1:
        luma: npt.NDArray[Any] = image @ np.array([0.299, 0.587, 0.114], np.float32)
        return luma[None]
    rows: npt.NDArray[Any] = image.transpose(2, 0, 1)
    return rows


def _with_ranges(graph: Graph, found: Mapping[str, Ends], tensors: Tensors) -> Graph:
    ranges = {}
    for name, ends in found.items():
        if name == graph.output:  # leaves in floats
            continue
        ranges[name] = fresh_name(f"{name}.ranges", tensors)
        tensors[ranges[name]] = np.ascontiguousarray(ends * MARGIN, np.float32)
    return replace(graph, ranges=ranges)
