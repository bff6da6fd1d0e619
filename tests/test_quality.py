"""The shipped weights really improve on bicubic interpolation."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ROOT

import fastsr
from benchmarks.quality import quality_models, score
from benchmarks.results import OUT, read_page, weights
from fastsr.imresize import downscale
from fastsr.io import read_image

# dB above bicubic on Set5's luma that a model must have; the model cards state what it has.
BARS = [
    ("fmen", 4, 1.5), ("fmen", 3, 2.0), ("fmen", 2, 2.5), ("vdsr", 4, 0.8), ("vdsr", 3, 0.8), ("vdsr", 2, 0.8),
    ("srresnet", 4, 0.8),
]  # fmt: skip
SHIPPED = {info.name: info.scales for info in fastsr.models() if info.name in quality_models()[1:]}
PHOTOS = [(name, scale) for name, scales in SHIPPED.items() for scale in scales if name != "fmen-medical"]
SCANS = [("fmen-medical", scale) for scale in SHIPPED.get("fmen-medical", ())]


def mean_psnr(model, scale, images):
    scores = []
    for hr in images:
        sr = fastsr.upscale(downscale(hr, scale), model, scale=scale)
        scores.append(fastsr.metrics.psnr(hr, sr, border=scale, luma=True))
    return float(np.mean(scores))


@pytest.mark.parametrize(("model", "scale", "bar"), [bar for bar in BARS if bar[:2] in PHOTOS])
def test_set5(model, scale, bar, data):
    images = [read_image(path).pixels for path in sorted((data / "benchmarks" / "Set5").glob("*.png"))]
    assert len(images) == 5
    images = [hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale] for hr in images]
    gain = mean_psnr(model, scale, images) - mean_psnr("bicubic", scale, images)
    print(f"{model} x{scale}: {gain:+.2f} dB")
    assert gain >= bar


@pytest.mark.parametrize(("model", "scale"), PHOTOS)
@pytest.mark.parametrize("benchmark_set", ["Set5", "Set14"])
def test_card_tells_the_truth(model, scale, benchmark_set, data):
    """The figures in the model card are what the engine gives, measured as `fastsr eval` does."""
    stated = fastsr.load(model, scale=scale).model.card["scores"][f"{benchmark_set} x{scale}"]
    psnr, ssim = score(model, scale, data / "benchmarks" / benchmark_set)
    assert abs(psnr - stated["psnr"]) < 0.01
    assert abs(ssim - stated["ssim"]) < 0.0005


@pytest.mark.parametrize(("model", "scale"), SCANS)
def test_card_of_scans_tells_the_truth(model, scale, data):
    """Above bicubic by far, and above the network for photos of this scale."""
    card = fastsr.load(model, scale=scale).model.card
    stated = card["scores"][f"medical test x{scale}"]
    folder = data / "medical" / "slices" / "test"
    psnr, ssim = score(model, scale, folder)
    assert abs(psnr - stated["psnr"]) < 0.01
    assert abs(ssim - stated["ssim"]) < 0.0005
    assert psnr > stated["bicubic_psnr"] + 1.5
    assert psnr > score("fmen", scale, folder)[0] + 0.3
    assert card["normalization"]["kind"] == "percentile"
    assert set(card["trained_on"]["modalities"]) >= {"CT", "MR"}


@pytest.mark.parametrize("model", ["fmen", "vdsr", "srresnet"])
def test_mr_slice(model):
    """A 16-bit slice, with the range that its values have: no benchmark data needed."""
    hr = read_image(ROOT / "tests" / "fixtures" / "mr_flair.png").pixels[:128, :156]
    assert hr.dtype == np.uint16
    lr = downscale(hr, 4)
    window = (0, 577)
    scores = {
        name: fastsr.metrics.psnr(hr, fastsr.upscale(lr, name, value_range=window), data_range=577, border=4)
        for name in (model, "bicubic")
    }
    assert scores[model] > scores["bicubic"] + 0.5


def test_results_page_keeps_the_figures_of_the_same_weights_only():
    page = OUT.read_text(encoding="utf-8")
    known = read_page(page)
    shipped = {(name, scale) for name, scales in SHIPPED.items() for scale in scales}
    assert {key[:2] for key in known} == shipped | {("bicubic", 2), ("bicubic", 3), ("bicubic", 4)}
    stated = fastsr.load("fmen", scale=4).model.card["scores"]["Set14 x4"]
    assert known["fmen", 4, "Set14"] == f"{stated['psnr']:.2f} / {stated['ssim']:.4f}"
    others = read_page(page.replace(weights("fmen", 4), "0" * 12))
    assert others == {key: value for key, value in known.items() if key[:2] != ("fmen", 4)}
    assert any(key[0] == "fmen-medical" for key in others)
