"""Trained weights out: the inference form as a .pt file, and from it a compiled .fsr file."""

from __future__ import annotations

import csv
import datetime
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.data import MEDICAL, data_root
from training.loop import Training, write_atomically
from training.nets import FMENInference, SRGANGeneratorInference, VDSRInference
from training.recipe import Recipe
from training.validate import benchmarks, measure

# What FastSR calls a trained network: srresnet is SRGAN's generator with the pixel loss alone.
MODEL_NAMES = {"fmen": "fmen", "vdsr": "vdsr", "srgan_generator": "srresnet"}

PROTOCOL = {
    3: "luma PSNR and SSIM (BT.601 Y), 8-bit results, scale pixels cut at the border",
    1: "PSNR and SSIM in floating point, peak = the percentile window's width, scale pixels cut at the border, "
    "mean over slices of subjects that were not trained on",
}

# What every card of weights that were trained on these photos must say.
LIMITS = {
    "use": "research; no medical device: what a learned prior adds is likely, not measured",
    "value_range": "0 to 1, black to white",
    "trained_for": "photos reduced by bicubic interpolation; noise, blur and compression are enlarged with the rest",
    "licence": "weights Apache-2.0; photos: BSDS500 and SunHays80 research use, T91 and DIV2K crops not stated, "
    "others CC0, CC BY, CC BY-SA, Unsplash or public domain",
}
MEDICAL_LIMITS = LIMITS | {
    "value_range": "0 and 1 are the slice's values at the percentiles of normalization; values beyond are kept",
    "trained_for": "MR, CT and X-ray slices reduced by bicubic interpolation; noise is enlarged with the rest",
    "claims": "none about CT and X-ray: they come from one patient and from nine images",
    "licence": LIMITS["licence"] + "; scans: open_ms_data CC BY (Lesjak et al.), studyforrest PDDL, dcm_qa_ct BSD-2, "
    "VS-SEG-001 and BRAINIX not stated, Actualmed research use",
}


def save_inference(training: Training, net: nn.Module, path: Path, db: float, done: bool) -> None:
    """Write {"net", "scale", "colours", "model", "state_dict", "card"} of the inference form `net`, atomically.

    db: PSNR while training; the benchmarks are measured when the run is `done`.
    """
    recipe = training.recipe
    card: dict[str, Any] = {
        "name": recipe.name,
        "trained_on": trained_on(recipe),
        "degradation": f"MATLAB imresize bicubic, antialiased, {'8 bit' if recipe.colours == 3 else 'not rounded'}",
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
        "protocol": PROTOCOL[recipe.colours],
        "scores": {"while training": {"psnr": db}},
    }
    if MEDICAL in recipe.data:
        card["normalization"] = {"kind": "percentile", "low": recipe.window[0], "high": recipe.window[1]}
    if done:
        card["scores"] = {f"{name} x{s}": measure(net, name, s) for name in benchmarks(recipe) for s in recipe.scales}
    state = {k: v.contiguous() for k, v in net.state_dict().items()}
    scale = recipe.scales[0] if len(recipe.scales) == 1 else None
    about = {
        "net": recipe.net,
        "scale": scale,
        "colours": recipe.colours,
        "model": recipe.model or MODEL_NAMES[recipe.net],
    }
    write_atomically(path, lambda part: torch.save({**about, "state_dict": state, "card": card}, part))


def trained_on(recipe: Recipe) -> dict[str, Any]:
    """Return what a card says of the training images: the share of each set, and of scans also what they show.

    The PNG slices do not state their spacing, so the card does not either.
    """
    told: dict[str, Any] = {"sets": dict(recipe.data), "modalities": ["photo"]}
    if MEDICAL in recipe.data:
        with (data_root() / "medical/slices/manifest.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
        told["modalities"] = sorted({row["modality"][:2] for row in rows})
        told["sequences"] = sorted({row["modality"][2:] for row in rows if row["modality"].startswith("MR")})
        told["subjects"] = len({row["subject"].partition("_study")[0] for row in rows})
        told["slices"] = len(rows)
    return told


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


def export(source: nn.Module | Path, out: Path) -> None:
    """Compile a network (either form, or a file of `save_inference` with its card) and write it as .fsr."""
    from fastsr.graph import compile_model  # training itself needs no compiler

    if isinstance(source, Path):
        data = torch.load(source, weights_only=True)
        card = (MEDICAL_LIMITS if data.get("colours", 3) == 1 else LIMITS) | data["card"]
        compile_model(load_inference(source), name=data.get("model", MODEL_NAMES[data["net"]]), card=card).save(out)
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
