"""Trained weights out: the inference form as a .pt file, and from it a compiled .fsr file."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.loop import Training, evaluate, write_atomically
from training.nets import FMENInference, SRGANGeneratorInference, VDSRInference

# What FastSR calls a trained network: srresnet is SRGAN's generator with the pixel loss alone.
MODEL_NAMES = {"fmen": "fmen", "vdsr": "vdsr", "srgan_generator": "srresnet"}

# What every card of weights that were trained on these photos must say.
LIMITS = {
    "use": "research; no medical device: what a learned prior adds is likely, not measured",
    "value_range": "0 to 1, black to white",
    "trained_for": "photos reduced by bicubic interpolation; noise, blur and compression are enlarged with the rest",
    "licence": "weights Apache-2.0; photos: BSDS500 and SunHays80 research use, T91 and DIV2K crops not stated, "
    "others CC0, CC BY, CC BY-SA, Unsplash or public domain",
}


def save_inference(training: Training, net: nn.Module, path: Path) -> None:
    """Write {"net", "scale", "state_dict", "card"} of the inference form `net` to `path`, atomically."""
    recipe = training.recipe
    card: dict[str, Any] = {
        "name": recipe.name,
        "trained_on": dict(recipe.data),
        "degradation": "MATLAB imresize bicubic, antialiased, 8 bit",
        "scales": list(recipe.scales),
        "steps": training.step,
        "planned_progress": round(training.progress, 4),
        "seconds": round(training.seconds),
        "batch": recipe.batch,
        "crop_hr": recipe.crop,
        "loss": recipe.loss,
        "optimizer": "Adam, betas 0.9 and 0.99",
        "lr": recipe.lr,
        "clip": recipe.clip,
        "ema": recipe.ema,
        "bf16_share": recipe.bf16,
        "seed": recipe.seed,
        "date": datetime.date.today().isoformat(),
        "machine": f"{cpu_name()}, {torch.get_num_threads()} threads of {os.cpu_count()}",
        "torch": str(torch.__version__),
        "protocol": "luma PSNR and SSIM (BT.601 Y), 8-bit results, scale pixels cut at the border",
        "scores": {
            f"{benchmark} x{s}": evaluate(net, benchmark, s) for benchmark in ("Set5", "Set14") for s in recipe.scales
        },
    }
    scale = recipe.scales[0] if len(recipe.scales) == 1 else None
    state = {k: v.contiguous() for k, v in net.state_dict().items()}
    data = {"net": recipe.net, "scale": scale, "state_dict": state, "card": card}
    write_atomically(path, lambda part: torch.save(data, part))


def load_inference(path: Path) -> nn.Module:
    """Read what `save_inference` wrote; returns the inference-form network in eval mode."""
    data = torch.load(path, weights_only=True)
    net: nn.Module
    if data["net"] == "fmen":
        net = FMENInference(data["scale"])
    else:
        net = VDSRInference() if data["net"] == "vdsr" else SRGANGeneratorInference()
    net.load_state_dict(data["state_dict"])
    return net.eval()


def load_card(path: Path) -> dict[str, Any]:
    """Return the model card stored beside the weights."""
    card: dict[str, Any] = torch.load(path, weights_only=True)["card"]
    return card


def export(source: nn.Module | Path, out: Path) -> None:
    """Compile a network (either form, or a file of `save_inference` with its card) and write it as .fsr."""
    from fastsr.graph import compile_model  # training itself needs no compiler

    if isinstance(source, Path):
        card = LIMITS | load_card(source)
        name = MODEL_NAMES[torch.load(source, weights_only=True)["net"]]
        compile_model(load_inference(source), name=name, card=card).save(out)
    else:
        compile_model(source).save(out)


def cpu_name() -> str:
    """Return the processor's name as Linux states it, else what Python knows."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m training.export RUN_inference.pt OUT.fsr")
    export(Path(sys.argv[1]), Path(sys.argv[2]))
