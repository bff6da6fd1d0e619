"""ONNX Runtime with a chosen provider: that one runs or nothing does. Providers that aren't here are played."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import fastsr
from fastsr.backends import BACKENDS, choose_backends, onnx_rt
from fastsr.errors import BackendError, BackendUnavailableError, DeviceMemoryError, OptionError

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"


@pytest.fixture
def gpu(monkeypatch):
    """An ONNX Runtime whose CUDA and TensorRT providers compute on the CPU.  gpu.sessions: what they were made with."""

    state = SimpleNamespace(sessions=[], starts=True, failure=None)

    class Session:
        def __init__(self, blob, options, providers):
            (chosen,) = providers
            self._name = chosen if isinstance(chosen, str) else chosen[0]
            state.sessions.append(chosen)
            self._session = real(blob, options, providers=[CPU])

        def get_providers(self):
            return [self._name, CPU] if state.starts else [CPU]

        def run(self, *arguments):
            if state.failure:
                raise RuntimeError(state.failure)
            return self._session.run(*arguments)

    real = onnxruntime.InferenceSession
    monkeypatch.delenv("FASTSR_BACKEND", raising=False)
    monkeypatch.setattr(onnx_rt, "why_no_gpu", lambda: None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    return state


@pytest.mark.parametrize(
    ("backend", "precision", "session"),
    [
        ("onnx", "fp32", CPU),
        ("onnx", "fp16", CPU),
        ("onnx-cuda", "fp32", (CUDA, {"use_tf32": "0"})),
        ("onnx-cuda", "tf32", (CUDA, {"use_tf32": "1"})),
        ("onnx-cuda", "fp16", (CUDA, {"use_tf32": "1"})),
        ("onnx-tensorrt", "tf32", TENSORRT),
        ("onnx-tensorrt", "fp16", TENSORRT),
    ],
)
def test_the_provider_that_was_asked_for(backend, precision, session, gpu, random_image):
    x = random_image(7, 13, 3, "float32")
    sr = fastsr.load("fmen", scale=2, backend=backend, precision=precision)
    wanted = fastsr.upscale(x, scale=2, backend="native")
    assert np.abs(sr.upscale(x) - wanted).max() <= (2e-3 if precision == "fp16" else 1e-5)
    assert gpu.sessions
    assert all(made == session for made in gpu.sessions)
    assert (sr.backend, sr.last_report.precision) == (backend, precision)


def test_another_provider_is_never_used_instead(gpu):
    gpu.starts = False
    with pytest.raises(BackendUnavailableError, match=r"CUDAExecutionProvider cannot start here.*cuDNN"):
        fastsr.load("bicubic", scale=2, backend="onnx-cuda")
    assert fastsr.load("bicubic", scale=2).backend == "native"


def test_auto_takes_cuda_before_the_cpu(gpu):
    assert fastsr.load("bicubic", scale=2).backend == "onnx-cuda"


def test_a_missing_provider_is_named(gpu, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    reason = fastsr.backends()["onnx-tensorrt"]
    assert f"has {CPU} only, not {TENSORRT}: pip install onnxruntime-gpu" in reason
    monkeypatch.setattr(onnx_rt, "why_no_gpu", lambda: "no GPU here")
    with pytest.raises(BackendUnavailableError, match="backend 'onnx-cuda' cannot run here: no GPU here"):
        fastsr.load("bicubic", backend="onnx-cuda")


def test_memory_that_is_too_small(gpu, random_image):
    sr = fastsr.load("bicubic", scale=2, backend="onnx-cuda")
    gpu.failure = "Failed to allocate memory for requested buffer of size 99"
    with pytest.raises(DeviceMemoryError, match="no smaller part is possible"):
        sr.upscale(random_image(40, 40))
    gpu.failure = "CUDNN_STATUS_EXECUTION_FAILED"
    with pytest.raises(BackendError, match="CUDNN_STATUS"):
        sr.upscale(random_image(40, 40))


def test_precisions_that_a_back_end_does_not_have(monkeypatch):
    monkeypatch.delenv("FASTSR_BACKEND", raising=False)
    with pytest.raises(OptionError, match="'onnx' computes in fp32, fp16; precision is 'tf32'"):
        fastsr.load("bicubic", backend="onnx", precision="tf32")
    with pytest.raises(OptionError, match="'fp4'; one of fp32"):
        fastsr.load("bicubic", precision="fp4")
    with pytest.raises(BackendUnavailableError, match="in fp16 within max_memory"):
        fastsr.load("bicubic", precision="fp16", max_memory="64MB")
    assert fastsr.load("bicubic", precision="fp16").backend in ("onnx", "tensorrt", "onnx-cuda")


def test_the_slower_ones_are_not_even_looked_at(monkeypatch):
    """`auto` on a CPU imports neither PyTorch nor ONNX Runtime."""
    monkeypatch.delenv("FASTSR_BACKEND", raising=False)
    asked = []
    for backend in BACKENDS:
        monkeypatch.setitem(backend.__dict__, "why_unavailable", lambda name=backend.name: asked.append(name))
    assert choose_backends("auto")[-1].name == "native"
    assert not {"onnx", "torch"} & set(asked)


def test_the_way_of_the_cpu_stays_light():
    """Without a driver, choosing a back end imports nothing that a GPU would need."""
    code = (
        "import sys, ctypes; ctypes.CDLL = lambda name: (_ for _ in ()).throw(OSError(name))\n"
        "import fastsr; assert fastsr.load('bicubic').backend == 'native'\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'tensorrt', 'tensorrt_rtx', 'fastsr.backends.tensorrt.network'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "FASTSR_BACKEND"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
