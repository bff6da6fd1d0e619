"""What a training run is: one TOML file, one frozen dataclass."""

from __future__ import annotations

import difflib
import importlib
import math
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fastsr.errors import OptionError

tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

NETS = ("fmen", "vdsr", "srgan_generator")
LOSSES = ("l1", "charbonnier", "l2")
NORMS = ("batch", "frozen")
OPTIMIZERS = ("adam", "muon")
MEDICAL = "medical"
KINDS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,)}
RECIPES = Path(__file__).resolve().parent / "recipes"
# What FastSR calls a trained network where the recipe does not: SRGAN's generator with a pixel loss is SRResNet.
MODEL_NAMES = {"fmen": "fmen", "vdsr": "vdsr", "srgan_generator": "srresnet"}


@dataclass(frozen=True)
class Recipe:
    """One training run.

    net: one of NETS. scales: what is trained; FMEN has one, VDSR several, one drawn for each step.
    steps, batch: optimizer steps, crops a step. crop: HR pixels a side, a multiple of every scale (but for VDSR).
    margin: LR pixels around each crop that VDSR's bicubic enlargement needs, and that are cut behind it.
    optimizer: one of OPTIMIZERS; see training.muon.
    lr: peak of the learning rate, reached after `warmup` steps and let down to `lr_end` by a cosine.
    clip: largest gradient norm. ema: decay of the averaged weights, which are the result.
    bf16: share of the run, from its start, under autocast to bfloat16 (float16 on a GPU without it), then float32.
    norms: batch norms use the statistics of each batch, or stay frozen as the weights that a run starts from left them:
    a fine-tuned network then learns in the very form that is shipped.
    data: weight of each training set: a name from training.data, or the path of a folder of images.
    colours: 3, or 1 for a network of grey images. model: what the exported model is called; by default as the net.
    window: the percentiles of a scan's values that mean 0 and 1; jitter: how far, as a share of the window's width,
    either end moves at random for each crop.
    teacher: a model, as for `fastsr.load`, whose results make up `teaching` parts of the targets, the rest is HR.
    adversarial: weight of the adversarial loss; 0 trains without a discriminator. pixel, perceptual: weights of the
    pixel loss and of the loss of what a viewer would miss beside it; see training.adversarial.
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
    optimizer: str = "adam"
    lr_end: float = 1e-6
    warmup: int = 100
    clip: float = 1.0
    ema: float = 0.999
    bf16: float = 0.0
    norms: str = "batch"
    seed: int = 1
    colours: int = 3
    model: str = ""
    window: tuple[float, float] = (0.5, 99.5)
    jitter: float = 0.0
    teacher: str = "fmen"
    teaching: float = 0.0
    adversarial: float = 0.0
    pixel: float = 1.0
    perceptual: float = 0.0

    def __post_init__(self) -> None:
        def need(met: bool, what: str) -> None:
            if not met:
                raise OptionError(f"recipe {self.name}: {what}")

        for field in fields(self):
            value = getattr(self, field.name)
            kinds = KINDS.get(str(field.type))
            if kinds is not None:
                need(
                    isinstance(value, kinds) and not isinstance(value, bool),
                    f"{field.name} is {value!r}; {field.type} is needed",
                )
        need(self.net in NETS, f"net is {self.net!r}; one of {NETS} is needed")
        need(self.loss in LOSSES, f"loss is {self.loss!r}; one of {LOSSES} is needed")
        need(self.optimizer in OPTIMIZERS, f"optimizer is {self.optimizer!r}; one of {OPTIMIZERS} is needed")
        need(self.norms in NORMS, f"norms is {self.norms!r}; one of {NORMS} is needed")
        scales = self.scales if isinstance(self.scales, tuple) else ()
        need(
            bool(scales) and all(isinstance(s, int) and s > 1 for s in scales),
            f"scales is {self.scales}; a list such as [2, 3, 4] is needed",
        )
        known = {"fmen": tuple(range(2, 9)), "vdsr": (2, 3, 4), "srgan_generator": (4,)}[self.net]
        need(
            set(scales) <= set(known) and (len(scales) == 1 or self.net == "vdsr"),
            f"scales is {list(scales)}; {self.net} has {'any' if self.net == 'vdsr' else 'one'} of {list(known)}",
        )
        for name in ("steps", "batch", "crop", "lr", "clip"):
            need(0 < getattr(self, name) < math.inf, f"{name} is {getattr(self, name)}; more than 0 is needed")
        for name in ("margin", "lr_end", "warmup", "adversarial", "pixel", "perceptual"):
            need(0 <= getattr(self, name) < math.inf, f"{name} is {getattr(self, name)}; 0 or more is needed")
        need(0 <= self.ema < 1, f"ema is {self.ema}; 0 or more and less than 1 is needed")
        need(0 <= self.bf16 <= 1, f"bf16 is {self.bf16}; a share from 0 to 1 is needed")
        need(not self.margin or self.net == "vdsr", f"margin is {self.margin}; only vdsr has a use for one")
        need(
            self.net == "vdsr" or all(self.crop % s == 0 for s in scales),
            f"crop is {self.crop} HR pixels; a multiple of each of {list(scales)} is needed",
        )
        need(
            self.colours == 3 or (self.colours == 1 and self.net == "fmen"),
            f"colours is {self.colours}; 3 is needed, or 1 with fmen",
        )
        need(MEDICAL not in self.data or self.colours == 1, f"colours is {self.colours}; the medical set needs 1")
        need(
            len(self.window) == 2 and 0 <= self.window[0] < self.window[1] <= 100,
            f"window is {self.window}; two percentiles, low < high, from 0 to 100 are needed",
        )
        need(0 <= self.teaching <= 1, f"teaching is {self.teaching}; a share from 0 to 1 is needed")
        need(0 <= self.jitter < 0.5, f"jitter is {self.jitter}; 0 or more and less than 0.5 is needed")
        need(
            not self.adversarial or self.net == "srgan_generator",
            f"adversarial is {self.adversarial}; only srgan_generator is trained with a discriminator",
        )
        need(
            self.adversarial > 0 or not self.perceptual,
            f"perceptual is {self.perceptual}; it needs adversarial above 0",
        )
        weights = [w for w in self.data.values() if not (isinstance(w, (int, float)) and 0 < w < math.inf)]
        need(not weights, f"data has the weights {weights}; more than 0 is needed")

    @property
    def least_side(self) -> int:
        """The pixels that an image needs a side."""
        return max((math.ceil(self.crop / s) + 2 * self.margin) * s for s in self.scales)

    @property
    def model_name(self) -> str:
        return self.model or ("srgan" if self.adversarial else MODEL_NAMES[self.net])


def find(name: str) -> Path:
    """Return the path of a recipe: a file, or the name of one of ours, such as fmen_x4 or recipes/fmen_x4.toml."""
    ours = RECIPES / Path(name).with_suffix(".toml").name
    for path in (Path(name), ours):
        if path.is_file():
            return path
    known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
    raise OptionError(f"there is no recipe {name}; {known}, or the path of a .toml file would do")


def load(path: Path) -> Recipe:
    """Read a recipe. Raises OptionError for a key that does not exist, with the one that is nearest, or is missing."""
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # a TOML error is a ValueError
        raise OptionError(f"{path} is no readable TOML file: {error}") from error
    known = [field.name for field in fields(Recipe)]
    table.setdefault("name", path.stem)
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise OptionError(f"{path.name} has an unknown key {key!r}; {hint}")
    if not isinstance(table.get("data"), dict) or not table["data"]:
        raise OptionError(f"{path.name} names no training images; a table [data] of sets and weights is needed")
    given: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
    try:
        return Recipe(**given)
    except TypeError as error:
        raise OptionError(f"{path.name} is incomplete: {str(error).partition('__init__() ')[2]}") from error
