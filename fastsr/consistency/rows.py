"""Images that come by rows: windows of them with a halo, and results beside the LR rows that they were made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]
# (lr, sr, first, last, top) -> sr of LR rows first..last of the window, which begins at LR row `top` of the image.
Apply = Callable[[Pixels, Pixels, int, int, int], Pixels]


class Windows:
    """Applies a function that looks `halo` LR rows around to planes lr (C, n, w) and sr (C, s n, s w) by rows.

    height: LR rows in all; step: rows that are gathered before the function is applied, beside the halo. What the
    function makes of a row depends on the rows within `halo` only, so that `step` does not change a bit.
    """

    def __init__(self, height: int, scale: int, halo: int, step: int, apply: Apply) -> None:
        self._height, self._scale, self._halo, self._step, self._apply = height, scale, halo, step, apply
        self._parts: list[tuple[Pixels, Pixels]] = []
        self._top = self._end = 0  # of the window
        self._done = 0

    def push(self, lr: Pixels, sr: Pixels) -> Iterator[tuple[Pixels, Pixels]]:
        """Take the next rows, which must stay as they are; yield the rows that are ready, with their LR rows."""
        self._parts.append((lr, sr))
        self._end += lr.shape[1]
        complete = self._end == self._height
        ready = self._end if complete else self._end - self._halo
        if ready - self._done < self._step and not complete:
            return
        lr, sr = (np.concatenate(arrays, axis=1) for arrays in zip(*self._parts, strict=True))
        self._parts = []
        first, last = self._done - self._top, ready - self._top
        result = self._apply(lr, sr, first, last, self._top)
        kept = max(last - self._halo, 0)
        if not complete:
            self._parts = [(lr[:, kept:].copy(), sr[:, kept * self._scale :].copy())]
        self._top += kept
        self._done = ready
        ready_lr = lr[:, first:last].copy()
        del lr, sr  # what takes the rows from here needs memory too
        yield ready_lr, result


class RowPairs:
    """Brings the rows of a result, however many come at once, together with the LR rows that they were made of.

    around: LR rows above and below its own that a row of the result is worked on with.
    """

    def __init__(self, height: int, scale: int, around: int) -> None:
        self._height, self._scale, self._around = height, scale, around
        self._lr: list[Pixels] = []
        self._top = self._end = 0  # of the LR rows that are kept
        self._carry: list[Pixels] = []
        self._carried = 0
        self._done = 0  # LR rows handed out

    @property
    def begun(self) -> bool:
        """Whether any LR rows have come."""
        return self._end > 0

    def read(self, rows: Pixels) -> None:
        """Keep a copy of the next LR rows."""
        self._lr.append(rows.copy())
        self._end += len(rows)

    def write(self, rows: Pixels) -> tuple[int, Pixels, int, Pixels] | None:
        """Take the next rows of the result; return what can be worked on now, or None.

        That is (y, sr, top, lr): rows sr, whose first belongs to LR row y, and lr from LR row `top` on. They are valid
        as long as `rows`; sr may be written to.
        """
        known = self._end if self._end == self._height else self._end - self._around
        count = min((self._carried + len(rows)) // self._scale, known - self._done)
        if count < 1:
            self._keep(rows.copy())
            return None
        sr = np.concatenate([*self._carry, rows], dtype=rows.dtype) if self._carry else rows
        self._carry, self._carried = [], 0
        if len(sr) > count * self._scale:
            self._keep(sr[count * self._scale :].copy())
        y, top = self._done, max(self._done - self._around, 0)
        lr = np.concatenate(self._lr)[top - self._top :]
        self._done += count
        kept = max(self._done - self._around, 0)
        self._lr, self._top = [lr[kept - top :]], kept
        return y, sr[: count * self._scale], top, lr

    def _keep(self, rows: Pixels) -> None:
        self._carry.append(rows)
        self._carried += len(rows)
