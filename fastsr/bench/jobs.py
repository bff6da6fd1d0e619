"""What is measured: one engine, set up in one way, on one picture."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastsr.bench.peers import Peer, find_peer

OURS = "fastsr"
PRECISIONS = ("fp32", "int8", "bf16")
PIXELS = ("float32", "uint8")


@dataclass(frozen=True)
class Job:
    """One engine, set up in one way, on one picture.

    scale: of the network; height, width: LR pixels. engine: "fastsr" or a peer. precision: one of PRECISIONS.
    isa: the level that the engine is held to; None: the best it has. backend, max_memory: of FastSR.
    pixels: what FastSR gets and gives; "float32" is the bare engine, "uint8" is `Upscaler.upscale` on an image as
    users have it. Peers always get float32 (1, C, H, W) and no conversion is timed.
    """

    scale: int
    height: int
    width: int
    engine: str = OURS
    precision: str = "fp32"
    threads: int = 1
    isa: str | None = None
    backend: str = "native"
    pixels: str = "float32"
    max_memory: int | None = None

    @property
    def label(self) -> str:
        """What the engine is called in tables."""
        if self.engine != OURS:
            return find_peer(self.engine).NAME
        extras = [] if self.backend == "native" else [self.backend]
        extras += ["uint8 image"] if self.pixels == "uint8" else []
        extras += [f"max_memory {self.max_memory / 1e6:g} MB"] if self.max_memory else []
        return "FastSR" + (f" ({', '.join(extras)})" if extras else "")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def environment(job: Job) -> dict[str, str] | None:
    """Return what the engine's process needs in its environment, or None if it cannot be held to the ISA level."""
    package_root = str(Path(__file__).resolve().parents[2])
    result = dict(os.environ)
    result["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    result["OMP_NUM_THREADS"] = str(job.threads)
    result.pop("FASTSR_BACKEND", None)
    if job.isa is None:
        return result
    extra: Mapping[str, str] | None = (
        {"FASTSR_ISA": job.isa} if job.engine == OURS else peer_of(job).environment(job.isa)
    )
    return None if extra is None else result | dict(extra)


def peer_of(job: Job) -> Peer:
    return find_peer(job.engine)
