"""Train one recipe and write a model that FastSR runs.

python -m training fmen_x4 --out runs/fmen_x4        a recipe of ours, or the path of a .toml file
python -m training my.toml --init fmen_x4.fsr        fine-tune shipped weights on the images that my.toml names
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import torch
from torch import nn

from fastsr.errors import FastSRError, OptionError
from training import recipe as recipes
from training.adversarial import make_training
from training.crops import Crops
from training.data import load_sets
from training.export import export, save_inference
from training.loop import train
from training.smoke import SMOKE_IMAGES, check_learned, probe, smaller
from training.start import start_from


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="a .toml file, or the name of one in training/recipes")
    parser.add_argument("--out", type=Path, help="folder of all that a run writes; default: runs/RECIPE")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--minutes", type=float, help="follow the clock and end after so many minutes")
    parser.add_argument("--finish-by", type=float, help="follow the clock and end then (seconds since the epoch)")
    parser.add_argument("--init", type=Path, help="weights to start from: a checkpoint.pt, *_inference.pt or .fsr file")
    parser.add_argument("--vgg19", type=Path, help="torchvision's weights of VGG19, for the perceptual loss")
    parser.add_argument(
        "--device", default="auto", choices=["auto", "cpu", "cuda"], help="default: a GPU if there is one"
    )
    parser.add_argument("--eager", action="store_true", help="do not let torch.compile make kernels on a GPU")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0: as many as torch takes by itself")
    parser.add_argument("--save-seconds", type=float, default=120, help="between two checkpoints; default: 120")
    parser.add_argument("--smoke", action="store_true", help="a few steps on a few images: does everything work?")
    try:
        run(parser.parse_args())
    except FastSRError as error:
        raise SystemExit(f"training: error: {error}") from error


def run(args: argparse.Namespace) -> None:
    if args.threads:
        torch.set_num_threads(args.threads)
    recipe = recipes.load(recipes.find(args.recipe))
    if args.steps:
        recipe = dataclasses.replace(recipe, steps=args.steps)
    if args.smoke:
        recipe = smaller(recipe)
    if args.vgg19 and not recipe.adversarial:
        raise OptionError(f"--vgg19 is for adversarial recipes; {recipe.name} is none")
    out = args.out or Path("runs") / recipe.name
    device = choose_device(args.device)
    deadline = args.finish_by or (time.time() + 60 * args.minutes if args.minutes else None)
    sets = load_sets(recipe, say, SMOKE_IMAGES if args.smoke else None)
    crops = Crops(sets, recipe.batch, recipe.crop, recipe.seed, recipe.margin, recipe.jitter, device)
    del sets
    training = make_training(recipe, crops, device.type == "cuda" and not args.eager, args.vgg19)
    resumed = (out / "checkpoint.pt").exists()
    if args.init and not resumed:
        say(f"took {start_from(training, args.init)} tensors of {args.init}")
    before = probe(training)
    inference = out / f"{recipe.name}_inference.pt"

    def on_result(net: nn.Module, db: float, done: bool) -> None:
        save_inference(training, net, inference, db)

    train(training, out, deadline=deadline, save_seconds=args.save_seconds, on_result=on_result, say=say)
    model = export(inference, out / f"{recipe.name}.fsr", measured=not args.smoke)
    for name, scores in model.card["scores"].items():
        say(f"{name}: {scores['psnr']:.2f} dB / {scores['ssim']:.4f}")
    say(f"wrote {out / recipe.name}.fsr")
    if args.smoke and not args.init and not resumed:
        say(check_learned(before, probe(training)))


def choose_device(wanted: str) -> torch.device:
    """Return the device that is asked for. Raises OptionError for a GPU that PyTorch does not see."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise OptionError(
            "--device cuda: PyTorch sees no GPU; its CUDA build for your driver is needed, or --device cpu"
        )
    if wanted == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda")


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
