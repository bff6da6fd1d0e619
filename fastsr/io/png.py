"""PNG, row by row (ISO/IEC 15948); what is interlaced, has a palette or few bits is decoded whole, by Pillow."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from fastsr.errors import ImageFileError, OutputError
from fastsr.io.image import (
    ArraySource,
    ImageInfo,
    Pixels,
    Reader,
    RowOrder,
    Shape,
    check_whole,
    reading,
    valid_resolution,
    write_all,
)

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks about colour and text that stay true when the picture grows.
_KEPT = (b"cHRM", b"gAMA", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"tEXt", b"zTXt", b"iTXt")
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> IHDR colour type
_CHANNELS = {colour_type: channels for channels, colour_type in _COLOUR_TYPES.items()}
_MAX_SIDE = 2**31 - 1
_ZLIB_LEVEL = 3  # level 6 takes 1.7 times as long and saves nothing on filtered photographs
_BLOCK_BYTES = 2**18  # rows are filtered, and files read, this many bytes at a time, to stay in cache
_METRE = 0.0254  # inches to metres


def open_png(path: Path) -> Reader:
    """Open a PNG: uint8 or uint16, 1 to 4 channels; palettes become RGB or RGBA, 1, 2, 4 bits become 8.

    Transparency (tRNS) becomes an alpha channel. Every checksum is checked. Raises ImageFileError.
    """
    with reading(path):
        file = path.open("rb")
        try:
            chunks, places = _chunks(path, file)
            W, H, depth, colour_type, _, _, interlaced = struct.unpack(">2L5B", chunks[0][1])
            check_whole(path, H, W)
            animation = next((body for kind, body in chunks if kind == b"acTL"), None)
            if animation and struct.unpack_from(">L", animation)[0] > 1:
                raise ImageFileError(f"{path} is an animated PNG; a single picture is needed: extract its frames first")
            transparent = next((body for kind, body in chunks if kind == b"tRNS"), None)
            undo = _undo_filters()
            if undo and depth in (8, 16) and colour_type in _CHANNELS and not interlaced and not transparent:
                shape = (H, W, _CHANNELS[colour_type])
                return Reader([PngSource(path, file, places, shape, depth, _info(chunks, ""), undo)], file.close)
            file.seek(0)
            data = file.read()
        except BaseException:
            file.close()
            raise
        file.close()
        pixels = _decode(data, depth, colour_type)
        if transparent and colour_type in (0, 2):
            pixels = _add_alpha(pixels, transparent, depth)
    stored = "palette" if colour_type == 3 else f"{depth} bit" if depth < 8 else ""
    return Reader([ArraySource(pixels, _info(chunks, stored))])


def _undo_filters() -> Any:
    """Return the native function that undoes filters, or None where the engine is not built."""
    try:
        from fastsr import _native
    except ImportError:
        return None
    return _native.undo_png_filters


class PngSource:
    """Rows that are decompressed as they are asked for: from top to bottom; for a row above, from the top again."""

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        places: list[tuple[int, int]],
        shape: Shape,
        depth: int,
        info: ImageInfo,
        undo: Any,
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(np.uint8 if depth == 8 else np.uint16)
        self.info = info
        self._path = path
        self._file = file
        self._places = places  # of the IDAT chunks' data
        self._undo = undo
        self._pixel_bytes = shape[2] * self.dtype.itemsize
        self._begin()

    def read(self, y0: int, y1: int) -> Pixels:
        """Return rows y0 to y1 (exclusive) as (y1-y0, W, C). Raises ImageFileError."""
        _, W, C = self.shape
        if y0 < self._y:
            self._begin()
        with reading(self._path):
            block = max(1, _BLOCK_BYTES // self._above.size)
            while self._y < y0:
                self._lines(min(block, y0 - self._y))
            rows = np.empty((y1 - y0, W * self._pixel_bytes), np.uint8)
            for y in range(0, len(rows), block):
                rows[y : y + block] = self._lines(min(block, len(rows) - y))
        if self.dtype == np.uint16:
            return rows.view(">u2").astype(np.uint16).reshape(-1, W, C)
        return rows.reshape(-1, W, C)

    def _begin(self) -> None:
        self._y = 0
        self._above = np.zeros(self.shape[1] * self._pixel_bytes, np.uint8)
        self._zlib = zlib.decompressobj()
        self._compressed = b""
        self._rest = self._pieces()

    def _lines(self, n: int) -> npt.NDArray[np.uint8]:
        rows = np.empty((n, self._above.size), np.uint8)
        lines = self._inflate(n * (1 + self._above.size))
        undone = self._undo(lines, self._above, rows, self._pixel_bytes)
        if undone < n:
            raise ImageFileError(
                f"{self._path} is damaged: row {self._y + undone} has filter {lines[undone * (1 + self._above.size)]}; "
                "there are 0 to 4"
            )
        self._above = rows[-1].copy()
        self._y += n
        return rows

    def _inflate(self, size: int) -> bytes:
        parts = []
        while size > 0:
            if not self._compressed:
                self._compressed = next(self._rest, b"")
                if not self._compressed:
                    raise ImageFileError(
                        f"{self._path} is truncated: its pixels end in row {self._y} of {self.shape[0]} or soon after"
                    )
            parts.append(self._zlib.decompress(self._compressed, size))
            self._compressed = self._zlib.unconsumed_tail
            size -= len(parts[-1])
        return b"".join(parts)

    def _pieces(self) -> Iterator[bytes]:
        for offset, size in self._places:
            for at in range(0, size, _BLOCK_BYTES):
                self._file.seek(offset + at)
                yield self._file.read(min(_BLOCK_BYTES, size - at))


class PngWriter:
    """Write one picture, uint8 or uint16 with 1 to 4 channels, into an open file as its rows come."""

    def __init__(self, file: BinaryIO, total_bytes: int) -> None:
        self._file = file

    def add_page(self, shape: Shape, dtype: np.dtype[Any], info: ImageInfo) -> PngSink:
        """Begin the picture. Raises OutputError if it is too large for a PNG."""
        if max(shape[:2]) > _MAX_SIDE:
            raise OutputError(f"the image is {shape[1]}x{shape[0]}; PNG holds {_MAX_SIDE} pixels a side")
        return PngSink(self._file, shape, dtype, info)

    def close(self) -> None:
        """Do nothing: the picture's end is the file's end."""


class PngSink:
    """Filter, compress and write rows. The filter of each row is the one with the least sum of |differences|."""

    def __init__(self, file: BinaryIO, shape: Shape, dtype: np.dtype[Any], info: ImageInfo) -> None:
        H, W, C = shape
        self._file = file
        self._order = RowOrder(shape, dtype)
        self._pixel_bytes = C * dtype.itemsize
        self._above = np.zeros((1, W * self._pixel_bytes), np.uint8)
        self._zlib = zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, 15, 9, zlib.Z_FILTERED)
        write_all(file, SIGNATURE)
        self._chunk(b"IHDR", struct.pack(">2L5B", W, H, 8 * dtype.itemsize, _COLOUR_TYPES[C], 0, 0, 0))
        for kind, data in _info_chunks(info):
            self._chunk(kind, data)

    def write(self, y0: int, rows: Pixels) -> None:
        """Take rows (n, W, C), of which the first is row `y0`."""
        rows = self._order.accept(y0, rows)
        block = max(1, _BLOCK_BYTES // self._above.size)
        for y in range(0, len(rows), block):
            some = rows[y : y + block]
            raw = np.ascontiguousarray(some, some.dtype.newbyteorder(">")).view(np.uint8).reshape(len(some), -1)
            packed = self._zlib.compress(_filter(raw, self._above, self._pixel_bytes))
            if packed:
                self._chunk(b"IDAT", packed)
            self._above = raw[-1:].copy()

    def finish(self) -> None:
        """End the picture."""
        self._order.check_complete()
        self._chunk(b"IDAT", self._zlib.flush())
        self._chunk(b"IEND", b"")

    def _chunk(self, kind: bytes, data: bytes) -> None:
        crc = zlib.crc32(data, zlib.crc32(kind))
        write_all(self._file, struct.pack(">L", len(data)) + kind + data + struct.pack(">L", crc))


def _filter(raw: npt.NDArray[np.uint8], above: npt.NDArray[np.uint8], pixel_bytes: int) -> bytes:
    """Return rows (n, bytes) as filtered scanlines, each with its filter's number before it (section 9)."""
    n, size = raw.shape
    b = np.concatenate([above, raw[:-1]])  # above
    a = np.zeros_like(raw)  # left
    a[:, pixel_bytes:] = raw[:, :-pixel_bytes]
    c = np.zeros_like(raw)  # above left
    c[:, pixel_bytes:] = b[:, :-pixel_bytes]
    average = (a & b) + ((a ^ b) >> 1)
    to_a = b.astype(np.int16) - c
    to_b = a.astype(np.int16) - c
    to_c = np.abs(to_a + to_b)
    np.abs(to_a, out=to_a)
    np.abs(to_b, out=to_b)
    paeth = np.where((to_a <= to_b) & (to_a <= to_c), a, np.where(to_b <= to_c, b, c))
    tried = [raw, raw - a, raw - b, raw - average, raw - paeth]
    cost = np.stack([np.minimum(x, 0 - x).sum(axis=1, dtype=np.int64) for x in tried])
    best = cost.argmin(axis=0)
    lines = np.empty((n, 1 + size), np.uint8)
    lines[:, 0] = best
    for number, x in enumerate(tried):
        chosen = best == number
        lines[chosen, 1:] = x[chosen]
    return lines.tobytes()


