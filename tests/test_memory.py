"""`max_memory` is a promise, measured in a process of its own: peak of the resident set above input and result."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import fastsr

if not sys.platform.startswith("linux"):
    pytest.skip("reads /proc", allow_module_level=True)

MEASURE = """
import sys, numpy as np, fastsr
h, w, channels, dtype, model, budget, threads = sys.argv[1:]
h, w, channels = int(h), int(w), int(channels)
rng = np.random.default_rng(0)
x = rng.integers(0, 255, (h, w, channels), dtype=np.uint8).astype(dtype)
if channels == 4:
    x[5:-5, 5:-5, 3] = 0

def status(key):
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1]) * 1024

sr = fastsr.load(model, scale=4, threads=int(threads), max_memory=budget)
sr.upscale(x[:9, :9])  # the model's own memory, and code that loads on first use
np.empty(1 << 22, np.uint8).fill(1)
with open("/proc/self/clear_refs", "w") as f:
    f.write("5")
before = status("VmRSS")
y = sr.upscale(x)
peak = status("VmHWM")
print(peak - before - y.nbytes)
"""


def measured(h, w, channels, dtype, model, budget, threads=2):
    arguments = [str(v) for v in (h, w, channels, dtype, model, budget, threads)]
    result = subprocess.run([sys.executable, "-c", MEASURE, *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


# What the interpreter, the threads' stacks and the page granularity may add to the measurement.
SLACK = 1 << 20


@pytest.mark.parametrize(
    ("model", "h", "w", "channels", "dtype", "budget"),
    [
        ("fmen", 180, 320, 3, "uint8", 12_000_000),
        ("fmen", 180, 320, 3, "uint8", 10_000_000),
        ("fmen", 90, 1500, 3, "float32", 16_000_000),
        ("vdsr", 40, 300, 1, "uint8", 8_000_000),
        ("srresnet", 40, 200, 3, "uint16", 16_000_000),
        ("fmen", 90, 200, 4, "uint8", 24_000_000),
        ("fmen", 90, 200, 3, "float64", 24_000_000),
    ],
)
def test_working_memory_stays_below_the_budget(model, h, w, channels, dtype, budget):
    assert measured(h, w, channels, dtype, model, budget) <= budget + SLACK


@pytest.mark.parametrize(("h", "w", "channels", "dtype"), [(90, 200, 4, "uint8"), (60, 90, 3, "float64")])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("times", [1, 1.5, 3])
def test_tight_budgets_hold_where_pixels_are_converted(h, w, channels, dtype, threads, times, random_image):
    """Bands of rows come and go: memory that is given back must really be gone."""
    with pytest.raises(fastsr.MemoryBudgetError) as refused:
        fastsr.upscale(random_image(h, w, channels, dtype), threads=threads, max_memory=1000)
    budget = int(refused.value.least * times)
    assert measured(h, w, channels, dtype, "fmen", budget, threads) <= budget + SLACK


@pytest.mark.parametrize(("channels", "dtype"), [(3, "uint8"), (4, "uint8"), (3, "float64"), (1, ">u2")])
def test_the_least_that_would_do_does(channels, dtype, random_image):
    x = random_image(60, 90, channels, np.dtype(dtype).newbyteorder("=").name).astype(dtype)
    wanted = fastsr.upscale(x)
    with pytest.raises(fastsr.MemoryBudgetError, match=r"max_memory is 1000 bytes.*at least") as refused:
        fastsr.upscale(x, max_memory=1000)
    least = refused.value.least
    assert str(least) in str(refused.value)
    assert np.array_equal(fastsr.upscale(x, max_memory=least), wanted)
    with pytest.raises(fastsr.MemoryBudgetError):
        fastsr.upscale(x, max_memory=least - 1)


def test_memory_does_not_grow_with_the_height():
    from fastsr.backends.native import NativeRunner
    from fastsr.models import open_model

    runner = NativeRunner(open_model("fmen", 4), 4, 3, 2)
    short = runner.memory(200, 300, (0, 0, 300, 200), None)
    tall = runner.memory(20000, 300, (0, 0, 300, 20000), None)
    assert tall == short
