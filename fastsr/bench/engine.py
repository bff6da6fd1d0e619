"""One engine on one picture, FastSR or a peer, behind one face: what a worker process runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.bench import ours
from fastsr.bench.jobs import OURS, Job, peer_of
from fastsr.bench.network import Network, planes
from fastsr.errors import OptionError

Image = npt.NDArray[np.uint8]
Planes = npt.NDArray[np.float32]


def files_of(network: Network, job: Job) -> Path:
    """Return the folder for what the engine makes of the network."""
    return network.folder / f"{job.engine}-{job.precision}"


def prepare(network: Network, job: Job) -> str:
    """Convert the network for the engine; return how, or nothing. Raises OptionError for a wrong precision."""
    if job.engine == OURS:
        return ""
    peer = peer_of(job)
    if job.precision not in peer.PRECISIONS:
        raise OptionError(f"{peer.NAME} is compared in {', '.join(peer.PRECISIONS)} only, not in {job.precision}")
    folder = files_of(network, job)
    folder.mkdir()
    return peer.prepare(network, job.precision, folder)


class Engine:
    """An engine that is ready to run pictures of the job's size."""

    def __init__(self, network: Network, job: Job) -> None:
        self._ours = job.engine == OURS
        self._uint8 = self._ours and job.pixels == "uint8"
        self._run: Callable[[Any], Any]
        if self._ours:
            self._run = ours.load(network, job)
        else:
            size = job.height, job.width
            self._run = peer_of(job).load(network, job.precision, files_of(network, job), size, job.threads)

    def input(self, image: Image) -> npt.NDArray[Any]:
        """Return the picture as the engine takes it. image: (H, W, 3) uint8."""
        if self._uint8:
            return image
        return image.astype(np.float32) / np.float32(255) if self._ours else planes(image)[None]

    def run(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Do the work that is timed."""
        result: npt.NDArray[Any] = self._run(x)
        return result

    def planes(self, result: npt.NDArray[Any]) -> Planes:
        """Return a result as (3, H, W) values 0..1."""
        if not self._ours:
            return np.asarray(result[0], np.float32)
        return planes(result) if self._uint8 else np.ascontiguousarray(result.transpose(2, 0, 1))