def _chunks(path: Path, file: BinaryIO) -> tuple[list[tuple[bytes, bytes]], list[tuple[int, int]]]:
    """Return every chunk but the pixels as (type, data), IHDR first, and where the pixels are: (offset, size).

    Lengths and checksums of all are checked.
    """
    end = os.fstat(file.fileno()).st_size
    if file.read(len(SIGNATURE)) != SIGNATURE:
        raise ImageFileError(f"{path} is not a PNG")
    chunks: list[tuple[bytes, bytes]] = []
    places: list[tuple[int, int]] = []
    at, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        if at + 12 > end:
            raise ImageFileError(f"{path} is truncated: it ends after {end} bytes, before its IEND chunk")
        head = file.read(8)
        (size,) = struct.unpack_from(">L", head)
        kind = head[4:]
        if at + 12 + size > end:
            raise ImageFileError(f"{path} is truncated: a {size}-byte chunk begins at byte {at} of {end}")
        crc, data = zlib.crc32(kind), b""
        if kind in (b"IDAT", b"fdAT"):
            for begin in range(0, size, _BLOCK_BYTES):
                crc = zlib.crc32(file.read(min(_BLOCK_BYTES, size - begin)), crc)
        else:
            data = file.read(size)
            crc = zlib.crc32(data, crc)
        if file.read(4) != struct.pack(">L", crc):
            raise ImageFileError(f"{path} is damaged: the checksum of the chunk at byte {at} does not match")
        if kind == b"IDAT":
            places.append((at + 8, size))
        elif kind != b"fdAT":
            chunks.append((kind, data))
        at += 12 + size
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise ImageFileError(f"{path} is damaged: it does not begin with a 13-byte IHDR chunk")
    return chunks, places


