"""The page of the paper's experiment: its tables, its pictures, and what differs here."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from torch import nn

import fastsr
from fastsr import evaluation
from fastsr.graph import CompiledModel
from fastsr.imresize import crop_to_multiple, downscale
from fastsr.io import atomic_output
from training.data import data_root
from training.nets import FMENInference, SRGANDiscriminator, SRGANGenerator, VDSRInference
from training.recipe import Recipe

SCALE = 4
# What the figures show enlarged: (left, top, side) in HR pixels.
FIGURES = {"baby": (112, 152, 96), "butterfly": (88, 44, 80)}
COLUMNS = ("LR", "bicubic", "VDSR", "SRGAN", "FMEN", "ground truth")
WIDTH, GAP, CAPTION = 256, 8, 24  # pixels of a figure
Pixels = npt.NDArray[np.uint8]


def write_page(out: Path, recipes: Mapping[str, Recipe]) -> Path:
    """Measure the networks in out/NAME/NAME.fsr on Set5 and write out/page/README.md with its pictures."""
    page = out / "page"
    page.mkdir(parents=True, exist_ok=True)
    models = {name: CompiledModel.load(out / name / f"{name}.fsr") for name in recipes}
    for name in recipes:
        shutil.copyfile(out / name / "curve.png", page / f"curve_{name}.png")
    scored: dict[str, str | CompiledModel] = {"bicubic": "bicubic", **models}
    folder = data_root() / "benchmarks" / "Set5"
    scores = {
        name: evaluation.evaluate(fastsr.load(model, scale=SCALE).upscale, SCALE, evaluation.references(folder))
        for name, model in scored.items()
    }
    drawn = [image for image in evaluation.references(folder) if image.name in FIGURES]
    for image in drawn:
        hr = crop_to_multiple(image.pixels, SCALE)
        lr = downscale(hr, SCALE)
        results = [fastsr.upscale(lr, scored[n]) for n in ("bicubic", "vdsr", "srgan", "fmen")]
        panels = [lr.repeat(SCALE, 0).repeat(SCALE, 1), *results, hr]
        _write_png(figure(panels, FIGURES[image.name]), page / f"{image.name}.png")
    lines = [HEAD, _table1(recipes), _table2(), _results(scores), *(f"\n![{i.name}]({i.name}.png)\n" for i in drawn)]
    lines += [CURVES, *(f"![{name}](curve_{name}.png)\n" for name in recipes), _foot(models)]
    with atomic_output(page / "README.md", overwrite=True) as file:
        file.write("\n".join(lines).encode())
    return page / "README.md"


HEAD = """# The paper's experiment, repeated

