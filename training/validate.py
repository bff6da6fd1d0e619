"""How good a network is on images it has never seen: `fastsr eval`'s measure, with PyTorch running the network."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fastsr import evaluation
from fastsr.errors import OptionError
from fastsr.graph.grey import LUMA
from training.data import data_root
from training.nets import upscale
from training.recipe import Recipe

WATCHED_PIXELS = 3 << 18  # an RGB image of 512x512


def validation_folder(recipe: Recipe) -> Path:
    """Return the images that a run is watched on: Set5, or of scans the test slices; nothing of it is trained on."""
    return data_root() / ("benchmarks/Set5" if recipe.colours == 3 else "medical/slices/test")


def validate(net: nn.Module, recipe: Recipe) -> float:
    """Return the mean PSNR at the recipe's largest scale, NaN where the images are not there.

    Of scans one slice for each subject is taken, and none that is larger than WATCHED_PIXELS.
    """
    scale = max(recipe.scales)
    try:
        watched = {image.group or image.name: image for image in evaluation.references(validation_folder(recipe))}
    except OptionError:
        return math.nan
    few = [image for image in watched.values() if image.pixels.size <= WATCHED_PIXELS]
    return evaluation.mean(evaluation.evaluate(lambda lr: run(net, lr, scale), scale, few))["psnr"]


@torch.no_grad()
def run(net: nn.Module, lr: NDArray[Any], scale: int) -> NDArray[Any]:
    """Upscale LR (H, W) or (H, W, 3), uint8 or float32, into the same type; uint8 is rounded and clamped.

    An RGB network takes a grey image as (g, g, g) and gives the luma of its result, as the engine does.
    """
    first = next(net.parameters())
    x = torch.from_numpy(np.ascontiguousarray(lr)).to(first.device)
    x = x.reshape(1, *lr.shape[:2], -1).permute(0, 3, 1, 2)
    if lr.dtype == np.uint8:
        x = x.float() / 255
    repeat = lr.ndim == 2 and first.shape[1] == 3
    y = upscale(net, x.expand(-1, 3, -1, -1) if repeat else x, scale)[0].float().cpu()
    if repeat:
        y = torch.einsum("c,chw->hw", torch.tensor(LUMA), y)[None]
    sr = y.permute(1, 2, 0).numpy()
    sr = sr if lr.ndim == 3 else sr[:, :, 0]
    if lr.dtype == np.uint8:
        return (sr * 255 + 0.5).clip(0, 255).astype(np.uint8)
    return sr.astype(lr.dtype)
