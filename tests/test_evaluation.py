"""What `fastsr eval` measures: as the literature does on photos, in units of a window on scans."""

import csv
import io
import json

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import fastsr
from fastsr import evaluation
from fastsr.compare import enlarge_bicubic
from fastsr.errors import ImageFileError, OptionError, ShapeError
from fastsr.evaluation import Reference
from fastsr.imresize import downscale
from fastsr.metrics import luma_bt601, psnr, ssim


def command(*arguments):
    from fastsr.cli import main

    with pytest.raises(SystemExit) as status:
        main(["eval", *map(str, arguments)])
    return status.value.code


def bicubic(scale):
    return lambda lr: enlarge_bicubic(lr, scale)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_photo_is_scored_step_by_step(scale, random_image):
    hr = random_image(41, 53).repeat(2, 0).repeat(2, 1)
    s = evaluation.score(bicubic(scale), scale, Reference("x", hr))
    hr = hr[: 82 // scale * scale, : 106 // scale * scale]
    sr = enlarge_bicubic(downscale(hr, scale), scale)
    inside = slice(scale, -scale), slice(scale, -scale)
    a, b = luma_bt601(hr)[inside], luma_bt601(sr)[inside]
    assert s.psnr == pytest.approx(10 * np.log10(255**2 / ((a - b) ** 2).mean()))
    a, b = hr[inside].astype(float), sr[inside].astype(float)
    assert s.psnr_rgb == pytest.approx(10 * np.log10(255**2 / ((a - b) ** 2).mean()))
    assert s.ssim == ssim(hr, sr, border=scale, luma=True)
    assert s.ssim_rgb == ssim(hr, sr, border=scale)


def test_scan_is_scored_in_units_of_its_window(random_image):
    hr = (random_image(24, 30, 0, "uint16") // 64).repeat(2, 0).repeat(2, 1)
    window = evaluation.percentile_window(hr, (0.5, 99.5))
    s = evaluation.score(bicubic(2), 2, Reference("x", hr, window))
    sr = enlarge_bicubic(downscale(hr.astype(np.float64), 2), 2)
    wanted = psnr(hr.astype(np.float64), sr, data_range=window[1] - window[0], border=2)
    assert s.psnr == pytest.approx(wanted, abs=1e-3)  # float32
    assert not s.colour
    assert s.psnr_rgb == s.psnr
    moved = Reference("x", hr + np.uint16(5000), (window[0] + 5000, window[1] + 5000))
    assert evaluation.score(bicubic(2), 2, moved).psnr == pytest.approx(s.psnr, abs=1e-3)


@pytest.fixture
def slices(tmp_path):
    """Two slices of one subject and one of another, with a manifest in the folder above."""
    folder = tmp_path / "slices" / "test"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(4)
    lines = ["file,subject,p0.5,p99.5"]
    for name, subject in (("a1", "anna"), ("a2", "anna"), ("b1", "bert")):
        pixels = rng.integers(0, 900, (20, 22)).astype(np.uint16).repeat(2, 0).repeat(2, 1)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        lines.append(f"test/{name}.png,{subject},10,890")
    (folder.parent / "manifest.csv").write_text("\n".join([*lines, "train/a1.png,carl,0,1"]))
    return folder


def test_manifest_states_windows_and_subjects(slices):
    found = list(evaluation.references(slices))
    assert [(r.name, r.group, r.window) for r in found] == [
        ("a1", "anna", (10, 890)),
        ("a2", "anna", (10, 890)),
        ("b1", "bert", (10, 890)),
    ]
    stated = list(evaluation.references(slices, (5, 95)))
    assert stated[0].window == evaluation.percentile_window(stated[0].pixels, (5, 95))
    scores = evaluation.evaluate(bicubic(2), 2, found)
    groups = evaluation.by_group(scores)
    assert groups["anna"]["psnr"] == pytest.approx((scores[0].psnr + scores[1].psnr) / 2)
    assert evaluation.mean(scores)["psnr"] == pytest.approx(np.mean([s.psnr for s in scores]))


def test_broken_manifest_is_named(slices):
    manifest = slices.parent / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("10,890", "890,890"))
    with pytest.raises(ImageFileError, match=r"manifest\.csv.*a1\.png"):
        list(evaluation.references(slices))


@pytest.mark.parametrize("style", evaluation.STYLES)
def test_command_reports_each_image_and_the_mean(slices, style, tmp_path, capsys):
    assert command("--model", "bicubic", "--scale", 2, "--data", slices, "--style", style) == 0
    printed = capsys.readouterr().out
    scores = evaluation.evaluate(fastsr.load("bicubic", scale=2).upscale, 2, evaluation.references(slices))
    if style == "json":
        report = json.loads(printed)
        assert report["images"]["b1"]["psnr"] == scores[2].psnr
        assert report["groups"].keys() == {"anna", "bert"}
        assert (report["model"], report["scale"], report["data"]) == ("bicubic", 2, "test")
    elif style == "csv":
        rows = list(csv.reader(io.StringIO(printed)))
        assert rows[0] == ["image", "psnr", "ssim"]
        assert float(rows[1][1]) == scores[0].psnr
        assert rows[-1][0] == "mean"
    else:
        assert f"| a2 | {scores[1].psnr:.2f} | {scores[1].ssim:.4f} |" in printed
        assert "| mean of anna |" in printed
    out = tmp_path / "out.txt"
    assert command("--model", "bicubic", "--scale", 2, "--data", slices, "--style", style, "-o", out) == 0
    assert out.read_bytes().decode() == printed
    assert command("--model", "bicubic", "--scale", 2, "--data", slices, "-o", out) == 1
    assert "overwrit" in capsys.readouterr().err


def test_equal_images_are_valid_json():
    scores = evaluation.evaluate(
        lambda lr: np.full((40, 40), 7, np.uint8), 2, [Reference("x", np.full((40, 40), 7, np.uint8))]
    )
    assert json.loads(evaluation.report(scores, "json", {}))["images"]["x"] == {"psnr": None, "ssim": 1.0}


def test_wrong_input(tmp_path, slices, capsys):
    with pytest.raises(OptionError, match="no folder"):
        list(evaluation.references(tmp_path / "none"))
    with pytest.raises(OptionError, match="no image files"):
        list(evaluation.references(tmp_path))
    with pytest.raises(ShapeError, match="19 pixels"):
        evaluation.score(bicubic(4), 4, Reference("small", np.zeros((18, 40), np.uint8)))
    with pytest.raises(OptionError, match="window"):
        evaluation.score(bicubic(4), 4, Reference("signed", np.zeros((40, 40), np.int16)))
    assert command("--data", slices, "--style", "latex", "--model", "bicubic") == 2
    assert "markdown, csv, json" in capsys.readouterr().err


def test_mr_fixture_gains_from_the_network():
    hr = fastsr.io.read_image(ROOT / "tests" / "fixtures" / "mr_flair.png").pixels
    image = Reference("mr", hr, evaluation.percentile_window(hr, (0.5, 99.5)))
    scores = {name: evaluation.score(fastsr.load(name).upscale, 4, image).psnr for name in ("fmen", "bicubic")}
    assert scores["fmen"] > scores["bicubic"] + 0.5


def test_results_page_is_written(tmp_path, slices, random_image, monkeypatch, capsys):
    import shutil
    import sys

    from benchmarks import results

    data = tmp_path / "data"
    (data / "benchmarks" / "Set5").mkdir(parents=True)
    Image.fromarray(random_image(5, 6).repeat(8, 0).repeat(8, 1)).save(data / "benchmarks" / "Set5" / "a.png")
    shutil.copytree(slices.parent, data / "medical" / "slices")
    monkeypatch.setattr(results, "quality_models", lambda: ["bicubic", "fmen"])
    monkeypatch.setattr(sys, "argv", ["results", "--data", str(data), "--out", str(tmp_path / "results.md")])
    results.main()
    text = (tmp_path / "results.md").read_text()
    psnr, ssim = results.score("fmen", 4, data / "benchmarks" / "Set5")
    assert f"| x4 | fmen | {psnr:.2f} / {ssim:.4f} |" in text
    assert "| x4 | *fmen, published* | 32.24 |" in text
    psnr, ssim = results.score("bicubic", 2, slices)
    assert f"| bicubic | {psnr:.2f} / {ssim:.4f} | " in text
    assert fastsr.load("fmen").model.sha256[:12] in text
    assert str(tmp_path) not in text
