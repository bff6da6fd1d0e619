"""The file of a prior map: what the prior added to an upscaled image, written while the image is.

.npy and .tif hold the map itself (see `fastsr.prior_map`). .png is a picture of it, the same for all images of one
kind: 128 is 0; 1 and 255 are -1/8 and +1/8 of the value range, and what lies beyond is clipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fastsr.consistency.prior import PriorMap
from fastsr.errors import ImageFileError, OutputError
from fastsr.io.atomic import atomic_output, check_output
from fastsr.io.formats import format_of_output
from fastsr.io.image import ImageInfo, Pixels, Shape, Sink, Writer

PICTURED = 1 / 8  # of the value range is shown as black to grey, and as grey to white
_ZERO, _STEPS = 128, 127


class MapFile:
    """Writes the maps of an image's pages. Raises OutputError, also where `path` is one of `others`."""

    def __init__(
        self, path: Path, others: Sequence[Path], overwrite: bool, value_range: tuple[float, float] | None
    ) -> None:
        self._path, self._overwrite, self._range = path, overwrite, value_range
        self._format = format_of_output(path)
        if self._format.name not in ("png", "tiff", "npy"):
            raise OutputError(f"{path}: a prior map is no {self._format.name}; .png, .tif or .npy would do")
        for other in others:
            check_output(path, overwrite=overwrite, source=other)
            if path.resolve() == other.resolve():
                raise OutputError(f"{path} is the image's own name; the prior map needs another one")

    @contextmanager
    def opened(self, pages: Sequence[tuple[Shape, np.dtype[Any]]], scale: int) -> Iterator[None]:
        """Open the file for these pages of results; it appears at the end, whole, or not at all."""
        if len(pages) > 1 and not self._format.pages:
            raise ImageFileError(f"{self._path}: {len(pages)} pages have as many maps; .tif holds them")
        self._scale = scale
        self._maps = iter([(PriorMap(shape, dtype, scale), dtype) for shape, dtype in pages])
        with atomic_output(self._path, overwrite=self._overwrite) as file:
            total = sum(int(np.prod(shape)) * 8 for shape, _ in pages)
            self._writer: Writer = self._format.open_writer(file, total)
            yield
            self._writer.close()

    def beside(self, sink: Sink, info: ImageInfo) -> Sink:
        """Return a sink for the next page that passes its rows on and writes their map."""
        rows, dtype = next(self._maps)
        about = ImageInfo(resolution=info.resolution, resolution_unit=info.resolution_unit)
        if self._format.name != "png":
            return _MapSink(sink, self._writer.add_page(rows.shape, rows.dtype, about), rows, lambda part: part)
        target = self._writer.add_page(rows.shape, np.dtype(np.uint8), about)
        return _MapSink(sink, target, rows, lambda part: picture(part, _span(dtype, self._range) * PICTURED))


class _MapSink:
    """Writes rows of an image, and their map `encoded` to another sink."""

    def __init__(self, image: Sink, target: Sink, rows: PriorMap, encoded: Callable[[Pixels], Pixels]) -> None:
        self._image, self._target, self._rows, self._encoded = image, target, rows, encoded
        self._done = 0

    def write(self, y0: int, rows: Pixels) -> None:
        self._image.write(y0, rows)
        for part in self._rows.push(rows):
            self._target.write(self._done, self._encoded(part))
            self._done += len(part)

    def finish(self) -> None:
        self._image.finish()
        self._target.finish()


def picture(values: Pixels, limit: float) -> Pixels:
    """Return a map as uint8: 128 is 0, 1 is -limit or less, 255 is limit or more."""
    grey = np.clip(values.astype(np.float64) / limit, -1, 1) * _STEPS + _ZERO
    return np.rint(grey).astype(np.uint8)


def _span(dtype: np.dtype[Any], value_range: tuple[float, float] | None) -> float:
    if value_range is not None:
        return float(value_range[1]) - float(value_range[0])
    if dtype.kind == "f":
        return 1.0
    return float(np.iinfo(dtype).max) - float(np.iinfo(dtype).min)
