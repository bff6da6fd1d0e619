"""JPEG, WebP and BMP: what Pillow decodes and encodes whole."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from fastsr.errors import ImageFileError, OutputError
from fastsr.io.image import (
    ArraySource,
    ImageInfo,
    Pixels,
    Reader,
    Shape,
    WholeSink,
    check_whole,
    reading,
    valid_resolution,
    write_all,
)

if TYPE_CHECKING:
    from PIL import Image, ImageFile

JPEG_QUALITY = 95
_MAX_SIDE = {"jpeg": 65535, "webp": 16383, "bmp": 2**31 - 1}
_EXIF_LIMIT = 65533 - 6  # bytes that JPEG's APP1 segment holds after "Exif\0\0"
_limit_lock = threading.Lock()


@contextmanager
def open_pillow(file: Path | BinaryIO, formats: tuple[str, ...]) -> Iterator[ImageFile.ImageFile]:
    """Open with Pillow, only as one of `formats`; the pixel limit is the caller's to check."""
    from PIL import Image

    with _limit_lock:  # Pillow's own limit is a global and lies below ours
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    with image:
        yield image


def open_jpeg(path: Path) -> Reader:
    """Decode a JPEG: uint8 grey or RGB. A camera's multi-picture file gives its main picture."""
    return _open(path, "jpeg", ("JPEG", "MPO"))


def open_webp(path: Path) -> Reader:
    """Decode a WebP: uint8 RGB or RGBA. Refuses animations."""
    return _open(path, "webp", ("WEBP",))


def open_bmp(path: Path) -> Reader:
    """Decode a BMP: uint8 grey, RGB or RGBA; palettes become RGB."""
    return _open(path, "bmp", ("BMP",))


def _open(path: Path, name: str, formats: tuple[str, ...]) -> Reader:
    with reading(path), open_pillow(path, formats) as image:
        check_whole(path, image.height, image.width)
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":
            raise ImageFileError(f"{path} is an animation of {frames} frames; a single picture is needed")
        pixels = mode_pixels(path, image)
        stored = {"P": "palette", "1": "1 bit"}.get(image.mode, "")
        return Reader([ArraySource(pixels, pillow_info(image, name, stored))])


def mode_pixels(path: Path, image: Image.Image) -> Pixels:
    """Return the pixels of a Pillow image as (H, W) or (H, W, 2 | 3 | 4); refuse what has no exact conversion."""
    if image.mode == "P":
        return np.asarray(image.convert("RGBA" if "transparency" in image.info else "RGB"))
    if image.mode == "1":
        return np.asarray(image.convert("L"))
    if image.mode in ("L", "LA", "RGB", "RGBA", "F"):
        return np.asarray(image)
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    raise ImageFileError(
        f"{path} has mode {image.mode}; grey, RGB and either with alpha can be read. "
        "Converting it changes its colours: convert it to RGB in a program that knows its profile"
    )


def pillow_info(image: Image.Image, name: str, stored: str) -> ImageInfo:
    """Collect what Pillow says beside the pixels."""
    x, y = image.info.get("dpi", (0, 0))
    exif = image.info.get("exif")
    return ImageInfo(
        format=name,
        icc=image.info.get("icc_profile") or None,
        exif=exif.removeprefix(b"Exif\0\0") if exif else None,
        resolution=valid_resolution(float(x), float(y)),
        stored=stored,
    )


class PillowWriter:
    """Gather the rows of one picture, then encode it.

    JPEG: quality 95 with full colour resolution. WebP: lossless. BMP: uncompressed.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name

    def add_page(self, shape: Shape, dtype: np.dtype[Any], info: ImageInfo) -> WholeSink:
        """Begin the picture. Raises OutputError if a side is longer than the format allows."""
        limit = _MAX_SIDE[self._name]
        if max(shape[:2]) > limit:
            raise OutputError(
                f"the image is {shape[1]}x{shape[0]}; {self._name} holds {limit} pixels a side; png or tiff would do"
            )
        return WholeSink(shape, dtype, lambda pixels: self._encode(pixels, info))

    def close(self) -> None:
        """Do nothing: the picture's end is the file's end."""

    def _encode(self, pixels: Pixels, info: ImageInfo) -> None:
        import io

        from PIL import Image

        options: dict[str, Any] = {
            "jpeg": {"quality": JPEG_QUALITY, "subsampling": 0},
            "webp": {"lossless": True, "exact": True, "quality": 50, "method": 2},
            "bmp": {},
        }[self._name]
        if info.dpi and self._name != "webp":
            options["dpi"] = info.dpi if self._name == "bmp" else tuple(round(v) for v in info.dpi)
        if self._name != "bmp":
            options |= {"icc_profile": info.icc} if info.icc else {}
            options |= {"exif": b"Exif\0\0" + info.exif} if info.exif and len(info.exif) <= _EXIF_LIMIT else {}
        encoded = io.BytesIO()  # Pillow would write to the file itself, and lose the reason of a failed write
        Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(encoded, self._name, **options)
        write_all(self._file, encoded.getbuffer())


def pillow_writer(name: str) -> Callable[[BinaryIO, int], PillowWriter]:
    """Return a function that makes the writer of format `name` for an open file."""
    return lambda file, total_bytes: PillowWriter(file, name)
