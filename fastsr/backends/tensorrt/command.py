"""`fastsr engines`: what is built, building ahead of time, and making room."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

import click


@click.group()
def engines() -> None:
    """List, build and remove TensorRT engines.

    The back end tensorrt runs a network as an engine: built for one GPU, one version of TensorRT and of the driver, one
    precision, and images up to 1920 x 1088 pixels (larger ones are cut). Building takes from a second (TensorRT-RTX) to
    minutes, once; the engine is then kept in a folder of the user, and built again when any of these changes or the
    file is damaged.

    \b
    FASTSR_CACHE       the folder; by default "fastsr" in the user's folder for caches
    FASTSR_ENGINES_MB  what engines may take together; by default 4 GiB; those unused longest go
    FASTSR_TENSORRT    tensorrt or tensorrt_rtx, where both are installed
    """


@engines.command("list")
def list_() -> None:
    """List the engines in the cache, the last used first.

    Files that are truncated or changed are marked as damaged; they are never run, but built again.
    """
    from fastsr.backends.tensorrt.cache import EngineCache

    cache = EngineCache()
    entries = cache.entries()
    for entry in entries:
        used = f"{datetime.fromtimestamp(entry.used):%Y-%m-%d %H:%M}"
        head = f"{entry.path.name[:12]}  {_megabytes(entry.size):>9}  used {used}"
        if entry.fields is None:
            click.echo(f"{head}  damaged")
            continue
        fields = entry.fields
        what = {"timings": "timings of builds", "kernels": "compiled kernels"}.get(fields["kind"], "")
        network = ", ".join(filter(None, [fields["model"], fields["network"], fields["precision"], what]))
        click.echo(f"{head}  {network}")
        click.echo(f"{'':14}{fields['gpu']} ({fields['capability']}), {fields['library']}, CUDA {fields['driver']}")
    total = _megabytes(sum(entry.size for entry in entries))
    click.echo(f"{len(entries)} files, {total} of {_megabytes(cache.limit)} in {cache.folder}")


@engines.command()
@click.argument("model", metavar="MODEL")
@click.option("--scale", type=click.IntRange(1), metavar="S", help="Times as large; by default 4, or what there is.")
@click.option("--channels", type=click.IntRange(1), metavar="N", help="3 or 1; by default all that the model has.")
@click.option("--precision", metavar="NAME", default="fp32", show_default=True, help="fp32, tf32, fp16 or int8.")
def build(model: str, scale: int | None, channels: int | None, precision: str) -> None:
    """Build the engines of a model for the GPU that is here, so that the first image need not wait.

    MODEL is a name or a .fsr file. Grey and colour images have engines of their own.

    \b
    Examples:
      fastsr engines build fmen
      fastsr engines build fmen --scale 2 --precision fp16
    """
    from fastsr.backends.precision import checked_precision
    from fastsr.backends.tensorrt import PRECISIONS, why_unavailable
    from fastsr.backends.tensorrt.cache import EngineCache
    from fastsr.backends.tensorrt.network import prepare
    from fastsr.errors import BackendUnavailableError
    from fastsr.models import open_model, preferred_scale

    checked_precision(precision, PRECISIONS, "the back end tensorrt")
    opened = open_model(model, scale)
    scale = scale or preferred_scale(opened.scales)
    wanted = [channels] if channels else sorted(graph.channels for graph in opened.graphs if graph.scale == scale)
    for number in wanted:
        opened.graph(scale, number)  # or the error that lists what there is
    reason = why_unavailable()
    if reason is not None:
        raise BackendUnavailableError(f"no engine can be built: {reason}")
    cache = EngineCache()
    for number in wanted:
        label = f"{opened.name} x{scale}, {number} channels, {precision}"
        with progress_bar(label) as progress:
            engine, key = prepare(opened, scale, number, precision, cache=cache, progress=progress)
        click.echo(f"{label}: {key.name[:12]}, {_megabytes(len(engine))}")


@engines.command()
def clear() -> None:
    """Remove all engines from the cache. They are built again when they are needed."""
    from fastsr.backends.tensorrt.cache import EngineCache

    cache = EngineCache()
    count, size = cache.clear()
    click.echo(f"{count} files, {_megabytes(size)} removed from {cache.folder}")


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show on a terminal how much of an engine is built. Gives what `build` calls, or None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc=label, leave=False, file=sys.stderr, bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
