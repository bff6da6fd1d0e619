"""The NVIDIA driver through its C interface: which GPU there is, device memory, copies, streams. Needs no package."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastsr.errors import BackendError, BackendUnavailableError, DeviceMemoryError

MODULE = Path("/proc/driver/nvidia/version")
_OUT_OF_MEMORY = 2
_STREAM_NON_BLOCKING = 1
_MAJOR, _MINOR = 75, 76  # attributes of a device: its compute capability
_NAME_BYTES = 128


@dataclass(frozen=True)
class Gpu:
    """The GPU that is used: the first that CUDA_VISIBLE_DEVICES shows.

    name: as NVIDIA calls it; capability: such as "8.6"; driver: "13.0", the version of its CUDA, and where the system
    tells it the driver's own, "13.0, 580.65.06".
    """

    name: str
    capability: str
    driver: str


@lru_cache(maxsize=1)
def why_no_gpu() -> str | None:
    """Return None, or why no NVIDIA GPU can be used. Quick where there is no driver; imports nothing."""
    try:
        driver()
    except BackendUnavailableError as error:
        return str(error)
    return None


@lru_cache(maxsize=1)
def driver() -> Driver:
    """Return the driver, started. Raises BackendUnavailableError."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        raise BackendUnavailableError(f"no NVIDIA driver ({name}) is installed; a CPU back end would do") from None
    return Driver(library)


class Driver:
    """Device 0 and its primary context, which CUDA's runtime, PyTorch and TensorRT share.

    library: libcuda, or what behaves like it. Safe to use from many threads.
    Raises BackendUnavailableError without a device.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        code = library.cuInit(0)
        if code:
            raise BackendUnavailableError(f"no NVIDIA GPU can be used: {self._reason(code)}")
        count = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(count))
        if not count.value:
            raise BackendUnavailableError("no NVIDIA GPU is visible; CUDA_VISIBLE_DEVICES may hide it")
        self._device = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(self._device), 0)
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)

    def gpu(self) -> Gpu:
        """Return what GPU this is."""
        name = ctypes.create_string_buffer(_NAME_BYTES)
        self._call("cuDeviceGetName", name, _NAME_BYTES, self._device)
        numbers = []
        for attribute in (_MAJOR, _MINOR):
            number = ctypes.c_int()
            self._call("cuDeviceGetAttribute", ctypes.byref(number), attribute, self._device)
            numbers.append(str(number.value))
        version = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(version))
        release = f"{version.value // 1000}.{version.value % 1000 // 10}"
        own = _module_version()
        return Gpu(name.value.decode(errors="replace"), ".".join(numbers), f"{release}, {own}" if own else release)

    def enter(self) -> None:
        """Make the device's context that of the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> DeviceMemory:
        """Return `size` bytes, 256-byte aligned. Raises DeviceMemoryError."""
        self.enter()
        pointer = ctypes.c_uint64()
        code = self._library.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
        if code == _OUT_OF_MEMORY:
            free = self.free_memory()
            raise DeviceMemoryError(f"{size} bytes of GPU memory are needed, {free} are free", size)
        self._check("cuMemAlloc_v2", code)
        return DeviceMemory(self, pointer.value, size)

    def free_memory(self) -> int:
        """Return the bytes of device memory that are free."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def release(self, pointer: int) -> None:
        self.enter()
        self._call("cuMemFree_v2", ctypes.c_uint64(pointer))

    def stream(self) -> int:
        """Return a new stream, which does not wait for the default stream."""
        self.enter()
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), _STREAM_NON_BLOCKING)
        return stream.value or 0

    def end_stream(self, stream: int) -> None:
        self.enter()
        self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def upload(self, target: int, source: int, size: int, stream: int) -> None:
        """Copy `size` bytes from the address `source` to the device, in the order of the stream."""
        pointers = ctypes.c_uint64(target), ctypes.c_void_p(source)
        self._call("cuMemcpyHtoDAsync_v2", *pointers, ctypes.c_size_t(size), ctypes.c_void_p(stream))

    def download(self, target: int, source: int, size: int, stream: int) -> None:
        """Copy `size` bytes from the device to the address `target`, in the order of the stream."""
        pointers = ctypes.c_void_p(target), ctypes.c_uint64(source)
        self._call("cuMemcpyDtoHAsync_v2", *pointers, ctypes.c_size_t(size), ctypes.c_void_p(stream))

    def wait(self, stream: int) -> None:
        """Wait until all that the stream was given is done."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def _call(self, name: str, *arguments: Any) -> None:
        self._check(name, getattr(self._library, name)(*arguments))

    def _check(self, name: str, code: int) -> None:
        if code == _OUT_OF_MEMORY:
            raise DeviceMemoryError(f"{name}: {self._reason(code)}")
        if code:
            raise BackendError(f"{name} failed: {self._reason(code)}")

    def _reason(self, code: int) -> str:
        text = ctypes.c_char_p()
        self._library.cuGetErrorString(code, ctypes.byref(text))
        return f"{text.value.decode() if text.value else 'unknown error'} (CUDA error {code})"


def _module_version() -> str | None:
    """Return the version of Linux's kernel module, such as "580.65.06"."""
    try:
        found = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", MODULE.read_text())
    except OSError:
        return None
    return found[1] if found else None


class DeviceMemory:
    """Bytes on the device, given back when nobody refers to them any more."""

    def __init__(self, owner: Driver, pointer: int, size: int) -> None:
        self._owner = owner
        self.pointer = pointer
        self.size = size

    def __del__(self) -> None:
        with contextlib.suppress(BackendError):
            self._owner.release(self.pointer)
