"""Volumes on disk whose axes are turned: slices along any axis, in memory of a slice and a few planes.

A file has planes, one after another; a slice along another axis is spread over all of them. A temporary file holds
each slice in one piece: it takes a volume's bytes on disk, and each byte is written and read once.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.errors import OutputError
from fastsr.io.image import write_all

Voxels = npt.NDArray[Any]

_BLOCK_BYTES = 4 << 20  # of planes that are turned at once, one plane at least


class Turned:
    """A temporary file of `slices` slices of `rows` rows of `row_bytes` bytes.

    Row r of all slices together is plane r of the volume; `axis` says where the slices lie in a plane: 0 or 1.
    The file has no name where the system allows it, so that nothing is left behind however the process ends.
    """

    def __init__(self, folder: Path, slices: int, rows: int, row_bytes: int, axis: int) -> None:
        self._slices, self._rows, self._row_bytes, self._axis = slices, rows, row_bytes, axis
        self.block = max(1, _BLOCK_BYTES // (slices * row_bytes))  # planes that `put` and `planes` take at once
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115  closed by __exit__

    def __enter__(self) -> Turned:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def put(self, first: int, planes: Voxels) -> None:
        """Take planes `first`, first + 1, ... as (n, ...), the slices along axis 1 + `axis`."""
        pieces = np.moveaxis(planes, 1 + self._axis, 0)
        for i in range(self._slices):
            self._write((i * self._rows + first) * self._row_bytes, np.ascontiguousarray(pieces[i]))

    def put_slice(self, index: int, first: int, rows: Voxels) -> None:
        """Take rows `first`, ... of one slice."""
        self._write((index * self._rows + first) * self._row_bytes, rows)

    def get_slice(self, index: int, out: Voxels) -> None:
        """Fill `out` with one slice."""
        self._read(index * self._rows * self._row_bytes, out)

    def planes(self, dtype: np.dtype[Any], row_shape: tuple[int, ...]) -> Iterator[Voxels]:
        """Yield the planes, a few at a time, as (n, ...) with the slices along axis 1 + `axis`."""
        for first in range(0, self._rows, self.block):
            n = min(self.block, self._rows - first)
            pieces = np.empty((self._slices, n, *row_shape), dtype)
            for i in range(self._slices):
                self._read((i * self._rows + first) * self._row_bytes, pieces[i])
            yield np.moveaxis(pieces, 0, 1 + self._axis)

    def _write(self, at: int, data: Voxels) -> None:
        self._file.seek(at)
        write_all(self._file, data.data)

    def _read(self, at: int, out: Voxels) -> None:
        self._file.seek(at)
        view = memoryview(out.data).cast("B")
        while view:
            n = self._file.readinto(view)
            if not n:
                raise OutputError("a temporary file became shorter while it was used")
            view = view[n:]
