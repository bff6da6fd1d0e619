"""The training loop: Adam, warm-up and cosine, clipped gradients, averaged weights, resumable to the bit."""

from __future__ import annotations

import copy
import csv
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from training.data import Crops
from training.nets import FMEN, VDSR, SRGANGenerator, upscale
from training.recipe import Recipe
from training.validate import validate

CALIBRATION_BATCHES = 40
LOG_EVERY = 50


def make_net(recipe: Recipe) -> nn.Module:
    """Return the recipe's network in training form, seeded."""
    torch.manual_seed(recipe.seed)
    if recipe.net == "fmen":
        return FMEN(recipe.scales[0], recipe.colours)
    return VDSR() if recipe.net == "vdsr" else SRGANGenerator()


def loss_of(name: str, y: Tensor, target: Tensor) -> Tensor:
    """Mean L1, or Charbonnier with eps 1e-3, in float32."""
    difference = y.float() - target
    return difference.abs().mean() if name == "l1" else (difference.square() + 1e-6).sqrt().mean()


def inference_form(net: nn.Module) -> nn.Module:
    """Return the inference form of a network of `make_net`."""
    inference: nn.Module = net.to_inference()  # type: ignore[operator]
    return inference


class Training:
    """One run: everything that a checkpoint has to hold, and one step of it."""

    def __init__(self, recipe: Recipe, crops: Crops) -> None:
        self.recipe, self.crops = recipe, crops
        self.net = make_net(recipe)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = copy.deepcopy(self.net).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=recipe.lr, betas=(0.9, 0.99))
        self.step = 0
        self.progress = 0.0  # of the schedule, 0..1
        self.seconds = 0.0

    def run_step(self, advance: float) -> float:
        """Make one step, move the schedule by `advance`, return the loss."""
        recipe = self.recipe
        cosine = recipe.lr_end + (recipe.lr - recipe.lr_end) * 0.5 * (1 + math.cos(math.pi * self.progress))
        for group in self.optimizer.param_groups:
            group["lr"] = cosine * min(1.0, (self.step + 1) / max(1, recipe.warmup))
        x, target, scale = self.crops.next()
        self.net.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.progress < recipe.bf16):
            y = upscale(self.net, x, scale, recipe.margin)
        loss = loss_of(recipe.loss, y, target)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), recipe.clip)
        self.optimizer.step()
        self.step += 1
        self.progress = min(1.0, self.progress + advance)
        self._average()
        return loss.item()

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights; early on they follow faster, so as to forget the start."""
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        for mean, now in zip(self.ema.state_dict().values(), self.net.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)

    def result(self) -> nn.Module:
        """Return the inference form of the averaged weights, batch statistics measured on training crops.

        The crops are the same at every call, and the data order of the run is not touched.
        """
        net = copy.deepcopy(self.ema)
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        if norms:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean over batches
            crops = self.crops.again(seed=0)
            net.train()
            with torch.no_grad():
                for _ in range(CALIBRATION_BATCHES):
                    upscale(net, crops.next()[0], self.recipe.scales[0])
        return inference_form(net.eval())

    def save(self, path: Path) -> None:
        """Write a checkpoint: whole or not at all."""
        state = {
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "crops": self.crops.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "step": self.step,
            "progress": self.progress,
            "seconds": self.seconds,
        }
        write_atomically(path, lambda file: torch.save(state, file))

    def load(self, path: Path) -> None:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.crops.load_state_dict(state["crops"])
        torch.set_rng_state(state["torch_rng"])
        self.step, self.progress, self.seconds = state["step"], state["progress"], state["seconds"]


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` write beside `path`, then rename: a reader never sees half a file."""
    part = path.with_name(path.name + ".part")
    write(part)
    os.replace(part, path)


def train(
    training: Training,
    out: Path,
    *,
    deadline: float | None = None,
    save_seconds: float = 120,
    validate_seconds: float = 300,
    on_result: Callable[[nn.Module, float, bool], None] | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Run until the schedule is done; resumes from out/checkpoint.pt where there is one.

    deadline: seconds since the epoch. With it the schedule follows the clock rather than the step count:
    a slower machine makes fewer steps and still ends with a small learning rate. Not reproducible to the bit.
    on_result: is handed the inference form, its PSNR and whether the run is done, now and then and at the end.
    """
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint)
        say(f"resumed at step {training.step}")
    recipe = training.recipe
    saved = validated = marked = clock = time.monotonic()
    losses: list[float] = []
    db = math.nan
    while training.progress < 1 - 1e-9:
        advance = 1 / recipe.steps
        if deadline is not None:
            took, left = time.monotonic() - clock, deadline - time.time()
            advance = 1.0 if left <= 0 else (1 - training.progress) * took / (took + left)
        training.seconds += time.monotonic() - clock
        clock = time.monotonic()
        losses.append(training.run_step(advance))
        now = time.monotonic()
        done = training.progress >= 1 - 1e-9
        if on_result is not None and (done or now - validated > validate_seconds):
            net = training.result()
            db = validate(net, recipe)
            on_result(net, db, done)
            validated = time.monotonic()
        if done or now - saved > save_seconds:
            training.save(checkpoint)
            saved = time.monotonic()
        if done or len(losses) == LOG_EVERY:
            rate = len(losses) * recipe.batch / (now - marked)
            report(training, out / "log.csv", float(np.mean(losses)), db, rate, say)
            losses, marked = [], time.monotonic()


def report(training: Training, log: Path, loss: float, db: float, rate: float, say: Callable[[str], None]) -> None:
    """Say one progress line and append it to log.csv."""
    p, lr = training.progress, training.optimizer.param_groups[0]["lr"]
    eta = training.seconds * (1 - p) / max(p, 1e-9) / 60
    say(
        f"{training.recipe.name} step {training.step} ({p:6.1%})  loss {loss:.5f}  lr {lr:.2e}  "
        f"val {db:.2f} dB  {rate:.1f} images/s  {eta:.0f} min left"
    )
    fresh = not log.exists()
    with log.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["step", "progress", "seconds", "loss", "lr", "val_db", "images_per_second"])
        row = [training.step, f"{p:.5f}", f"{training.seconds:.1f}", f"{loss:.6f}", f"{lr:.3e}", f"{db:.3f}"]
        writer.writerow([*row, f"{rate:.2f}"])
