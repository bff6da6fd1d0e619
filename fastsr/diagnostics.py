"""Does FastSR work here? Every ISA level of the engine against the slow reference, on pixels made here."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from fastsr.backends import backends
from fastsr.errors import FastSRError

_TOLERANCE = 2e-5


def examine() -> dict[str, Any]:
    """Return version, platform, threads, ISA levels, back ends (None or the reason), and the self-test's result."""
    import fastsr

    report: dict[str, Any] = {
        "version": fastsr.__version__,
        "platform": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    try:
        report["backends"] = backends()
        return report | _engine()
    except (ImportError, FastSRError) as error:
        return report | {"self_test": f"failed: {error}"}


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


def _self_test(levels: list[str]) -> str:
    from fastsr import _native
    from fastsr.graph import reference
    from fastsr.models import open_model

    model = open_model("fmen", 4)
    native = _native.Model(model.to_bytes())
    x = np.random.default_rng(1).random((9, 21, 3), dtype=np.float32)
    wanted = reference.run(model.graph(4, 3), model.tensors, x.transpose(2, 0, 1)).transpose(1, 2, 0)
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
