"""NPY: one NumPy array, (H, W) or (H, W, C); read and written row by row, through a map where it is by columns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastsr.errors import ImageFileError
from fastsr.io.image import (
    ArraySource,
    FileSource,
    ImageInfo,
    Pixels,
    Reader,
    RowOrder,
    Shape,
    check_dtype,
    reading,
    write_all,
)

SIGNATURE = b"\x93NUMPY"


def open_npy(path: Path) -> Reader:
    """Map an NPY file: (H, W), or (H, W, C) with 1 to 4 channels. Never unpickles. Raises ImageFileError."""
    with reading(path):
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            if read_header is None:
                raise ImageFileError(f"{path} is NPY version {version[0]}.{version[1]}; 1.0 and 2.0 can be read")
            shape, by_columns, dtype = read_header(file)
            offset = file.tell()
        check_dtype(path, dtype)
        if len(shape) not in (2, 3) or 0 in shape or (len(shape) == 3 and shape[2] > 4):
            raise ImageFileError(f"{path} holds an array {shape}; (H, W) or (H, W, C) with 1 to 4 channels is needed")
        info = ImageInfo("npy", grey_axis=len(shape) == 3 and shape[2] == 1)
        if by_columns:
            return Reader([ArraySource(np.memmap(path, dtype, "r", offset, shape, "F"), info)])
        if offset + math.prod(shape) * dtype.itemsize > path.stat().st_size:
            raise ImageFileError(f"{path} is truncated: an array {shape} of {dtype} does not fit into it")
        rows = path.open("rb")
    return Reader([FileSource(path, rows, offset, dtype, shape, info)], rows.close)


class NpyWriter:
    """Write one array of any of the pixel types into an open file as its rows come."""

    def __init__(self, file: BinaryIO, total_bytes: int) -> None:
        self._file = file

    def add_page(self, shape: Shape, dtype: np.dtype[Any], info: ImageInfo) -> NpySink:
        """Begin the array."""
        return NpySink(self._file, shape, dtype, info)

    def close(self) -> None:
        """Do nothing: the array's end is the file's end."""


class NpySink:
    """Write rows after a header."""

    def __init__(self, file: BinaryIO, shape: Shape, dtype: np.dtype[Any], info: ImageInfo) -> None:
        self._file = file
        self._order = RowOrder(shape, dtype)
        stored = shape[:2] if shape[2] == 1 and not info.grey_axis else shape
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": stored}
        np.lib.format.write_array_header_1_0(file, header)

    def write(self, y0: int, rows: Pixels) -> None:
        """Take rows (n, W, C), of which the first is row `y0`."""
        write_all(self._file, np.ascontiguousarray(self._order.accept(y0, rows)).data)

    def finish(self) -> None:
        """End the array."""
        self._order.check_complete()
