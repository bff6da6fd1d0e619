"""Networks out: ONNX files and TensorRT engines that others run, checked before they appear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastsr.backends.precision import checked_precision
from fastsr.errors import OptionError
from fastsr.exporting.calibrate import calibrate, calibration_images
from fastsr.exporting.check import check_range, check_result, smooth_images
from fastsr.exporting.target import Target, target_of
from fastsr.graph.ir import Array
from fastsr.graph.qdq import Quantization, of_model
from fastsr.graph.to_onnx import to_onnx
from fastsr.io.atomic import atomic_output, check_output
from fastsr.io.image import PathLike
from fastsr.models import open_model

__all__ = ["Target", "calibrate", "calibration_images", "check_result", "export", "onnx_bytes", "target_of"]

PRECISIONS = ("fp32", "fp16", "int8")
MOST_CHECKED = 4  # of the images that calibrate
FORMATS = ("onnx", "tensorrt")
Progress = Callable[[int, int], None]  # (steps done, steps in all)


def export(
    model: Any,
    path: PathLike,
    *,
    to: str = "onnx",
    scale: int | None = None,
    channels: int | None = None,
    precision: str | None = None,
    io: str = "fp32",
    images: Sequence[PathLike] = (),
    compute_capabilities: Sequence[str] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
    quantization: Quantization | None = None,
) -> Path:
    """Write a network for others to run; see `fastsr.export`. quantization: scales that are known already."""
    path = Path(path)
    check_output(path, overwrite=overwrite)
    if to not in FORMATS:
        raise OptionError(f"to is {to!r}; {' or '.join(FORMATS)} is needed")
    precision = checked_precision(precision, PRECISIONS, "export")
    if io not in ("fp32", "fp16") or (io == "fp16" and precision != "fp16"):
        raise OptionError(f"io is {io!r}; fp32, or fp16 for precision fp16, is possible")
    if to == "onnx" and compute_capabilities:
        raise OptionError("compute capabilities are for engines (to='tensorrt'); an ONNX file runs on all")
    target = target_of(open_model(model, scale), scale, channels)
    if precision != "int8" and (images or quantization is not None):
        raise OptionError(f"images and quantization are for precision int8, not {precision}")
    seen: list[Array] | None = None
    if precision == "int8":
        seen = list(calibration_images(images, target.graph.channels))
        if quantization is None and not seen and target.graph.ranges:
            quantization = of_model(target.model, target.graph)
        quantization = quantization or calibrate(target.graph, target.tensors, seen)
        seen = seen[:MOST_CHECKED] or smooth_images(target.graph.channels)
        if to == "tensorrt" and not quantization.whole:
            raise OptionError("TensorRT takes one scale for all channels of a value, and no zero points")
    blob = onnx_bytes(target, precision, io, quantization)
    if precision == "fp16":
        check_range(target)
    check_result(blob, target, precision, io, seen)
    if to == "tensorrt":
        from fastsr.exporting.engine import engine_bytes

        blob = engine_bytes(blob, target, precision, compute_capabilities, progress)
    with atomic_output(path, overwrite=overwrite) as file:
        file.write(blob)
    return path


def onnx_bytes(target: Target, precision: str, io: str, quantization: Quantization | None) -> bytes:
    """Return the network as an ONNX file, not yet checked against the engine."""
    if quantization is not None:
        quantization.check(target.graph, target.value_channels(), target.tensors)
    metadata = {
        "fastsr.model": target.model.name,
        "fastsr.sha256": target.model.sha256,
        "fastsr.scale": str(target.graph.scale),
        "fastsr.precision": precision,
    }
    proto = to_onnx(
        target.graph,
        target.tensors,
        compute="fp16" if precision == "fp16" else "fp32",
        io="fp16" if io == "fp16" else "fp32",
        quantization=quantization,
        metadata=metadata,
    )
    blob: bytes = proto.SerializeToString()
    return blob
