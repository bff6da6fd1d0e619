"""Networks for scans: windows of percentiles, one channel, a start from RGB weights, cards that say so."""

import csv
import dataclasses

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

import fastsr  # noqa: E402
from fastsr.errors import OptionError  # noqa: E402
from fastsr.graph.grey import LUMA  # noqa: E402
from fastsr.imresize import downscale  # noqa: E402
from training import export, validate  # noqa: E402
from training.crops import Crops  # noqa: E402
from training.data import load_sets, make_pairs, read_scan, set_folder  # noqa: E402
from training.loop import Training  # noqa: E402
from training.nets import FMEN  # noqa: E402
from training.recipe import Recipe  # noqa: E402
from training.start import grey_form, start_from  # noqa: E402

SMALL = Recipe(
    "small", "fmen", (2,), steps=8, batch=2, crop=32, lr=1e-3, data={"medical": 1.0}, colours=1, jitter=0.15,
    model="fmen-medical",
)  # fmt: skip


@pytest.fixture
def scans(tmp_path, monkeypatch):
    """A data folder with three 12-bit slices to train on and two of another subject to test on."""
    slices = tmp_path / "medical" / "slices"
    rng = np.random.default_rng(7)
    rows = []
    for i, split in enumerate(["train", "train", "train", "test", "test"]):
        (slices / split).mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 1500, (7, 9)).astype(np.uint16)
        pixels = coarse.repeat(8, 0).repeat(8, 1) + rng.integers(0, 40, (56, 72)).astype(np.uint16)
        Image.fromarray(pixels).save(slices / split / f"s{i}.png")
        low, high = np.percentile(pixels, (0.5, 99.5))
        kind, values = ("MRT1", "stored values") if i else ("CT", "HU+1024, clipped 0..4095")
        ends = (pixels.min(), pixels.max(), low, high)
        rows.append([f"{split}/s{i}.png", split, f"person_{split}", kind, values, *ends])
    with (slices / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [["file", "split", "subject", "modality", "values", "min", "max", "p0.5", "p99.5"], *rows]
        )
    monkeypatch.setenv("FASTSR_DATA", str(tmp_path))
    return slices


def test_scans_are_windowed_and_reduced_without_rounding(scans):
    sets = load_sets(SMALL)
    assert len(sets[0].hr) == 3  # the test slices stay out
    path = scans / "train" / "s1.png"
    pixels = fastsr.io.read_image(path).pixels
    hr = read_scan(path, (0.5, 99.5))
    low, high = np.percentile(pixels, (0.5, 99.5))
    np.testing.assert_allclose(hr[:, :, 0], (pixels - low) / (high - low), atol=1e-6)
    assert hr.max() > 1  # nothing is clipped
    lr = sets[0].lr[2][1]
    assert lr.dtype == np.float32
    np.testing.assert_allclose(lr[:, :, 0], downscale(hr[:, :, 0].astype(np.float64), 2), atol=1e-6)


def test_jitter_moves_lr_and_hr_alike():
    flat = [np.full((40, 40, 1), 0.25, np.float32)]
    crops = Crops([make_pairs(flat, (2,))], batch=16, crop=16, seed=1, jitter=0.2)
    lr, hr, _ = crops.next()
    values = hr[:, 0, 0, 0]
    assert torch.allclose(lr[:, 0, 0, 0], values, atol=1e-6)
    assert values.std() > 0.05
    # the window's ends lie within 0.2 of 0 and 1
    assert (values >= (0.25 - 0.2) / (1 + 0.2 - 0.2) - 1e-6).all()
    assert (values <= (0.25 + 0.2) / (1 - 0.2 + 0.2) + 1e-6).all()


def test_never_trains_on_test_slices(scans):
    with pytest.raises(OptionError, match="measured on"):
        set_folder(str(scans / "test"))
    assert set_folder("medical").parts[-2:] == ("slices", "train")


@pytest.mark.parametrize("scale", [2, 4])
def test_start_from_rgb_equals_the_luma_of_the_rgb_network(scale, tmp_path):
    torch.manual_seed(3)
    rgb = FMEN(scale).eval()
    grey = FMEN(scale, colours=1).eval()
    grey.load_state_dict(grey_form(rgb.state_dict()))
    x = torch.rand(2, 1, 7, 13)
    with torch.no_grad():
        wanted = torch.einsum("c,nchw->nhw", torch.tensor(LUMA), rgb(x.expand(-1, 3, -1, -1)))
        torch.testing.assert_close(grey(x)[:, 0], wanted, atol=1e-5, rtol=0)


def test_training_starts_from_an_rgb_checkpoint(tmp_path):
    pairs = make_pairs([np.random.default_rng(1).random((40, 44, 1), np.float32)], (2,))
    rgb = FMEN(2)
    torch.save({"ema": rgb.state_dict()}, tmp_path / "rgb.pt")
    training = Training(SMALL, Crops([pairs], 2, 32, 1))
    assert start_from(training, tmp_path / "rgb.pt") == len(training.net.state_dict())
    assert torch.equal(training.net.head.weight, rgb.head.weight.sum(1, keepdim=True))
    assert torch.equal(training.ema.head.weight, training.net.head.weight)


def test_card_and_exported_model(scans, tmp_path):
    training = Training(SMALL, Crops(load_sets(SMALL), 2, 32, 1, jitter=0.15))
    training.run_step(0.1)
    net = training.result()
    assert np.isfinite(validate.validate(net, SMALL))
    export.save_inference(training, net, tmp_path / "x.pt", 20.0)
    export.export(tmp_path / "x.pt", tmp_path / "x.fsr")
    card = fastsr.load(tmp_path / "x.fsr").model.card
    assert card["normalization"] == {"kind": "percentile", "low": 0.5, "high": 99.5}
    assert card["trained_on"]["modalities"] == ["CT", "MR"]
    assert card["trained_on"]["slices"] == 3
    ct = fastsr.io.read_image(scans / "train" / "s0.png").pixels.astype(int) - 1024
    assert card["trained_on"]["range"] == {"CT": [ct.min(), ct.max()]}  # as the guard reads it; MR has no units
    assert card["scores"]["medical test x2"]["psnr_by_subject"].keys() == {"person_test"}
    upscaler = fastsr.load(tmp_path / "x.fsr")
    assert (upscaler.name, upscaler.scale) == ("fmen-medical", 2)
    x = np.random.default_rng(2).random((7, 13)).astype(np.float32)
    np.testing.assert_allclose(upscaler.upscale(x), validate.run(net, x, 2), atol=1e-4)


def test_recipe_errors():
    with pytest.raises(OptionError, match="colours"):
        dataclasses.replace(SMALL, colours=3)
    with pytest.raises(OptionError, match="colours"):
        dataclasses.replace(SMALL, net="vdsr", data={"photos": 1.0})
    with pytest.raises(OptionError, match="window"):
        dataclasses.replace(SMALL, window=(99.0, 1.0))
    with pytest.raises(OptionError, match="jitter"):
        dataclasses.replace(SMALL, jitter=0.5)


def test_wrong_slices_are_named(scans):
    path = scans / "train" / "s0.png"
    Image.new("RGB", (56, 72), (10, 20, 30)).save(path)
    with pytest.raises(OptionError, match=r"s0\.png"):
        load_sets(SMALL)
