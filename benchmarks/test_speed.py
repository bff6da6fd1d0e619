"""uint8 to uint8 on the native engine: `pytest --benchmark-only`. For comparisons with others: benchmarks.speed."""

from typing import Any

import numpy as np
import pytest

import fastsr

CASES = [
    ("fmen", 4, 180, 320),
    ("fmen", 4, 540, 960),
    ("vdsr", 4, 64, 64),
    ("srresnet", 4, 128, 128),
    ("bicubic", 4, 180, 320),
]


@pytest.mark.parametrize(("model", "scale", "height", "width"), CASES)
@pytest.mark.parametrize("threads", [1, 2])
def test_upscale(benchmark: Any, model: str, scale: int, height: int, width: int, threads: int) -> None:
    upscaler = fastsr.load(model, scale=scale, threads=threads)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    benchmark.extra_info["isa"] = upscaler.isa
    benchmark.pedantic(upscaler.upscale, (image,), rounds=5, warmup_rounds=1)
