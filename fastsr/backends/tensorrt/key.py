"""What an engine depends on. If any of it differs, it is another engine."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

from fastsr.backends.nvidia import Gpu
from fastsr.backends.tensorrt.build import Profile
from fastsr.backends.tensorrt.library import Library

# Of the ONNX graphs that are built and of how: a larger number makes every engine of before another engine.
GRAPH_VERSION = 1


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on, as strings.

    weights: the hash of the `.fsr` file; network: scale and channels; graph: GRAPH_VERSION; library, driver: with
    version; gpu: its name; capability: its SM; precision, profile: as asked for; kind: "engine", or what is kept
    beside engines.
    """

    weights: str
    model: str
    network: str
    graph: str
    library: str
    driver: str
    gpu: str
    capability: str
    precision: str
    profile: str
    kind: str = "engine"

    @property
    def name(self) -> str:
        """Return the name of the file: the hash of all fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:40]

    def fields(self) -> dict[str, str]:
        return asdict(self)


def engine_key(
    weights: str, model: str, scale: int, channels: int, library: Library, gpu: Gpu, precision: str, profile: Profile
) -> EngineKey:
    """Return the key of a model's engine on this GPU."""
    return EngineKey(
        weights,
        model,
        f"x{scale}, {channels} channels",
        str(GRAPH_VERSION),
        f"{library.name} {library.version}",
        gpu.driver,
        gpu.name,
        gpu.capability,
        precision,
        str(profile),
    )


def timing_key(library: Library, gpu: Gpu) -> EngineKey:
    """Return the key of what TensorRT measured on this GPU, shared by all engines."""
    return EngineKey(
        "", "", "", "", f"{library.name} {library.version}", gpu.driver, gpu.name, gpu.capability, "", "", "timings"
    )


def kernels_key(engine: EngineKey) -> EngineKey:
    """Return the key of the kernels that TensorRT-RTX compiled for an engine where it ran."""
    return EngineKey(**{**engine.fields(), "kind": "kernels"})
