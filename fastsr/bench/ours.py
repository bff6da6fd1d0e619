"""FastSR's own side of a comparison."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.backends import choose_backend
from fastsr.backends.base import Job as Work
from fastsr.backends.base import ValueRange
from fastsr.bench.jobs import Job
from fastsr.bench.network import Network
from fastsr.errors import OptionError
from fastsr.upscaler import Upscaler

PRECISIONS = ("fp32", "int8", "bf16")
Image = npt.NDArray[Any]
Run = Callable[[Image], Image]  # (H, W, 3) -> (scale * H, scale * W, 3), of the job's pixel type


def load(network: Network, job: Job) -> Run:
    """Return FastSR as the job sets it up. Raises OptionError for what it cannot do."""
    if job.precision not in PRECISIONS:
        raise OptionError(f"FastSR computes in {', '.join(PRECISIONS)}, not in {job.precision}")
    return _user_call(network, job) if job.pixels == "uint8" else _bare_engine(network, job)


def _user_call(network: Network, job: Job) -> Run:
    options: dict[str, Any] = {"precision": job.precision, "threads": job.threads, "max_memory": job.max_memory}
    return Upscaler(network.model, job.scale, backend=job.backend, **options).upscale


def _bare_engine(network: Network, job: Job) -> Run:
    """Run the network on float pixels into a result that is kept, as the peers do."""
    backend = choose_backend(job.backend, job.precision)
    runner = backend.runner(network.model, job.scale, 3, job.threads, job.precision)
    results: dict[tuple[int, int], Image] = {}

    def run(image: Image) -> Image:
        H, W, C = image.shape
        if (H, W) not in results:
            results[H, W] = np.empty((H * job.scale, W * job.scale, C), np.float32)
        result = results[H, W]
        runner.run(image, result, Work(H, W, (0, 0, W, H), (0, 0), ValueRange(0, 1)), job.max_memory)
        return result

    return run
