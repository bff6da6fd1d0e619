"""Train one recipe: python -m training training/recipes/fmen_x4.toml --out runs/fmen_x4"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import torch
from torch import nn

from training import recipe as recipes
from training.data import Crops, load_sets
from training.export import save_inference
from training.loop import Training, train
from training.start import start_from


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint, log.csv and weights")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--minutes", type=float, help="follow the clock and end after so many minutes")
    parser.add_argument("--finish-by", type=float, help="follow the clock and end then (seconds since the epoch)")
    parser.add_argument(
        "--init", type=Path, help="weights to start from: another run's checkpoint.pt or *_inference.pt, or a .fsr"
    )
    parser.add_argument("--threads", type=int, default=0, help="0: as many as torch takes by itself")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    recipe = recipes.load(args.recipe)
    if args.steps:
        recipe = dataclasses.replace(recipe, steps=args.steps)
    crops = Crops(load_sets(recipe), recipe.batch, recipe.crop, recipe.seed, recipe.margin, recipe.jitter)
    deadline = args.finish_by or (time.time() + 60 * args.minutes if args.minutes else None)

    def on_result(net: nn.Module, db: float, done: bool) -> None:
        save_inference(training, net, args.out / f"{recipe.name}_inference.pt", db, done)

    training = Training(recipe, crops)
    if args.init and not (args.out / "checkpoint.pt").exists():
        say(f"took {start_from(training, args.init)} tensors of {args.init}")
    train(training, args.out, deadline=deadline, on_result=on_result, say=say)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
