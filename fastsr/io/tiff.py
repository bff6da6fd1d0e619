"""TIFF and BigTIFF: decoded by tifffile a band of rows at a time, written here strip by strip (TIFF 6.0)."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from fastsr.errors import ImageFileError
from fastsr.io import ifd
from fastsr.io.image import (
    ArraySource,
    FileSource,
    ImageInfo,
    Pixels,
    Reader,
    RowOrder,
    Shape,
    Source,
    check_dtype,
    check_whole,
    reading,
    valid_resolution,
    write_all,
)
from fastsr.io.pillow import mode_pixels, open_pillow

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

STRIP_BYTES = 2**18
BIGTIFF_BYTES = 2**32 - 2**25  # a classic TIFF's offsets end at 4 GiB; tags take some of it
_ZLIB_LEVEL = 3
_ICC = 34675
_NO_COMPRESSION, _DEFLATE = 1, 8
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_ALPHA: Any = {0: "unspecified", 1: "premultiplied", 2: "straight"}
_UNITS: Any = {1: "none", 2: "inch", 3: "cm"}
_PREDICTORS = {"u": 2, "i": 2, "f": 1}
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}

Change = Callable[[Pixels], Pixels]  # stored samples (n, W, C) to pixels (n, W, C')


def open_tiff(path: Path) -> Reader:
    """Open every page of a TIFF; uncompressed pages are read by rows, others are decoded a band of rows at a time.

    Palettes become RGB; fewer than 8 bits become 8; white-is-zero is inverted. Raises ImageFileError.
    """
    from tifffile import TiffFile

    logger = logging.getLogger("tifffile")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())  # or its remarks on odd files end up on the user's terminal
    with reading(path):
        tiff = TiffFile(path)
        try:
            _check_stack(path, tiff)
            count = len(tiff.pages)
            return Reader([_open_page(path, tiff, i, count) for i in range(count)], tiff.close)
        except BaseException:
            tiff.close()
            raise


def _check_stack(path: Path, tiff: TiffFile) -> None:
    """Refuse files whose images are not all pages: most readers would see the first one only."""
    if not len(tiff.pages):
        raise ImageFileError(f"{path} has no pages")
    images = (tiff.imagej_metadata or {}).get("images", 1) if tiff.is_imagej else 1
    if images > len(tiff.pages) or '"truncated": true' in tiff.pages[0].aspage().description:
        raise ImageFileError(
            f"{path} holds a stack whose images have no pages of their own; save it as a TIFF with one page an image"
        )


def _open_page(path: Path, tiff: TiffFile, index: int, count: int) -> Source:
    page = tiff.pages[index].aspage()
    where = f"{path}, page {index + 1} of {count}," if count > 1 else f"{path}"
    change, stored = _change(path, where, page)
    info = _info(tiff, page, count, stored)
    H, W = page.imagelength, page.imagewidth
    if H < 1 or W < 1:
        raise ImageFileError(f"{where} is {W}x{H} pixels; at least 1x1 is needed")
    if page.is_memmappable and page.dtype is not None:
        dtype = page.dtype.newbyteorder(tiff.byteorder)
        offset, size = page.dataoffsets[0], int(np.prod(page.shape)) * dtype.itemsize
        if offset + size > tiff.filehandle.size:
            raise ImageFileError(f"{where} is truncated: its pixels end at byte {offset + size} of a shorter file")
        rows: Source
        if page.axes == "SYX":
            rows = ArraySource(np.moveaxis(np.memmap(path, dtype, "r", offset, page.shape), 0, -1), info)
        else:
            rows = FileSource(path, tiff.filehandle, offset, dtype, page.shape, info)
        return _Changed(rows, change) if change else rows
    bands = _Bands(where, path, tiff, page, info)
    try:
        bands.load(0)  # finds a codec that is missing
    except ValueError as error:
        if "imagecodecs" not in str(error) and "not supported" not in str(error):
            raise
        return _through_pillow(path, where, page, index, info)
    return _Changed(bands, change) if change else bands


def _change(path: Path, where: str, page: TiffPage) -> tuple[Change | None, str]:
    """Return what turns stored samples into pixels, or None, and a word on what is stored."""
    kind, samples, bits = page.photometric, page.samplesperpixel, page.bitspersample
    grey = kind in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and samples in (1, 2, 3)
    if page.axes not in ("YX", "YXS", "SYX") or not (
        grey or (kind == _RGB and samples in (3, 4)) or (kind == _PALETTE and samples == 1) or kind == _YCBCR
    ):
        name = getattr(kind, "name", kind)
        raise ImageFileError(
            f"{where} is {name} with {samples} samples, axes {page.axes}; grey or RGB, either with one alpha, "
            "can be read"
        )
    if page.dtype is None:
        raise ImageFileError(f"{where} has {bits} bits a sample; 1 to 8, 16, 32 or 64 of one kind can be read")
    if kind == _PALETTE:
        return _palette(np.asarray(page.colormap, np.uint16)), "palette"
    if isinstance(bits, int) and bits < 8 and page.dtype.kind in "bu":
        step = 255 // (2**bits - 1)
        if kind == _WHITE_IS_ZERO:
            return (lambda x: 255 - x.astype(np.uint8) * np.uint8(step)), f"{bits} bit, white is zero"
        return (lambda x: x.astype(np.uint8) * np.uint8(step)), f"{bits} bit"
    check_dtype(path, page.dtype)
    if kind == _WHITE_IS_ZERO:
        if page.dtype.kind != "u":
            raise ImageFileError(f"{where} is {page.dtype} with white as zero; this is defined for unsigned integers")
        return np.invert, "white is zero"
    return None, ""


def _palette(colours: Pixels) -> Change:
    """Look colours (3, 2**bits) up: as uint8 if the map needs no more, else as uint16."""
    table = np.ascontiguousarray(colours.T)
    if (table % 257 == 0).all() or (table % 256 == 0).all():
        table = (table >> 8).astype(np.uint8)
    return lambda x: table[x[:, :, 0]]


class _Changed:
    """A source whose samples are changed on the way out."""

    def __init__(self, source: Source, change: Change) -> None:
        self._source = source
        self._change = change
        self.info = source.info
        probe = change(np.zeros((1, 1, source.shape[2]), source.dtype))
        self.dtype: np.dtype[Any] = probe.dtype
        self.shape: Shape = (source.shape[0], source.shape[1], probe.shape[2])

    def read(self, y0: int, y1: int) -> Pixels:
        return np.ascontiguousarray(self._change(self._source.read(y0, y1)))


class _Bands:
    """A page in strips or tiles; the band (one strip, or one row of tiles) that was read last is kept."""

    def __init__(self, where: str, path: Path, tiff: TiffFile, page: TiffPage, info: ImageInfo) -> None:
        self._where = where
        self._path = path
        self._file = tiff.filehandle
        self._page = page
        self.info = info
        H, W, C = page.imagelength, page.imagewidth, page.samplesperpixel
        self.shape: Shape = (H, W, C)
        self.dtype = np.dtype(page.dtype).newbyteorder("=")
        self._rows = min(page.tilelength if page.is_tiled else page.rowsperstrip, H)
        self._across = -(-W // page.tilewidth) if page.is_tiled else 1
        self._down = -(-H // self._rows)
        self._band = -1
        self._pixels: Pixels = np.empty((0, W, C), self.dtype)
        check_whole(path, self._rows, W)

    def read(self, y0: int, y1: int) -> Pixels:
        with reading(self._path):
            parts = []
            for band in range(y0 // self._rows, -(-y1 // self._rows)):
                first = band * self._rows
                parts.append(self.load(band)[max(0, y0 - first) : y1 - first])
            return np.concatenate(parts)

    def load(self, band: int) -> Pixels:
        """Decode band `band`, unless it is the one that was decoded last."""
        if band == self._band:
            return self._pixels
        H, W, C = self.shape
        pixels = np.zeros((min(self._rows, H - band * self._rows), W, C), self.dtype)
        planes = C if self._page.axes == "SYX" else 1
        for plane in range(planes):
            for i in range(self._across):
                index = (plane * self._down + band) * self._across + i
                x = i * self._page.tilewidth if self._across > 1 else 0
                segment = self._segment(index)
                if segment is not None:
                    part = segment[0, : pixels.shape[0], : W - x]
                    to = slice(plane, plane + 1) if planes > 1 else slice(None)
                    pixels[: part.shape[0], x : x + part.shape[1], to] = part
        self._band, self._pixels = band, pixels
        return pixels

    def _segment(self, index: int) -> Pixels | None:
        offset, size = self._page.dataoffsets[index], self._page.databytecounts[index]
        if not size:
            return None  # a sparse file: zeros
        self._file.seek(offset)
        data = self._file.read(size)
        if len(data) != size:
            raise ImageFileError(
                f"{self._where} is truncated: a segment of {size} bytes at {offset} has {len(data)} left"
            )
        decoded: Pixels | None = self._page.decode(data, index)[0]
        return decoded


def _through_pillow(path: Path, where: str, page: TiffPage, index: int, info: ImageInfo) -> Source:
    """Decode a page whose compression tifffile cannot, where Pillow keeps every bit of it."""
    check_whole(path, page.imagelength, page.imagewidth)
    if page.bitspersample != 8 and page.samplesperpixel > 1:
        name = getattr(page.compression, "name", page.compression)
        raise ImageFileError(
            f"{where} is {page.bitspersample}-bit colour with {name} compression; installing imagecodecs, "
            "or saving it with deflate or without compression, would do"
        )
    with open_pillow(path, ("TIFF",)) as image:
        image.seek(index)
        pixels = mode_pixels(path, image)
    if page.photometric == _WHITE_IS_ZERO and page.bitspersample > 8:
        pixels = np.invert(pixels)  # Pillow inverts 1 to 8 bits itself
    return ArraySource(pixels, info)


def _info(tiff: TiffFile, page: TiffPage, count: int, stored: str) -> ImageInfo:
    tags = page.tags
    x, y = (_ratio(tags.valueof(tag)) for tag in (ifd.X_RESOLUTION, ifd.Y_RESOLUTION))
    unit = _UNITS.get(int(tags.valueof(ifd.RESOLUTION_UNIT, 2)), "inch")
    resolution = valid_resolution(x, y)
    if unit == "none" and resolution == (1.0, 1.0):
        resolution = None  # what writers put where they know nothing

    def read_at(offset: int, size: int) -> bytes:
        tiff.filehandle.seek(offset)
        data: bytes = tiff.filehandle.read(size)
        return data

    about = ifd.parse_page(read_at, page.offset, tiff.byteorder, tiff.is_bigtiff)
    text = "" if page.is_shaped else page.description  # tifffile's own text repeats the shape, which changes
    return ImageInfo(
        format="tiff",
        pages=count,
        icc=bytes(tags.valueof(_ICC, b"")) or None,
        exif=ifd.build_exif(about),
        resolution=resolution,
        resolution_unit=unit,
        compression="none" if page.compression == _NO_COMPRESSION else "deflate",
        description=text.encode() or None,
        alpha=_ALPHA.get(int(page.extrasamples[-1]), "unspecified") if page.extrasamples else "straight",
        stored=stored,
    )


def _ratio(value: Any) -> float:
    if isinstance(value, tuple) and len(value) == 2 and value[1]:
        return float(value[0]) / float(value[1])
    return 0.0


class TiffWriter:
    """Write pages, strip by strip, into an open file that can seek; BigTIFF if `total_bytes` of pixels need it."""

    def __init__(self, file: BinaryIO, total_bytes: int) -> None:
        self.file = file
        self.big = total_bytes > BIGTIFF_BYTES
        write_all(file, struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if self.big else struct.pack("<2sHL", b"II", 42, 0))
        self._pointer = 8 if self.big else 4  # where the offset of the next directory goes

    def add_page(self, shape: Shape, dtype: np.dtype[Any], info: ImageInfo) -> TiffSink:
        """Begin a page; the one before has been finished."""
        return TiffSink(self, shape, dtype, info)

    def add_directory(self, directory: ifd.Ifd) -> None:
        """Write a page's directory, and have the one before point to it."""
        if self.file.seek(0, 2) % 2:
            write_all(self.file, b"\0")
        at = self.file.tell()
        write_all(self.file, ifd.pack(directory, at, self.big))
        self.file.seek(self._pointer)
        write_all(self.file, struct.pack("<Q" if self.big else "<L", at))
        self.file.seek(0, 2)
        self._pointer = ifd.next_pointer(directory, at, self.big)

    def close(self) -> None:
        """Do nothing: the last page's directory ends the file."""


