"""Build TensorRT-RTX engines for several GPUs, which needs none, and write the table in docs/tensorrt.md.

python -m benchmarks.engines                   # about 15 s; needs fastsr[tensorrt]
"""

from __future__ import annotations

import datetime
import platform
import re
from pathlib import Path

from fastsr.backends.tensorrt.build import Built, Profile, build
from fastsr.backends.tensorrt.library import Library, find_library
from fastsr.exporting import calibrate, onnx_bytes, target_of
from fastsr.exporting.check import smooth_images
from fastsr.io import atomic_output
from fastsr.models import open_model

PAGE = Path(__file__).resolve().parent.parent / "docs" / "tensorrt.md"
CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0")
PRECISIONS = ("fp32", "fp16", "int8")
PROFILE = Profile((1, 1), (540, 960), (540, 960))
_TABLE = re.compile(r"(?<=<!-- engines -->\n).*?(?=<!-- end -->)", re.DOTALL)


def network(precision: str) -> bytes:
    """Return FMEN x4 as ONNX; int8 scales are of waves, which changes neither memory nor size."""
    target = target_of(open_model("fmen", 4), 4, 3)
    scales = calibrate(target.graph, target.tensors, smooth_images(3)) if precision == "int8" else None
    return onnx_bytes(target, precision, "fp32", scales)


def engine(library: Library, onnx: bytes, precision: str, capability: str) -> Built:
    """Build the engine of a network for one compute capability."""
    return build(library, onnx, 3, PROFILE, capabilities=[capability], tf32=precision == "int8")


def row(precision: str, capability: str, built: Built) -> str:
    assert built.activations is not None
    return f"| {precision} | {capability} | {built.activations / 1e6:.0f} | {len(built.engine) / 1e6:.1f} |\n"


def main() -> None:
    library = find_library()
    rows = []
    for precision in PRECISIONS:
        onnx = network(precision)
        rows += [row(precision, gpu, engine(library, onnx, precision, gpu)) for gpu in CAPABILITIES]
    table = (
        f"FMEN x4, LR up to 960x540, {library.name} {library.version}, built on {datetime.date.today()} on a machine "
        f"({platform.machine()})\nwithout a GPU by `python -m benchmarks.engines`.\n\n"
        "| precision | compute capability | activation memory, MB | engine, MB |\n|---|--:|--:|--:|\n" + "".join(rows)
    )
    with atomic_output(PAGE, overwrite=True) as file:
        file.write(_TABLE.sub(lambda _: table, PAGE.read_text()).encode())
    print(table)


if __name__ == "__main__":
    main()
