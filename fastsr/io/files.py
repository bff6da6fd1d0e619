"""Upscale a file into a file: by rows, so that neither image need fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fastsr.errors import ImageFileError, OptionError
from fastsr.io import ifd
from fastsr.io.atomic import atomic_output, check_output
from fastsr.io.formats import (
    Format,
    check_holds,
    format_named,
    format_of_content,
    format_of_output,
    format_of_suffix,
)
from fastsr.io.image import ArraySource, ImageInfo, PathLike, Shape, Sink, Source
from fastsr.io.kinds import FileKind, Progress, kind_of, stem_of
from fastsr.io.prior import MapFile


class StreamUpscaler(Protocol):
    """What a file needs of an upscaler."""

    @property
    def scale(self) -> int: ...
    def stream(
        self,
        source: Source,
        sink: Sink,
        *,
        value_range: tuple[float, float] | None = None,
        progress: Progress | None = None,
    ) -> Any: ...


def upscale_file(
    src: PathLike,
    dst: PathLike | None,
    upscaler: StreamUpscaler,
    *,
    format: str | None = None,
    overwrite: bool = False,
    value_range: tuple[float, float] | None = None,
    prior_map: PathLike | None = None,
    progress: Progress | None = None,
    kinds: Sequence[FileKind] = (),
) -> Path:
    """Upscale every page of the image file `src` into `dst`; return the path that was written.

    dst: a file, an existing folder (the name is kept), or None for name_x4.png beside `src`.
    format: of the output; by default what the suffix of `dst` says.
    prior_map: a .png, .tif or .npy file for the prior map, which `fastsr.io.prior` describes.
    progress: called with (rows done, rows in all), rows of the input or of the output, pages together.
    kinds: of files that go through functions of their own; everything else is an image.
    Pixel type, channels, ICC profile, EXIF and resolution (times the scale) are carried over. The output appears
    whole or not at all. Raises ImageFileError, OutputError and what the upscaler raises.
    """
    src = Path(src)
    if (kind := kind_of(src, kinds)) is not None:
        if format is not None:
            raise OptionError(f"{src} is a {kind.name} and its output is one too; format {format!r} is for images")
        if prior_map is not None:
            raise OptionError(f"{src} is a {kind.name}; a prior map is made of images")
        dst = output_path(src, None if dst is None else Path(dst), upscaler.scale, None, kinds)
        check_output(dst, overwrite=overwrite, source=src)
        kind.upscale(src, dst, overwrite=overwrite, progress=progress)
        return dst
    entry_in = format_of_content(src)
    dst = output_path(src, None if dst is None else Path(dst), upscaler.scale, format)
    entry = format_named(format) if format else format_of_output(dst)
    check_output(dst, overwrite=overwrite, source=src)
    map_file = None if prior_map is None else MapFile(Path(prior_map), (src, dst), overwrite, value_range)
    with ExitStack() as stack:
        reader = stack.enter_context(entry_in.open_reader(src))
        pages = [_turned(page) if _needs_turning(page, entry_in, entry) else page for page in reader.pages]
        if len(pages) > 1 and not entry.pages:
            raise ImageFileError(f"{src} has {len(pages)} pages; {entry.name} holds one; tiff would do")
        plan = [_after(page, upscaler.scale) for page in pages]
        for page, (shape, info) in zip(pages, plan, strict=True):
            check_holds(entry, dst, shape, page.dtype, info)
        total_bytes = sum(
            int(np.prod(shape)) * page.dtype.itemsize for page, (shape, _) in zip(pages, plan, strict=True)
        )
        if map_file is not None:
            stack.enter_context(
                map_file.opened(
                    [(shape, page.dtype) for page, (shape, _) in zip(pages, plan, strict=True)], upscaler.scale
                )
            )
        file = stack.enter_context(atomic_output(dst, overwrite=overwrite))
        writer = entry.open_writer(file, total_bytes)
        for i, (page, (shape, info)) in enumerate(zip(pages, plan, strict=True)):
            sink = writer.add_page(shape, page.dtype, info)
            if map_file is not None:
                sink = map_file.beside(sink, info)
            upscaler.stream(page, sink, value_range=value_range, progress=progress and _of_pages(progress, i, pages))
            sink.finish()
        writer.close()
    return dst


def output_path(
    src: Path, dst: Path | None, scale: int, format: str | None = None, kinds: Sequence[FileKind] = ()
) -> Path:
    """Return where the upscaled `src` goes: `dst`, `dst`/name if that is a folder, or name_x4 beside `src`.

    A name that is made here gets the suffix of `format`, or else of a format that loses nothing: the input's own,
    or PNG for JPEG, WebP and BMP.
    """
    if dst is not None and not dst.is_dir():
        return dst
    stem, suffix = output_name(src, format, kinds)
    return dst / (stem + suffix) if dst is not None else src.with_name(f"{stem}_x{scale}{suffix}")


def output_name(src: Path, format: str | None = None, kinds: Sequence[FileKind] = ()) -> tuple[str, str]:
    """Return (stem, suffix) of the name that an output of `src` gets where only its folder is given."""
    kind = kind_of(src, kinds)
    return (src.stem, output_suffix(src, format)) if kind is None else (stem_of(src, kind), kind.output_suffix(src))


def output_suffix(src: Path, format: str | None = None) -> str:
    """Return the suffix that an output of `src` gets where only its folder is given."""
    if format is not None:
        return format_named(format).suffixes[0]
    entry = format_of_suffix(src)
    if entry is None:
        try:
            entry = format_of_content(src)
        except ImageFileError:
            entry = format_named("png")  # reading it will tell what is wrong
    kept = format_named(entry.lossless_as)
    return src.suffix if src.suffix.lower() in kept.suffixes else kept.suffixes[0]


def _after(page: Source, scale: int) -> tuple[Shape, ImageInfo]:
    H, W, C = page.shape
    shape = (H * scale, W * scale, C)
    return shape, page.info.scaled(scale, shape[0], shape[1])


def _of_pages(progress: Progress, index: int, pages: list[Source]) -> Progress:
    """Report one page's rows as rows of all pages; pages count alike."""
    return lambda done, total: progress(index * total + done, len(pages) * total)


def _needs_turning(page: Source, entry_in: Format, entry: Format) -> bool:
    """Say whether the output's readers would ignore the orientation tag that the input's obey."""
    return page.info.orientation != 1 and entry is not entry_in and not entry.turns


def _turned(page: Source) -> Source:
    """Return the page upright, its orientation tag reset: EXIF's values 2 to 8 are flips, turns or both."""
    pixels = page.read(0, page.shape[0])
    orientation = page.info.orientation
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    resolution = page.info.resolution
    if resolution and orientation >= 5:
        resolution = resolution[::-1]
    return ArraySource(pixels, replace(page.info, exif=ifd.upright_exif(page.info.exif), resolution=resolution))
