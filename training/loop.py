"""The training loop: Adam or Muon, warm-up and cosine, clipped gradients, averaged weights, resumable to the bit."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fastsr.errors import ModelFileError, TrainingError
from fastsr.io import atomic_output
from training.crops import Crops
from training.losses import pixel_loss
from training.muon import Muon
from training.nets import FMEN, VDSR, SRGANGenerator, upscale
from training.progress import Log
from training.recipe import Recipe
from training.validate import validate

CALIBRATION_BATCHES = 40
BETAS = (0.9, 0.99)


def make_net(recipe: Recipe) -> nn.Module:
    """Return the recipe's network in training form, seeded."""
    torch.manual_seed(recipe.seed)
    if recipe.net == "fmen":
        return FMEN(recipe.scales[0], recipe.colours)
    return VDSR() if recipe.net == "vdsr" else SRGANGenerator()


def inference_form(net: nn.Module) -> nn.Module:
    """Return the inference form of a network of `make_net`."""
    inference: nn.Module = net.to_inference()  # type: ignore[operator]
    return inference


class Training:
    """One run: everything that a checkpoint has to hold, and one step of it. It runs where the crops are.

    compiled: let torch.compile make kernels of its own for the network; what checkpoints hold does not change.
    """

    def __init__(self, recipe: Recipe, crops: Crops, compiled: bool = False) -> None:
        self.recipe, self.crops, self.device = recipe, crops, crops.device
        self.net = self.placed(make_net(recipe))
        self.ema = copy.deepcopy(self.net).requires_grad_(False)
        self.optimizer = self.optimizer_of(self.net)
        self.compiled = compiled
        if compiled:
            self.net.compile()
        lacks_bf16 = self.device.type == "cuda" and not torch.cuda.is_bf16_supported()
        self.half = torch.float16 if lacks_bf16 else torch.bfloat16
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=lacks_bf16)
        self.step = 0
        self.progress = 0.0  # of the schedule, 0..1
        self.seconds = 0.0
        self.started_from = ""

    def placed(self, net: nn.Module) -> nn.Module:
        net.to(self.device)
        return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def optimizer_of(self, net: nn.Module) -> torch.optim.Adam:
        if self.recipe.optimizer == "muon":
            return Muon(net.parameters(), lr=self.recipe.lr, betas=BETAS)
        return torch.optim.Adam(net.parameters(), lr=self.recipe.lr, betas=BETAS, fused=self.device.type == "cuda")

    def optimizers(self) -> list[torch.optim.Adam]:
        return [self.optimizer]

    def run_step(self, advance: float) -> Tensor:
        """Make one step, move the schedule by `advance`; return the loss, on the device: NaN where the step failed."""
        recipe = self.recipe
        cosine = recipe.lr_end + (recipe.lr - recipe.lr_end) * 0.5 * (1 + math.cos(math.pi * self.progress))
        for optimizer in self.optimizers():
            for group in optimizer.param_groups:
                group["lr"] = cosine * min(1.0, (self.step + 1) / max(1, recipe.warmup))
        x, target, scale = self.crops.next()
        self.net.train(recipe.norms == "batch")
        loss = self.update(x, target, scale)
        self.scaler.update()
        self.step += 1
        self.progress = min(1.0, self.progress + advance)
        self._average()
        return loss

    def update(self, x: Tensor, target: Tensor, scale: int) -> Tensor:
        """Learn from one batch; return the loss."""
        with self.autocast():
            y = upscale(self.net, x, scale, self.recipe.margin, target.shape[-1])
        return self.descend(pixel_loss(self.recipe.loss, y, target), self.net, self.optimizer)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.half, enabled=self.progress < self.recipe.bf16)

    def descend(self, loss: Tensor, net: nn.Module, optimizer: torch.optim.Adam) -> Tensor:
        """Take one clipped gradient step; return the loss, or NaN where the gradient was not finite."""
        optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(net.parameters(), self.recipe.clip)
        self.scaler.step(optimizer)
        # With float16 an overflow is part of the plan: the scaler leaves the step out and lowers its factor.
        return loss.detach() if self.scaler.is_enabled() else loss.detach() + 0 * norm

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights; early on they follow faster, so as to forget the start."""
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        pairs = list(zip(self.ema.state_dict().values(), self.net.state_dict().values(), strict=True))
        means, values = zip(*((m, v) for m, v in pairs if m.is_floating_point()), strict=True)
        torch._foreach_lerp_(means, values, 1 - decay)
        for mean, value in pairs:
            if not mean.is_floating_point():
                mean.copy_(value)

    def result(self) -> nn.Module:
        """Return the inference form of the averaged weights, batch statistics measured on training crops.

        The crops are the same at every call, and the data order of the run is not touched.
        """
        net = copy.deepcopy(self.ema)
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        if norms and self.recipe.norms == "batch":
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean over batches
            crops = self.crops.again(seed=0)
            net.train()
            with torch.no_grad():
                for _ in range(CALIBRATION_BATCHES):
                    upscale(net, crops.next()[0], self.recipe.scales[0])
        return inference_form(net.eval())

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {
            "recipe": dataclasses.asdict(self.recipe),
            "net": self.net.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "crops": self.crops.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "step": self.step,
            "progress": self.progress,
            "seconds": self.seconds,
            "started_from": self.started_from,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state.get("scaler", {}))
        self.crops.load_state_dict(state["crops"])
        torch.set_rng_state(state["torch_rng"].cpu())
        self.step, self.progress, self.seconds = state["step"], state["progress"], state["seconds"]
        self.started_from = state.get("started_from", self.started_from)

    def save(self, path: Path) -> None:
        """Write a checkpoint: whole or not at all. Raises OutputError, as for a full disk."""
        save_atomically(self.state(), path)

    def load(self, path: Path) -> None:
        """Read a checkpoint. Raises ModelFileError for one of another network, or a damaged one."""
        try:
            self.set_state(torch.load(path, weights_only=True, map_location=self.device))
        except (OSError, RuntimeError, KeyError, ValueError, EOFError) as error:
            raise ModelFileError(
                f"{path} is damaged or of another recipe than {self.recipe.name}; another --out starts a new run "
                f"({str(error).splitlines()[0]:.200})"
            ) from error


def save_atomically(data: dict[str, Any], path: Path) -> None:
    """Write `data` as torch.save does, whole or not at all. Raises OutputError."""
    buffer = io.BytesIO()
    torch.save(data, buffer)
    with atomic_output(path, overwrite=True) as file:
        file.write(buffer.getbuffer())


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
    Raises TrainingError where the loss is no number or the device's memory is too small; out/checkpoint.pt is then
    the last good one. Raises OutputError for a full disk.
    """
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        training.load(checkpoint)
        say(f"resumed at step {training.step}")
    log = Log(out, training.recipe, training.step, say)
    recipe = training.recipe
    if training.progress >= 1 - 1e-9 and on_result is not None:  # done before: make the result anew
        net = training.result()
        on_result(net, validate(net, recipe), True)
    saved = validated = clock = time.monotonic()
    while training.progress < 1 - 1e-9:
        advance = 1 / recipe.steps
        if deadline is not None:
            took, left = time.monotonic() - clock, deadline - time.time()
            advance = 1.0 if left <= 0 else (1 - training.progress) * took / (took + left)
        training.seconds += time.monotonic() - clock
        clock = time.monotonic()
        try:
            log.add(training.run_step(advance))
        except torch.cuda.OutOfMemoryError as error:
            raise TrainingError(too_large(training)) from error
        now = time.monotonic()
        done = training.progress >= 1 - 1e-9
        validates = on_result is not None and (done or now - validated > validate_seconds)
        saves = done or now - saved > save_seconds
        reports = done or log.due()
        if reports or validates or saves:
            log.check()  # nothing is kept of a run whose loss is no number
        if validates:
            net = training.result()
            log.db = validate(net, recipe)
            assert on_result is not None
            on_result(net, log.db, done)
            validated = time.monotonic()
        if saves:
            training.save(checkpoint)
            saved = time.monotonic()
        if reports:
            log.report(training.step, training.progress, training.seconds, training.optimizer.param_groups[0]["lr"])


def too_large(training: Training) -> str:
    """Find the largest batch that fits and say so. The run is over: what this does to its weights is not kept."""
    recipe, batch = training.recipe, training.recipe.batch
    text = f"the GPU's memory is too small for {batch} crops of {recipe.crop}x{recipe.crop} pixels a step"
    while batch > 1:
        batch //= 2
        if training.device.type == "cuda":
            torch.cuda.empty_cache()
        training.crops.batch = batch
        try:
            training.run_step(0)
        except torch.cuda.OutOfMemoryError:
            continue
        multiple = math.lcm(*recipe.scales)
        crop = int(recipe.crop * math.sqrt(batch / recipe.batch)) // multiple * multiple
        return f"{text}; batch = {batch} would fit, or about crop = {max(crop, multiple)} with batch = {recipe.batch}"
    return f"{text}; not even one crop fits, a smaller one is needed"
