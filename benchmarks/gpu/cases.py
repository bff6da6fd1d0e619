"""What is run on the GPU, and what FastSR must reach there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

OURS = "triton fp16"
EAGER = "PyTorch eager fp16"
COMPILED = "torch.compile fp16"
TENSORRT = "TensorRT fp16"
BOUNDED = "triton fp16, 64 MB"
EIGHT_BITS = {"int8": "triton int8", "fp8": "triton fp8"}


@dataclass(frozen=True)
class Case:
    """A network on an LR image of height x width."""

    name: str
    model: str
    scale: int
    height: int
    width: int


CASES = (
    Case("FMEN x4, LR 320x180", "fmen", 4, 180, 320),
    Case("FMEN x4, LR 960x540", "fmen", 4, 540, 960),
    Case("VDSR to 1920x1080", "vdsr", 2, 540, 960),
    Case("SRGAN-G x4, LR 480x270", "srresnet", 4, 270, 480),
)
DRY_CASES = (Case("bicubic x2, LR 16x12", "bicubic", 2, 12, 16), Case("FMEN x2, LR 8x6", "fmen", 2, 6, 8))


@dataclass(frozen=True)
class Bar:
    """Something to reach in a case. what: "ms" or "bytes", of `who`.

    most: a number; or factor: `who` must be at least so many times below `beside`.
    """

    case: str
    what: str
    who: str
    most: float | None = None
    factor: float | None = None
    beside: str = ""

    @property
    def text(self) -> str:
        unit = "ms" if self.what == "ms" else "device memory"
        if self.most is not None:
            figure = f"{self.most:g} ms" if self.what == "ms" else f"{self.most / 1e6:g} MB"
            return f"{self.who}: {unit} at most {figure}"
        return f"{self.who}: {unit} {self.factor:g} times below {self.beside}"

    def judge(self, figures: Mapping[str, Mapping[str, float]]) -> str:
        """Return "met", "not met" or "not measured", with the figures. figures: {entrant: {what: number}}."""
        mine = figures.get(self.who, {}).get(self.what)
        other = figures.get(self.beside, {}).get(self.what) if self.beside else None
        if mine is None or (self.beside and other is None):
            return "not measured"
        unit, scale, digits = ("ms", 1.0, 3) if self.what == "ms" else ("MB", 1e6, 1)
        shown = f"{mine / scale:.{digits}f} {unit}"
        if self.most is not None:
            return f"{'met' if mine <= self.most else 'not met'}: {shown}"
        assert other is not None
        assert self.factor is not None
        ratio = other / mine
        verdict = "met" if ratio >= self.factor else "not met"
        return f"{verdict}: {ratio:.2f} times ({shown}, {other / scale:.{digits}f} {unit})"


BARS: Sequence[Bar] = (
    Bar(CASES[0].name, "ms", OURS, most=0.45),
    Bar(CASES[0].name, "ms", OURS, most=0.2),
    Bar(CASES[0].name, "ms", OURS, factor=2, beside=COMPILED),
    Bar(CASES[1].name, "ms", OURS, most=2.5),
    Bar(CASES[1].name, "ms", OURS, most=1.2),
    Bar(CASES[1].name, "ms", OURS, factor=1.2, beside=TENSORRT),
    Bar(CASES[2].name, "ms", OURS, factor=1.5, beside=COMPILED),
    Bar(CASES[3].name, "ms", OURS, factor=1.5, beside=COMPILED),
    Bar(CASES[1].name, "bytes", OURS, factor=2, beside=EAGER),
    Bar(CASES[1].name, "bytes", BOUNDED, factor=2, beside=EAGER),
    Bar(CASES[1].name, "bytes", BOUNDED, most=64e6),
)
