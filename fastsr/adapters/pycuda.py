"""Upscale PyCUDA's GPUArrays, in the context and on the stream that the caller works with."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastsr.backends import cuda
from fastsr.errors import BackendUnavailableError, OptionError, ShapeError
from fastsr.models import open_model, preferred_scale
from fastsr.pixels import values_of

INSTALL = "pip install 'fastsr[pycuda]'"


class GpuArrayUpscaler:
    """One model at one scale, in one CUDA context; safe to use from many threads.

    model, scale: as for `fastsr.load`; precision: "fp32" or "fp16".
    context: a pycuda.driver.Context, which is made current while a call lasts; by default the one that is current.
    Weights and working memory are allocated in this context: `close` before it goes.
    Raises BackendUnavailableError, OptionError.
    """

    def __init__(
        self, model: Any = "fmen", *, scale: int | None = None, precision: str = "fp32", context: Any = None
    ) -> None:
        if importlib.util.find_spec("pycuda") is None:
            raise BackendUnavailableError(f"PyCUDA is not installed: {INSTALL}")
        from pycuda import driver

        self._context = context if context is not None else driver.Context.get_current()
        if self._context is None:
            raise OptionError("no CUDA context is current; pass one, or import pycuda.autoprimaryctx first")
        self._model = open_model(model)
        self.scale = scale if scale is not None else preferred_scale(self._model.scales)
        if self.scale not in self._model.scales:
            known = ", ".join(str(s) for s in self._model.scales)
            raise OptionError(f"{self._model.name} has no scale {scale!r}; it has {known}")
        self.precision = precision
        self._runners: dict[int, cuda.CudaRunner] = {}
        self._lock = threading.Lock()
        with self._current():
            if reason := cuda.why_unavailable():
                raise BackendUnavailableError(reason)

    def upscale(
        self,
        image: Any,
        *,
        out: Any = None,
        stream: Any = None,
        value_range: tuple[float, float] | None = None,
        max_memory: int | None = None,
        allocator: Any = None,
    ) -> Any:
        """Return the result of a GPUArray (H, W), (H, W, 1) or (H, W, 3) as a GPUArray of the same type.

        image: uint8, uint16, int16 or float32, any strides; value_range, max_memory: as for `fastsr.upscale`, in bytes.
        out: where to put the result; stream: a pycuda.driver.Stream behind whose work this comes; allocator: as
        GPUArray's. The result is complete when this returns. Raises what `fastsr.upscale` raises.
        """
        from pycuda import gpuarray

        source = _Described(image)
        channels = 1 if len(image.shape) == 2 else image.shape[-1]
        with self._current():
            runner = self._runner(channels)
            if out is None:
                height, width, *rest = image.shape
                shape = (height * self.scale, width * self.scale, *rest)
                out = gpuarray.GPUArray(shape, image.dtype, allocator=allocator or gpuarray.drv.mem_alloc)
            values = values_of(image.dtype, value_range)
            runner.run_tensor(source, values, max_memory, _Described(out), None if stream is None else stream.handle)
        return out

    def close(self) -> None:
        """Give back all memory, while the context still lives."""
        with self._current(), self._lock:
            self._runners.clear()

    def _runner(self, channels: int) -> cuda.CudaRunner:
        with self._lock:
            if channels not in self._runners:
                known = sorted(g.channels for g in self._model.graphs if g.scale == self.scale)
                if channels not in known:
                    raise ShapeError(f"the image has {channels} channels; {self._model.name} takes {known}")
                self._runners[channels] = cuda.CudaRunner(self._model, self.scale, channels, precision=self.precision)
            return self._runners[channels]

    @contextmanager
    def _current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._context.pop()


class _Described:
    """A GPUArray as `__cuda_array_interface__` says it; GPUArray's own has come and changed with its versions."""

    def __init__(self, array: Any) -> None:
        if not all(hasattr(array, name) for name in ("ptr", "shape", "strides", "dtype")):
            raise OptionError(f"{type(array).__name__} is no GPUArray")
        self.array = array
        self.shape = tuple(array.shape)
        self.__cuda_array_interface__ = {
            "shape": self.shape,
            "strides": tuple(array.strides),
            "typestr": array.dtype.str,
            "data": (int(array.ptr), False),
            "version": 3,
        }
