"""Which intensities a network sees as black and white, and the way there and back.

A network works on 0..1. An `Intensity` says which two values of the source mean 0 and 1; it is chosen once for a
volume or a series, never for a slice, so that slices stay comparable. Values beyond it come back beyond it:
`fastsr.medical.frames` says how.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.errors import DtypeError, ModelFileError, OptionError, PixelValueError
from fastsr.medical.percentiles import Chunks, Values, percentiles

# Where neither the file nor the card says anything.
PERCENTILES = (0.5, 99.5)
NORMALIZE = "auto, stored, percentile or percentile:LOW,HIGH"


@dataclass(frozen=True)
class Intensity:
    """The values of the source, in its own units (HU, say), that a network sees as 0 and 1.

    origin: where they are from, in words. Raises OptionError unless low < high, both finite.
    """

    low: float
    high: float
    origin: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise OptionError(
                f"the intensity range ({self.origin}) is {self.low:g} to {self.high:g}; two finite numbers, "
                "low < high, are needed"
            )

    @property
    def value_range(self) -> tuple[float, float]:
        """The `value_range=` of an Upscaler, where pixels are in the source's units."""
        return self.low, self.high

    def __str__(self) -> str:
        return f"{self.low:.6g} to {self.high:.6g} ({self.origin})"


def from_window(center: float, width: float, function: str = "LINEAR") -> Intensity:
    """Return the range of a window, as DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3 define it.

    LINEAR: center - 0.5 -+ (width - 1) / 2, width above 1; LINEAR_EXACT: center -+ width / 2, width above 0;
    SIGMOID has no ends and gets those of LINEAR_EXACT, which is as steep at the center. Raises OptionError.
    """
    name = function.strip().upper() or "LINEAR"
    if name not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise OptionError(f"the window's function is {function!r}; LINEAR, LINEAR_EXACT or SIGMOID is needed")
    least = 1 if name == "LINEAR" else 0
    if not (math.isfinite(center) and math.isfinite(width) and width > least):
        raise OptionError(f"the window is center {center:g}, width {width:g}; a width above {least} is needed")
    middle, half = (center - 0.5, (width - 1) / 2) if name == "LINEAR" else (center, width / 2)
    return Intensity(middle - half, middle + half, f"window {center:g} width {width:g}")


def from_bits(bits: int, signed: bool = False, slope: float = 1.0, inter: float = 0.0) -> Intensity:
    """Return the whole range of stored integers of so many bits, in the source's units: slope * stored + inter."""
    least, most = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    ends = sorted((slope * least + inter, slope * most + inter))
    return Intensity(ends[0], ends[1], f"{bits} stored bits" + (", signed" if signed else ""))


def from_percentiles(
    chunks: Chunks, low: float = PERCENTILES[0], high: float = PERCENTILES[1], slope: float = 1.0, inter: float = 0.0
) -> Intensity:
    """Return the values at two percentiles, in the source's units.

    chunks: returns the stored values in pieces, from the beginning, each time it is called (see `percentiles`).
    Where both percentiles are one value (a volume of mostly one value) the least and the largest value are taken; where
    all values are equal, the range begins at that value.
    Raises OptionError, PixelValueError (NaN, infinity), ShapeError (no values).
    """
    if not 0 <= low < high <= 100:
        raise OptionError(f"the percentiles are {low:g} and {high:g}; 0 <= low < high <= 100 is needed")
    wanted = (0.0, low, high, 100.0)
    if slope < 0:  # the largest stored value is the least of the source
        wanted = (100.0, 100 - low, 100 - high, 0.0)
    least, a, b, most = percentiles(chunks, wanted)
    origin = f"percentiles {low:g} to {high:g}"
    if a == b:
        a, b, origin = least, most, f"least to largest value, as the {origin} are equal"
    a, b = slope * a + inter, slope * b + inter
    if a == b:
        b, origin = a + max(1.0, abs(a) * 1e-6), "one value throughout"
    return Intensity(a, b, origin)


def choose(
    card: Mapping[str, Any],
    chunks: Chunks,
    *,
    stated: Intensity | None = None,
    modality: str | None = None,
    given: Intensity | None = None,
    normalize: str = "auto",
    slope: float = 1.0,
    inter: float = 0.0,
) -> Intensity:
    """Choose the intensity range of a volume or series.

    card: of the model; chunks, slope, inter: the stored values, as `from_percentiles` takes them; stated: what the
    file says its range is, if it does; modality: as DICOM names it, or None where it is unknown; given: what the user
    said, which wins; normalize: "auto", "stored" (what the file states), "percentile" (those of the card, or 0.5 and
    99.5) or "percentile:LOW,HIGH".
    "auto" takes the card's percentiles for MR, whose units are arbitrary, and where the range is unknown; else what
    the file states; else percentiles 0.5 and 99.5.
    Raises OptionError, ModelFileError (a card that cannot be understood) and what `from_percentiles` raises.
    """
    wish, ends = parse_normalize(normalize)
    if given is not None:
        if wish != "auto":
            raise OptionError(f"normalize is {normalize!r}, but the range is given: {given}; one of them is needed")
        return given
    of_card = card_percentiles(card)
    if wish == "stored":
        if stated is None:
            raise OptionError("normalize is 'stored', but the file does not state its range; percentile would do")
        return stated
    by_card = of_card is not None and (modality == "MR" or stated is None)
    if wish == "auto" and stated is not None and not by_card:
        return stated
    low, high = ends or of_card or PERCENTILES
    return from_percentiles(chunks, low, high, slope, inter)


