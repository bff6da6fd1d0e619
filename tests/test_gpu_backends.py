"""Back ends on a real GPU: every precision agrees with the CPU as closely as it says. Skipped where there is none."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import fastsr
from fastsr.backends import BACKENDS
from fastsr.backends.precision import TOLERANCES

CASES = [(b.name, p) for b in BACKENDS if b.gpu for p in b.precisions if p in TOLERANCES]


@pytest.fixture
def on_gpu():
    """Return load(model, backend, precision, scale), which skips where the back end cannot run."""

    def load(model, backend, precision, scale):
        reason = fastsr.backends()[backend]
        if reason:
            pytest.skip(reason)
        return fastsr.load(model, scale=scale, backend=backend, precision=precision)

    return load


@pytest.mark.parametrize(("backend", "precision"), CASES)
@pytest.mark.parametrize(("model", "scale"), [("fmen", 4), ("vdsr", 2), ("srresnet", 4), ("bicubic", 3)])
def test_results_agree_with_the_cpu(model, scale, backend, precision, on_gpu, random_image):
    sr = on_gpu(model, backend, precision, scale)
    for h, w, channels in [(1, 1, 3), (1, 41, 0), (7, 13, 3), (67, 90, 0), (120, 97, 3)]:
        x = random_image(h, w, channels, "float32")
        wanted = fastsr.upscale(x, model, scale=scale, backend="native")
        error = np.abs(sr.upscale(x) - wanted).max() / max(1, np.abs(wanted).max())
        assert error <= TOLERANCES[precision], (h, w, channels)
    part = sr.region(x, (10, 20, 60, 70))
    assert np.abs(part - wanted[20 * scale : 70 * scale, 10 * scale : 60 * scale]).max() <= 2 * TOLERANCES[precision]


@pytest.mark.parametrize(("backend", "precision"), [(b, p) for b, p in CASES if p != "bf16"])  # 8 bits are too few
def test_psnr_on_set5_is_that_of_fp32(backend, precision, on_gpu, data):
    from fastsr import evaluation

    sr = on_gpu("fmen", backend, precision, 4)
    native = fastsr.load("fmen", scale=4, backend="native")
    images = list(evaluation.references(data / "benchmarks" / "Set5"))
    found, wanted = (evaluation.mean(evaluation.evaluate(s.upscale, 4, images))["psnr"] for s in (sr, native))
    assert abs(found - wanted) < 0.01


@pytest.mark.parametrize(("backend", "precision"), CASES)
def test_threads_and_images_larger_than_an_engine_takes(backend, precision, on_gpu, random_image):
    sr = on_gpu("fmen", backend, precision, 2)
    x = random_image(1300, 2100, 3, "uint8")
    wanted = fastsr.upscale(x, scale=2, backend="native").astype(int)
    results = {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: sr.upscale(x)})) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for result in results.values():
        assert np.abs(result - wanted).max() <= 1 + 2 * 255 * TOLERANCES[precision]
