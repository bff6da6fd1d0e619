"""PSNR and SSIM of every shipped model, as the literature measures them.

    python -m benchmarks.quality --data DIR        # DIR/Set5/*.png, DIR/Set14/*.png: HR images

The measure is that of `fastsr eval`: see fastsr/evaluation.py.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import fastsr
from fastsr import evaluation

DATA = Path(os.environ.get("FASTSR_DATA", "../shared/data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA / "benchmarks", help="folder that holds the sets")
    parser.add_argument("--sets", nargs="+", default=["Set5", "Set14"])
    parser.add_argument("--scales", nargs="+", type=int, default=[4])
    parser.add_argument("--models", nargs="+", default=[name for name in quality_models() if name != "fmen-medical"])
    options = parser.parse_args()
    print("| scale | model | " + " | ".join(f"{name}, dB / SSIM" for name in options.sets) + " |")
    print("|---|---|" + "--:|" * len(options.sets))
    known = {info.name: info.scales for info in fastsr.models()}
    for scale in options.scales:
        for model in options.models:
            if scale in known[model]:
                cells = [cell(score(model, scale, options.data / name)) for name in options.sets]
                print(f"| x{scale} | {model} | " + " | ".join(cells) + " |", flush=True)


def quality_models() -> list[str]:
    """Return bicubic, and all models that have weights."""
    return ["bicubic"] + [info.name for info in fastsr.models() if info.name not in ("bicubic", "bilinear", "nearest")]


def score(model: str, scale: int, folder: Path) -> tuple[float, float]:
    """Return the mean (PSNR, SSIM) over the folder's images: of the luma, or of grey images."""
    upscaler = fastsr.load(model, scale=scale)
    means = evaluation.mean(evaluation.evaluate(upscaler.upscale, scale, evaluation.references(folder)))
    return means["psnr"], means["ssim"]


def cell(values: tuple[float, float]) -> str:
    return f"{values[0]:.2f} / {values[1]:.4f}"


if __name__ == "__main__":
    main()
