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

from fastsr.errors import FastSRError
from training import recipe as recipes
from training.run import choose_device, run_recipe
from training.smoke import smaller


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
    parser.add_argument("--save-seconds", type=float, default=120, help="between two checkpoints; default: 120")
    parser.add_argument("--smoke", action="store_true", help="a few steps on a few images: does everything work?")
    parser.add_argument(
        "--device", default="auto", choices=["auto", "cpu", "cuda"], help="default: a GPU if there is one"
    )
    parser.add_argument("--eager", action="store_true", help="do not let torch.compile make kernels on a GPU")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0: as many as torch takes by itself")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        recipe = recipes.load(recipes.find(args.recipe))
        if args.steps is not None:
            recipe = dataclasses.replace(recipe, steps=args.steps)
        device = choose_device(args.device)
        run_recipe(
            smaller(recipe) if args.smoke else recipe,
            args.out or Path("runs") / recipe.name,
            device=device,
            compiled=device.type == "cuda" and not args.eager,
            init=args.init,
            vgg19=args.vgg19,
            deadline=args.finish_by or (time.time() + 60 * args.minutes if args.minutes else None),
            save_seconds=args.save_seconds,
            smoke=args.smoke,
            must_learn=args.smoke,
            say=say,
        )
    except FastSRError as error:
        raise SystemExit(f"training: error: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit("training: interrupted; the same command goes on from the last checkpoint") from None


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
