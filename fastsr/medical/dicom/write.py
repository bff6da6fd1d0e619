"""DICOM files out: a header, then pixels as they come; whole or not at all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom import dcmwrite
from pydicom.dataset import Dataset

from fastsr.errors import OutputError
from fastsr.io.image import write_all
from fastsr.medical.dicom.decode import Layout

Pixels = npt.NDArray[Any]

_MOST_BYTES = (1 << 32) - 2  # of a value: its length is an even 32-bit number, and the largest means "undefined"


class DicomWriter:
    """Writes one object into an open file: Explicit VR Little Endian, uncompressed.

    layout: of the source's frames; header: of the derived object. Raises OutputError.
    """

    def __init__(self, file: BinaryIO, header: Dataset, layout: Layout, path: Path) -> None:
        self._file, self._layout, self._path = file, layout, path
        samples = int(header.Rows) * int(header.Columns) * layout.samples * layout.frames
        self._size = -(-samples * layout.bits_allocated // 8)
        self._written = 0
        self._bits = np.empty(0, np.uint8)  # fewer than 8, that wait for their byte
        if self._size > _MOST_BYTES:
            raise OutputError(
                f"{path} would hold {self._size} bytes of pixels; an uncompressed DICOM object holds {_MOST_BYTES}: a "
                "smaller scale, or fewer frames in an object, would do"
            )
        self._header = header_bytes(header)
        write_all(file, self._header)
        vr = b"OB" if layout.bits_allocated <= 8 else b"OW"
        padded = self._size + self._size % 2
        write_all(file, b"\xe0\x7f\x10\x00" + vr + b"\0\0" + padded.to_bytes(4, "little"))

    def write(self, rows: Pixels) -> None:
        """Take the next rows (n, W, C) of stored values."""
        if self._layout.bits_allocated == 1:
            self._write_bits(rows)
            return
        shift = self._layout.high_bit + 1 - self._layout.bits_stored
        if shift:
            rows = np.left_shift(rows, shift)
        data = np.ascontiguousarray(rows.astype(rows.dtype.newbyteorder("<"), copy=False)).data
        self._written += data.nbytes
        write_all(self._file, data)

    def _write_bits(self, rows: Pixels) -> None:
        """Pack bits, the first lowest, with nothing between rows and frames (PS3.5 8.1.1)."""
        bits = np.concatenate([self._bits, rows.ravel()])
        whole = len(bits) // 8 * 8
        self._bits = bits[whole:]
        self._put_packed(bits[:whole])

    def _put_packed(self, bits: Pixels) -> None:
        packed = np.packbits(bits, bitorder="little")
        self._written += packed.nbytes
        write_all(self._file, packed.data)

    def close(self, header: Dataset) -> None:
        """End the object. header: the final one, as long as the first: what the pixels told has taken its place.

        Raises OutputError unless every pixel has come.
        """
        self._put_packed(self._bits)
        if self._written != self._size:
            raise OutputError(f"{self._path}: {self._written} of {self._size} bytes of pixels were written")
        if self._size % 2:
            write_all(self._file, b"\0")
        final = header_bytes(header)
        assert len(final) == len(self._header)
        self._file.seek(0)
        write_all(self._file, final)
        self._file.seek(0, io.SEEK_END)


def header_bytes(header: Dataset) -> bytes:
    """Return preamble, file meta information and dataset as they stand in a file."""
    buffer = io.BytesIO()
    dcmwrite(buffer, header, enforce_file_format=True)
    return buffer.getvalue()
