"""A run that takes a minute: does everything from images to .fsr file work, and does the network learn?"""

from __future__ import annotations

import dataclasses
import math

import torch

from fastsr.errors import TrainingError
from training.loop import Training
from training.losses import pixel_loss
from training.nets import upscale
from training.recipe import Recipe

SMOKE_IMAGES = 8  # of each set
SMOKE_STEPS = 60
SMOKE_CROP = 32


def smaller(recipe: Recipe) -> Recipe:
    """Return the recipe with few, small steps."""
    multiple = math.lcm(*recipe.scales)
    crop = -(-min(SMOKE_CROP, recipe.crop) // multiple) * multiple
    steps = min(SMOKE_STEPS, recipe.steps)
    return dataclasses.replace(recipe, steps=steps, batch=4, crop=crop, warmup=5, bf16=min(recipe.bf16, 0.5))


@torch.no_grad()
def probe(training: Training) -> float:
    """Return the pixel loss on crops that are always the same. Batch norms use those crops' own statistics."""
    x, target, scale = training.crops.again(seed=99).next()
    buffers = {name: b.clone() for name, b in training.net.named_buffers()}
    training.net.train(training.recipe.norms == "batch")
    y = upscale(training.net, x, scale, training.recipe.margin, target.shape[-1])
    training.net.load_state_dict(buffers, strict=False)
    return pixel_loss("l1", y, target).item()


def check_learned(before: float, after: float) -> str:
    """Say how the loss fell. Raises TrainingError where it did not."""
    if not after < before:
        raise TrainingError(
            f"the loss was {before:.4f} before the smoke run and is {after:.4f} after it: nothing is learned"
        )
    return f"smoke run: loss {before:.4f} -> {after:.4f}"
