"""The native CPU engine: streaming, exact, the default everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastsr.backends.base import Box, Job, Pixels, ValueRange
from fastsr.graph.model import CompiledModel


def why_unavailable() -> str | None:
    """Return None, or why the compiled module cannot be used. Raises OptionError for a wrong FASTSR_ISA."""
    try:
        from fastsr import _native
    except ImportError as error:
        return f"{error}; reinstall with: pip install --force-reinstall fastsr"
    _native.selected_isa()
    return None


class NativeRunner:
    """One network on the native engine. FASTSR_ISA, read when the runner is made, forces an ISA level.

    precision: "fp32"; "bf16", which is faster on processors with AMX only; or "int8" for a model whose graph has ranges
    (`fastsr quantize`), else OptionError.
    """

    def __init__(
        self, model: CompiledModel, scale: int, channels: int, threads: int | None, precision: str = "fp32"
    ) -> None:
        how = {"integers": precision == "int8", "bf16": precision == "bf16"}
        self._network = _native_model(model).network(scale, channels, **how)
        self._threads = threads or 0
        self.scale = scale
        self.channels = channels
        self.out_channels: int = self._network.out_channels
        self.isa: str | None = self._network.isa

    def reads(self, height: int, width: int, box: Box) -> Box:
        reads: Box = self._network.reads(height, width, box)
        return reads

    def memory(self, height: int, width: int, box: Box, max_memory: int | None) -> int:
        """Return the bytes of working memory that `run` takes. Raises MemoryBudgetError."""
        return int(self._network.plan(height, width, box, self._options(max_memory))["memory"])

    def release(self) -> None:
        """Give back the working memory that is kept for the next call."""
        self._network.release()

    def run(self, pixels: Pixels, target: Pixels, job: Job, max_memory: int | None) -> None:
        self._network.run(
            pixels,
            target,
            job.height,
            job.width,
            job.origin,
            job.box,
            _mapping(job.values),
            self._options(max_memory),
            job.progress,
        )

    def stream(
        self,
        read: Callable[[int, int], Pixels],
        write: Callable[[int, Pixels], None],
        dtype: np.dtype[Any],
        job: Job,
        max_memory: int | None,
    ) -> bool:
        options = self._options(max_memory)
        mapping = _mapping(job.values)
        self._network.stream(read, write, dtype, job.height, job.width, mapping, options, job.progress)
        return True

    def _options(self, max_memory: int | None) -> Any:
        from fastsr import _native

        return _native.Options(threads=self._threads, max_memory=max_memory or 0)


def _native_model(model: CompiledModel) -> Any:
    """Return the engine's form of the model, made once for each model."""
    from fastsr import _native

    made = model.__dict__.get("_native_model")
    if made is None:
        made = model.__dict__.setdefault("_native_model", _native.Model(model.file_bytes(), hashed=True))
    return made


def _mapping(values: ValueRange) -> tuple[float, float, float, float, float, float]:
    span = values.high - values.low
    return 1 / span, -values.low / span, span, values.low, values.clamp_low, values.clamp_high
