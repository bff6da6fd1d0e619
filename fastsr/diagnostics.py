"""Does FastSR work here? Every ISA level of the engine, and every GPU back end, against the slow reference."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from fastsr.backends import BACKENDS, backends, choose_backends, fastest
from fastsr.backends.base import Backend, Job, ValueRange
from fastsr.backends.precision import TOLERANCES
from fastsr.errors import FastSRError
from fastsr.graph.model import CompiledModel

_TOLERANCE = 2e-5


def examine() -> dict[str, Any]:
    """Return version, platform, threads, ISA levels, back ends (None or the reason), and the self-test's result.

    GPU back ends are tried, which may build an engine; "auto" is the one that `backend="auto"` takes, "trial" why.
    """
    import fastsr

    report: dict[str, Any] = {
        "version": fastsr.__version__,
        "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    try:
        report["backends"] = reasons = backends()
        for backend in BACKENDS:
            if backend.gpu and reasons[backend.name] is None:
                reasons[backend.name] = _try(backend)
        report |= _automatic(reasons)
        return report | _engine()
    except (ImportError, FastSRError) as error:
        return report | {"self_test": f"failed: {error}"}


def _automatic(reasons: dict[str, str | None]) -> dict[str, Any]:
    """Return what "auto" takes for FMEN x4, and what a trial said of it where there was one."""
    from fastsr.models import open_model

    working = [b for b in choose_backends("auto") if reasons[b.name] is None]
    found = fastest("auto", working, open_model("fmen", 4), 4, 3, None, None)
    if found is not None:
        return {"auto": found.chosen or "none works", "trial": found.why}
    return {"auto": working[0].name if working else "none works"}


def _engine() -> dict[str, Any]:
    from fastsr import _native

    levels = _native.isa_levels()
    return {
        "isa": _native.selected_isa(),
        "isa_levels": {
            name: "usable" if level["usable"] else "not on this processor" for name, level in levels.items()
        },
        "threads": _native.default_threads(),
        "self_test": _self_test([name for name, level in levels.items() if level["usable"]]),
    }


def _try(backend: Backend) -> str | None:
    """Return None, or why a GPU back end does not work: its error, or a result that is not the reference's."""
    from fastsr.models import open_model

    model = open_model("fmen", 4)
    x, wanted = _example(model)
    result = np.empty(wanted.shape, np.float32)
    H, W, _ = x.shape
    job = Job(H, W, (0, 0, W, H), (0, 0), ValueRange(0, 1))
    precision = backend.precisions[0]
    try:
        backend.runner(model, 4, 3, None, precision).run(x, result, job, None)
    except FastSRError as error:
        return f"failed: {error}"
    off = float(np.abs(result - wanted).max())
    if not off <= 2 * TOLERANCES[precision]:  # the result reaches about 2
        return f"failed: it differs from the reference by {off:.1e}"
    return None


def _example(model: CompiledModel) -> tuple[Any, Any]:
    """Return an image (H, W, 3) and what FMEN x4 makes of it."""
    from fastsr.graph import reference

    x = np.random.default_rng(1).random((9, 21, 3), dtype=np.float32)
    return x, reference.run(model.graph(4, 3), model.tensors, x.transpose(2, 0, 1)).transpose(1, 2, 0)


def _self_test(levels: list[str]) -> str:
    from fastsr import _native
    from fastsr.models import open_model

    model = open_model("fmen", 4)
    native = _native.Model(model.to_bytes())
    x, wanted = _example(model)
    results = []
    for level in levels:
        result = np.empty((36, 84, 3), np.float32)
        network = native.network(4, 3, level)
        network.run(x, result, 9, 21, (0, 0), (0, 0, 21, 9), (1, 0, 1, 0, 0, 0), _native.Options(threads=2))
        error = float(np.abs(result - wanted).max())
        if not error <= _TOLERANCE:
            return f"failed: {level} differs from the reference by {error:.1e}"
        results.append(result)
    if any(not np.array_equal(result, results[0]) for result in results):
        return "failed: ISA levels do not agree to the bit"
    return f"passed: {', '.join(levels)} agree to the bit, and with the reference to {_TOLERANCE:.0e}"
