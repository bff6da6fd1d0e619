"""What becomes of values beyond the intensity range: the rule of docs/medical.md beside showing a network all values.

python -m benchmarks.beyond CT.dcm [--model srresnet] [--window 40 400]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

import fastsr
from fastsr.consistency.resample import shrink
from fastsr.medical.dicom.facts import facts_of
from fastsr.medical.dicom.read import open_image
from fastsr.medical.frames import FrameUpscaler, Stored
from fastsr.medical.intensity import UnitMap, from_window

Floats = npt.NDArray[np.float32]


def main() -> None:
    """Print root mean square errors within and outside of the window, in the units of the source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="a DICOM image, grey")
    parser.add_argument("--model", default="srresnet")
    parser.add_argument("--window", type=float, nargs=2, default=(40, 400), metavar=("CENTER", "WIDTH"))
    asked = parser.parse_args()
    sr = fastsr.load(asked.model)
    truth, lr = original_and_reduced(asked.file, sr.scale)
    intensity = from_window(*asked.window)
    inside = (truth >= intensity.low) & (truth <= intensity.high)
    units = UnitMap(intensity, lr.dtype)
    rows: list[Floats] = []
    FrameUpscaler.of(sr, Stored(lr.dtype, None)).upscale(lr[:, :, None], units, rows.append)
    for name, result in (
        ("the rule", np.concatenate(rows)[:, :, 0]),
        ("all shown", units.to_stored(sr.upscale(units.to_unit(lr)))),
        ("bicubic", fastsr.load("bicubic", scale=sr.scale).upscale(lr, value_range=intensity.value_range)),
    ):
        error = (result - truth) ** 2
        print(f"{name:10} outside {error[~inside].mean() ** 0.5:7.1f}, within {error[inside].mean() ** 0.5:7.1f}")


def original_and_reduced(path: Path, scale: int) -> tuple[Floats, Floats]:
    """Return the first frame in source units, cropped to a multiple of the scale, and its bicubic reduction.

    Padding becomes the least value beside it, such as air.
    """
    image = open_image(path)
    facts = facts_of(image)
    rescale, stored = facts.rescales[0], next(image.frames())[:, :, 0].astype(np.float32)
    if facts.padding is not None:
        padded = facts.padding.mask(stored)
        stored[padded] = stored[~padded].min()
    H, W = (side // scale * scale for side in stored.shape)
    truth = (stored * rescale.slope + rescale.intercept).astype(np.float32)[:H, :W]
    return truth, np.asarray(shrink(truth, scale), np.float32)


if __name__ == "__main__":
    main()