class TiffSink:
    """Gather rows into strips; deflate them with horizontal differencing if the page is to be compressed."""

    def __init__(self, writer: TiffWriter, shape: Shape, dtype: np.dtype[Any], info: ImageInfo) -> None:
        self._writer = writer
        self._info = info
        self._order = RowOrder(shape, dtype)
        self._strip_rows = max(1, min(shape[0], STRIP_BYTES // (shape[1] * shape[2] * dtype.itemsize)))
        self._waiting: list[Pixels] = []
        self._waiting_rows = 0
        self._offsets: list[int] = []
        self._sizes: list[int] = []

    def write(self, y0: int, rows: Pixels) -> None:
        """Take rows (n, W, C), of which the first is row `y0`."""
        rows = self._order.accept(y0, rows)
        while len(rows):
            some = rows[: self._strip_rows - self._waiting_rows]
            rows = rows[len(some) :]
            self._waiting.append(some.copy())
            self._waiting_rows += len(some)
            if self._waiting_rows == self._strip_rows:
                self._write_strip()

    def finish(self) -> None:
        """Write the last strip and the directory."""
        self._order.check_complete()
        if self._waiting:
            self._write_strip()
        self._writer.add_directory(self._directory())

    def _write_strip(self) -> None:
        rows = np.concatenate(self._waiting)
        self._waiting, self._waiting_rows = [], 0
        if self._info.compression == "deflate" and rows.dtype.kind != "f":
            rows[:, 1:] -= rows[:, :-1].copy()
        data = rows.astype(rows.dtype.newbyteorder("<"), copy=False).tobytes()
        if self._info.compression == "deflate":
            data = zlib.compress(data, _ZLIB_LEVEL)
        self._offsets.append(self._writer.file.tell())
        self._sizes.append(len(data))
        write_all(self._writer.file, data)

    def _directory(self) -> ifd.Ifd:
        (H, W, C), dtype, info, big = self._order.shape, self._order.dtype, self._info, self._writer.big
        deflate = info.compression == "deflate"
        directory: ifd.Ifd = {
            256: ifd.long([W]),
            257: ifd.long([H]),
            258: ifd.short(*[8 * dtype.itemsize] * C),
            259: ifd.short(_DEFLATE if deflate else _NO_COMPRESSION),
            262: ifd.short(_RGB if C >= 3 else _BLACK_IS_ZERO),
            273: ifd.long(self._offsets, big),
            277: ifd.short(C),
            278: ifd.long([self._strip_rows]),
            279: ifd.long(self._sizes, big),
            284: ifd.short(1),
            339: ifd.short(*[_SAMPLE_FORMATS[dtype.kind]] * C),
        }
        about = ifd.parse_exif(info.exif) or {}
        directory |= {tag: about[tag] for tag in ifd.ABOUT_PICTURE if tag in about}
        if deflate:
            directory[317] = ifd.short(_PREDICTORS[dtype.kind])
        if C in (2, 4):
            directory[338] = ifd.short({name: number for number, name in _ALPHA.items()}[info.alpha])
        if info.description:
            directory[270] = ifd.ascii_(info.description)
        if info.resolution:
            directory[ifd.X_RESOLUTION], directory[ifd.Y_RESOLUTION] = map(ifd.rational, info.resolution)
            directory[ifd.RESOLUTION_UNIT] = ifd.short(
                {name: number for number, name in _UNITS.items()}[info.resolution_unit]
            )
        if info.icc:
            directory[_ICC] = ifd.Entry(ifd.UNDEFINED, info.icc)
        return directory
