"""uint8 to uint8 on the native engine: `pytest --benchmark-only`. Beside others, and memory: `fastsr bench`."""

from typing import Any

import pytest

import fastsr
from fastsr.bench.cases import CASES
from fastsr.bench.pictures import synthetic

LARGEST = 1 << 20  # LR pixels; larger cases are for `fastsr bench`
SIZES = sorted({(c.model, c.scale, c.height, c.width) for c in CASES if c.height * c.width <= LARGEST})


@pytest.mark.parametrize(("model", "scale", "height", "width"), [*SIZES, ("bicubic", 4, 180, 320)])
@pytest.mark.parametrize("threads", [1, 2])
def test_upscale(benchmark: Any, model: str, scale: int, height: int, width: int, threads: int) -> None:
    upscaler = fastsr.load(model, scale=scale, threads=threads)
    benchmark.extra_info["isa"] = upscaler.isa
    benchmark.pedantic(upscaler.upscale, (synthetic(height, width),), rounds=5, warmup_rounds=1)
