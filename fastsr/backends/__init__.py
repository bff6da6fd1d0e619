"""The back ends, fastest first. Adding one: its file, and a line here."""

from __future__ import annotations

import os
from collections.abc import Callable

from fastsr.backends import cuda, native, onnx_rt, tensorrt, torch_ref, trial, triton
from fastsr.backends.arrays import WholeImageRunner
from fastsr.backends.base import Backend, Runner
from fastsr.backends.trial import Outcome
from fastsr.errors import BackendUnavailableError, OptionError
from fastsr.graph.model import CompiledModel


def _onnx(provider: str) -> Callable[[CompiledModel, int, int, int | None, str], Runner]:
    def runner(model: CompiledModel, scale: int, channels: int, threads: int | None, precision: str) -> Runner:
        make = onnx_rt.runner_maker(provider, precision)
        return WholeImageRunner(model, scale, channels, make, threads)

    return runner


BACKENDS: list[Backend] = [
    Backend(
        "tensorrt",
        "TensorRT or TensorRT-RTX on an NVIDIA GPU",
        tensorrt.why_unavailable,
        tensorrt.runner,
        tensorrt.PRECISIONS,
        gpu=True,
    ),
    Backend(
        "onnx-cuda",
        "ONNX Runtime on an NVIDIA GPU",
        lambda: onnx_rt.why_unavailable("cuda"),
        _onnx("cuda"),
        onnx_rt.PRECISIONS["cuda"],
        gpu=True,
    ),
    Backend(
        "onnx-tensorrt",
        "ONNX Runtime with its TensorRT provider; builds an engine for every process",
        lambda: onnx_rt.why_unavailable("tensorrt"),
        _onnx("tensorrt"),
        onnx_rt.PRECISIONS["tensorrt"],
        gpu=True,
    ),
    Backend(
        "native",
        "our C++ engine for CPUs: streaming, exact",
        native.why_unavailable,
        native.NativeRunner,
        ("fp32", "int8", "bf16"),
        bounded=True,
    ),
    Backend(
        "triton",
        "our kernels for NVIDIA GPUs, with PyTorch and Triton",
        triton.why_unavailable,
        triton.make_runner,
        ("fp32", "tf32", "fp16", "bf16", "int8", "fp8"),
        bounded=True,
        gpu=True,
    ),
    Backend(
        "cuda",
        "our C++ kernels for NVIDIA GPUs: streaming, no other package needed",
        cuda.why_unavailable,
        cuda.CudaRunner,
        cuda.PRECISIONS,
        gpu=True,
        bounded=True,
    ),
    Backend(
        "onnx",
        "ONNX Runtime on the CPU, whole image at once",
        onnx_rt.why_unavailable,
        _onnx("cpu"),
        onnx_rt.PRECISIONS["cpu"],
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
    """Return the first of `choose_backends`."""
    return choose_backends(name, precision)[0]


def choose_backends(name: str, precision: str | None = None, *, bounded: bool = False) -> list[Backend]:
    """Return the back end called `name`; for "auto" those that may run here, in this precision.

    The likely fastest come first. Behind the CPU's engine come GPU back ends that only `fastest` prefers to it.
    bounded: whether it must keep `max_memory`; "auto" then leaves out those that don't.
    FASTSR_BACKEND overrides "auto". Raises OptionError, BackendUnavailableError (with the reason).
    """
    known_precisions = list(dict.fromkeys(p for backend in BACKENDS for p in backend.precisions))
    if precision is not None and precision not in known_precisions:
        raise OptionError(f"precision is {precision!r}; one of {', '.join(known_precisions)} is needed")
    if name == "auto":
        name = os.environ.get("FASTSR_BACKEND") or "auto"
    if name == "auto":
        return _automatic(precision, bounded)
    for backend in BACKENDS:
        if name != backend.name:
            continue
        if precision is not None and precision not in backend.precisions:
            raise OptionError(
                f"backend {name!r} computes in {', '.join(backend.precisions)}; precision is {precision!r}"
            )
        reason = backend.why_unavailable()
        if reason is not None:
            raise BackendUnavailableError(f"backend {name!r} cannot run here: {reason}")
        return [backend]
    known = ", ".join(["auto"] + [backend.name for backend in BACKENDS])
    raise OptionError(f"backend is {name!r}; one of {known} is needed")


def _automatic(precision: str | None, bounded: bool) -> list[Backend]:
    found: list[Backend] = []
    reasons: list[str] = []
    for backend in BACKENDS:
        if (precision is not None and precision not in backend.precisions) or (bounded and not backend.bounded):
            continue
        if any(not b.gpu for b in found) and not (backend.gpu and trial.possible()):
            continue  # a CPU back end does not fail where it is there; the slower ones need no look
        reason = backend.why_unavailable()
        if reason is None:
            found.append(backend)
        else:
            reasons.append(f"{backend.name}: {reason}")
    if not found:
        wanted = f" in {precision}" * (precision is not None) + " within max_memory" * bounded
        raise BackendUnavailableError(f"no back end can run{wanted} here" + "".join(f"; {r}" for r in reasons))
    return found


def fastest(
    name: str,
    candidates: list[Backend],
    model: CompiledModel,
    scale: int,
    channels: int,
    threads: int | None,
    precision: str | None,
) -> Outcome | None:
    """Return which of `choose_backends(name, precision)` is the fastest, as a trial with this network found.

    None where there is nothing to try: a back end was asked for by name, no GPU is there, or FASTSR_TRIAL is "0".
    """
    native = next(backend for backend in BACKENDS if backend.name == trial.NATIVE)
    automatic = name == "auto" and not os.environ.get("FASTSR_BACKEND")
    if not (automatic and any(b.gpu for b in candidates) and trial.possible() and native.why_unavailable() is None):
        return None
    return trial.run(candidates, native, model, scale, channels, threads, precision)
