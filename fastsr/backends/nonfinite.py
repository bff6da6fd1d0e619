"""fp16 ends at 65504: a result that holds NaN or infinity is computed again in fp32, and nobody sees a black image."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from fastsr.errors import BackendError, NonFiniteWarning

Array = npt.NDArray[np.float32]
Run = Callable[[Array], Array]


def is_finite(y: npt.NDArray[np.floating]) -> bool:
    """Say whether all values are finite numbers, in one pass: a sum of float64 keeps every NaN and infinity."""
    with np.errstate(invalid="ignore"):
        return bool(np.isfinite(np.sum(y, dtype=np.float64)))


class FiniteRunner:
    """Run in fp16, and again in fp32 where the result is not finite.

    run: x (C, H, W) float32 -> result; make_exact: makes the same in fp32, when it is first needed; name: of the back
    end, for the NonFiniteWarning. Raises BackendError where fp32 is not finite either.
    """

    def __init__(self, run: Run, make_exact: Callable[[], Run], name: str, precision: str = "fp16") -> None:
        self._run = run
        self._make_exact = make_exact
        self._exact: Run | None = None
        self._name = f"{name} in {precision}"
        self._lock = threading.Lock()

    def run(self, x: Array) -> Array:
        y = self._run(x)
        if is_finite(y):
            return y
        message = f"{self._name} gave NaN or infinity for an image of {x.shape[2]} x {x.shape[1]}; fp32 is used for it"
        warnings.warn(message, NonFiniteWarning, stacklevel=2)
        with self._lock:
            if self._exact is None:
                self._exact = self._make_exact()
        y = self._exact(x)
        if not is_finite(y):
            raise BackendError(f"{self._name} and in fp32 gave NaN or infinity: the model's weights are not sane")
        return y
