"""The parent's side of a worker process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from threading import Timer
from types import TracebackType
from typing import Any

from fastsr.bench.jobs import Job, environment
from fastsr.bench.network import Network
from fastsr.errors import BackendError, OptionError

PATIENCE = 900.0  # seconds for an answer: some engines compile for a minute, some convert for longer
END_PATIENCE = 10.0  # seconds for a worker to end


class Client:
    """A worker process for one job. `with` ends it. Raises OptionError if the ISA level cannot be held."""

    def __init__(self, network: Network, job: Job) -> None:
        variables = environment(job)
        if variables is None:
            raise OptionError(f"{job.label} is left out: nothing holds it to {job.isa}")
        self.job = job
        settings = json.dumps({"folder": str(network.folder), "job": job.to_json()})
        self._log = Path(network.folder / f"worker-{id(self)}.log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fastsr.bench.worker", settings],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=variables,
                text=True,
            )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Send a command and return the answer. Raises BackendError with what the engine said."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        watch = Timer(PATIENCE, self._process.kill)
        watch.start()
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            in_time = watch.is_alive()
            watch.cancel()
        if not line:
            if not in_time:
                raise BackendError(f"no answer to {do!r} within {PATIENCE:g} seconds")
            code = self._process.wait()
            said = self._log.read_text(errors="replace").strip().splitlines()[-1:]
            raise BackendError(f"its process ended with code {code}: {' '.join(said)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BackendError(str(answer["error"]))
        return answer

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(END_PATIENCE)
        except (subprocess.TimeoutExpired, OSError):
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
