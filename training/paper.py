"""Repeat the paper's experiment with one command: train its three networks, measure them, write its page.

python -m training.paper --out runs/paper                 by the recipes' step counts
python -m training.paper --out runs/paper --minutes 240   four hours in all
python -m training.paper --smoke --out runs/paper_smoke   does everything work?

The paper: Xu et al., "Deep Learning Based Medical Image Super Resolution Reconstruction". Started again with the same
--out, the experiment goes on where it stopped. The page is OUT/page/README.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import torch

from fastsr.errors import FastSRError
from training import recipe as recipes
from training.__main__ import say
from training.paper_page import write_page
from training.recipe import RECIPES, Recipe
from training.run import choose_device, run_recipe
from training.smoke import smaller

# Share of the time for each run. SRGAN takes two: its generator by itself, then against the discriminator.
RUNS = {"fmen": 0.3, "vdsr": 0.3, "srresnet": 0.2, "srgan": 0.2}
STARTS_FROM = {"srgan": "srresnet"}
SMOKE_STEPS = 4


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.paper", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/paper"), help="default: runs/paper")
    parser.add_argument("--minutes", type=float, help="for all networks together, instead of the step counts")
    parser.add_argument("--vgg19", type=Path, help="torchvision's weights of VGG19, for SRGAN's perceptual loss")
    parser.add_argument("--smoke", action="store_true", help="a few steps on a few images")
    parser.add_argument(
        "--device", default="auto", choices=["auto", "cpu", "cuda"], help="default: a GPU if there is one"
    )
    parser.add_argument("--eager", action="store_true", help="do not let torch.compile make kernels on a GPU")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0: as many as torch takes by itself")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        device = choose_device(args.device)
        for name, share in RUNS.items():
            recipe = paper_recipe(name, args.smoke)
            earlier = STARTS_FROM.get(name)
            run_recipe(
                recipe,
                args.out / name,
                device=device,
                compiled=device.type == "cuda" and not args.eager,
                init=args.out / earlier / "checkpoint.pt" if earlier else None,
                vgg19=args.vgg19 if recipe.adversarial else None,
                deadline=time.time() + 60 * args.minutes * share if args.minutes else None,
                smoke=args.smoke,
                say=say,
            )
        say(f"wrote {write_page(args.out, {name: paper_recipe(name, args.smoke) for name in RUNS})}")
    except FastSRError as error:
        raise SystemExit(f"training: error: {error}") from error


def paper_recipe(name: str, smoke: bool) -> Recipe:
    """Return the recipe of one of the paper's networks; for a smoke run with few steps, but the paper's crops."""
    recipe = recipes.load(RECIPES / "paper" / f"{name}.toml")
    return dataclasses.replace(smaller(recipe), steps=SMOKE_STEPS, batch=2, crop=recipe.crop) if smoke else recipe


if __name__ == "__main__":
    main()