def parse_normalize(text: str) -> tuple[str, tuple[float, float] | None]:
    """Read `normalize`: return ("auto" | "stored" | "percentile", the percentiles if it names them).

    Raises OptionError.
    """
    name, colon, ends = text.strip().lower().partition(":")
    try:
        if name in ("auto", "stored", "percentile") and not colon:
            return name, None
        low, high = (float(end) for end in ends.split(","))
        if name != "percentile" or not 0 <= low < high <= 100:
            raise ValueError
    except ValueError:
        raise OptionError(f"normalize is {text!r}; {NORMALIZE}, 0 <= LOW < HIGH <= 100, is needed") from None
    return name, (low, high)


def card_percentiles(card: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the percentiles that a model card's `normalization` asks for, or None. Raises ModelFileError."""
    rule = card.get("normalization")
    if rule is None:
        return None
    if isinstance(rule, Mapping) and rule.get("kind") == "percentile":
        low, high = rule.get("low"), rule.get("high")
        if isinstance(low, (int, float)) and isinstance(high, (int, float)) and 0 <= low < high <= 100:
            return float(low), float(high)
    raise ModelFileError(
        f"the card's normalization is {str(rule)[:80]}; kind 'percentile' with low and high is what can be done"
    )


class UnitMap:
    """Stored pixels to what a network sees, and back: unit = (slope * stored + inter - low) / (high - low).

    dtype: of the stored pixels; limits: the least and the largest that may be stored, by default those of the type.
    Computed in float64, so that 32-bit integers and large offsets lose nothing but the network's own 24 bits.
    """

    def __init__(
        self,
        intensity: Intensity,
        dtype: np.dtype[Any],
        slope: float = 1.0,
        inter: float = 0.0,
        limits: tuple[int, int] | None = None,
    ) -> None:
        if dtype.kind not in "uif":
            raise DtypeError(f"the pixels are {dtype.name}; integers or floats are needed")
        self.dtype = dtype.newbyteorder("=")
        self._zero = (intensity.low - inter) / slope  # the stored value that the network sees as 0
        self._step = (intensity.high - intensity.low) / slope
        if not (math.isfinite(self._zero) and math.isfinite(self._step) and self._step):
            raise OptionError(f"the intensity range {intensity} is no range of stored values (slope {slope:g})")
        self._limits = (0.0, 0.0)
        if dtype.kind != "f":
            info = np.iinfo(dtype)
            least, most = limits or (int(info.min), int(info.max))
            self._limits = float(max(least, int(info.min))), _float_at_most(min(most, int(info.max)))

    def to_unit(self, stored: Values) -> npt.NDArray[np.float32]:
        """Return what the network sees, of the same shape. Raises PixelValueError for what float32 cannot hold."""
        with np.errstate(over="ignore"):
            unit = ((stored.astype(np.float64) - self._zero) / self._step).astype(np.float32)
        if stored.dtype.kind == "f" and not np.isfinite(unit).all():
            worst = float(stored.flat[int(np.argmin(np.isfinite(unit)))])
            raise PixelValueError(
                f"a value of {worst:g} (as stored) is beyond what float32 holds, in widths of the intensity range; a "
                "wider range (value_range), or replacing it, would do"
            )
        return unit

    def to_stored(self, unit: Values) -> Values:
        """Return stored pixels: integers rounded to the nearest and clamped to `limits`. Raises PixelValueError."""
        values = unit.astype(np.float64) * self._step + self._zero
        if self.dtype.kind != "f":
            return np.clip(np.rint(values), *self._limits).astype(self.dtype)
        with np.errstate(over="ignore"):
            result = values.astype(self.dtype)
        if not np.isfinite(result).all():
            raise PixelValueError(f"the result has values beyond what {self.dtype.name} holds")
        return result


def _float_at_most(value: int) -> float:
    """Return the largest float64 that is not above `value`: 2^63 - 1 would be rounded up to 2^63."""
    as_float = float(value)
    return as_float if int(as_float) <= value else float(np.nextafter(as_float, 0))
