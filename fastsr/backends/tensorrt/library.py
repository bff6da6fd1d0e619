"""The Python module of TensorRT or of TensorRT-RTX, whichever is installed: one interface, found at run time."""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
from collections import deque
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fastsr.errors import BackendUnavailableError, OptionError

INSTALL = "pip install 'fastsr[tensorrt]' (TensorRT-RTX), or pip install tensorrt onnx"
# Module names, the first that works is taken. Wheels of TensorRT-RTX bring the bindings under a name of their own.
_MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings")
_LEAST_VERSION = {"tensorrt": 10, "tensorrt-rtx": 1}  # strong types, update_device_memory_size_for_shapes
_KEPT_MESSAGES = 2000


@dataclass(frozen=True, eq=False)
class Library:
    """name: "tensorrt" or "tensorrt-rtx"; version: such as "10.9.0.34"; logger: the one that a process may have."""

    module: Any
    name: str
    version: str
    logger: Any

    @property
    def is_rtx(self) -> bool:
        """Say whether engines are built without a GPU and compiled further where they run."""
        return self.name == "tensorrt-rtx"

    def capabilities(self) -> list[str]:
        """Return the compute capabilities that an engine can be built for by name, such as "8.6"; none: any GPU's."""
        members = getattr(getattr(self.module, "ComputeCapability", None), "__members__", {})
        return [f"{name[2:-1]}.{name[-1]}" for name in sorted(members, key=_sm) if name.startswith("SM")]


def why_no_library() -> str | None:
    """Return None, or why neither TensorRT nor TensorRT-RTX can be used, and what to install."""
    try:
        find_library()
    except BackendUnavailableError as error:
        return str(error)
    return "onnx is not installed: pip install onnx" if importlib.util.find_spec("onnx") is None else None


def find_library() -> Library:
    """Return the library; a GPU is not needed. FASTSR_TENSORRT names the module that is wanted.

    Raises BackendUnavailableError with each module's reason, OptionError for another name.
    """
    wanted = os.environ.get("FASTSR_TENSORRT")
    if wanted and wanted not in _MODULES:
        raise OptionError(f"FASTSR_TENSORRT is {wanted!r}; one of {', '.join(_MODULES)} is needed")
    return _find((wanted,) if wanted else _MODULES)


@lru_cache(maxsize=4)
def _find(names: tuple[str, ...]) -> Library:
    reasons = []
    for name in names:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            if importlib.util.find_spec(name) is not None:  # installed, but broken
                reasons.append(f"{name}: {error}")
            continue
        except Exception as error:  # a loader of shared libraries may raise anything
            reasons.append(f"{name}: {error}")
            continue
        kind, version = "tensorrt-rtx" if "rtx" in name else "tensorrt", str(getattr(module, "__version__", "0"))
        if not hasattr(module, "Builder") or int(version.split(".", maxsplit=1)[0]) < _LEAST_VERSION[kind]:
            reasons.append(f"{name} {version}: {kind} {_LEAST_VERSION[kind]} or newer is needed")
            continue
        return Library(module, kind, version, _make_logger(module))
    raise BackendUnavailableError(f"TensorRT is not installed: {INSTALL}" + "".join(f"; {r}" for r in reasons))


def _make_logger(module: Any) -> Any:
    class Messages(module.ILogger):  # type: ignore[misc]
        """Keep what TensorRT says instead of printing it."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self._lock = threading.Lock()
            self._messages: deque[tuple[str, str]] = deque(maxlen=_KEPT_MESSAGES)

        def log(self, severity: Any, message: str) -> None:
            with self._lock:
                self._messages.append((str(severity).rpartition(".")[2], message))

        def take(self) -> list[tuple[str, str]]:
            """Return (severity, message) of what was said since the last call."""
            with self._lock:
                messages = list(self._messages)
                self._messages.clear()
            return messages

    return Messages()


def errors_of(messages: list[tuple[str, str]]) -> str:
    """Return what went wrong, in TensorRT's words, for the end of an error's message."""
    found = [" ".join(message.split()) for severity, message in messages if "ERROR" in severity]
    return "; ".join(found[-3:])[:600] or "it does not say why"


def _sm(name: str) -> int:
    return int(name[2:]) if name[2:].isdecimal() else 0
