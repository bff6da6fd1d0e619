"""The competitors, one file each. All get the same graph and weights, input, and number of threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from fastsr.bench.network import Network
from fastsr.errors import BackendUnavailableError, OptionError

Array = npt.NDArray[np.float32]
Run = Callable[[Array], Array]  # (1, C, H, W) 0..1 -> (1, C, scale * H, scale * W); valid until the next call


class Peer(Protocol):
    """What a competitor's file has. It imports the competitor inside its functions only.

    NAME: as in tables; PACKAGES: {import name: name to install}; PRECISIONS: of fastsr.bench.jobs.PRECISIONS.
    """

    NAME: str
    PACKAGES: Mapping[str, str]
    PRECISIONS: tuple[str, ...]

    def environment(self, isa: str) -> Mapping[str, str] | None:
        """Return what holds the engine to an ISA level, as environment variables; None: nothing does."""
        ...

    def prepare(self, network: Network, precision: str, folder: Path) -> str:
        """Convert the network into `folder`, once; return how, for the table's notes (or nothing)."""
        ...

    def load(self, network: Network, precision: str, folder: Path, size: tuple[int, int], threads: int) -> Run:
        """Return the engine, ready to run pictures of `size`, (H, W)."""
        ...


PEERS = ["openvino", "onnxruntime", "mnn", "ncnn", "torch_eager", "torch_compiled"]


def find_peer(name: str) -> Peer:
    """Return a competitor from PEERS, or somebody's own module of that form by its dotted name. Raises OptionError."""
    try:
        return cast(Peer, import_module(f"fastsr.bench.peers.{name}" if name in PEERS else name))
    except (ImportError, ValueError) as error:
        known = ", ".join(PEERS)
        raise OptionError(f"there is no peer {name!r}; {known} or an importable module would do: {error}") from error


def why_missing(peer: Peer) -> str | None:
    """Return None, or which packages are missing and how to install them."""
    missing = [package for module, package in peer.PACKAGES.items() if find_spec(module) is None]
    if not missing:
        return None
    return f"{peer.NAME} is left out: pip install {' '.join(missing)}, or all peers: pip install 'fastsr[bench]'"


def require(peer: Peer) -> None:
    """Raise BackendUnavailableError where the peer's packages are missing."""
    if (reason := why_missing(peer)) is not None:
        raise BackendUnavailableError(reason)


def version(peer: Peer) -> str:
    """Return the version of the peer's first package, the engine itself."""
    package = next(iter(peer.PACKAGES.values()))
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown version"


__all__ = ["PEERS", "Array", "Peer", "Run", "find_peer", "require", "version", "why_missing"]
