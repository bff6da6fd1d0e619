"""What the GPU's arithmetic costs in PSNR, without a GPU: networks in Triton's interpreter. Minutes for a precision.

    python -m benchmarks.gpu_emulated --data DIR --precisions fp16 int8      # DIR/Set5/*.png: HR images

Values are rounded where the kernels round them. Sums are NumPy's in float32, so their order is not a GPU's.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

DATA = Path(os.environ.get("FASTSR_DATA", "../shared/data"))
# Few and large blocks, as the interpreter's time goes by operations.
_BLOCKS = "bm = 8192, bn = 64, bk = 64, th = 128, tw = 128, per_sm = 1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA / "benchmarks", help="folder that holds Set5")
    parser.add_argument("--model", default="fmen")
    parser.add_argument("--precisions", nargs="+", default=["fp16", "int8", "fp8", "tf32", "bf16", "fp32"])
    parser.add_argument("--images", type=int, help="the first so many of the set only")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        arithmetics = ("half", "tf32", "fp32", "int8", "fp8")
        tables = [f'[sm_80.{k}.{a}]\n"any" = {{ {_BLOCKS} }}' for k in ("conv", "chain") for a in arithmetics]
        Path(folder, "triton.toml").write_text("\n".join(tables))
        os.environ |= {"TRITON_INTERPRET": "1", "FASTSR_CACHE": folder}  # before Triton is imported
        import fastsr
        from fastsr import evaluation

        references = list(evaluation.references(options.data / "Set5"))[: options.images]
        runs = [("native", "fp32"), *(("triton", precision) for precision in options.precisions)]
        for backend, precision in runs:
            sr = fastsr.load(options.model, scale=4, backend=backend, precision=precision)
            psnr = evaluation.mean(evaluation.evaluate(sr.upscale, 4, references))["psnr"]
            print(f"{options.model} {backend} {precision}: {psnr:.4f} dB", flush=True)


if __name__ == "__main__":
    main()
