"""How good a network is on images it has never seen: `fastsr eval`'s measure, with PyTorch running the network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastsr import evaluation
from fastsr.errors import OptionError
from fastsr.evaluation import Reference
from fastsr.graph.grey import LUMA
from training.data import data_root, to_tensor
from training.nets import upscale
from training.recipe import Recipe

PHOTO_BENCHMARKS = ("Set5", "Set14")
MEDICAL_TEST = "medical test"
WATCHED_PIXELS = 3 << 18  # an RGB image of 512x512


def benchmarks(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the sets that the recipe's network is measured on; the first one while it trains."""
    return PHOTO_BENCHMARKS if recipe.colours == 3 else (MEDICAL_TEST,)


def images(benchmark: str) -> Iterator[Reference]:
    """Read a benchmark's HR images; nothing here is ever trained on."""
    root = data_root()
    return evaluation.references(
        root / "medical/slices/test" if benchmark == MEDICAL_TEST else root / "benchmarks" / benchmark
    )


@torch.no_grad()
def run(net: nn.Module, lr: NDArray[Any], scale: int) -> NDArray[Any]:
    """Upscale LR (H, W) or (H, W, 3), uint8 or float32, into the same type; uint8 is rounded and clamped.

    An RGB network takes a grey image as (g, g, g) and gives the luma of its result, as the engine does.
    """
    x = to_tensor(lr.reshape(1, *lr.shape[:2], -1))
    repeat = lr.ndim == 2 and next(net.parameters()).shape[1] == 3
    y = upscale(net, x.expand(-1, 3, -1, -1) if repeat else x, scale)[0]
    if repeat:
        y = torch.einsum("c,chw->hw", torch.tensor(LUMA), y)[None]
    sr = y.permute(1, 2, 0).numpy()
    sr = sr if lr.ndim == 3 else sr[:, :, 0]
    if lr.dtype == np.uint8:
        return (sr * 255 + 0.5).clip(0, 255).astype(np.uint8)
    return sr.astype(lr.dtype)


def measure(net: nn.Module, benchmark: str, scale: int) -> dict[str, Any]:
    """Return mean PSNR (dB) and SSIM of `net`; for the medical test slices also for bicubic and by subject."""
    scores = evaluation.evaluate(lambda lr: run(net, lr, scale), scale, images(benchmark))
    means = evaluation.mean(scores)
    found: dict[str, Any] = {"psnr": means["psnr"], "ssim": means["ssim"]}
    if benchmark == MEDICAL_TEST:
        from fastsr.compare import enlarge_bicubic

        bicubic = evaluation.evaluate(lambda lr: enlarge_bicubic(lr, scale), scale, images(benchmark))
        found["bicubic_psnr"] = evaluation.mean(bicubic)["psnr"]
        found["psnr_by_subject"] = {name: m["psnr"] for name, m in evaluation.by_group(scores).items()}
    return found


def validate(net: nn.Module, recipe: Recipe) -> float:
    """Return the PSNR on the recipe's first benchmark at its largest scale, NaN where the images are not there.

    Of medical slices one for each subject is taken, and none that is larger than WATCHED_PIXELS.
    """
    scale = max(recipe.scales)
    try:
        watched = {image.group or image.name: image for image in images(benchmarks(recipe)[0])}
    except OptionError:
        return math.nan
    few = [image for image in watched.values() if image.pixels.size <= WATCHED_PIXELS]
    return evaluation.mean(evaluation.evaluate(lambda lr: run(net, lr, scale), scale, few))["psnr"]
