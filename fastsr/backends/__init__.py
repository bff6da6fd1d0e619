"""The back ends, fastest first. Adding one: its file, and a line here."""

from __future__ import annotations

import os

from fastsr.backends import native, onnx_rt, torch_ref
from fastsr.backends.arrays import WholeImageRunner
from fastsr.backends.base import Backend
from fastsr.errors import BackendUnavailableError, OptionError

BACKENDS: list[Backend] = [
    Backend(
        "native",
        "our C++ engine for CPUs: streaming, exact",
        native.why_unavailable,
        native.NativeRunner,
        ("fp32", "int8"),
    ),
    Backend(
        "onnx",
        "ONNX Runtime, whole image at once",
        onnx_rt.why_unavailable,
        lambda model, scale, channels, threads, _: WholeImageRunner(
            model, scale, channels, onnx_rt.OnnxRunner, threads
        ),
    ),
    Backend(
        "torch",
        "PyTorch: the slow reference",
        torch_ref.why_unavailable,
        lambda model, scale, channels, threads, _: WholeImageRunner(
            model, scale, channels, torch_ref.TorchRunner, threads
        ),
    ),
]


def backends() -> dict[str, str | None]:
    """Return every back end, fastest first: None where it can run here, or else the reason and what to install."""
    return {backend.name: backend.why_unavailable() for backend in BACKENDS}


def choose_backend(name: str, precision: str | None = None) -> Backend:
    """Return the back end called `name`; "auto": the first that can run here, in this precision.

    FASTSR_BACKEND overrides "auto". Raises OptionError, BackendUnavailableError (with the reason).
    """
    known_precisions = list(dict.fromkeys(p for backend in BACKENDS for p in backend.precisions))
    if precision is not None and precision not in known_precisions:
        raise OptionError(f"precision is {precision!r}; one of {', '.join(known_precisions)} is needed")
    if name == "auto":
        name = os.environ.get("FASTSR_BACKEND") or "auto"
    reasons = []
    for backend in BACKENDS:
        if name not in ("auto", backend.name):
            continue
        if precision is not None and precision not in backend.precisions:
            if name == "auto":
                continue
            raise OptionError(
                f"backend {name!r} computes in {', '.join(backend.precisions)}; precision is {precision!r}"
            )
        reason = backend.why_unavailable()
        if reason is None:
            return backend
        reasons.append(f"{backend.name}: {reason}")
        if name == backend.name:
            raise BackendUnavailableError(f"backend {name!r} cannot run here: {reason}")
    if reasons:
        raise BackendUnavailableError("no back end can run here: " + "; ".join(reasons))
    known = ", ".join(["auto"] + [backend.name for backend in BACKENDS])
    raise OptionError(f"backend is {name!r}; one of {known} is needed")
