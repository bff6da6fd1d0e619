"""The file formats that FastSR reads and writes, and the functions that pick one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastsr.errors import ImageFileError, OptionError, OutputError
from fastsr.io import npy, pillow, png, tiff
from fastsr.io.atomic import atomic_output
from fastsr.io.image import (
    DTYPES,
    ArraySource,
    ImageFile,
    ImageInfo,
    PathLike,
    Pixels,
    Reader,
    Shape,
    Sink,
    Source,
    Writer,
    reading,
    whole_array,
)


@dataclass(frozen=True)
class Format:
    """One file format.

    suffixes: the first is what outputs get.  is_one: tells by a file's first 16 bytes.
    dtypes, channels: what it holds.  turns: whether programs obey its orientation tag.
    lossless_as: the format of an output when none is asked for, so that no pixel changes.
    open_writer: (open file, bytes of pixels to come) -> Writer.
    """

    name: str
    suffixes: tuple[str, ...]
    is_one: Callable[[bytes], bool]
    open_reader: Callable[[Path], Reader]
    open_writer: Callable[[BinaryIO, int], Writer]
    dtypes: tuple[str, ...]
    channels: tuple[int, ...]
    lossless_as: str
    turns: bool = False
    pages: bool = False

    @property
    def holds(self) -> str:
        """Say what it holds, for messages."""
        names = {1: "grey", 2: "grey+alpha", 3: "RGB", 4: "RGBA"}
        return f"{'/'.join(self.dtypes)} {', '.join(names[c] for c in self.channels)}"


def _starts(*signatures: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(signatures)


_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
FORMATS = (
    Format("png", (".png",), _starts(png.SIGNATURE), png.open_png, png.PngWriter,
           ("uint8", "uint16"), (1, 2, 3, 4), "png"),
    Format("tiff", (".tif", ".tiff"), _starts(*_TIFF_SIGNATURES), tiff.open_tiff, tiff.TiffWriter,
           DTYPES, (1, 2, 3, 4), "tiff", turns=True, pages=True),
    Format("npy", (".npy",), _starts(npy.SIGNATURE), npy.open_npy, npy.NpyWriter,
           DTYPES, (1, 2, 3, 4), "npy"),
    Format("jpeg", (".jpg", ".jpeg", ".jpe"), _starts(b"\xff\xd8\xff"), pillow.open_jpeg, pillow.pillow_writer("jpeg"),
           ("uint8",), (1, 3), "png", turns=True),
    Format("webp", (".webp",), lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP", pillow.open_webp,
           pillow.pillow_writer("webp"), ("uint8",), (3, 4), "png", turns=True),
    Format("bmp", (".bmp", ".dib"), _starts(b"BM"), pillow.open_bmp, pillow.pillow_writer("bmp"),
           ("uint8",), (1, 3), "png"),
)  # fmt: skip
_NAMES = ", ".join(f.name for f in FORMATS)
_ALIASES = {"jpg": "jpeg", "tif": "tiff"}


def format_named(name: str) -> Format:
    """Return the format called `name` ("png", "tif", ".jpg", ...). Raises OptionError."""
    key = name.lower().removeprefix(".")
    for entry in FORMATS:
        if entry.name == _ALIASES.get(key, key):
            return entry
    raise OptionError(f"format is {name!r}; one of {_NAMES} is needed")


def format_of_suffix(path: Path) -> Format | None:
    """Return the format that a file name's suffix stands for, or None."""
    return next((entry for entry in FORMATS if path.suffix.lower() in entry.suffixes), None)


def format_of_output(path: Path) -> Format:
    """Return the format to write `path` in. Raises OutputError if its suffix names none."""
    entry = format_of_suffix(path)
    if entry is None:
        known = " ".join(f.suffixes[0] for f in FORMATS)
        raise OutputError(f"{path} has suffix {path.suffix!r}, which names no format; one of {known} is needed")
    return entry


def format_of_content(path: Path) -> Format:
    """Return the format of an existing file by its first bytes. Raises ImageFileError if it is none of FORMATS."""
    with reading(path):
        if path.is_dir():
            raise ImageFileError(f"{path} is a folder; an image file is needed")
        with path.open("rb") as file:
            head = file.read(16)
    if not head:
        raise ImageFileError(f"{path} is empty")
    for entry in FORMATS:
        if entry.is_one(head):
            return entry
    raise ImageFileError(f"{path} begins with {head[:8]!r}, which is no format that can be read; one of {_NAMES} is")


def check_holds(entry: Format, path: Path, shape: Shape, dtype: np.dtype[Any], info: ImageInfo) -> None:
    """Raise OutputError if writing such an image as `entry` would lose something."""
    if dtype.name in entry.dtypes and shape[2] in entry.channels:
        if shape[2] in (2, 4) and info.alpha == "premultiplied" and entry.name not in ("tiff", "npy"):
            raise OutputError(
                f"{path}: colours premultiplied by alpha are more than {entry.name} can say; tiff would do"
            )
        return
    would = [f.name for f in FORMATS if dtype.name in f.dtypes and shape[2] in f.channels]
    kind = {1: "grey", 2: "grey+alpha", 3: "RGB", 4: "RGBA"}[shape[2]]
    raise OutputError(
        f"{path}: the image is {dtype.name} {kind}; {entry.name} holds {entry.holds}; {' or '.join(would)} would do"
    )


def open_image(path: PathLike) -> Reader:
    """Open an image file by its content, whatever its suffix. Raises ImageFileError."""
    path = Path(path)
    return format_of_content(path).open_reader(path)


@contextmanager
def open_source(path: PathLike, page: int = 0) -> Iterator[Source]:
    """Open one page of an image file as rows. Raises ImageFileError."""
    with open_image(path) as reader:
        if not 0 <= page < len(reader.pages):
            raise ImageFileError(f"{path} has {len(reader.pages)} pages; page {page} (from 0) is not there")
        yield reader.pages[page]


@contextmanager
def open_sink(
    path: PathLike,
    shape: tuple[int, ...],
    dtype: Any,
    info: ImageInfo | None = None,
    *,
    format: str | None = None,
    overwrite: bool = False,
) -> Iterator[Sink]:
    """Write one image (H, W) or (H, W, C) as rows; the file appears when the block ends, whole, or not at all.

    format: by default what the suffix says. Raises OutputError, also if not every row was written.
    """
    path = Path(path)
    H, W, C = shape if len(shape) == 3 else (*shape, 1)
    dtype, info = np.dtype(dtype), info or ImageInfo()
    entry = format_named(format) if format else format_of_output(path)
    check_holds(entry, path, (H, W, C), dtype, info)
    with atomic_output(path, overwrite=overwrite) as file:
        writer = entry.open_writer(file, H * W * C * dtype.itemsize)
        sink = writer.add_page((H, W, C), dtype, info)
        yield sink
        sink.finish()
        writer.close()


def read_image(path: PathLike, page: int = 0) -> ImageFile:
    """Read one page whole: pixels (H, W) or (H, W, 2 | 3 | 4) in native byte order. Raises ImageFileError."""
    with open_source(path, page) as source:
        return ImageFile(whole_array(source), source.info)


def write_image(
    path: PathLike,
    pixels: Pixels,
    info: ImageInfo | None = None,
    *,
    format: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write pixels (H, W) or (H, W, C) to a file; nothing is lost silently. Raises OutputError."""
    source = ArraySource(pixels, info or ImageInfo())
    with open_sink(path, source.shape, source.dtype, info, format=format, overwrite=overwrite) as sink:
        sink.write(0, source.read(0, source.shape[0]))
