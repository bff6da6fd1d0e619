"""Exact percentiles of values that come in pieces, in memory that does not grow with their number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.errors import DtypeError, PixelValueError, ShapeError

Values = npt.NDArray[Any]
Chunks = Callable[[], Iterable[Values]]  # the same pieces, from the beginning, each time it is called

_DIGIT = 16  # bits of a value that one pass over the data settles
_PIECE = 1 << 18  # values that are looked at at once: the temporary arrays stay small


def percentiles(chunks: Chunks, wanted: Sequence[float]) -> list[float]:
    """Return the `wanted` percentiles (0 to 100) of all values, as np.percentile's method "linear" defines them.

    chunks: returns arrays of one dtype and any shape: bool, integers or floats. They are gone through once for each
    16 bits of the type: once for 16-bit integers, twice for float32 and 32-bit integers, four times for 64-bit
    integers; 0.5 MB for each order statistic is all the memory. Exact for integers and float32; float64 is rounded to
    float32 before (an error of 2^-24 of the value).
    Raises PixelValueError for NaN and infinity, ShapeError where there are no values, DtypeError.
    """
    search = _Search()
    for piece in _pieces(chunks):
        search.count(piece)
    n = search.total
    if n == 0:
        raise ShapeError("there are no values to take percentiles of")
    places = [(n - 1) * q / 100 for q in wanted]
    ranks = sorted({r for place in places for r in (int(place), min(int(place) + 1, n - 1))})
    search.settle(ranks)
    while search.open:
        search.begin()
        for piece in _pieces(chunks):
            search.count(piece)
        search.settle(ranks)
    at = dict(zip(ranks, search.values(), strict=True))
    result = []
    for place in places:
        below = int(place)
        low, high = at[below], at[min(below + 1, n - 1)]
        result.append(low if low == high else low + (high - low) * (place - below))
    return result


class _Search:
    """Find order statistics digit by digit, the highest 16 bits first (radix selection)."""

    def __init__(self) -> None:
        self.total = 0
        self.open = True
        self._dtype: np.dtype[Any] | None = None
        self._shift = 0  # of the digit that is counted now
        self._counts: dict[int, npt.NDArray[np.int64]] = {0: np.zeros(1 << _DIGIT, np.int64)}  # by the digits before it
        self._found: list[tuple[int, int]] = []  # of each rank: the digits so far, and its rank among values with them

    def count(self, values: Values) -> None:
        """Count the current digit of those values whose higher digits belong to a rank."""
        if self._dtype is None:
            self._dtype = values.dtype
            self._shift = 8 * values.dtype.itemsize - _DIGIT
        elif values.dtype != self._dtype:
            raise DtypeError(f"the values are {self._dtype} and {values.dtype}; one type is needed")
        keys = _keys(values)
        if not self._found:
            self.total += keys.size
        digits = (keys >> self._shift) & ((1 << _DIGIT) - 1)
        before = keys >> self._shift >> _DIGIT if 8 * keys.dtype.itemsize > self._shift + _DIGIT else None
        for prefix, counts in self._counts.items():
            chosen = digits if before is None else digits[before == prefix]
            counts += np.bincount(chosen.astype(np.intp), minlength=1 << _DIGIT)

    def settle(self, ranks: list[int]) -> None:
        """Add the digit that was counted to each rank."""
        sums = {prefix: np.cumsum(counts) for prefix, counts in self._counts.items()}
        found = []
        for prefix, rank in self._found or [(0, rank) for rank in ranks]:
            digit = int(np.searchsorted(sums[prefix], rank, side="right"))
            found.append(((prefix << _DIGIT) | digit, rank - (int(sums[prefix][digit - 1]) if digit else 0)))
        self._found = found
        self.open = self._shift > 0

    def begin(self) -> None:
        """Get ready to count the next digit."""
        self._shift -= _DIGIT
        self._counts = {prefix: np.zeros(1 << _DIGIT, np.int64) for prefix, _ in self._found}

    def values(self) -> list[float]:
        assert self._dtype is not None
        return [_value(key, self._dtype) for key, _ in self._found]


def _pieces(chunks: Chunks) -> Iterable[Values]:
    for chunk in chunks():
        if chunk.dtype.kind not in "buif" or chunk.dtype.itemsize > 8:
            raise DtypeError(f"the values are {chunk.dtype.name}; integers or floats up to 64 bits are needed")
        flat = chunk.reshape(-1)
        for i in range(0, flat.size, _PIECE):
            piece = flat[i : i + _PIECE]
            if piece.dtype.kind == "f":
                with np.errstate(over="ignore"):
                    piece = piece.astype(np.float32)
                if not np.isfinite(piece).all():
                    bad = int((~np.isfinite(piece)).sum())
                    raise PixelValueError(f"{bad} or more values are NaN, infinite or beyond float32; replace them")
            elif piece.dtype.itemsize == 1:
                piece = piece.astype(np.int16)
            yield piece.astype(piece.dtype.newbyteorder("="), copy=False)


def _keys(values: Values) -> Values:
    """Return unsigned integers that are in the order of the values."""
    if values.dtype.kind == "f":
        bits = np.ascontiguousarray(values + np.float32(0)).view(np.uint32)  # -0 becomes 0
        ordered: Values = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
        return ordered
    unsigned = np.dtype(f"u{values.dtype.itemsize}")
    if values.dtype.kind == "u":
        return values
    shifted: Values = np.ascontiguousarray(values).view(unsigned) ^ unsigned.type(1 << (8 * unsigned.itemsize - 1))
    return shifted


def _value(key: int, dtype: np.dtype[Any]) -> float:
    if dtype.kind == "f":
        bits = key & 0x7FFFFFFF if key >> 31 else ~key & 0xFFFFFFFF
        return float(np.uint32(bits).view(np.float32))
    return float(key - (1 << (8 * dtype.itemsize - 1)) if dtype.kind == "i" else key)
