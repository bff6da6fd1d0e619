"""From a launch to what a kernel is called with: packed weights, constants, grid. NumPy only, no GPU needed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastsr.backends.triton.configs import Config, choose, power_of_two
from fastsr.backends.triton.plan import (
    PIXELS,
    RESULT,
    ChainLaunch,
    ConvLaunch,
    Epilogue,
    Launch,
    Plan,
    PointwiseLaunch,
    ResizeLaunch,
    Value,
    reads,
    shuffled,
)
from fastsr.backends.triton.quantize import FLOATS, LARGEST
from fastsr.graph.ir import Array

EMPTY = np.zeros(0, np.float32)
POINTWISE_BLOCK = 2048  # elements


@dataclass(frozen=True)
class Call:
    """One kernel call, whatever the image's size.

    precision: what its products, weights and slab are in; kinds: what its x, y and operands are in, by the names of the
    kernel's arguments, the caller's pixels aside. constants: the kernel's constexpr arguments, ROUND aside; weights,
    vectors: float32, flat, as the kernel reads them; channels: (C, K) by which `config` was chosen; blocks: of output
    channels.
    """

    launch: Launch
    precision: str
    kinds: dict[str, str]
    kernel: str
    constants: dict[str, Any]
    config: Config
    channels: tuple[int, int]
    weights: Array = field(default_factory=lambda: EMPTY, repr=False)
    vectors: Array = field(default_factory=lambda: EMPTY, repr=False)
    blocks: int = 1

    @property
    def slab(self) -> int:
        """Elements of scratch that each program of a chain needs."""
        return int(self.constants.get("SLAB", 0))

    def grid(self, height: int, width: int, multiprocessors: int) -> tuple[int, ...]:
        """Return the grid for an input value of height x width."""
        if isinstance(self.launch, ChainLaunch):
            tiles = self.tiles(height, width)
            return (min(tiles[0] * tiles[1], multiprocessors * self.config.per_sm),)
        enlarged = self.launch.factor**2 if isinstance(self.launch, ResizeLaunch) else 1
        return -(-height * width * enlarged // int(self.constants["BM"])), self.blocks

    def tiles(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // self.config.th), -(-width // self.config.tw)


def calls(plan: Plan, precision: str, sm: int, *, emulated: bool = False, config: Config | None = None) -> list[Call]:
    """Return the plan's calls; a plan for int8 or fp8 comes from quantize.py.

    emulated: for the interpreter; config: for all instead of the chosen ones.
    """
    return [_call(launch, plan, precision, sm, emulated, config) for launch in plan.launches]


def _call(launch: Launch, plan: Plan, precision: str, sm: int, emulated: bool, config: Config | None) -> Call:
    floats = FLOATS if precision in LARGEST else precision
    kind = {name: value.kind or floats for name, value in plan.values.items()}
    own = kind.get(launch.x, floats)
    kinds = {"x_ptr": own, "y_ptr": kind.get(launch.y, floats)}
    kinds |= {f"o{i}_ptr": kind[name] for i, name in enumerate(operands(launch))}
    if isinstance(launch, ConvLaunch):
        K, C = launch.shape[:2]
        chosen = config or choose("conv", C, K, own, sm)
        return _conv(launch, plan, own, kinds, chosen, emulated)
    if isinstance(launch, ChainLaunch):
        C, K = launch.convs[0].shape[1], launch.convs[-1].shape[0]
        chosen = config or choose("chain", C, K, own, sm)
        return _chain(launch, plan, own, kinds, chosen, emulated)
    if isinstance(launch, ResizeLaunch):
        return _resize(launch, plan, floats, kinds)
    return _pointwise(launch, plan, floats, kinds)


def operands(launch: Launch) -> tuple[str, ...]:
    """Return the names of the values that the launch's steps read."""
    return reads(launch)[1:]


def arithmetic(precision: str, emulated: bool) -> str:
    """Return what kernels.py calls ARITHMETIC."""
    if precision == "bf16" and emulated:
        return "upcast"
    return precision if precision in ("tf32", "int8") else "ieee"


