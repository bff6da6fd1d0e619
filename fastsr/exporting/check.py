"""Does an exported network give what ours gives? Asked before the file appears."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.backends.base import Job, ValueRange
from fastsr.backends.native import NativeRunner
from fastsr.backends.precision import INT8_PSNR, TOLERANCES
from fastsr.errors import BackendError, OptionError
from fastsr.exporting.target import Target
from fastsr.graph import reference
from fastsr.graph.ir import INPUT, Array
from fastsr.graph.to_onnx import FLOAT16_MAX, OUTPUT, step_values, to_onnx

_SIZES = ((1, 1), (1, 29), (7, 13), (12, 20))
_FIELDS = 16  # pixels per side
# Values that come closer to the end of fp16 than this on the images here may pass it on others.
_HEADROOM = 4.0
_OWN_ERRORS = 4.0  # times as far as our fp32 is from float64, another fp32 may be from ours


def onnx_session(blob: bytes) -> Any:
    """Return an ONNX Runtime session on the CPU. Raises OptionError without the package."""
    try:
        import onnxruntime
    except ImportError as error:
        raise OptionError("checking ONNX needs the package onnxruntime: pip install 'fastsr[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    try:
        return onnxruntime.InferenceSession(blob, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own errors share no base class
        raise BackendError(f"ONNX Runtime refuses the exported network: {error}") from error


def check_result(
    blob: bytes, target: Target, precision: str, io: str = "fp32", images: Iterable[Array] | None = None
) -> float:
    """Compare ONNX Runtime with our engine on images (C, H, W) of 0..1; by default noise and fields of odd sizes.

    Return the largest difference, or for int8 the PSNR in dB. Raises BackendError where it is out of tolerance.
    """
    session, engine = onnx_session(blob), _engine(target)
    dtype = np.float16 if io == "fp16" else np.float32
    seen = []
    for x in images or _images(target.graph.channels):
        x = x.astype(dtype).astype(np.float32)  # both see the same pixels
        result = session.run([OUTPUT], {INPUT: x[None].astype(dtype)})[0][0].astype(np.float32)
        wanted = engine(x)
        if result.shape != wanted.shape or not np.isfinite(result).all():
            raise BackendError(
                f"the exported network gives {result.shape}, not all finite, where {wanted.shape} is due"
            )
        seen.append((x, result, wanted))
    return _psnr(seen) if precision == "int8" else _difference(seen, target, precision)


def _psnr(seen: list[tuple[Array, Array, Array]]) -> float:
    squares = [np.square(result - wanted, dtype=np.float64) for _, result, wanted in seen]
    mean = sum(float(s.sum()) for s in squares) / sum(s.size for s in squares)
    psnr = float(-10 * np.log10(max(mean, 1e-30)))
    if psnr < INT8_PSNR:
        raise BackendError(
            f"the int8 network is {psnr:.1f} dB from the fp32 one; {INT8_PSNR:g} dB are needed: calibrate with "
            "more, and more varied, images"
        )
    return psnr


def _difference(seen: list[tuple[Array, Array, Array]], target: Target, precision: str) -> float:
    worst = max(_distance(result, wanted) for _, result, wanted in seen)
    possible = TOLERANCES[precision]
    if worst > possible:  # a network whose values are large between: as much as fp32 itself is off
        exact = [reference.run(target.graph, target.tensors, x) for x, _, _ in seen]
        own = max(_distance(wanted, y) for (_, _, wanted), y in zip(seen, exact, strict=True))
        possible = max(possible, _OWN_ERRORS * own)
    if worst > possible:
        raise BackendError(
            f"the exported {precision} network differs from the engine by {worst:.1e}; {possible:.0e} is possible"
        )
    return worst


def _distance(y: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> float:
    """Return the largest difference, relative to the largest value above 1."""
    return float(np.abs(y - wanted).max()) / max(1.0, float(np.abs(wanted).max()))


def check_range(target: Target) -> float:
    """Raise BackendError if a value of the network comes near the end of fp16; return the largest value.

    ONNX Runtime computes many fp16 operations in fp32 on the CPU, so that an overflow would not show there.
    """
    names = step_values(target.graph)
    session = onnx_session(to_onnx(target.graph, target.tensors, also=names).SerializeToString())
    largest = 0.0
    for x in _images(target.graph.channels):
        for name, value in zip(names, session.run([f"v.{n}" for n in names], {INPUT: x[None]}), strict=True):
            most = float(np.abs(value).max())
            if not most * _HEADROOM <= FLOAT16_MAX:
                raise BackendError(
                    f"value {name!r} reaches {most:g}; fp16 ends at {FLOAT16_MAX:g}, and a factor of {_HEADROOM:g} is "
                    "kept free: use fp32"
                )
            largest = max(largest, most)
    return largest


def _engine(target: Target) -> Callable[[Array], Array]:
    """Return what the native engine makes of x (C, H, W), 0..1: (out_channels, scale * H, scale * W)."""
    graph = target.graph
    runner = NativeRunner(target.model, graph.scale, graph.channels, None)

    def run(x: Array) -> Array:
        H, W = x.shape[1:]
        result = np.empty((graph.scale * H, graph.scale * W, graph.out_channels), np.float32)
        pixels = np.ascontiguousarray(x.transpose(1, 2, 0))
        runner.run(pixels, result, Job(H, W, (0, 0, W, H), (0, 0), ValueRange(0, 1)), None)
        planes: Array = result.transpose(2, 0, 1)
        return planes

    return run


def smooth_images(channels: int) -> list[Array]:
    """Return waves of several lengths, which are more like photos than noise is."""
    y, x = np.indices((40, 48)) / 48
    waves = [0.5 + 0.45 * np.sin(2 * np.pi * (f * x + g * y)) for f, g in ((1, 2), (3, -1), (5, 4))]
    return [np.stack([wave] * channels).astype(np.float32) for wave in waves]


def _images(channels: int) -> Iterator[Array]:
    """Yield noise of several sizes, and black and white in fields, whose overshoots are the largest."""
    rng = np.random.default_rng(20)
    for height, width in _SIZES:
        yield rng.random((channels, height, width), dtype=np.float32)
    fields = (np.indices((_FIELDS, _FIELDS)) // 8).sum(0) % 2
    yield np.broadcast_to(fields.astype(np.float32), (channels, _FIELDS, _FIELDS)).copy()
