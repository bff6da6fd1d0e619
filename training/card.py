"""The model card: what weights were trained on, how, how good they are, and what their use is limited by."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import functools
import math
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import fastsr
from fastsr import evaluation
from fastsr.graph import CompiledModel
from fastsr.models import open_model
from training.data import data_root
from training.loop import Training
from training.recipe import MEDICAL, Recipe

# The terms of the training images, as their sources state them.
TERMS = {
    "BSD200": "BSDS500, research use",
    "BSDS500_test200": "BSDS500, research use",
    "T91": "not stated, research use",
    "div2k_crops": "not stated; DIV2K is commonly given for academic research",
    "photos": "CC0, CC BY, CC BY-SA, Unsplash or public domain; 2 of 38 not stated",
    "SunHays80": "not stated, research use",
    MEDICAL: "open_ms_data CC BY (Lesjak et al.), studyforrest PDDL, dcm_qa_ct BSD-2; VS-SEG-001 and BRAINIX not "
    "stated; Actualmed X-rays research use",
}
LIMITS = {
    "use": "research; no medical device: what a learned prior adds is likely, not measured",
    "degradation_limits": "trained for images reduced by bicubic interpolation; noise, blur and compression of other "
    "kinds are enlarged with the rest",
}
VALUES = {
    3: "0 to 1, black to white",
    1: "0 and 1 are the values at the percentiles of normalization; values beyond are kept",
}
OPTIMIZER = {
    "adam": "Adam, betas 0.9 and 0.99",
    "muon": "Muon, momentum 0.95, for kernels; Adam, betas 0.9 and 0.99, for biases and norms",
}
CLAIMS = {MEDICAL: "none about CT and X-ray: they come from one patient and from nine images"}
PROTOCOL = {
    3: "luma PSNR and SSIM (BT.601 Y), 8-bit results, scale pixels cut at the border; by fastsr eval",
    1: "PSNR and SSIM, peak = the percentile window's width, scale pixels cut at the border, mean over slices of "
    "subjects that were not trained on; by fastsr eval",
}
BENCHMARKS = ("Set5", "Set14", "B100", "Urban100_12")
MEDICAL_TEST = "medical test"
HU, HU_OFFSET = "HU+1024", 1024  # what the manifest of the slices calls CT's values, and what 0 HU is stored as


def make_card(training: Training, db: float) -> dict[str, Any]:
    """Return the card of a run's weights, without the scores; db: PSNR on the images that it was watched on."""
    recipe = training.recipe
    card: dict[str, Any] = {
        "name": recipe.name,
        **LIMITS,
        "licence": "weights Apache-2.0; images: " + terms(recipe),
        "value_range": VALUES[recipe.colours],
        "trained_on": trained_on(recipe),
        "degradation": f"MATLAB imresize bicubic, antialiased, {'8 bit' if recipe.colours == 3 else 'not rounded'}",
        "scales": list(recipe.scales),
        "protocol": PROTOCOL[recipe.colours],
        "steps": training.step,
        "progress": round(training.progress, 4),
        "seconds": round(training.seconds),
        "started_from": training.started_from or "random weights",
        "recipe": plain_recipe(recipe),
        "optimizer": f"{OPTIMIZER[recipe.optimizer]}, warm-up, cosine; averaged weights",
        "validation_psnr": None if math.isnan(db) else round(db, 3),
        "date": datetime.date.today().isoformat(),
        "machine": machine(training.device),
        "torch": str(torch.__version__),
        "commit": commit(),
    }
    if recipe.colours == 1:
        card["normalization"] = {"kind": "percentile", "low": recipe.window[0], "high": recipe.window[1]}
    if MEDICAL in recipe.data:
        card["claims"] = CLAIMS[MEDICAL]
    if recipe.teaching:
        card["taught_by"] = taught_by(recipe)
    return card


