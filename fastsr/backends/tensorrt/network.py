"""From a model to a runner on TensorRT: which engine it needs, built or found, and how large images are cut for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastsr.backends.arrays import WholeImageRunner
from fastsr.backends.nonfinite import FiniteRunner
from fastsr.backends.nvidia import driver
from fastsr.backends.precision import checked_precision
from fastsr.backends.tensorrt import PRECISIONS
from fastsr.backends.tensorrt.build import Profile, Progress, build
from fastsr.backends.tensorrt.cache import EngineCache
from fastsr.backends.tensorrt.engine import Engine
from fastsr.backends.tensorrt.key import EngineKey, engine_key, kernels_key, timing_key
from fastsr.backends.tensorrt.library import find_library
from fastsr.errors import BackendError, BackendUnavailableError
from fastsr.graph.ir import Array
from fastsr.graph.model import CompiledModel
from fastsr.graph.qdq import of_model
from fastsr.graph.to_onnx import FloatType, to_onnx

PROFILE = Profile()


def runner(
    model: CompiledModel, scale: int, channels: int, threads: int | None, precision: str | None = None
) -> WholeImageRunner:
    """Return one network on TensorRT; the engine is built now if there is none. threads is for CPU back ends.

    precision "int8" is for models that `fastsr quantize` prepared. Raises OptionError for others.
    """
    chosen = checked_precision(precision, PRECISIONS, "the back end tensorrt")

    def make(*_: Any) -> _Network:
        return _Network(model, scale, channels, chosen)

    return WholeImageRunner(model, scale, channels, make, threads, most=PROFILE.most)


def prepare(
    model: CompiledModel,
    scale: int,
    channels: int,
    precision: str = "fp32",
    *,
    profile: Profile = PROFILE,
    cache: EngineCache | None = None,
    progress: Progress | None = None,
) -> tuple[bytes, EngineKey]:
    """Return the engine of a network for the GPU that is here, and its key; build and keep it if there is none.

    progress: called with (steps done, steps in all) while it is built.
    Raises BackendUnavailableError, BackendError, OptionError for int8 of a model without ranges.
    """
    quantization = of_model(model, model.graph(scale, channels)) if precision == "int8" else None
    library, gpu = find_library(), driver().gpu()
    known = library.capabilities()
    if known and gpu.capability not in known:
        raise BackendUnavailableError(
            f"{library.name} {library.version} does not know the {gpu.name} (compute capability {gpu.capability}; it "
            f"knows {', '.join(known)}): pip install tensorrt"
        )
    cache = cache or EngineCache()
    key = engine_key(model.sha256, model.name, scale, channels, library, gpu, precision, profile)
    timings = timing_key(library, gpu)

    def make() -> bytes:
        kind: FloatType = "fp16" if precision == "fp16" else "fp32"
        onnx = to_onnx(model.graph(scale, channels), model.tensors, compute=kind, quantization=quantization)
        here = [gpu.capability] if known else []
        known_timings = None if library.is_rtx else cache.read(timings)
        options: dict[str, Any] = {"tf32": precision != "fp32", "capabilities": here, "timings": known_timings}
        made = build(library, onnx.SerializeToString(), channels, profile, **options, progress=progress)
        if made.timings is not None:
            cache.write(timings, made.timings)
        return made.engine

    return cache.get(key, make), key


class _Network:
    """One network as an engine; fp16 results that are not finite are computed again in fp32."""

    def __init__(self, model: CompiledModel, scale: int, channels: int, precision: str) -> None:
        def engine(precision: str) -> Callable[[Array], Array]:
            return _Kept(model, scale, channels, precision).run

        run = engine(precision)
        if precision == "fp16":
            run = FiniteRunner(run, lambda: engine("fp32"), "tensorrt").run
        self.run = run


class _Kept:
    """An engine whose kernels, compiled by TensorRT-RTX when it first runs, are kept for the next process."""

    def __init__(self, model: CompiledModel, scale: int, channels: int, precision: str) -> None:
        library = find_library()
        self._cache = EngineCache()
        blob, key = prepare(model, scale, channels, precision, cache=self._cache)
        self._key = kernels_key(key)
        self._known = self._cache.read(self._key) if library.is_rtx else None
        try:
            self._engine = Engine(library, blob, channels, driver(), self._known)
        except BackendError:  # whole, but not for here, for a reason that the key does not know
            self._cache.forget(key)
            blob, key = prepare(model, scale, channels, precision, cache=self._cache)
            self._engine = Engine(library, blob, channels, driver(), self._known)
        self._fresh = library.is_rtx and self._known is None

    def run(self, x: Array) -> Array:
        y = self._engine.run(x)
        if self._fresh:
            self._fresh = False
            kernels = self._engine.kernels()
            if kernels:
                self._cache.write(self._key, kernels)
        return y
