"""A libcuda whose device memory is the host's: enough of the driver to run what was written for a GPU."""

# ruff: noqa: N802

from __future__ import annotations

import ctypes
import threading

OUT_OF_MEMORY, NO_DEVICE = 2, 100


class FakeCuda:
    """memory: bytes of the device; allocated: pointer -> buffer; most: bytes that were in use at once."""

    def __init__(self, memory=1 << 40, name=b"Fake GPU", capability=(8, 6), devices=1, version=13000):
        self.memory, self.name, self.capability, self.devices, self.version = memory, name, capability, devices, version
        self.allocated = {}
        self.streams = set()
        self.most = 0
        self._lock = threading.Lock()
        self._current = threading.local()

    def cuInit(self, flags):
        return 0 if self.devices else NO_DEVICE

    def cuGetErrorString(self, code, text):
        text._obj.value = {OUT_OF_MEMORY: b"out of memory", NO_DEVICE: b"no device"}.get(code, b"failed")
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = self.devices
        return 0

    def cuDeviceGet(self, device, index):
        device._obj.value = index
        return 0

    def cuDevicePrimaryCtxRetain(self, context, device):
        context._obj.value = 4096
        return 0

    def cuDeviceGetName(self, buffer, size, device):
        buffer.value = self.name[: size - 1]
        return 0

    def cuDeviceGetAttribute(self, number, attribute, device):
        number._obj.value = {75: self.capability[0], 76: self.capability[1]}[attribute]
        return 0

    def cuDriverGetVersion(self, version):
        version._obj.value = self.version
        return 0

    def cuCtxSetCurrent(self, context):
        self._current.context = context.value
        return 0

    def cuMemGetInfo_v2(self, free, total):
        free._obj.value = self.memory - self.used()
        total._obj.value = self.memory
        return 0

    def cuMemAlloc_v2(self, pointer, size):
        assert self._current.context == 4096, "no context in this thread"
        with self._lock:
            if self.used() + size.value > self.memory:
                return OUT_OF_MEMORY
            buffer = (ctypes.c_uint8 * size.value)()
            ctypes.memset(buffer, 0xFF, size.value)  # as float32: NaN
            pointer._obj.value = ctypes.addressof(buffer)
            self.allocated[pointer._obj.value] = buffer
            self.most = max(self.most, self.used())
        return 0

    def cuMemFree_v2(self, pointer):
        del self.allocated[pointer.value]
        return 0

    def cuStreamCreate(self, stream, flags):
        with self._lock:
            stream._obj.value = 16 + len(self.streams)
            self.streams.add(stream._obj.value)
        return 0

    def cuStreamDestroy_v2(self, stream):
        self.streams.discard(stream.value)
        return 0

    def cuMemcpyHtoDAsync_v2(self, target, source, size, stream):
        return self._copy(target.value, target.value, source.value, size.value, stream)

    def cuMemcpyDtoHAsync_v2(self, target, source, size, stream):
        return self._copy(source.value, target.value, source.value, size.value, stream)

    def cuStreamSynchronize(self, stream):
        return 0

    def used(self):
        return sum(len(buffer) for buffer in self.allocated.values())

    def _copy(self, device, target, source, size, stream):
        assert stream.value in self.streams
        assert len(self.allocated[device]) >= size, "the copy passes the end of the device's memory"
        ctypes.memmove(target, source, size)
        return 0
