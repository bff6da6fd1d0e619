"""Time and memory on a GPU, uint8 to uint8: `pytest --benchmark-only`. Beside others: `python -m benchmarks.gpu`."""

from typing import Any

import pytest

import fastsr
from benchmarks.gpu.cases import CASES, Case
from fastsr.bench.pictures import synthetic

ON_GPU = ("triton", "cuda", "tensorrt")


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("backend", ON_GPU)
def test_gpu(benchmark: Any, backend: str, case: Case, precision: str) -> None:
    reason = fastsr.backends().get(backend, "this version of FastSR has no such back end")
    if reason is not None:
        pytest.skip(f"{backend}: {reason}")
    from benchmarks.gpu.timing import Cuda

    device = Cuda()
    sr = fastsr.load(case.model, scale=case.scale, backend=backend, precision=precision)
    image = synthetic(case.height, case.width)
    benchmark.extra_info |= {"device": device.name, "peak_device_bytes": device.peak(lambda: sr.upscale(image))}
    benchmark.pedantic(sr.upscale, (image,), rounds=20, warmup_rounds=3)
