"""Prepare a model for integers: find on images which values its layers have, and how much is lost.

What the engine does with it: docs/architecture.md, "Integers".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr import evaluation
from fastsr.errors import OptionError
from fastsr.graph.calibrate import CARD, calibrate
from fastsr.graph.model import CompiledModel
from fastsr.imresize import crop_to_multiple, downscale
from fastsr.models import open_model
from fastsr.upscaler import Upscaler

IMAGES = 32  # enough: more of them move few ends, and MARGIN covers that
SIDE = 256  # pixels of HR that are taken of an image, per axis, from its middle

Progress = Callable[[int, int], None]  # (steps done, steps in all)


def quantize(
    model: Any,
    data: Path,
    *,
    scale: int | None = None,
    images: int = IMAGES,
    window: evaluation.Window | None = None,
    progress: Progress | None = None,
) -> CompiledModel:
    """Return the model with what `precision="int8"` needs, found on a folder of HR images.

    model: a name, the path of a `.fsr` file, or a CompiledModel. scale: by default all that the model's file has.
    images: how many of the folder's are looked at, spread evenly; each is cut to its middle and reduced as
    training does. window: percentiles of each image that are 0 and 1, as for `fastsr eval`.
    The card then tells under "int8" the images, and `loss_db`: how much luma PSNR is lost on them, for each scale.
    Raises OptionError for a folder without images, ImageFileError, ShapeError for too small ones.
    """
    opened = open_model(model, scale)
    before = opened.card.get(CARD, {}).get("loss_db", {})
    scales = opened.scales if scale is None else (scale,)
    if images < 1:
        raise OptionError(f"images is {images}; 1 or more are needed")
    chosen = [middle(image) for image in evaluation.references(data, window, images)]
    about: dict[str, Any] = {"set": data.name}
    steps, done = len(scales) * (len(chosen) + 1), 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, steps)

    for s in scales:

        def lr(s: int = s) -> Any:
            for image in chosen:
                yield low_resolution(image, s)
                step()

        opened = calibrate(opened, lr(), scale=s, about=about)
    losses = {x: lost for x, lost in before.items() if x not in {f"x{s}" for s in scales}}  # of other scales
    for s in scales:
        losses[f"x{s}"] = round(loss(opened, s, chosen), 4)
        step()
    card = {**opened.card, CARD: {**opened.card[CARD], "loss_db": losses}}
    return CompiledModel(opened.name, opened.graphs, opened.tensors, card)


def middle(image: evaluation.Reference) -> evaluation.Reference:
    """Return the image cut to at most SIDE pixels per axis, around its centre."""
    H, W = image.pixels.shape[:2]
    top, left = max(H - SIDE, 0) // 2, max(W - SIDE, 0) // 2
    pixels = image.pixels[top : top + SIDE, left : left + SIDE].copy()  # lets go of the rest
    return evaluation.Reference(image.name, pixels, image.window)


def low_resolution(image: evaluation.Reference, scale: int) -> npt.NDArray[Any]:
    """Return what a network sees of the image, reduced: (h, w) or (h, w, 3), 0 to 1."""
    hr = crop_to_multiple(image.pixels, scale)
    if image.window is not None:
        low, high = image.window
        return downscale(((hr.astype(np.float64) - low) / (high - low)).astype(np.float32), scale)
    if hr.dtype not in (np.uint8, np.uint16):
        raise OptionError(f"{image.name} holds {hr.dtype} pixels, which have no range by themselves; state a window")
    lr: npt.NDArray[Any] = downscale(hr, scale) / np.float32(np.iinfo(hr.dtype).max)
    return lr


def loss(model: CompiledModel, scale: int, images: Sequence[evaluation.Reference]) -> float:
    """Return the luma PSNR that int8 loses against fp32, dB: the mean over the images."""
    means = []
    for precision in ("fp32", "int8"):
        upscaler = Upscaler(model, scale, backend="native", precision=precision)
        means.append(evaluation.mean(evaluation.evaluate(upscaler.upscale, scale, images))["psnr"])
    return means[0] - means[1]