Xu et al., "Deep Learning Based Medical Image Super Resolution Reconstruction": FMEN, VDSR and SRGAN are trained for
x4 on photos and compared on Set5, by PSNR (its equations 1 and 2) and SSIM (equation 7, in Wang's Gaussian window).

Training images: BSD200, less one photo (302003), of which Set5's `woman` is a reduced copy. The paper adds
General100, which could not be obtained. LR is made as MATLAB's imresize does (bicubic, antialiased, 8 bit).
"""
CURVES = "## How they learned\n"


def _table1(recipes: Mapping[str, Recipe]) -> str:
    lines = ["## Table 1: crops in training", "", "| network | input | output |", "|---|---|---|"]
    for title, name in (("FMEN", "fmen"), ("VDSR", "vdsr"), ("SRGAN", "srgan")):
        crop = recipes[name].crop
        side = crop if name == "vdsr" else crop // SCALE
        lines.append(f"| {title} | {side} x {side} x 3 | {crop} x {crop} x 3 |")
    return "\n".join(lines) + "\n\nVDSR's input is the image that bicubic interpolation has enlarged.\n"


def _table2() -> str:
    """Count parameters as the paper does: FMEN re-parameterized, SRGAN with its discriminator."""
    nets: dict[str, list[nn.Module]] = {
        "VDSR": [VDSRInference()],
        "SRGAN": [SRGANGenerator(), SRGANDiscriminator()],
        "FMEN": [FMENInference(SCALE)],
    }
    lines = ["## Table 2: parameters", "", "| network | parameters |", "|---|--:|"]
    for title, parts in nets.items():
        lines.append(f"| {title} | {sum(p.numel() for net in parts for p in net.parameters()):,} |")
    return "\n".join(lines) + "\n\nSRGAN is generator and discriminator; the generator alone upscales.\n"


def _results(scores: Mapping[str, Sequence[evaluation.Score]]) -> str:
    lines = [
        "## Set5, x4",
        "",
        "PSNR in dB / SSIM over the RGB colours of 8-bit results, 4 pixels cut from each side; in the last column of",
        "the luma, as most papers have it. `srresnet` is SRGAN's generator before it met the discriminator, which",
        "makes pictures look sharper and costs PSNR.",
        "",
    ]
    names = [s.name for s in scores["bicubic"]]
    lines += ["| network | " + " | ".join(names) + " | mean | luma |", "|---|" + "--:|" * (len(names) + 2)]
    for network, found in scores.items():
        mean = evaluation.mean(found)
        pairs = [(s.psnr_rgb, s.ssim_rgb) for s in found]
        pairs += [(mean["psnr_rgb"], mean["ssim_rgb"]), (mean["psnr"], mean["ssim"])]
        lines.append(f"| {network} | " + " | ".join(f"{psnr:.2f} / {ssim:.4f}" for psnr, ssim in pairs) + " |")
    return "\n".join(lines) + "\n"


def _foot(models: Mapping[str, CompiledModel]) -> str:
    lines = [
        "## How it was made",
        "",
        "| run | steps | minutes | machine | PyTorch | commit |",
        "|---|--:|--:|---|---|---|",
    ]
    for name, model in models.items():
        c = model.card
        minutes = round(c["seconds"] / 60)
        lines.append(f"| {name} | {c['steps']} | {minutes} | {c['machine']} | {c['torch']} | {c['commit']} |")
    made = f"`python -m training.paper`, {datetime.date.today().isoformat()}, FastSR {fastsr.__version__}."
    return "\n".join(lines) + f"\n\n{made} Recipes: training/recipes/paper.\n"


def figure(panels: Sequence[Pixels], box: tuple[int, int, int]) -> Pixels:
    """Draw the panels (H, W, 3) in a row, below each its crop `box` (left, top, side), enlarged pixel by pixel."""
    font = ImageFont.load_default(size=15)
    H, W = panels[0].shape[:2]
    side = min(box[2], H, W)
    left, top = min(box[0], W - side), min(box[1], H - side)
    height = round(H * WIDTH / W)
    canvas = Image.new("RGB", (len(panels) * (WIDTH + GAP) - GAP, CAPTION + height + GAP + WIDTH), "white")
    pen = ImageDraw.Draw(canvas)
    for i, (title, pixels) in enumerate(zip(COLUMNS, panels, strict=True)):
        x = i * (WIDTH + GAP)
        pen.text((x, 2), title, fill="black", font=font)
        how = Image.Resampling.BOX if W > WIDTH else Image.Resampling.NEAREST
        canvas.paste(Image.fromarray(pixels).resize((WIDTH, height), how), (x, CAPTION))
        f = WIDTH / W
        frame = (x + left * f, CAPTION + top * f, x + (left + side) * f - 1, CAPTION + (top + side) * f - 1)
        pen.rectangle(frame, outline=(255, 160, 0))
        crop = Image.fromarray(pixels[top : top + side, left : left + side])
        canvas.paste(crop.resize((WIDTH, WIDTH), Image.Resampling.NEAREST), (x, CAPTION + height + GAP))
    return np.asarray(canvas)


def _write_png(pixels: Pixels, path: Path) -> None:
    with atomic_output(path, overwrite=True) as file:
        Image.fromarray(pixels).save(file, "PNG", optimize=True)
