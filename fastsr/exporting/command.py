"""`fastsr export`: its options and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastsr.backends.tensorrt.command import progress_bar


@click.command()
@click.argument("model", metavar="MODEL")
@click.option("--to", type=click.Choice(("onnx", "tensorrt")), default="onnx", show_default=True, help="Kind of file.")
@click.option("-o", "--output", metavar="FILE", required=True, type=click.Path(path_type=Path), help="File to write.")
@click.option("--scale", type=click.IntRange(1), metavar="S", help="Times as large; by default 4, or what there is.")
@click.option("--channels", type=click.IntRange(1), metavar="N", help="3 or 1; by default 3 where the model has it.")
@click.option(
    "--precision",
    type=click.Choice(("fp32", "fp16", "int8")),
    default="fp32",
    show_default=True,
    help="Of values.",
)
@click.option(
    "--io",
    type=click.Choice(("fp32", "fp16")),
    default="fp32",
    show_default=True,
    help="Pixel type of fp16 files.",
)
@click.option(
    "--calibrate",
    "images",
    multiple=True,
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="int8: images, or folders of them.",
)
@click.option(
    "--gpu",
    "compute_capabilities",
    multiple=True,
    metavar="CC",
    help="tensorrt: compute capability such as 8.6; may be repeated.",
)
@click.option("--overwrite", is_flag=True, help="Replace FILE if it exists.")
def export(model: str, output: Path, **options: Any) -> None:
    """Write a network as an ONNX file or a TensorRT engine, for other programs.

    MODEL is a name or a .fsr file. The input is (N, C, H, W) of 0..1, the output (N, C, S*H, S*W); N, H and W are
    free. The file appears only if ONNX Runtime's output agrees with that of FastSR's engine.

    An engine is for the GPU that is there. With TensorRT-RTX it may be for others, and none need be there: --gpu 8.6
    for one, --gpu 8.0 --gpu 12.0 for two.

    \b
    Examples:
      fastsr export fmen -o fmen.onnx
      fastsr export fmen --scale 2 --precision fp16 -o fmen_x2_fp16.onnx
      fastsr export fmen --precision int8 --calibrate photos/ -o fmen_int8.onnx
      fastsr export fmen --to tensorrt --precision fp16 --gpu 8.9 -o fmen.engine
    """
    import fastsr

    with progress_bar(output.name) as progress:
        path = fastsr.export(model, output, **options, progress=progress)
    click.echo(str(path))