def taught_by(recipe: Recipe) -> list[str]:
    """Name the weights whose results are in the targets."""
    teachers = [open_model(recipe.teacher, scale) for scale in recipe.scales]
    return [f"{t.name} x{s}, sha256 {t.sha256[:12]}" for t, s in zip(teachers, recipe.scales, strict=True)]


def trained_on(recipe: Recipe) -> dict[str, Any]:
    """Return the share of each set and what kinds of images they hold; of scans also whose, and which values.

    The PNG slices do not state their spacing, so the card does not either; values have units in CT alone.
    """
    told: dict[str, Any] = {"sets": {set_name(name): share for name, share in recipe.data.items()}}
    modalities = {"photo"} if recipe.colours == 3 else set()
    if MEDICAL in recipe.data:
        with (data_root() / "medical" / "slices" / evaluation.MANIFEST).open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
        modalities |= {row["modality"][:2] for row in rows}
        told["sequences"] = sorted({row["modality"][2:] for row in rows if row["modality"].startswith("MR")})
        told["subjects"] = len({row["subject"].partition("_study")[0] for row in rows})
        told["slices"] = len(rows)
        values = [int(row[end]) - HU_OFFSET for row in rows if row["values"].startswith(HU) for end in ("min", "max")]
        if values:
            told["range"] = {"CT": [min(values), max(values)]}
    return told | ({"modalities": sorted(modalities)} if modalities else {})


def set_name(name: str) -> str:
    """Return a set's name, or of somebody's folder the last part of its path: a card tells no machine's paths."""
    return name if name in TERMS else Path(name).name


def terms(recipe: Recipe) -> str:
    return "; ".join(f"{set_name(name)}: {TERMS.get(name, 'of their owner')}" for name in recipe.data)


def plain_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe's keys as JSON values, but for those that the card tells elsewhere."""
    values = dataclasses.asdict(recipe)
    for key in ("name", "data", "scales", "colours", "model"):
        del values[key]
    values["window"] = list(recipe.window)
    values["teacher"] = Path(recipe.teacher).name  # a card tells no machine's paths
    return values


def measure(model: CompiledModel) -> dict[str, Any]:
    """Return the scores of a model on every benchmark that is there, by the engine that users run.

    {"Set5 x4": {"psnr": dB, "ssim": ...}}; for a network of scans {"medical test x4": {...}}, bicubic beside it.
    """
    grey = {graph.channels for graph in model.graphs} == {1}
    folders = {name: data_root() / "benchmarks" / name for name in BENCHMARKS}
    if grey:
        folders = {MEDICAL_TEST: data_root() / "medical" / "slices" / "test"}
    found: dict[str, Any] = {}
    for name, folder in folders.items():
        if not folder.is_dir():
            continue
        for scale in model.scales:
            scores = evaluation.evaluate(fastsr.load(model, scale=scale).upscale, scale, evaluation.references(folder))
            found[f"{name} x{scale}"] = {k: v for k, v in evaluation.mean(scores).items() if k in ("psnr", "ssim")}
            if grey:
                bicubic = fastsr.load("bicubic", scale=scale).upscale
                baseline = evaluation.mean(evaluation.evaluate(bicubic, scale, evaluation.references(folder)))
                groups = evaluation.by_group(scores)
                found[f"{name} x{scale}"] |= {
                    "bicubic_psnr": baseline["psnr"],
                    "psnr_by_subject": {group: values["psnr"] for group, values in groups.items()},
                }
    return found


def with_scores(model: CompiledModel) -> CompiledModel:
    """Return the model with its scores in its card."""
    return dataclasses.replace(model, card={**model.card, "scores": measure(model)})


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{cpu_name()}, {torch.get_num_threads()} threads of {os.cpu_count()}"


def cpu_name() -> str:
    """Return the processor's name as Linux states it, else what Python knows."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache
def commit() -> str:
    """Return the commit of this code when first asked, marked where it differs; "unknown" outside of a repository."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12", "--match="],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return described.stdout.strip() or "unknown"
