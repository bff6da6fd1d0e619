"""What a file holds, in memory and row by row: the types that every format reads into and writes from."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import numpy as np
import numpy.typing as npt

from fastsr.errors import FastSRError, ImageFileError, OutputError
from fastsr.io import ifd

Pixels = npt.NDArray[Any]
Shape = tuple[int, int, int]  # (H, W, C)
PathLike = str | os.PathLike[str]

DTYPES = ("uint8", "uint16", "int16", "float16", "float32", "float64")
MAX_PIXELS = 2**28  # an image that must be decoded whole may have this many pixels: 1 GiB as RGBA
MAX_PIXELS_ENV = "FASTSR_MAX_PIXELS"


@dataclass(frozen=True)
class ImageInfo:
    """What a file says beside its pixels.

    exif: a TIFF-structured block, without the "Exif\\0\\0" that JPEG puts before it.
    resolution: pixels per `resolution_unit` along x and y.
    compression: what TIFF pages are stored with.
    png_chunks: colour and text chunks that a PNG keeps, as (type, data).
    description: TIFF's ImageDescription.
    alpha: how TIFF says the last of 2 or 4 channels is meant.
    grey_axis: an NPY array is (H, W, 1) and not (H, W).
    stored: what the file holds where that differs from the pixels ("palette", "1 bit").
    """

    format: str = ""
    pages: int = 1
    icc: bytes | None = None
    exif: bytes | None = None
    resolution: tuple[float, float] | None = None
    resolution_unit: Literal["inch", "cm", "none"] = "inch"
    compression: Literal["none", "deflate"] = "none"
    png_chunks: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    description: bytes | None = None
    alpha: Literal["straight", "premultiplied", "unspecified"] = "straight"
    grey_axis: bool = False
    stored: str = ""

    @property
    def dpi(self) -> tuple[float, float] | None:
        """Pixels per inch along x and y, or None where the file gives no unit of length."""
        if self.resolution is None or self.resolution_unit == "none":
            return None
        per_inch = 2.54 if self.resolution_unit == "cm" else 1.0
        return (self.resolution[0] * per_inch, self.resolution[1] * per_inch)

    @property
    def orientation(self) -> int:
        """EXIF orientation, 1 (upright) to 8."""
        return ifd.orientation(self.exif)

    def scaled(self, scale: int, height: int, width: int) -> ImageInfo:
        """Describe the same picture with `scale` times as many pixels a side: `height` x `width` afterwards."""
        resolution = self.resolution and (self.resolution[0] * scale, self.resolution[1] * scale)
        description = self.description and _scale_ome(self.description, scale)
        exif = ifd.scale_exif(self.exif, scale, height, width)
        return replace(self, resolution=resolution, description=description, exif=exif)


@dataclass(frozen=True)
class ImageFile:
    """One page of a file in memory: pixels (H, W) or (H, W, 2 | 3 | 4), C-contiguous, native byte order."""

    pixels: Pixels
    info: ImageInfo


class Source(Protocol):
    """Rows that can be read: shape (H, W, C)."""

    @property
    def shape(self) -> Shape: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def info(self) -> ImageInfo: ...
    def read(self, y0: int, y1: int) -> Pixels:
        """Return rows y0 to y1 (exclusive) as (y1-y0, W, C)."""
        ...


class Sink(Protocol):
    """Rows that are written, each once, from top to bottom."""

    def write(self, y0: int, rows: Pixels) -> None:
        """Take rows (n, W, C), of which the first is row `y0`."""
        ...

    def finish(self) -> None:
        """End the page; every row has been written."""
        ...


class Reader:
    """An open file: its pages as sources. Use as a context manager, or call close()."""

    def __init__(self, pages: list[Source], close: Any = None) -> None:
        self.pages = pages
        self._close = close

    def close(self) -> None:
        """Let go of the file."""
        if self._close is not None:
            self._close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Writer(Protocol):
    """A file that is being written, page after page; a format with one page takes one."""

    def add_page(self, shape: Shape, dtype: np.dtype[Any], info: ImageInfo) -> Sink: ...
    def close(self) -> None: ...


class ArraySource:
    """Rows of an array in memory or of a memory map: (H, W) or (H, W, C), any byte order."""

    def __init__(self, pixels: Pixels, info: ImageInfo) -> None:
        self._pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
        self.info = info
        self.dtype: np.dtype[Any] = pixels.dtype.newbyteorder("=")
        H, W, C = self._pixels.shape
        self.shape: Shape = (H, W, C)

    def read(self, y0: int, y1: int) -> Pixels:
        """Return rows y0 to y1 (exclusive) as (y1-y0, W, C), in native byte order."""
        return np.ascontiguousarray(self._pixels[y0:y1], dtype=self.dtype)


class FileSource:
    """Rows that lie uncompressed in a file, one behind another: read as they are asked for.

    A memory map would do, but its pages count as memory of the process.
    """

    def __init__(
        self, path: Path, file: Any, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...], info: ImageInfo
    ) -> None:
        self.info = info
        self.dtype: np.dtype[Any] = dtype.newbyteorder("=")
        self.shape: Shape = (shape[0], shape[1], shape[2] if len(shape) == 3 else 1)
        self._path = path
        self._file = file
        self._offset = offset
        self._stored = dtype

    def read(self, y0: int, y1: int) -> Pixels:
        """Return rows y0 to y1 (exclusive) as (y1-y0, W, C), in native byte order. Raises ImageFileError."""
        _, W, C = self.shape
        row = W * C * self._stored.itemsize
        with reading(self._path):
            self._file.seek(self._offset + y0 * row)
            data = self._file.read((y1 - y0) * row)
        if len(data) < (y1 - y0) * row:
            raise ImageFileError(f"{self._path} is truncated: it ends in row {y0 + len(data) // row}")
        return np.frombuffer(data, self._stored).astype(self.dtype).reshape(y1 - y0, W, C)


class RowOrder:
    """Check that a sink's rows come once, in order and in the promised shape and dtype."""

    def __init__(self, shape: Shape, dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype
        self.done = 0

    def accept(self, y0: int, rows: Pixels) -> Pixels:
        """Return `rows` as (n, W, C) after the checks."""
        H, W, C = self.shape
        if rows.ndim == 2 and C == 1:
            rows = rows[:, :, None]
        if y0 != self.done or rows.shape[1:] != (W, C) or self.done + rows.shape[0] > H or rows.dtype != self.dtype:
            raise OutputError(
                f"rows {y0}..{y0 + rows.shape[0]} came as {rows.shape} {rows.dtype}; "
                f"row {self.done} of {self.shape} {self.dtype} is next"
            )
        self.done += rows.shape[0]
        return rows

    def check_complete(self) -> None:
        """Raise OutputError unless every row has come."""
        if self.done != self.shape[0]:
            raise OutputError(f"{self.done} of {self.shape[0]} rows were written; the image is not complete")


class WholeSink:
    """Gather all rows, then hand the whole image to `encode`: for formats that cannot be written by rows."""

    def __init__(self, shape: Shape, dtype: np.dtype[Any], encode: Any) -> None:
        self._order = RowOrder(shape, dtype)
        self._pixels: Pixels = np.empty(shape, dtype)
        self._encode = encode

    def write(self, y0: int, rows: Pixels) -> None:
        rows = self._order.accept(y0, rows)
        self._pixels[y0 : y0 + rows.shape[0]] = rows

    def finish(self) -> None:
        self._order.check_complete()
        self._encode(self._pixels)


def write_all(file: BinaryIO, data: bytes | memoryview) -> None:
    """Write every byte of `data`, whatever a single write takes."""
    view = memoryview(data).cast("B")
    while view:
        view = view[file.write(view) :]


def whole_array(source: Source) -> Pixels:
    """Read a page whole: (H, W) for one channel unless the file says (H, W, 1), else (H, W, C)."""
    H, _, C = source.shape
    pixels = source.read(0, H)
    return pixels[:, :, 0] if C == 1 and not source.info.grey_axis else pixels


def check_dtype(path: Path, dtype: np.dtype[Any]) -> None:
    """Raise ImageFileError unless FastSR upscales `dtype`."""
    if dtype.name not in DTYPES:
        raise ImageFileError(f"{path} holds {dtype.name} pixels; {', '.join(DTYPES)} can be read")


def check_whole(path: Path, height: int, width: int) -> None:
    """Raise ImageFileError if an image that must be decoded whole is empty or beyond the pixel limit."""
    if height < 1 or width < 1:
        raise ImageFileError(f"{path} is {width}x{height} pixels; at least 1x1 is needed")
    limit = pixel_limit()
    if height * width > limit:
        raise ImageFileError(
            f"{path} is {width}x{height} = {height * width} pixels, more than the limit of {limit}; if the file is "
            f"trusted, set {MAX_PIXELS_ENV}={height * width}, or store it as NPY or uncompressed TIFF, read by rows"
        )


def pixel_limit() -> int:
    """Return how many pixels an image decoded whole may have: FASTSR_MAX_PIXELS, or 2**28."""
    text = os.environ.get(MAX_PIXELS_ENV, "")
    if not text:
        return MAX_PIXELS
    if not text.isdecimal() or int(text) < 1:
        raise ImageFileError(f"{MAX_PIXELS_ENV} is {text!r}; a whole number of pixels, 1 or more, is needed")
    return int(text)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a decoder raises about `path` into ImageFileError."""
    try:
        yield
    except FastSRError:
        raise
    except FileNotFoundError:
        raise ImageFileError(f"{path} does not exist") from None
    except PermissionError:
        raise ImageFileError(f"{path} cannot be read: permission denied") from None
    except MemoryError:
        raise ImageFileError(f"{path} does not fit into memory; NPY and uncompressed TIFF are read by rows") from None
    except Exception as error:  # decoders raise nearly anything on damaged files
        reason = str(error) or type(error).__name__
        raise ImageFileError(f"{path} is damaged or truncated: {reason}") from error


def valid_resolution(x: float, y: float) -> tuple[float, float] | None:
    """Return (x, y) if both are finite and positive, else None."""
    return (x, y) if math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0 else None


def _scale_ome(description: bytes, scale: int) -> bytes:
    """Multiply SizeX, SizeY and divide PhysicalSizeX, PhysicalSizeY in OME-XML; other text is left as it is."""
    import re

    if b"<OME" not in description:
        return description
    grown = re.sub(rb'\b(Size[XY]=")(\d+)"', lambda m: b'%s%d"' % (m[1], int(m[2]) * scale), description)
    number = rb'\b(PhysicalSize[XY]=")([0-9.eE+-]+)"'
    return re.sub(number, lambda m: m[1] + repr(float(m[2]) / scale).encode() + b'"', grown)
