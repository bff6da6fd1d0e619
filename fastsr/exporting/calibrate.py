"""Scales for int8 from images: the least and the largest value that each convolution reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.errors import OptionError
from fastsr.exporting.check import onnx_session
from fastsr.graph.ir import INPUT, Array, Conv, Graph
from fastsr.graph.qdq import Quantization, symmetric_scales, weight_scales
from fastsr.graph.to_onnx import to_onnx

MOST_IMAGES = 32
_CROP = 64  # pixels per side of the middle of each image
_ENDS = {"min": "ReduceMin", "max": "ReduceMax"}
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601


def calibrate(
    graph: Graph, tensors: Mapping[str, Array], images: Iterable[Array], *, per_channel: bool = False
) -> Quantization:
    """Return symmetric scales that hold what the images cause. images: (C, H, W) float32, 0..1.

    per_channel: one scale for each channel of a value (ONNX Runtime); TensorRT takes one for the whole value.
    Raises OptionError without images.
    """
    convolutions = [node for node in graph.nodes if isinstance(node, Conv)]
    names = list(dict.fromkeys(node.inputs[0] for node in convolutions))
    inner = [name for name in names if name != INPUT]
    session = onnx_session(_extremes(graph, tensors, inner, per_channel))
    low: dict[str, Array] = {}
    high: dict[str, Array] = {}
    for image in images:
        axes = (1, 2) if per_channel else (0, 1, 2)
        found = {INPUT: (image.min(axes), image.max(axes))}
        results = iter(session.run([f"{end}.{name}" for name in inner for end in _ENDS], {INPUT: image[None]}))
        found |= {name: (next(results), next(results)) for name in inner}
        for name, (least, most) in found.items():
            low[name] = np.minimum(low.get(name, np.float32(np.inf)), least)
            high[name] = np.maximum(high.get(name, np.float32(-np.inf)), most)
    if not low:
        raise OptionError("int8 needs images to calibrate with (--calibrate FOLDER, images=[...]), or fastsr quantize")
    values = {name: symmetric_scales(np.asarray(low[name]), np.asarray(high[name])) for name in names}
    return Quantization(values, {node.name: weight_scales(tensors[node.weight]) for node in convolutions})


def _extremes(graph: Graph, tensors: Mapping[str, Array], names: Sequence[str], per_channel: bool) -> bytes:
    """Return the network with outputs "min.NAME" and "max.NAME" of its values."""
    import onnx

    proto = to_onnx(graph, tensors)
    axes = [0, 2, 3] if per_channel else [0, 1, 2, 3]
    for name in names:
        for end, op in _ENDS.items():
            made = f"{end}.{name}"
            proto.graph.node.append(onnx.helper.make_node(op, [f"v.{name}"], [made], axes=axes, keepdims=0))
            shape = ["C"] if per_channel else []
            proto.graph.output.append(onnx.helper.make_tensor_value_info(made, onnx.TensorProto.FLOAT, shape))
    blob: bytes = proto.SerializeToString()
    return blob


def calibration_images(paths: Sequence[str | os.PathLike[str]], channels: int) -> Iterator[Array]:
    """Yield the middle of up to MOST_IMAGES images, evenly chosen, as (C, H, W) float32 of 0..1.

    paths: files, or folders whose trees are searched. Raises OptionError for a folder without images.
    """
    from fastsr.io import read_image
    from fastsr.io.formats import FORMATS

    suffixes = {suffix for format_ in FORMATS for suffix in format_.suffixes}
    files: list[Path] = []
    for path in map(Path, [paths] if isinstance(paths, (str, os.PathLike)) else paths):
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
        if not found:
            raise OptionError(f"{path} holds no image files")
        files += found
    step = max(len(files) / MOST_IMAGES, 1.0)
    for i in range(min(len(files), MOST_IMAGES)):
        yield _middle(read_image(files[int(i * step)]).pixels, channels)


def _middle(pixels: npt.NDArray[Any], channels: int) -> Array:
    """Return the middle of an image (H, W) or (H, W, C) of any type; alpha is left out."""
    H, W = pixels.shape[:2]
    y, x = max(H - _CROP, 0) // 2, max(W - _CROP, 0) // 2
    part = pixels[y : y + _CROP, x : x + _CROP].reshape(min(H, _CROP), min(W, _CROP), -1)
    low, high = (0.0, 1.0) if part.dtype.kind == "f" else (np.iinfo(part.dtype).min, np.iinfo(part.dtype).max)
    part = ((part.astype(np.float64) - low) / (float(high) - float(low))).astype(np.float32)
    part = part[:, :, : 3 if part.shape[2] >= 3 else 1]
    if channels == 1 and part.shape[2] == 3:
        part = (part @ _LUMA)[:, :, None]
    return np.ascontiguousarray(np.broadcast_to(part, (*part.shape[:2], channels)).transpose(2, 0, 1))
