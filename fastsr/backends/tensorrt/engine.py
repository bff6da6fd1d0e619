"""Running an engine: one execution context a thread, memory on the device that grows to what the image needs."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import numpy as np

from fastsr.backends.nvidia import DeviceMemory, Driver
from fastsr.backends.tensorrt.library import Library, errors_of
from fastsr.errors import BackendError, DeviceMemoryError, ShapeError
from fastsr.graph.ir import INPUT, Array
from fastsr.graph.to_onnx import OUTPUT


class Engine:
    """An engine on the device. Safe to use from many threads.

    kernels: what TensorRT-RTX compiled for it in an earlier process, or None.
    Raises BackendError where the engine cannot run here.
    """

    def __init__(
        self, library: Library, blob: bytes, channels: int, driver: Driver, kernels: bytes | None = None
    ) -> None:
        driver.enter()
        self._library = library
        self._driver = driver
        self._channels = channels
        self._contexts = threading.local()
        self._runtime = library.module.Runtime(library.logger)  # outlives the engine
        self._engine = self._runtime.deserialize_cuda_engine(blob)
        if self._engine is None:
            said = errors_of(library.logger.take())
            raise BackendError(f"{library.name} {library.version} cannot load the engine: {said}")
        self._config, self._kernels = self._runtime_config(kernels)

    def run(self, x: Array) -> Array:
        """Return the network's output. x: (C, H, W) float32 -> (out_channels, scale * H, scale * W) float32.

        Raises DeviceMemoryError, BackendError.
        """
        if x.ndim != 3 or x.shape[0] != self._channels or 0 in x.shape:
            raise ShapeError(f"the image is {x.shape}; ({self._channels}, H, W) is needed")
        self._driver.enter()
        context = getattr(self._contexts, "mine", None)
        if context is None:
            context = self._contexts.mine = _Context(self._library, self._driver, self.new_context())
        try:
            result: Array = context.run(np.ascontiguousarray(x[None], np.float32))
            return result
        except DeviceMemoryError:
            context.release()  # what fits after a smaller part is tried needs the room
            raise

    def kernels(self) -> bytes | None:
        """Return what TensorRT-RTX has compiled so far, for the next process."""
        return None if self._kernels is None else bytes(memoryview(self._kernels.serialize()))

    def _runtime_config(self, kernels: bytes | None) -> tuple[Any, Any]:
        """Return (config, cache of kernels) for new contexts; (None, None) for TensorRT, which compiles nothing."""
        if not self._library.is_rtx:
            return None, None
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(self._strategy())
        cache = config.create_runtime_cache()
        if kernels:
            cache.deserialize(kernels)  # refuses those of another version or GPU, and stays empty
        config.set_runtime_cache(cache)
        return config, cache

    def new_context(self) -> Any:
        """Return an execution context, whose working memory is the caller's to set. Raises BackendError."""
        context = self._engine.create_execution_context(self._config or self._strategy())
        if context is None:
            said = errors_of(self._library.logger.take())
            raise BackendError(f"{self._library.name} cannot make an execution context: {said}")
        return context

    def _strategy(self) -> Any:
        return self._library.module.ExecutionContextAllocationStrategy.USER_MANAGED


class _Context:
    """An execution context with its stream and memory, of one thread."""

    def __init__(self, library: Library, driver: Driver, context: Any) -> None:
        self._library = library
        self._driver = driver
        self._context = context
        self._stream = driver.stream()
        self._memory: dict[str, DeviceMemory] = {}

    def __del__(self) -> None:
        with contextlib.suppress(BackendError):
            self._driver.end_stream(self._stream)

    def release(self) -> None:
        """Give back the device memory."""
        self._memory.clear()

    def run(self, x: Array) -> Array:
        context, driver, stream = self._context, self._driver, self._stream
        if not context.set_input_shape(INPUT, x.shape):
            raise self._error(f"refuses an image of {x.shape}")
        y = np.empty(tuple(context.get_tensor_shape(OUTPUT)), np.float32)
        # TensorRT says how much it needs for this size, not for the largest of the profile.
        needs = {"work": int(context.update_device_memory_size_for_shapes()), INPUT: x.nbytes, OUTPUT: y.nbytes}
        try:
            for name, size in needs.items():
                self._reserve(name, size)
        except DeviceMemoryError as error:
            raise DeviceMemoryError(str(error), sum(needs.values())) from error
        work = self._memory["work"]
        context.set_device_memory(work.pointer, work.size)
        for name in (INPUT, OUTPUT):
            context.set_tensor_address(name, self._memory[name].pointer)
        driver.upload(self._memory[INPUT].pointer, x.ctypes.data, x.nbytes, stream)
        if not context.execute_async_v3(stream):
            raise self._error(f"failed on an image of {x.shape}")
        driver.download(y.ctypes.data, self._memory[OUTPUT].pointer, y.nbytes, stream)
        driver.wait(stream)
        result: Array = y[0]
        return result

    def _reserve(self, name: str, size: int) -> None:
        if name not in self._memory or self._memory[name].size < size:
            self._memory.pop(name, None)  # first, so that both need not fit
            self._memory[name] = self._driver.allocate(size)

    def _error(self, what: str) -> BackendError:
        messages = self._library.logger.take()
        said = errors_of(messages)
        if "out of memory" in said.lower() or "outofmemory" in said.lower():
            return DeviceMemoryError(f"{self._library.name} {what}: {said}")
        return BackendError(f"{self._library.name} {what}: {said}")
