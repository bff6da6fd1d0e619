"""What tests share: where the data is, and random images (never zeros)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

# Tests run side by side (pytest -n): one thread for each library that brings a pool of its own, here and in the
# processes that tests start. FastSR's own threads are not meant. The libraries read this when they are loaded.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import numpy as np  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent

# "auto" takes a GPU where there is one; the tests are about the native engine unless they say otherwise.
os.environ.setdefault("FASTSR_BACKEND", "native")
os.environ.setdefault("FASTSR_TRIAL", "0")
# Where the tests run in the background of a shell, SIGINT is ignored, and what they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with benchmark and medical images, which is not part of the repository."""
    folder = Path(os.environ.get("FASTSR_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no image data: set FASTSR_DATA (looked in {folder})")
    return folder


@pytest.fixture
def random_image() -> Callable[..., np.ndarray]:
    """Return random_image(h, w, channels, dtype, seed): (h, w, channels), or (h, w) for channels=0."""

    def make(h: int, w: int, channels: int = 3, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng([seed, h, w, channels])
        shape = (h, w, channels) if channels else (h, w)
        kind = np.dtype(dtype)
        if kind.kind == "f":
            return rng.random(shape).astype(kind)
        return rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)

    return make


@pytest.fixture
def run(capfd):
    """Return run(*arguments) -> (exit code, stdout, stderr) of the command."""

    from fastsr.cli import main

    def call(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return call