def round_to_tf32(values: Array) -> Array:
    """Round to the nearest number with 10 bits behind the leading one."""
    rounded = (values.view(np.int32) + np.int32(0x1000)) & np.int32(-0x2000)
    result: Array = rounded.view(np.float32)
    return result


def _conv(
    launch: ConvLaunch, plan: Plan, precision: str, kinds: dict[str, str], config: Config, emulated: bool
) -> Call:
    K, C, KH, KW = launch.shape
    held = C if launch.x == PIXELS else plan.values[launch.x].pitch
    bn = min(config.bn, power_of_two(K))
    bk = _depth(config, KH * KW * held if config.flat else held, precision)
    blocks = -(-K // bn)
    width = blocks * bn
    factor = launch.epilogue.factor
    weights = pack_flat(launch.weight, held, factor, bk, width) if config.flat else None
    if weights is None:
        weights = pack_taps(launch.weight, held, factor, bk, width)
    if precision == "tf32":
        weights = round_to_tf32(weights)
    vectors = [shuffled(launch.bias, factor), *launch.epilogue.vectors]
    constants = {
        "C": held,
        "K": K,
        "WIDTH": width,
        "KH": KH,
        "KW": KW,
        **_finish(launch.y, launch.epilogue, plan, K),
        "IMAGE_IN": launch.x == PIXELS,
        "ARITHMETIC": arithmetic(precision, emulated),
        "FLAT": config.flat,
        "BM": config.bm,
        "BN": bn,
        "BK": bk,
    }
    packed = _pack_vectors(vectors, width)
    return Call(launch, precision, kinds, "conv", constants, config, (C, K), weights, packed, blocks)


def _chain(
    launch: ChainLaunch, plan: Plan, precision: str, kinds: dict[str, str], config: Config, emulated: bool
) -> Call:
    first, last = launch.convs[0], launch.convs[-1]
    C, MID, K = plan.values[launch.x].pitch, first.shape[0], last.shape[0]
    mid_pitch, mid_width, width = -(-MID // 8) * 8, power_of_two(MID), power_of_two(K)
    bk = _depth(config, max(C, MID), precision)
    count = len(launch.convs)
    weights: list[Array] = []
    vectors: list[Array] = []
    step_at, w_at, v_at, s_at = [0], [0], [0], [0]
    for i, conv in enumerate(launch.convs):
        wide = width if i == count - 1 else mid_width
        weights.append(pack_taps(conv.weight, C if i == 0 else mid_pitch, 1, bk, wide))
        vectors.append(_pack_vectors([conv.bias, *conv.epilogue.vectors], wide))
        step_at.append(step_at[-1] + len(conv.epilogue.steps))
        w_at.append(w_at[-1] + weights[-1].size)
        v_at.append(v_at[-1] + vectors[-1].size)
        halo = 2 * (count - 1 - i)
        s_at.append(s_at[-1] + (config.th + halo) * (config.tw + halo) * mid_pitch)
    constants = {
        "C": C,
        "MID": MID,
        "MID_PITCH": mid_pitch,
        "MID_WIDTH": mid_width,
        "K": K,
        "WIDTH": width,
        "PITCH": plan.values[launch.y].pitch,
        "STAGES": count,
        "STEPS": tuple(step for conv in launch.convs for step in conv.epilogue.steps),
        "ARGUMENTS": tuple(argument for conv in launch.convs for argument in conv.epilogue.arguments),
        "PITCHES": tuple(plan.values[name].pitch for name in last.epilogue.operands),
        "STEP_AT": tuple(step_at),
        "W_AT": tuple(w_at[:-1]),
        "V_AT": tuple(v_at[:-1]),
        "S_AT": tuple(s_at[: count - 1]),
        "SLAB": s_at[count - 1],
        "ARITHMETIC": arithmetic(precision, emulated),
        "TH": config.th,
        "TW": config.tw,
        "BM": config.bm,
        "BK": bk,
    }
    packed = np.concatenate(weights)
    if precision == "tf32":
        packed = round_to_tf32(packed)
    key = first.shape[1], K
    return Call(launch, precision, kinds, "chain", constants, config, key, packed, np.concatenate(vectors))


def _pointwise(launch: PointwiseLaunch, plan: Plan, precision: str, kinds: dict[str, str]) -> Call:
    K = launch.channels
    bn = min(power_of_two(K), 64)
    blocks = -(-K // bn)
    value = plan.values.get(launch.x)
    constants = {
        "X_PITCH": K if value is None else value.pitch,
        "X_FIRST": launch.first,
        "K": K,
        "WIDTH": blocks * bn,
        **_finish(launch.y, launch.epilogue, plan, K, launch.into, launch.fill),
        "IMAGE_IN": launch.x == PIXELS,
        "BM": POINTWISE_BLOCK // bn,
        "BN": bn,
    }
    vectors = _pack_vectors(list(launch.epilogue.vectors), blocks * bn)
    config = Config(stages=1)
    return Call(launch, precision, kinds, "pointwise", constants, config, (K, K), EMPTY, vectors, blocks)


def _resize(launch: ResizeLaunch, plan: Plan, precision: str, kinds: dict[str, str]) -> Call:
    value = plan.values.get(launch.x)
    K = plan.graph.channels if value is None else value.channels
    bn = min(power_of_two(K), 64)
    finish = _finish(launch.y, Epilogue(), plan, K)
    constants = {
        "X_PITCH": K if value is None else value.pitch,
        "K": K,
        "ENLARGE": launch.factor,
        "TAPS": launch.phases.shape[1],
        **{name: finish[name] for name in ("Y_PITCH", "FILL", "IMAGE_OUT")},
        "IMAGE_IN": launch.x == PIXELS,
        "BM": POINTWISE_BLOCK // bn,
        "BN": bn,
    }
    phases = launch.phases.astype(np.float32).ravel()
    config = Config(stages=1)
    return Call(launch, precision, kinds, "resize", constants, config, (K, K), phases, EMPTY, -(-K // bn))


def _finish(y: str, epilogue: Epilogue, plan: Plan, K: int, into: int = 0, fill: int = 0) -> dict[str, Any]:
    value = plan.values.get(y) or Value(RESULT, K // epilogue.factor**2, K // epilogue.factor**2, 1)
    if not fill:
        fill = value.pitch if epilogue.factor == 1 and not into else K
    return {
        "PITCHES": tuple(plan.values[name].pitch for name in epilogue.operands),
        "FACTOR": epilogue.factor,
        "Y_PITCH": value.pitch,
        "Y_FIRST": into,
        "FILL": fill,
        "STEPS": epilogue.steps,
        "ARGUMENTS": epilogue.arguments,
        "IMAGE_OUT": y == RESULT,
    }


def _depth(config: Config, channels: int, precision: str) -> int:
    """Return the depth of a block: no more than there is, no less than a matrix instruction takes."""
    return max(min(config.bk, power_of_two(channels)), 32 if precision in LARGEST else 16)


def pack_taps(weight: Array, held: int, factor: int, bk: int, width: int) -> Array:
    """Return (K, C, kh, kw) as (taps, channels padded to blocks of bk, width), flat. held: channels in memory."""
    K, C, kh, kw = weight.shape
    packed = np.zeros((kh * kw, -(-held // bk) * bk, width), np.float32)
    packed[:, :C, :K] = shuffled(weight, factor).transpose(2, 3, 1, 0).reshape(kh * kw, C, K)
    return packed.ravel()


def pack_flat(weight: Array, held: int, factor: int, bk: int, width: int) -> Array:
    """Return (K, C, kh, kw) as (taps * held padded to blocks of bk, width), flat."""
    K, C, kh, kw = weight.shape
    rows = np.zeros((kh * kw, held, width), np.float32)
    rows[:, :C, :K] = shuffled(weight, factor).transpose(2, 3, 1, 0).reshape(kh * kw, C, K)
    packed = np.zeros((-(-kh * kw * held // bk) * bk, width), np.float32)
    packed[: kh * kw * held] = rows.reshape(-1, width)
    return packed.ravel()


def _pack_vectors(vectors: list[Array], width: int) -> Array:
    packed = np.zeros((len(vectors), width), np.float32)
    for row, vector in zip(packed, vectors, strict=True):
        row[: len(vector)] = vector
    return packed.ravel()
