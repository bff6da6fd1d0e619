"""PSNR and SSIM of every shipped model, as the literature measures them.

    python -m benchmarks.quality --data DIR        # DIR/Set5/*.png, DIR/Set14/*.png: HR images

HR is cut to a multiple of the scale and reduced as MATLAB's imresize does (bicubic, antialiased, 8 bit); results are
rounded to 8 bit; PSNR and SSIM are of the luma (BT.601), `scale` pixels cut at each border, averaged over the images.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

import fastsr
from fastsr.imresize import downscale
from fastsr.io import read_image

DEFAULT_DATA = Path(os.environ.get("FASTSR_DATA", "../shared/data")) / "benchmarks"
MODELS = ["bicubic", "fmen", "vdsr", "srresnet"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_DATA, help="folder that holds the sets")
    parser.add_argument("--sets", nargs="+", default=["Set5", "Set14"])
    parser.add_argument("--scales", nargs="+", type=int, default=[4])
    parser.add_argument("--models", nargs="+", default=MODELS)
    options = parser.parse_args()
    print("| scale | model | " + " | ".join(f"{name}, dB / SSIM" for name in options.sets) + " |")
    print("|---|---|" + "--:|" * len(options.sets))
    known = {info.name: info.scales for info in fastsr.models()}
    for scale in options.scales:
        for model in options.models:
            if scale in known[model]:
                cells = [f"{p:.2f} / {s:.4f}" for p, s in (score(model, scale, options.data / n) for n in options.sets)]
                print(f"| x{scale} | {model} | " + " | ".join(cells) + " |", flush=True)


def score(model: str, scale: int, folder: Path) -> tuple[float, float]:
    """Return the mean (PSNR, SSIM) over the folder's PNG images."""
    files = sorted(folder.glob("*.png"))
    if not files:
        raise SystemExit(f"no PNG images in {folder}; --data names the folder that holds the sets")
    upscaler = fastsr.load(model, scale=scale)
    scores = []
    for file in files:
        hr = read_image(file).pixels
        hr = hr[: hr.shape[0] // scale * scale, : hr.shape[1] // scale * scale]
        sr = upscaler.upscale(downscale(hr, scale))
        scores.append(compare(hr, sr, scale))
    psnr, ssim = np.mean(scores, axis=0)
    return float(psnr), float(ssim)


def compare(hr: npt.NDArray[np.uint8], sr: npt.NDArray[np.uint8], scale: int) -> tuple[float, float]:
    luma = hr.ndim == 3 and hr.shape[2] == 3
    reference, result = (hr, sr) if luma else (hr.reshape(hr.shape[:2]), sr.reshape(sr.shape[:2]))
    return (
        fastsr.metrics.psnr(reference, result, border=scale, luma=luma),
        fastsr.metrics.ssim(reference, result, border=scale, luma=luma),
    )


if __name__ == "__main__":
    main()
