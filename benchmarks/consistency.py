"""What consistency does to PSNR and to the residual, with LR images made in two ways, and what it costs: FMEN x4.

    python -m benchmarks.consistency --data DIR     # DIR/benchmarks/Set5/*.png, DIR/medical/slices/manifest.csv

LR is either the bicubic downscaling of HR (what the network was trained on) or the means of its blocks (what an ideal
detector with larger pixels sees), rounded to whole numbers. PSNR is of the luma or grey values, 4 pixels cut at each
border, averaged over the images. Slices are clipped to 0..the 99.5th percentile that the manifest gives, which is peak
and value range. The mean absolute residuals are in the units of the pixels, or in thousandths of the range of slices.
The second table has CPU time, of all threads, least of some runs: it bears a busy machine better than the clock.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fastsr
from fastsr.consistency.block_mean import Bounds
from fastsr.consistency.finish import Consistency, Piece, make_finish
from fastsr.finishing import STEPS
from fastsr.imresize import crop_to_multiple, downscale
from fastsr.io import read_image

SCALE = 4
PHOTO = Path(__file__).parent.parent / "docs" / "images" / "coffee_lr.png"
CHOICES: tuple[Consistency | None, ...] = (None, "block-mean", "back-projection")
Pixels = npt.NDArray[Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("FASTSR_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=default, help="folder that holds benchmarks/ and medical/")
    data = parser.parse_args().data
    print("| images | LR by | consistency | PSNR, dB | mean residual, bicubic | block means |")
    print("|---|---|---|--:|--:|--:|")
    for name, images in {"Set5": list(natural(data)), "slices": list(slices(data))}.items():
        ways: dict[str, Callable[[Pixels, int], Pixels]] = {"bicubic": downscale, "block means": block_means}
        for way, shrink in ways.items():
            for row in measure(images, shrink):
                print(f"| {name} ({len(images)}) | {way} | {row} |", flush=True)
    print("\n| LR image | network | measuring | block-mean | back-projection |\n|---|--:|--:|--:|--:|")
    for row in costs():
        print(f"| {row} |", flush=True)


def natural(data: Path) -> Iterator[tuple[Pixels, float]]:
    """Yield (HR, peak)."""
    for file in sorted((data / "benchmarks" / "Set5").glob("*.png")):
        yield crop_to_multiple(read_image(file).pixels, SCALE), 255.0


def slices(data: Path) -> Iterator[tuple[Pixels, float]]:
    """Yield (HR, peak) of the grey test slices."""
    folder = data / "medical" / "slices"
    with (folder / "manifest.csv").open() as file:
        for entry in csv.DictReader(file):
            if entry["split"] == "test":
                peak = int(float(entry["p99.5"]))
                yield np.minimum(crop_to_multiple(read_image(folder / entry["file"]).pixels, SCALE), peak), float(peak)


def block_means(hr: Pixels, scale: int) -> Pixels:
    """Return the means of scale x scale blocks, whole numbers for integers."""
    H, W = hr.shape[:2]
    means = hr.reshape(H // scale, scale, W // scale, scale, -1).mean(axis=(1, 3))
    typed: Pixels = means if hr.dtype.kind == "f" else np.rint(means).astype(hr.dtype)
    return typed.reshape(H // scale, W // scale, *hr.shape[2:])


def measure(images: list[tuple[Pixels, float]], shrink: Callable[[Pixels, int], Pixels]) -> Iterator[str]:
    for consistency in CHOICES:
        upscaler = fastsr.load("fmen", scale=SCALE, consistency=consistency)
        psnr, bicubic, means = [], [], []
        for hr, peak in images:
            lr = shrink(hr, SCALE)
            sr = upscaler.upscale(lr, value_range=(0, peak))
            psnr.append(fastsr.metrics.psnr(hr, sr, data_range=peak, border=SCALE, luma=hr.ndim == 3))
            unit = 1 if peak == 255 else peak / 1000
            bicubic.append(np.abs(downscale(sr, SCALE).astype(float) - lr).mean() / unit)
            means.append(np.abs(block_means(sr.astype(float), SCALE) - lr).mean() / unit)
        cells = [f"{np.mean(v):.{n}f}" for v, n in ((psnr, 2), (bicubic, 3), (means, 3))]
        yield " | ".join([consistency or "none", *cells])


def costs() -> Iterator[str]:
    """Yield the CPU time of the network and of finishing, for a photo that is repeated to the size."""
    photo = read_image(PHOTO).pixels
    colour = np.tile(photo, (2, 3, 1))[:180, :320]
    grey = np.tile(photo[:, :, 1:2].astype(np.uint16) * 257, (3, 2, 1))[:256, :256]
    upscaler = fastsr.load("fmen", scale=SCALE)
    for lr in (colour, grey):
        sr = upscaler.upscale(lr)
        cells = [least_seconds(partial(upscaler.upscale, lr))]
        cells += [least_seconds(partial(finish, consistency, lr, sr)) for consistency in CHOICES]
        H, W, C = lr.shape
        yield " | ".join([f"{W}x{H}x{C}, {lr.dtype}", *(f"{1e3 * seconds:.1f} ms" for seconds in cells)])


def finish(consistency: Consistency | None, lr: Pixels, sr: Pixels) -> None:
    """Do what follows the network."""
    H, W, C = lr.shape
    bounds = Bounds(np.zeros(C, np.int64), np.full(C, np.iinfo(lr.dtype).max, np.int64))
    work = make_finish(consistency, Piece(SCALE, H, W, C, lr.dtype, bounds, (0, 0, W, H)), STEPS[0])
    result = sr.copy()
    for y in range(0, H, STEPS[0]):
        for _ in work.push(lr[y : y + STEPS[0]], result[SCALE * y : SCALE * (y + STEPS[0])]):
            pass


def least_seconds(run: Callable[[], Any]) -> float:
    times = []
    for _ in range(5):
        begin = time.process_time()
        run()
        times.append(time.process_time() - begin)
    return min(times)


if __name__ == "__main__":
    main()
