"""Trained weights out: the inference form as a .pt file, and from it a compiled .fsr file with its model card."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastsr.graph import CompiledModel
from fastsr.graph.compiler import compile_model
from training.card import make_card, with_scores
from training.loop import Training, save_atomically
from training.nets import FMENInference, SRGANGeneratorInference, VDSRInference
from training.recipe import MODEL_NAMES


def save_inference(training: Training, net: nn.Module, path: Path, db: float) -> None:
    """Write {"net", "scale", "colours", "model", "state_dict", "card"} of the inference form `net`, whole or not.

    db: PSNR on the images that the run is watched on.
    """
    recipe = training.recipe
    data: dict[str, Any] = {
        "net": recipe.net,
        "scale": recipe.scales[0] if len(recipe.scales) == 1 else None,
        "colours": recipe.colours,
        "model": recipe.model_name,
        "state_dict": {k: v.contiguous().cpu() for k, v in net.state_dict().items()},
        "card": make_card(training, db),
    }
    save_atomically(data, path)


def load_inference(path: Path) -> nn.Module:
    """Read what `save_inference` wrote; returns the inference-form network in eval mode."""
    data = torch.load(path, weights_only=True)
    net: nn.Module
    if data["net"] == "fmen":
        net = FMENInference(data["scale"], data.get("colours", 3))
    else:
        net = VDSRInference() if data["net"] == "vdsr" else SRGANGeneratorInference()
    net.load_state_dict(data["state_dict"])
    return net.eval()


def load_card(path: Path) -> dict[str, Any]:
    """Return the model card stored beside the weights."""
    card: dict[str, Any] = torch.load(path, weights_only=True)["card"]
    return card


def export(source: Path, out: Path, measured: bool = True) -> CompiledModel:
    """Compile a file of `save_inference` and write it as .fsr, `measured` on the benchmarks that are there."""
    data = torch.load(source, weights_only=True)
    name = data.get("model") or MODEL_NAMES[data["net"]]
    model = compile_model(load_inference(source), name=name, card={**data["card"], "scores": {}})
    model = with_scores(model) if measured else model
    model.save(out)
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, metavar="RUN_inference.pt")
    parser.add_argument("out", type=Path, metavar="OUT.fsr")
    arguments = parser.parse_args()
    export(arguments.source, arguments.out)
