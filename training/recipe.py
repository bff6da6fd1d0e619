"""What a training run is: one TOML file, one frozen dataclass."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fastsr.errors import OptionError

tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

NETS = ("fmen", "vdsr", "srgan_generator")
LOSSES = ("l1", "charbonnier")


@dataclass(frozen=True)
class Recipe:
    """One training run.

    net: one of NETS. scales: what is trained; FMEN has one, VDSR several, one drawn for each step.
    steps, batch: optimizer steps, crops a step. crop: HR pixels a side, a multiple of every scale.
    margin: LR pixels around each crop that VDSR's bicubic enlargement needs, and that are cut behind it.
    lr: peak of Adam's learning rate, reached after `warmup` steps and let down to `lr_end` by a cosine.
    clip: largest gradient norm. ema: decay of the averaged weights, which are the result.
    bf16: share of the run, from its start, under bfloat16 autocast; the rest is float32.
    data: weight of each training set.
    colours: 3, or 1 for a network of grey images. model: what the exported model is called; by default as the net.
    window: the percentiles of a scan's values that mean 0 and 1; jitter: how far, as a share of the window's width,
    either end moves at random for each crop.
    """

    name: str
    net: str
    scales: tuple[int, ...]
    steps: int
    batch: int
    crop: int
    lr: float
    data: dict[str, float]
    margin: int = 0
    loss: str = "l1"
    lr_end: float = 1e-6
    warmup: int = 100
    clip: float = 1.0
    ema: float = 0.999
    bf16: float = 0.0
    seed: int = 1
    colours: int = 3
    model: str = ""
    window: tuple[float, float] = (0.5, 99.5)
    jitter: float = 0.0

    def __post_init__(self) -> None:
        if self.net not in NETS:
            raise OptionError(f"net is {self.net!r}; one of {NETS} is needed")
        if self.loss not in LOSSES:
            raise OptionError(f"loss is {self.loss!r}; one of {LOSSES} is needed")
        if self.margin and self.net != "vdsr":
            raise OptionError(f"margin is {self.margin}; only vdsr has a use for one, {self.net} needs 0")
        if not self.scales or any(self.crop % s for s in self.scales):
            raise OptionError(f"crop is {self.crop} HR pixels; a multiple of each of {self.scales} is needed")
        if self.colours not in (1, 3) or (self.colours == 1 and self.net != "fmen"):
            raise OptionError(f"colours is {self.colours}; 3 is needed, or 1 with fmen")
        if "medical" in self.data and self.colours != 1:
            raise OptionError(f"colours is {self.colours}; the medical set is grey and needs 1")
        if not (len(self.window) == 2 and 0 <= self.window[0] < self.window[1] <= 100):
            raise OptionError(f"window is {self.window}; two percentiles, low < high, from 0 to 100 are needed")
        if not 0 <= self.jitter < 0.5:
            raise OptionError(f"jitter is {self.jitter}; 0 or more and less than 0.5 is needed")


def load(path: Path) -> Recipe:
    """Read a recipe. Raises OptionError for a key that does not exist or is missing."""
    table: dict[str, Any] = tomllib.loads(path.read_text())
    known = {field.name for field in fields(Recipe)}
    table.setdefault("name", path.stem)
    if unknown := table.keys() - known:
        raise OptionError(f"{path.name} has unknown keys {sorted(unknown)}; known are {sorted(known)}")
    try:
        given: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
        return Recipe(**given)
    except TypeError as error:
        raise OptionError(f"{path.name} is incomplete: {error}") from error