def _decode(data: bytes, depth: int, colour_type: int) -> Pixels:
    """Decode to (H, W) or (H, W, 2 | 3 | 4).

    Pillow keeps only the high byte of 16-bit colour. So RGB and RGBA are decoded twice, the second time told
    that the bytes are little-endian, which yields the low byte; and grey+alpha is presented as 8-bit RGBA,
    which has the same bytes in the same scanlines.
    """
    if depth == 16 and colour_type == 4:
        header = data[12:24] + struct.pack(">5B", 8, 6, *data[26:29])
        bytes_4 = _open(data[:12] + header + struct.pack(">L", zlib.crc32(header)) + data[33:])
        return np.ascontiguousarray(bytes_4).view(">u2").astype(np.uint16)
    if depth == 16 and colour_type in (2, 6):
        mode = "RGB" if colour_type == 2 else "RGBA"
        high = _open(data).astype(np.uint16)
        high <<= 8
        high |= _open(data, rawmode=f"{mode};16L")
        return high
    return _open(data)


def _open(data: bytes, rawmode: str | None = None) -> Pixels:
    from PIL.PngImagePlugin import PngImageFile  # Image.open would import a handful of other formats

    with PngImageFile(io.BytesIO(data)) as image:
        if rawmode:
            image.tile = [(*tile[:3], rawmode) for tile in image.tile]
        if image.mode == "P":
            return np.asarray(image.convert("RGBA" if "transparency" in image.info else "RGB"))
        if image.mode == "1":
            return np.asarray(image.convert("L"))
        pixels = np.asarray(image)
        return pixels.astype(np.uint16) if image.mode.startswith("I") else pixels


def _add_alpha(pixels: Pixels, transparent: bytes, depth: int) -> Pixels:
    """Add an alpha channel that is 0 where a pixel equals tRNS's colour, which is given at the file's depth."""
    key = np.frombuffer(transparent, ">u2").astype(np.int64) * (255 // (2**depth - 1) if depth < 8 else 1)
    colour = pixels[:, :, None] if pixels.ndim == 2 else pixels
    shown = (colour != key[: colour.shape[2]]).any(axis=2, keepdims=True)
    alpha = np.where(shown, np.iinfo(pixels.dtype).max, 0).astype(pixels.dtype)
    return np.concatenate([colour, alpha], axis=2)


def _info(chunks: list[tuple[bytes, bytes]], stored: str) -> ImageInfo:
    icc = exif = resolution = None
    unit: Any = "inch"
    for kind, data in chunks:
        if kind == b"iCCP":
            icc = zlib.decompress(data[data.index(b"\0") + 2 :])
        elif kind == b"eXIf":
            exif = data
        elif kind == b"pHYs":
            x, y, in_metres = struct.unpack(">2LB", data)
            unit = "inch" if in_metres else "none"
            resolution = valid_resolution(x * _METRE, y * _METRE) if in_metres else valid_resolution(x, y)
    kept = tuple((kind, data) for kind, data in chunks if kind in _KEPT)
    return ImageInfo("png", 1, icc, exif, resolution, unit, png_chunks=kept, stored=stored)


def _info_chunks(info: ImageInfo) -> list[tuple[bytes, bytes]]:
    chunks = []
    if info.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(info.icc)))
    chunks += [(kind, data) for kind, data in info.png_chunks if not (info.icc and kind == b"sRGB")]
    if info.resolution:
        per_metre = info.dpi and (info.dpi[0] / _METRE, info.dpi[1] / _METRE)
        x, y = (min(max(1, round(v)), 2**31 - 1) for v in (per_metre or info.resolution))
        chunks.append((b"pHYs", struct.pack(">2LB", x, y, 1 if per_metre else 0)))
    if info.exif:
        chunks.append((b"eXIf", info.exif))
    return chunks
