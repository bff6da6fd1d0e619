"""Which block sizes a kernel runs with: the shipped file, and what was measured on the user's own GPU.

configs.toml holds one table for each architecture, kernel and arithmetic, one line for each pair of channels (both
rounded up to powers of two, from 16). A user's file of the same form, written by `autotune`, comes before it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastsr.backends.folder import cache_folder
from fastsr.errors import BackendUnavailableError, ModelFileError

SHIPPED = Path(__file__).with_name("configs.toml")
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8")
LEAST_SM = {"fp8": 90}  # others run from 8.0 on; 8.9 has fp8 too, but no block sizes of it are known to compile


@dataclass(frozen=True)
class Config:
    """How a kernel is cut.

    bm, bn, bk: rows (pixels), columns (output channels) and depth of a block; flat: see kernels.conv; th, tw: the
    tile of a chain; warps, stages: of a program, and of its software pipeline; per_sm: programs of a chain for
    each multiprocessor.
    """

    bm: int = 128
    bn: int = 64
    bk: int = 64
    flat: bool = False
    th: int = 16
    tw: int = 16
    warps: int = 4
    stages: int = 3
    per_sm: int = 2


def choose(kernel: str, C: int, K: int, precision: str, sm: int) -> Config:
    """Return the configuration for C input and K output channels: that of the newest architecture up to `sm`."""
    key = f"{power_of_two(C)}x{power_of_two(K)}"
    arithmetic = "half" if precision in ("fp16", "bf16") else precision
    for tables in (_user_tables(user_file(), _stamp(user_file())), _stamped(SHIPPED, (0, 0))):
        for known in sorted(tables, reverse=True):
            if known > sm:
                continue
            lines = tables[known].get(kernel, {}).get(arithmetic, {})
            if key in lines or "any" in lines:
                return Config(**lines.get(key, lines.get("any")))
    return Config()


def check_capability(precision: str, sm: int) -> None:
    """Raise BackendUnavailableError where a GPU of compute capability sm / 10 lacks the precision."""
    least = LEAST_SM.get(precision, 80)
    if sm < least:
        raise BackendUnavailableError(
            f"precision {precision!r} needs a GPU of compute capability {least / 10:.1f} or newer; this one has "
            f"{sm / 10:.1f}: 'int8' and 'fp16' run on it"
        )


def power_of_two(channels: int) -> int:
    """Round up to a power of two, 16 at least: what a matrix instruction takes."""
    return max(16, 1 << (channels - 1).bit_length())


def user_file() -> Path:
    """Return where `autotune` writes. FASTSR_CACHE moves it."""
    return cache_folder() / "triton.toml"


def dump(tables: Mapping[int, Mapping[str, Mapping[str, Mapping[str, Config]]]], heading: str) -> str:
    """Return {architecture: {kernel: {arithmetic: {channels: Config}}}} as TOML."""
    lines = [f"# {line}" for line in heading.splitlines()]
    for sm, kernels in sorted(tables.items()):
        for kernel, arithmetics in kernels.items():
            for arithmetic, entries in arithmetics.items():
                lines += ["", f"[sm_{sm}.{kernel}.{arithmetic}]"]
                for key, config in entries.items():
                    given = ", ".join(f"{f.name} = {_toml(getattr(config, f.name))}" for f in fields(config))
                    lines.append(f'"{key}" = {{ {given} }}')
    return "\n".join(lines) + "\n"


def _toml(value: bool | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def load(path: Path) -> dict[int, Any]:
    """Return {architecture: {kernel: {arithmetic: {channels: fields}}}}. Raises ModelFileError for another file."""
    tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    known = {f.name: type(getattr(Config(), f.name)) for f in fields(Config)}
    try:
        tables = {int(name.removeprefix("sm_")): table for name, table in tomllib.loads(path.read_text()).items()}
        for table in tables.values():
            for arithmetics in table.values():
                for lines in arithmetics.values():
                    for line in lines.values():
                        for name, value in line.items():
                            if type(value) is not known.get(name) or value < 0:
                                raise ValueError(f"{name} = {value!r}")
    except (ValueError, AttributeError, TypeError) as error:
        raise ModelFileError(f"{path}: no table of configurations ({error}); delete it or autotune again") from error
    return tables


def _user_tables(path: Path, stamp: tuple[int, int] | None) -> dict[int, Any]:
    return {} if stamp is None else _stamped(path, stamp)


@lru_cache(maxsize=4)
def _stamped(path: Path, stamp: tuple[int, int]) -> dict[int, Any]:
    return load(path)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
