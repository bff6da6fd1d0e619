"""An exported network as a TensorRT engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastsr.backends.nvidia import why_no_gpu
from fastsr.backends.tensorrt.build import Profile, build
from fastsr.backends.tensorrt.library import find_library
from fastsr.errors import BackendUnavailableError
from fastsr.exporting.target import Target


def engine_bytes(
    onnx: bytes,
    target: Target,
    precision: str,
    capabilities: Sequence[str],
    progress: Callable[[int, int], None] | None,
) -> bytes:
    """Return the engine for the GPU that is there, or for the named compute capabilities.

    Raises BackendUnavailableError, BackendError, OptionError.
    """
    library = find_library()
    if not capabilities and (reason := why_no_gpu()) is not None:
        known = library.capabilities()
        hint = f"; name what it is for: {', '.join(known)} (--gpu)" if known else ""
        raise BackendUnavailableError(f"an engine is built for the GPU that is there: {reason}{hint}")
    options = {"tf32": precision == "int8", "capabilities": list(capabilities), "progress": progress}
    return build(library, onnx, target.graph.channels, Profile(), **options).engine  # type: ignore[arg-type]
