"""What the compiler makes of every Triton kernel that the shipped models run: docs/gpu-kernels.md. Needs no GPU.

    python -m benchmarks.gpu_kernels             # compiles what changed, and writes the table
    python -m benchmarks.gpu_kernels --all       # compiles everything

A row's `identity` is a hash of all that its machine code follows from (fastsr/backends/triton/aot.py), so that a row
whose identity still holds need not be compiled again. tests/test_triton_aot.py checks that no identity is out of date,
that all rows keep the limits, and compiles a few rows anew.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

from fastsr.backends.triton import aot
from fastsr.backends.triton.calls import Call, calls
from fastsr.backends.triton.configs import LEAST_SM, PRECISIONS
from fastsr.backends.triton.quantize import plan_of
from fastsr.models import open_model

TABLE = Path(__file__).resolve().parent.parent / "docs" / "gpu-kernels.md"
NETWORKS = (("fmen", 4), ("vdsr", 4), ("srresnet", 4))
ARCHITECTURES = (80, 90)
HEADER = (
    "identity | sm | precision | kernel | writes | channels | block | warps | stages "
    "| registers | stack | spills | shared | matrix"
)


@dataclass(frozen=True)
class Row:
    """One kernel for one architecture. block: bm x bn x bk, and a chain's tile."""

    identity: str
    sm: int
    precision: str
    kernel: str
    writes: str
    channels: str
    block: str
    warps: int
    stages: int
    registers: int
    stack: int
    spills: int
    shared: int
    matrix: int

    @property
    def facts(self) -> aot.Facts:
        return aot.Facts(self.registers, self.stack, self.spills, self.shared, self.matrix)


@dataclass(frozen=True)
class Wanted:
    """A kernel that some shipped model runs."""

    identity: str
    sm: int
    precision: str
    network: str
    call: Call

    def row(self, facts: aot.Facts) -> Row:
        config, call = self.call.config, self.call
        block = f"{call.constants['BM']}"
        if call.kernel == "conv":
            block = f"{block}x{call.constants['BN']}x{call.constants['BK']}{' flat' if config.flat else ''}"
        if call.kernel == "chain":
            block = f"{block}x{call.constants['BK']} {config.th}x{config.tw}"
        what = f"{self.network} {call.launch.y}"
        channels = f"{call.channels[0]}x{call.channels[1]}"
        shape = call.kernel, what, channels, block, config.warps, config.stages
        return Row(self.identity, self.sm, self.precision, *shape, *astuple(facts))


def wanted() -> Iterator[Wanted]:
    """Yield the kernels of the shipped models, each machine code once."""
    seen = set()
    for name, scale in NETWORKS:
        model = open_model(name, scale)
        for precision in PRECISIONS:
            plan = plan_of(model, model.graph(scale, 3), precision)
            for sm in (sm for sm in ARCHITECTURES if sm >= LEAST_SM.get(precision, 0)):
                for call in calls(plan, precision, sm):
                    identity = aot.identity(call, sm)
                    if identity not in seen:
                        seen.add(identity)
                        yield Wanted(identity, sm, precision, name, call)


def read(path: Path = TABLE) -> dict[str, Row]:
    """Return the table's rows by identity."""
    rows = {}
    if path.exists():
        for line in path.read_text().splitlines():
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if len(cells) == len(HEADER.split("|")) and cells[1].isdigit():
                values = [int(c) if i == 1 or i >= 7 else c for i, c in enumerate(cells)]
                rows[cells[0]] = Row(*values)  # type: ignore[arg-type]
    return rows


def write(rows: list[Row], path: Path = TABLE) -> None:
    import triton

    columns = HEADER.split("|")
    text = f"""# Triton kernels as compiled

Written by `python -m benchmarks.gpu_kernels` with Triton {triton.__version__}, without a GPU: every kernel that FMEN,
VDSR and SRGAN's generator run at x4 on 8-bit RGB images, compiled ahead of time. **No block size here was tuned on
hardware.** Registers are those of a thread, stack and shared memory bytes; spills and matrix count instructions (LDL
and STL; HMMA, HGMMA, IMMA, IGMMA, QGMMA) in the machine code. fp32 is IEEE single precision, which has no matrix
instructions; pointwise and resize multiply no matrices; int8 and fp8 have kernels in fp16 too. The limits: no stack, no
spills, shared memory of a block within {aot.SHARED_LIMIT >> 10} KB, which is what the smallest of the architectures
from 8.0 on has.

| {HEADER} |
|{"|".join("---" if i < 7 else "--:" for i in range(len(columns)))}|
"""
    ordered = sorted(rows, key=lambda r: (r.sm, PRECISIONS.index(r.precision), r.kernel, r.writes))
    text += "".join(f"| {' | '.join(str(v) for v in astuple(row))} |\n" for row in ordered)
    path.write_text(text)


def breaches(row: Row) -> list[str]:
    """Return which limits a row breaks."""
    broken = []
    if row.stack or row.spills:
        broken.append(f"{row.stack} bytes of stack, {row.spills} spills")
    if row.shared > aot.SHARED_LIMIT:
        broken.append(f"{row.shared} bytes of shared memory; {aot.SHARED_LIMIT} are possible")
    if row.kernel in ("conv", "chain") and row.precision != "fp32" and not row.matrix:
        broken.append("no matrix instructions")
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="compile everything anew")
    options = parser.parse_args()
    known = {} if options.all else read()
    rows: list[Row] = []
    for want in wanted():
        before = known.get(want.identity)
        row = want.row(before.facts if before else aot.compile_call(want.call, want.sm))
        if before is None:
            print(row, *breaches(row), flush=True)
        rows.append(row)
        write(rows + [r for r in known.values() if r.identity not in {x.identity for x in rows}])
    write(rows)
    return 1 if any(breaches(row) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
