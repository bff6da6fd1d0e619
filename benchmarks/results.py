"""Write docs/results.md: every shipped model on every benchmark, beside bicubic and the published figures.

    python -m benchmarks.results                   # FASTSR_DATA names the data folder

Needs the data folder (benchmarks/Set5 and so on, medical/slices/test), not PyTorch. Figures of weights that the page
already names, by their hash, are kept; --anew measures all.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import fastsr
from benchmarks.quality import DATA, cell, quality_models, score
from fastsr.io import atomic_output

SETS = ("Set5", "Set14", "B100", "Urban100_12")
MEDICAL = "fmen-medical"
SCANS = "medical test"
OUT = Path(__file__).resolve().parent.parent / "docs" / "results.md"

# Luma PSNR / SSIM as published, on Set5, Set14, B100. FMEN: Du et al. 2022. VDSR: Kim et al. 2016.
# SRResNet (16 blocks; here 5) and SRGAN: Ledig et al. 2017, whose SSIM is computed differently.
PUBLISHED = {
    ("fmen", 4): ("32.24", "28.70", "27.63"),
    ("vdsr", 2): ("37.53 / 0.9587", "33.03 / 0.9124", "31.90 / 0.8960"),
    ("vdsr", 3): ("33.66 / 0.9213", "29.77 / 0.8314", "28.82 / 0.7976"),
    ("vdsr", 4): ("31.35 / 0.8838", "28.01 / 0.7674", "27.29 / 0.7251"),
    ("srresnet", 4): ("32.05 / 0.9019", "28.49 / 0.8184", "27.58 / 0.7620"),
    ("srgan", 4): ("29.40 / 0.8472", "26.02 / 0.7397", "25.16 / 0.6688"),
}

HEAD = """# Results

Luma PSNR in dB and SSIM of every model that FastSR ships. HR is reduced as MATLAB's imresize does (bicubic,
antialiased, 8 bit), results are rounded to 8 bit, `scale` pixels are cut from each side. Urban100_12 is every eighth
image of Urban100, so its figures are not comparable with published ones. "published" is what the network's authors
report; their training data is larger. SRGAN is trained to look sharp, which costs PSNR.
"""
MEDICAL_HEAD = """
## Medical slices

Slices of subjects that no network was trained on, in floating point; the peak is the width of the window between the
percentiles 0.5 and 99.5 of each slice. Means over slices; PSNR in dB and SSIM. They show that training on scans
helps; they are too few for claims about any modality.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds benchmarks/ and medical/")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="of photos; default: all")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--anew", action="store_true", help="measure what the page already has, too")
    options = parser.parse_args()
    known = {} if options.anew or not options.out.exists() else read_page(options.out.read_text(encoding="utf-8"))
    text = (
        HEAD
        + photos(options.data / "benchmarks", options.sets, known)
        + MEDICAL_HEAD
        + scans(options.data / "medical/slices/test", known)
        + foot()
    )
    with atomic_output(options.out, overwrite=True) as file:
        file.write(text.encode())
    print(options.out)


Cells = Mapping[tuple[str, int, str], str]  # of a model, scale and set


def read_page(text: str) -> Cells:
    """Return the cells of an earlier page whose weights are those that are shipped now, or that have none."""
    stated = set(re.findall(r"(\S+) x(\d) ([0-9a-f]{12})\b", text))
    same = {(name, scale) for name, scale in shipped() if (name, str(scale), weights(name, scale)) in stated}
    same |= {("bicubic", scale) for scale in (2, 3, 4)}
    cells: dict[tuple[str, int, str], str] = {}
    header: list[str] = []
    for line in text.splitlines():
        row = [part.strip() for part in line.strip("|").split("|")] if line.startswith("|") else []
        if row[:1] in (["scale"], ["model"]):
            header = row
        elif header[:1] == ["scale"] and re.fullmatch(r"x\d", row[0] if row else ""):
            cells |= {(row[1], int(row[0][1:]), name): value for name, value in zip(header[2:], row[2:], strict=True)}
        elif header[:1] == ["model"] and row and not row[0].startswith("-"):
            cells |= {(row[0], int(x[1:]), SCANS): value for x, value in zip(header[1:], row[1:], strict=True)}
    return {key: value for key, value in cells.items() if key[:2] in same}


def figures(model: str, scale: int, folder: Path, name: str, known: Cells) -> str:
    return known.get((model, scale, name)) or cell(score(model, scale, folder))


def photos(folder: Path, wanted: list[str], known: Cells) -> str:
    sets = [name for name in wanted if (folder / name).is_dir()]
    lines = ["", "| scale | model | " + " | ".join(sets) + " |", "|---|---|" + "--:|" * len(sets)]
    scales = {info.name: info.scales for info in fastsr.models()}
    for scale in (2, 3, 4):
        for model in quality_models():
            if scale not in scales[model] or model == MEDICAL:
                continue
            cells = [figures(model, scale, folder / name, name, known) for name in sets]
            lines.append(f"| x{scale} | {model} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
            if (model, scale) in PUBLISHED:
                published = dict(zip(SETS, PUBLISHED[model, scale], strict=False))
                lines.append(
                    f"| x{scale} | *{model}, published* | " + " | ".join(published.get(n, "") for n in sets) + " |"
                )
    return "\n".join(lines) + "\n"


def scans(folder: Path, known: Cells) -> str:
    wanted = (2, 4)
    scales = {info.name: info.scales for info in fastsr.models()}
    lines = ["", "| model | " + " | ".join(f"x{s}" for s in wanted) + " |", "|---|" + "--:|" * len(wanted)]
    for model in ("bicubic", "fmen", MEDICAL):
        if model in scales:
            cells = [figures(model, s, folder, SCANS, known) if s in scales[model] else "" for s in wanted]
            lines.append(f"| {model} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def foot() -> str:
    models = [f"{name} x{scale} {weights(name, scale)}" for name, scale in shipped()]
    return (
        f"\nMeasured on {datetime.date.today().isoformat()} by `python -m benchmarks.results` with FastSR "
        f"{fastsr.__version__}, NumPy {np.__version__}, Python {platform.python_version()}, {os.cpu_count()} CPUs; the "
        f"figures do not depend on the machine, and those of unchanged weights are kept from earlier runs. Weights "
        f"(SHA-256): {', '.join(models)}. One folder by itself: "
        "`fastsr eval --model fmen --scale 4 --data DIR`.\n"
    )


def weights(model: str, scale: int) -> str:
    return fastsr.load(model, scale=scale).model.sha256[:12]


def shipped() -> list[tuple[str, int]]:
    known = {info.name: info.scales for info in fastsr.models()}
    return [(name, scale) for name in quality_models() if name != "bicubic" for scale in known[name]]


if __name__ == "__main__":
    main()
