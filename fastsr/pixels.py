"""Images in, images of the same kind out: what NumPy arrays and PIL images mean as pixels."""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.backends.base import ValueRange
from fastsr.errors import DtypeError, ImageFileError, OptionError, ShapeError, ValueRangeWarning

Pixels = npt.NDArray[Any]

DTYPES = ("uint8", "uint16", "int16", "float16", "float32", "float64")
MAX_EXTENT = 1 << 30
_SPAN = 1e-30  # of a value range, at least
_NARROW = 1 / 8  # 12 bits stored in 16 are narrow
PIL_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F")


@dataclass(frozen=True)
class Image:
    """pixels: (H, W, C), C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGB + alpha; restore: result -> the caller's kind."""

    pixels: Pixels
    restore: Callable[[Pixels], Any]


def open_image(image: Any) -> Image:
    """Understand a NumPy array (H, W), (H, W, 1), (H, W, 3), (H, W, 4) or a PIL image.

    Raises ShapeError, DtypeError.
    """
    pil = sys.modules.get("PIL.Image")  # whoever has a PIL image has loaded this
    if pil is not None and isinstance(image, pil.Image):
        return _open_pil(image)
    numpy_ma = sys.modules.get("numpy.ma")  # the same: `np.ma` would import it
    masked = numpy_ma is not None and isinstance(image, numpy_ma.MaskedArray)
    if not isinstance(image, np.ndarray) or masked:
        hint = "; .filled(value) makes one" if masked else ""
        raise DtypeError(f"the image is a {type(image).__name__}; a NumPy array or a PIL image is needed{hint}")
    check_dtype(image.dtype)
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)):
        raise ShapeError(f"the image has shape {image.shape}; (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) is needed")
    check_extent(image.shape[0], image.shape[1])
    if image.ndim == 2:
        return Image(image[:, :, None], lambda result: result[:, :, 0])
    return Image(image, lambda result: result)


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Raise DtypeError unless pixels of this type can be upscaled."""
    if dtype.newbyteorder("=").name not in DTYPES:
        hint = "; convert it, for example with .astype(np.uint16) or .astype(np.float32)"
        raise DtypeError(f"the pixels are {dtype.name}; {', '.join(DTYPES)} are possible{hint}")


def check_extent(height: int, width: int) -> None:
    """Raise ShapeError unless the image has pixels, and not too many."""
    if not (1 <= height <= MAX_EXTENT and 1 <= width <= MAX_EXTENT):
        raise ShapeError(f"the image is {width} x {height} pixels; 1 to {MAX_EXTENT} per side are possible")


def _open_pil(image: Any) -> Image:
    from PIL.Image import fromarray

    mode = image.mode
    check_extent(image.height, image.width)
    if mode in ("I;16B", "I;16L", "I;16N"):
        mode = "I;16"
    if mode not in PIL_MODES:
        raise DtypeError(f"the PIL image has mode {image.mode!r}; {', '.join(PIL_MODES)} are possible: use .convert()")
    try:  # an opened file is decoded only now
        if mode == "1":
            image = image.convert("L")
        elif mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        pixels = np.asarray(image)
    except (OSError, SyntaxError) as error:
        raise ImageFileError(f"the PIL image cannot be decoded: {error}") from error
    if pixels.ndim == 2:
        return Image(pixels[:, :, None], lambda result: fromarray(np.ascontiguousarray(result[:, :, 0])))
    return Image(pixels, fromarray)


def values_of(dtype: np.dtype[Any], value_range: tuple[float, float] | None) -> ValueRange:
    """Return the range of the pixels' values: the whole range of integers, 0..1 of floats, or what was given.

    Integer results are clamped to the range, and to what the type holds. Raises OptionError.
    """
    if dtype.kind == "f":
        return ValueRange(*((0.0, 1.0) if value_range is None else _checked(value_range)))
    least, most = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
    if value_range is None:
        return ValueRange(least, most, least, most)
    low, high = _checked(value_range)
    clamp_low, clamp_high = max(math.ceil(low), least), min(math.floor(high), most)
    if clamp_low > clamp_high:
        raise OptionError(f"value_range is ({low}, {high}); {dtype.name} pixels hold {least:.0f} to {most:.0f}")
    return ValueRange(low, high, clamp_low, clamp_high)


class SpanCheck:
    """Warns of 16-bit pixels that use little of their range where nobody said which part they use.

    The range is not guessed from the pixels: two images of one series would be treated differently.
    """

    def __init__(self, dtype: np.dtype[Any], value_range: tuple[float, float] | None) -> None:
        self._active = value_range is None and dtype.kind in "iu" and dtype.itemsize == 2
        self._whole = int(np.iinfo(dtype).max) - int(np.iinfo(dtype).min) if self._active else 0
        self._low, self._high = 1 << 30, -(1 << 30)

    def look(self, pixels: Pixels) -> Pixels:
        """Take note of these pixels (H, W, C), alpha aside; return them."""
        if self._active and pixels.size:
            colours = pixels[:, :, :-1] if pixels.shape[2] in (2, 4) else pixels
            self._low = min(self._low, int(colours.min()))
            self._high = max(self._high, int(colours.max()))
        return pixels

    def warn(self) -> None:
        """Give a ValueRangeWarning if there is reason to."""
        span = self._high - self._low
        if self._active and 0 < span < _NARROW * self._whole:
            warnings.warn(
                f"the pixels lie within {self._low} to {self._high}, {span / self._whole:.1%} of what their type "
                f"holds; value_range (--value-range), such as {self._low} {self._high}, tells what black and white are",
                ValueRangeWarning,
                stacklevel=3,
            )


def _checked(value_range: Any) -> tuple[float, float]:
    try:
        low, high = (float(v) for v in value_range)
    except (TypeError, ValueError, OverflowError):
        raise OptionError(f"value_range is {str(value_range)[:80]}; (low, high) is needed") from None
    # The engine works in float32: there the span, its inverse and the offset must be finite and normal numbers.
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise OptionError(f"value_range is ({low}, {high}); two finite numbers, low < high, are needed")
    if not (_SPAN < high - low < 1 / _SPAN and max(abs(low), abs(high)) * max(1.0, 1 / (high - low)) < 1 / _SPAN):
        raise OptionError(f"value_range is ({low}, {high}); it is too narrow, too wide or too far out for float32")
    return low, high
