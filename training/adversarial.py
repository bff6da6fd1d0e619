"""SRGAN's second phase: the generator against a discriminator, with a perceptual loss beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from training.crops import Crops
from training.loop import Training
from training.losses import VGG19Features, detail_loss, feature_loss, pixel_loss, relativistic_loss
from training.nets import SRGANDiscriminator
from training.recipe import Recipe


class Adversarial(Training):
    """A run that trains a discriminator beside the generator; a checkpoint holds both.

    The generator minimizes pixel * L1 + perceptual * what a viewer would miss + adversarial * relativistic loss. The
    second is the distance in features of VGG19 where the user has its weights (`vgg19`, a file); otherwise
    `detail_loss`, which needs no download. Features of the discriminator itself, which also would not, were tried: a
    young one's made regular grids of dots.
    """

    def __init__(self, recipe: Recipe, crops: Crops, compiled: bool = False, vgg19: Path | None = None) -> None:
        super().__init__(recipe, crops, compiled)
        self.discriminator = SRGANDiscriminator()
        self.placed(self.discriminator)
        self.optimizer_d = self.optimizer_of(self.discriminator)
        self.vgg19 = VGG19Features.load(vgg19) if vgg19 else None
        if self.vgg19 is not None:
            self.placed(self.vgg19)
        self.judge = torch.compile(self.discriminator) if compiled else self.discriminator

    def optimizers(self) -> list[torch.optim.Adam]:
        return [self.optimizer, self.optimizer_d]

    def update(self, x: Tensor, target: Tensor, scale: int) -> Tensor:
        recipe = self.recipe
        self.discriminator.train().requires_grad_(True)
        with self.autocast():
            y = self.net(x)
            real, fake = self.judge(target), self.judge(y.detach())
        loss_d = self.descend(relativistic_loss(real, fake), self.discriminator, self.optimizer_d)
        self.discriminator.requires_grad_(False)
        with self.autocast():
            fake = self.judge(y)
            with torch.no_grad():
                real = self.judge(target)
            missed = self.missed(y, target)
        loss = recipe.pixel * pixel_loss(recipe.loss, y, target)
        loss = loss + recipe.perceptual * missed
        loss = loss + recipe.adversarial * relativistic_loss(fake, real)
        return self.descend(loss, self.net, self.optimizer) + 0 * loss_d

    def missed(self, y: Tensor, target: Tensor) -> Tensor:
        if self.vgg19 is None:
            return detail_loss(y, target)
        with torch.no_grad():
            real = self.vgg19(target)
        return feature_loss(self.vgg19(y), real)

    def state(self) -> dict[str, Any]:
        own = {"discriminator": self.discriminator.state_dict(), "optimizer_d": self.optimizer_d.state_dict()}
        return super().state() | own

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer_d.load_state_dict(state["optimizer_d"])


def make_training(recipe: Recipe, crops: Crops, compiled: bool = False, vgg19: Path | None = None) -> Training:
    """Return the run that the recipe describes."""
    return Adversarial(recipe, crops, compiled, vgg19) if recipe.adversarial else Training(recipe, crops, compiled)
