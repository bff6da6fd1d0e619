"""The process in which one engine runs: reads commands from stdin and answers on stdout, a line of JSON each.

{"do": "run"} -> {"seconds": 0.12}; what fails -> {"error": "message"}
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from fastsr.bench.engine import Engine, prepare
from fastsr.bench.jobs import Job
from fastsr.bench.network import Network
from fastsr.bench.pictures import image_files, read_rgb, reduced, synthetic
from fastsr.errors import BackendError, FastSRError
from fastsr.imresize import crop_to_multiple
from fastsr.metrics import psnr

SHORT = 0.25  # seconds; shorter runs are repeated once first, since the other engines have cooled the caches
LEAST = 0.05  # seconds that are timed at least
SMALL = 16  # LR pixels, each side, of the picture that loads code before memory is measured


class Worker:
    """Answer the commands; each public method is one."""

    def __init__(self, network: Network, job: Job) -> None:
        self._network = network
        self._job = job
        self._image = synthetic(job.height, job.width)
        self._engine: Engine | None = None
        self._input: Any = None
        self._seconds = 0.0

    def prepare(self) -> dict[str, Any]:
        """Convert the network for this engine, once for all workers."""
        return {"note": prepare(self._network, self._job)}

    def open(self) -> dict[str, Any]:
        """Load the network and run it once."""
        self._engine = Engine(self._network, self._job)
        self._input = self._engine.input(self._image)
        return {"seconds": self._timed(1)}

    def run(self) -> dict[str, Any]:
        """Time one run; the mean of several where one is very short."""
        if self._seconds < SHORT:
            self._timed(1)
        return {"seconds": self._timed(1 + int(LEAST / max(self._seconds, 1e-6)))}

    def save(self, path: str) -> dict[str, Any]:
        """Save the result as (3, H, W) float32 values 0..1."""
        assert self._engine is not None
        np.save(path, self._engine.planes(self._engine.run(self._input)))
        return {}

    def memory(self) -> dict[str, Any]:
        """Measure what is resident at most during a run, above what was before loading, less the result.

        For a fresh process. Input and code are there before: the same engine has run a small picture and was
        dropped. What loading or compiling takes for a moment only is not counted. Pages of files, code above all, that
        the system takes away meanwhile count as still there: it does that where they are not used for a while.
        """
        small = Engine(self._network, replace(self._job, height=SMALL, width=SMALL))
        small.run(small.input(synthetic(SMALL, SMALL)))
        x = small.input(self._image)
        del small
        gc.collect()
        _trim()
        before, of_files = _status("VmRSS"), _status("RssFile")
        engine = Engine(self._network, self._job)
        engine.run(x)
        _reset_peak()
        fewest_of_files = _status("RssFile")
        result = engine.run(x)
        peak = _status("VmHWM")
        taken_away = max(0, of_files - min(fewest_of_files, _status("RssFile")))
        return {"bytes": peak + taken_away - before - result.nbytes, "process_bytes": peak}

    def quality(self, folders: list[str]) -> dict[str, Any]:
        """Return the luma PSNR in dB on each folder of HR images, `scale` pixels cut, as papers measure it."""
        return {"psnr": [float(np.mean([*self._scores(Path(folder))])) for folder in folders]}

    def _scores(self, folder: Path) -> Iterator[float]:
        """Yield one PSNR for each image; an engine is loaded anew for each size."""
        scale = self._job.scale
        pictures = sorted((read_rgb(file) for file in image_files(folder)), key=lambda picture: picture.shape)
        size, engine = None, None
        for hr in pictures:
            lr = reduced(hr, scale)
            if engine is None or size != lr.shape[:2]:
                size = lr.shape[:2]
                engine = Engine(self._network, replace(self._job, height=size[0], width=size[1]))
            y = engine.planes(engine.run(engine.input(lr)))
            sr = np.clip(np.rint(y * 255), 0, 255).astype(np.uint8).transpose(1, 2, 0)
            yield psnr(crop_to_multiple(hr, scale), sr, border=scale, luma=True)

    def _timed(self, times: int) -> float:
        assert self._engine is not None
        start = time.perf_counter()
        for _ in range(times):
            self._engine.run(self._input)
        self._seconds = (time.perf_counter() - start) / times
        return self._seconds


def _trim() -> None:
    """Give free memory back to the system: what the C library keeps would be used again and never be counted."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM


def _status(key: str) -> int:
    """Return a memory figure of this process in bytes. Raises BackendError where the system has none."""
    path = Path("/proc/self/status")
    if not path.exists():
        raise BackendError("the peak of memory is measured on Linux only")
    words = next(line for line in path.read_text().splitlines() if line.startswith(key)).split()
    return int(words[1]) * 1024


def _answer(command: dict[str, Any], worker: Worker) -> dict[str, Any]:
    name = command.pop("do")
    method: Callable[..., dict[str, Any]] = getattr(worker, name)
    try:
        return method(**command)
    except FastSRError as error:
        return {"error": str(error)}
    except Exception as error:  # whatever an engine raises is an answer, and the other engines go on
        return {"error": f"{type(error).__name__}: {error}"}


def _own_stdout() -> TextIO:
    """Return the real stdout; what engines print, from C++ too, goes to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def main() -> None:
    answers = _own_stdout()
    settings = json.loads(sys.argv[1])
    worker = Worker(Network(Path(settings["folder"]), settings["job"]["scale"]), Job(**settings["job"]))
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line), worker)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
