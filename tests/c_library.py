"""The C library through ctypes: the structs of fastsr.h, and whole images and streams of NumPy arrays."""

from __future__ import annotations

import ctypes as c

import numpy as np

PIXEL_TYPES = {"uint8": 1, "uint16": 2, "int16": 3, "float32": 4}


class Image(c.Structure):
    _fields_ = [
        ("struct_size", c.c_size_t),
        ("pixels", c.c_void_p),
        ("width", c.c_uint32),
        ("height", c.c_uint32),
        ("channels", c.c_uint32),
        ("pixel_type", c.c_uint32),
        ("row_stride", c.c_ssize_t),
        ("pixel_stride", c.c_ssize_t),
        ("channel_stride", c.c_ssize_t),
    ]


class Options(c.Structure):
    _fields_ = [
        ("struct_size", c.c_size_t),
        ("scale", c.c_uint32),
        ("threads", c.c_uint32),
        ("max_memory", c.c_uint64),
        ("value_low", c.c_double),
        ("value_high", c.c_double),
        ("strip_rows", c.c_uint32),
        ("precision", c.c_uint32),
        ("progress", c.c_void_p),
        ("progress_user", c.c_void_p),
    ]


def view(x: np.ndarray) -> Image:
    """Describe x (H, W, C), of any strides."""
    height, width, channels = x.shape
    kind = PIXEL_TYPES[x.dtype.name]
    return Image(c.sizeof(Image), x.ctypes.data, width, height, channels, kind, *x.strides)


class CLibrary:
    """libfastsr.so; every status but FSR_OK raises."""

    def __init__(self, path):
        self.lib = c.CDLL(str(path))
        self.lib.fsr_error_message.restype = c.c_char_p
        self.lib.fsr_version.restype = c.c_char_p
        self.lib.fsr_model_close.argtypes = self.lib.fsr_stream_close.argtypes = [c.c_void_p]

    def check(self, status: int) -> None:
        if status != 0:
            raise RuntimeError(self.lib.fsr_error_message().decode())

    def open(self, data: bytes) -> CModel:
        handle = c.c_void_p()
        self.check(self.lib.fsr_model_open_memory(data, c.c_size_t(len(data)), None, c.byref(handle)))
        return CModel(self, handle)


class CModel:
    def __init__(self, library: CLibrary, handle: c.c_void_p):
        self.library, self.handle = library, handle

    def __del__(self):
        self.library.lib.fsr_model_close(self.handle)

    def upscale(self, x: np.ndarray, scale: int, target=None, **options) -> np.ndarray:
        """Return x (H, W, C) enlarged by fsr_upscale, into `target` where there is one."""
        y = np.empty((x.shape[0] * scale, x.shape[1] * scale, x.shape[2]), x.dtype) if target is None else target
        how = Options(c.sizeof(Options), scale, **options)
        self.library.check(self.library.lib.fsr_upscale(self.handle, c.byref(view(x)), c.byref(view(y)), c.byref(how)))
        return y

    def stream(self, x: np.ndarray, scale: int, push: int, pull: int, **options) -> np.ndarray:
        """Return x enlarged by a stream that gets at most `push` rows at once and gives at most `pull`."""
        lib, check = self.library.lib, self.library.check
        y = np.empty((x.shape[0] * scale, x.shape[1] * scale, x.shape[2]), x.dtype)
        how, stream, count = Options(c.sizeof(Options), scale, **options), c.c_void_p(), c.c_uint32()
        kind = PIXEL_TYPES[x.dtype.name]
        check(lib.fsr_stream_open(self.handle, x.shape[1], x.shape[2], kind, c.byref(how), c.byref(stream)))
        try:
            pushed = pulled = 0
            while pulled < len(y):
                if pushed < len(x):
                    check(lib.fsr_stream_push_rows(stream, c.byref(view(x[pushed : pushed + push])), c.byref(count)))
                    pushed += count.value
                    if pushed == len(x):
                        check(lib.fsr_stream_end(stream))
                while pulled < len(y):
                    check(lib.fsr_stream_pull_rows(stream, c.byref(view(y[pulled : pulled + pull])), c.byref(count)))
                    if count.value == 0:
                        break
                    pulled += count.value
        finally:
            lib.fsr_stream_close(stream)
        return y
