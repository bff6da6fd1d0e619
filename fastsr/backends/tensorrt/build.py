"""Building an engine: an ONNX network, the sizes it is for, and a builder that tells how far it is."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastsr.backends.tensorrt.library import Library, errors_of
from fastsr.errors import BackendError, OptionError
from fastsr.graph.ir import INPUT

Progress = Callable[[int, int], None]
STEPS = 1000  # of progress, in all
_ACTIVATIONS = re.compile(r"Total Activation Memory: (\d+) bytes")
_building = threading.Lock()  # messages of two builds would mix, and their timings disturb each other


@dataclass(frozen=True)
class Profile:
    """The (height, width) of images that an engine takes: the least, the one it is tuned for, the most."""

    least: tuple[int, int] = (1, 1)
    usual: tuple[int, int] = (270, 480)
    most: tuple[int, int] = (1088, 1920)

    def __post_init__(self) -> None:
        for low, mid, high in zip(self.least, self.usual, self.most, strict=True):
            if not 1 <= low <= mid <= high:
                raise OptionError(f"the profile {self} is not possible; 1 <= least <= usual <= most is needed")

    def __str__(self) -> str:
        return "-".join(f"{width}x{height}" for height, width in (self.least, self.usual, self.most))


@dataclass(frozen=True)
class Built:
    """engine: the file; timings: of TensorRT's timing cache, or None; activations: bytes for the largest image."""

    engine: bytes
    timings: bytes | None
    activations: int | None


def build(
    library: Library,
    onnx: bytes,
    channels: int,
    profile: Profile,
    *,
    tf32: bool = False,
    capabilities: Sequence[str] = (),
    timings: bytes | None = None,
    progress: Progress | None = None,
) -> Built:
    """Build an engine for the GPU that is there, or for named compute capabilities (TensorRT-RTX).

    onnx: a network whose types are all explicit; tf32: whether fp32 products may be rounded to 10 bits; timings: of an
    earlier build on this GPU; progress: called with (steps done, steps in all); an exception from it ends the build.
    Raises BackendError in TensorRT's words, OptionError for a compute capability that it does not know.
    """
    trt = library.module
    with _building:
        library.logger.take()
        builder = trt.Builder(library.logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, library.logger)
        if not parser.parse(onnx):
            said = "; ".join(str(parser.get_error(i).desc()) for i in range(parser.num_errors))
            raise BackendError(f"{library.name} {library.version} refuses the network: {said}")
        config = builder.create_builder_config()
        config.add_optimization_profile(_profile(builder, channels, profile))
        (config.set_flag if tf32 else config.clear_flag)(trt.BuilderFlag.TF32)
        _aim(library, config, capabilities)
        cache = _attach_timings(library, config, timings)
        monitor = _monitor(trt, progress) if progress is not None else None
        if monitor is not None:
            config.progress_monitor = monitor
        engine = builder.build_serialized_network(network, config)
        messages = library.logger.take()
    if monitor is not None and monitor.failure is not None:
        raise monitor.failure
    if engine is None:
        raise BackendError(f"{library.name} {library.version} cannot build the engine: {errors_of(messages)}")
    if progress is not None:
        progress(STEPS, STEPS)
    found = [match for _, message in messages if (match := _ACTIVATIONS.search(message))]
    kept = None if cache is None else bytes(memoryview(cache.serialize()))
    return Built(bytes(memoryview(engine)), kept, int(found[-1][1]) if found else None)


def _profile(builder: Any, channels: int, profile: Profile) -> Any:
    made = builder.create_optimization_profile()
    shapes = [(1, channels, *size) for size in (profile.least, profile.usual, profile.most)]
    made.set_shape(INPUT, *shapes)
    return made


def _aim(library: Library, config: Any, capabilities: Sequence[str]) -> None:
    if not capabilities:
        return
    known = library.capabilities()
    if not known:
        raise OptionError(f"{library.name} builds for the GPU that is there only; TensorRT-RTX builds for others")
    for capability in capabilities:
        if capability not in known:
            raise OptionError(f"compute capability {capability!r} is not known; {', '.join(known)} are")
    config.num_compute_capabilities = len(capabilities)
    for i, capability in enumerate(capabilities):
        config.set_compute_capability(getattr(library.module.ComputeCapability, "SM" + capability.replace(".", "")), i)


def _attach_timings(library: Library, config: Any, timings: bytes | None) -> Any:
    """Give the builder what it measured before. TensorRT-RTX measures nothing, and would ask for a GPU here."""
    if library.is_rtx:
        return None
    cache = config.create_timing_cache(timings or b"")
    if not config.set_timing_cache(cache, False) and timings:
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _monitor(trt: Any, progress: Progress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Turn TensorRT's nested phases into one number that only grows."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.failure: BaseException | None = None
            self._phases = Phases()
            self._lock = threading.Lock()

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            with self._lock:
                self._phases.start(name, parent, steps)

        def phase_finish(self, name: str) -> None:
            with self._lock:
                self._phases.finish(name)

        def step_complete(self, name: str, step: int) -> bool:
            """Return False to end the build."""
            with self._lock:
                self._phases.step(name, step)
                if self.failure is None:
                    try:
                        progress(min(int(STEPS * self._phases.done), STEPS - 1), STEPS)
                    except BaseException as error:  # it must not pass through C++; `build` raises it
                        self.failure = error
                return self.failure is None

    return Monitor()


class Phases:
    """How much is done of phases within steps of phases.  done: 0..1, never falling."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str | None, int, int]] = {}  # name: (parent, steps, steps done)
        self.done = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        self._open[name] = parent, max(steps, 1), 0

    def step(self, name: str, step: int) -> None:
        if name in self._open:
            parent, steps, _ = self._open[name]
            self._open[name] = parent, steps, min(step + 1, steps)
        roots = [n for n, (parent, _, _) in self._open.items() if parent not in self._open]
        self.done = max([self.done, *(self._fraction(root) for root in roots)])

    def finish(self, name: str) -> None:
        self._open.pop(name, None)

    def _fraction(self, name: str) -> float:
        _, steps, done = self._open[name]
        within = [self._fraction(n) for n, (parent, _, _) in self._open.items() if parent == name]
        return min((done + max(within, default=0.0)) / steps, 1.0)
