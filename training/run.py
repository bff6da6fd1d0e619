"""One run from images to a `.fsr` file: what the command line and the paper's experiment both do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from fastsr.errors import OptionError
from fastsr.graph import CompiledModel
from training.adversarial import make_training
from training.card import commit
from training.crops import Crops
from training.data import load_sets
from training.export import export, save_inference
from training.loop import train
from training.recipe import Recipe
from training.smoke import SMOKE_IMAGES, check_learned, probe
from training.start import origin, start_from


def run_recipe(
    recipe: Recipe,
    out: Path,
    *,
    device: torch.device,
    compiled: bool = False,
    init: Path | None = None,
    vgg19: Path | None = None,
    deadline: float | None = None,
    save_seconds: float = 120,
    smoke: bool = False,
    must_learn: bool = False,
    say: Callable[[str], None] = print,
) -> CompiledModel:
    """Train, or go on with the run in `out`; return the model, which is also out/NAME.fsr.

    init: weights that a new run starts from. vgg19: torchvision's weights for the perceptual loss. deadline: seconds
    since the epoch, which the schedule then follows. smoke: few images and no benchmarks. must_learn: raise
    TrainingError if the loss of a run from random weights does not fall.
    """
    if vgg19 and not recipe.adversarial:
        raise OptionError(f"VGG19 is for adversarial recipes; {recipe.name} is none")
    commit()  # for the card: the files may change while their code runs
    sets = load_sets(recipe, say, SMOKE_IMAGES if smoke else None)
    crops = Crops(sets, recipe.batch, recipe.crop, recipe.seed, recipe.margin, recipe.jitter, device)
    del sets
    training = make_training(recipe, crops, compiled, vgg19)
    resumed = (out / "checkpoint.pt").exists()
    if init and not resumed:
        say(f"took {start_from(training, init)} tensors of {init}")
    training.started_from = origin(init) if init else ""
    before = probe(training) if must_learn else 0.0
    inference = out / f"{recipe.name}_inference.pt"

    def on_result(net: nn.Module, db: float, done: bool) -> None:
        save_inference(training, net, inference, db)

    train(training, out, deadline=deadline, save_seconds=save_seconds, on_result=on_result, say=say)
    model = export(inference, out / f"{recipe.name}.fsr", measured=not smoke)
    for name, scores in model.card["scores"].items():
        say(f"{name}: {scores['psnr']:.2f} dB / {scores['ssim']:.4f}")
    say(f"wrote {out / recipe.name}.fsr")
    if must_learn and not init and not resumed:
        say(check_learned(before, probe(training)))
    return model


def choose_device(wanted: str) -> torch.device:
    """Return the device that is asked for: auto, cpu or cuda. Raises OptionError for a GPU that is not there."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise OptionError("device cuda: PyTorch sees no GPU; its CUDA build for your driver is needed, or device cpu")
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda")
