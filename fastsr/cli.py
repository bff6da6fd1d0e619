"""The `fastsr` command. Everything slow to import is imported by the command that needs it."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from fastsr.consistency.report import Report, join_reports
from fastsr.errors import (
    EngineCacheWarning,
    FastSRError,
    ForcedWarning,
    NonFiniteWarning,
    OptionError,
    TrainedRangeWarning,
    ValueRangeWarning,
)

if TYPE_CHECKING:
    from fastsr.io.jobs import Job, Outcome
    from fastsr.io.kinds import Progress

EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 2, 130, 143
PROGRESS_DELAY = 1.0  # seconds of work before a progress bar shows up
Load = Callable[..., Any]  # fastsr.load, or what a test puts in its place


class _Size(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from fastsr.api import parse_size

        try:
            size = parse_size(value)
        except OptionError as error:
            self.fail(str(error), param, ctx)
        assert size is not None
        return size


def _engine_options(command: Any) -> Any:
    """Add the options that choose and limit the engine."""
    for option in (
        click.option("--max-memory", type=_Size(), metavar="SIZE", help="Bound on working memory: 64MB, 1GiB."),
        click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads; by default one a core."),
        click.option("--backend", default="auto", show_default=True, metavar="NAME", help="What computes; see doctor."),
        click.option(
            "--precision",
            metavar="NAME",
            help="fp32; int8: 1.7 times as fast, some 0.01 dB worse on photos; bf16 for AMX; fp16 on a GPU.",
        ),
        click.option(
            "--scale", type=click.IntRange(1), metavar="S", help="Times as large; by default 4, or what the model has."
        ),
        click.option("--model", default="fmen", show_default=True, metavar="NAME", help="A name, or a .fsr file."),
    ):
        command = option(command)
    return command


def _engine(
    scale: int | None, backend: str, precision: str | None, threads: int | None, max_memory: int | None
) -> dict[str, Any]:
    """Return the values of `_engine_options` as `fastsr.load` takes them."""
    options = {"scale": scale, "backend": backend, "threads": threads, "max_memory": max_memory}
    return options if precision is None else {**options, "precision": precision}


def _medical_options(command: Any) -> Any:
    """Add the options that are about medical files alone, fields of `fastsr.medical.Options`."""
    for option in (
        click.option("--force", is_flag=True, help="DICOM: also burned-in annotation, RT Dose, Segmentation."),
        click.option("--keep-private", is_flag=True, help="DICOM: keep private elements, though they may be wrong."),
        click.option("--strict", is_flag=True, help="Medical: refuse what the model was not trained on."),
        click.option(
            "--window", nargs=2, type=float, metavar="C W", help="Medical: center and width of black to white."
        ),
        click.option(
            "--normalize", metavar="HOW", help="Medical: auto, stored, percentile or percentile:LOW,HIGH of the values."
        ),
        click.option("--plane", metavar="PLANE", help="Volumes: axial, coronal, sagittal, auto, or axes such as ij."),
    ):
        command = option(command)
    return command


def _show_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if wanted:
        from fastsr.version import __version__

        click.echo(f"fastsr {__version__}")
        ctx.exit()


def _bench() -> click.Command:
    from fastsr.bench.command import bench

    return bench


def _engines() -> click.Command:
    from fastsr.backends.tensorrt.command import engines

    return engines


def _export() -> click.Command:
    from fastsr.exporting.command import export

    return export


class _Elsewhere(click.Command):
    """A command of another file, which is imported when somebody asks for it, or for its help."""

    def __init__(self, name: str, imported: Callable[[], click.Command]) -> None:
        super().__init__(name)
        self.imported = imported


class _Commands(click.Group):
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        found = super().get_command(ctx, cmd_name)
        return found.imported() if isinstance(found, _Elsewhere) else found


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
    epilog="Run `fastsr COMMAND --help` for a command's options and examples.",
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Super-resolution of images: medical first, any image, any size, in little memory.

    \b
    fastsr upscale scan.png                     writes scan_x4.png
    fastsr upscale scans/ -o larger/            a folder's tree
    fastsr compare photo.png -o compared.png    see what it gains
    fastsr doctor                               see what runs here
    """


@cli.command()
@click.argument("inputs", metavar="IN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="OUT", type=click.Path(path_type=Path), help="A file, or a folder.")
@_engine_options
@click.option("--format", "format_", metavar="NAME", help="png, tiff, npy, jpeg, webp or bmp; by default OUT's suffix.")
@click.option("--overwrite", is_flag=True, help="Replace outputs that exist. An input is never replaced.")
@click.option("--value-range", nargs=2, type=float, metavar="LO HI", help="What black and white are: -1000 3000.")
@click.option(
    "--consistency",
    type=click.Choice(("none", "block-mean", "back-projection")),
    default="none",
    help="Make the result agree with the input: by its blocks' means, or its bicubic downscaling.",
)
@click.option("--strength", type=click.FloatRange(0, 1), metavar="X", help="1 is the network, 0 bicubic interpolation.")
@click.option(
    "--prior-map", metavar="FILE", type=click.Path(path_type=Path), help="What the network added: .png, .tif or .npy."
)
@_medical_options
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.pass_obj
def upscale(
    load: Load,
    inputs: tuple[Path, ...],
    output: Path | None,
    model: str,
    scale: int | None,
    backend: str,
    precision: str | None,
    threads: int | None,
    max_memory: int | None,
    format_: str | None,
    overwrite: bool,
    value_range: tuple[float, float] | None,
    consistency: str,
    strength: float | None,
    prior_map: Path | None,
    plane: str | None,
    normalize: str | None,
    window: tuple[float, float] | None,
    strict: bool,
    keep_private: bool,
    force: bool,
    quiet: bool,
) -> None:
    """Upscale images: a file, several files, or the tree of a folder.

    Pixel type, channels, colour profile, EXIF and resolution are kept. Without -o, name_x4 appears beside each
    input. Where OUT is a folder, names are kept; JPEG, WebP and BMP become PNG there, which loses nothing, unless
    --format says otherwise. Several files or a folder can be resumed: an output that is at least as new as its
    input is skipped, and a bad file does not stop the others.

    \b
    Examples:
      fastsr upscale scan.png                           scan_x4.png
      fastsr upscale scan.png -o big.tif                another format
      fastsr upscale a.png b.jpg -o out/                out/a.png, out/b.png
      fastsr upscale scans/ -o larger/ --format tiff    the whole tree
      fastsr upscale huge.npy -o huge4.npy --max-memory 64MB
      fastsr upscale ct.tif --value-range -1000 3000    signed or float pixels
      fastsr upscale mr.nii.gz -o mr_x4.nii.gz          a volume, slice by slice
      fastsr upscale ct_series/ -o ct_x4/               DICOM: a new series, geometry kept
      fastsr upscale scan.png --consistency block-mean --prior-map scan_prior.png

    The last line tells how far the result, reduced again, is from the input (before -> after --consistency), in the
    units of its pixels. In the picture of a prior map 128 is nothing, 1 and 255 are -1/8 and +1/8 of the value range.
    """
    from fastsr.io.formats import format_named
    from fastsr.io.jobs import plan_jobs, run_job
    from fastsr.io.kinds import kind_of
    from fastsr.medical import Options, kinds

    if format_ is not None:
        format_ = format_named(format_).name
    fidelity: dict[str, Any] = {} if consistency == "none" else {"consistency": consistency}
    if strength is not None:
        fidelity["strength"] = strength
    loaded = load(model, **_engine(scale, backend, precision, threads, max_memory), **fidelity)
    upscaler = _Reported(loaded)
    medical = {"plane": plane, "normalize": normalize, "window": window, "strict": strict}
    medical |= {"keep_private": keep_private, "force": force}
    asked: dict[str, Any] = {name: value for name, value in medical.items() if value}
    kinds_ = kinds(loaded, Options(**asked), value_range, upscaler.add)
    jobs = plan_jobs(inputs, output, upscaler.scale, format_, kinds_)
    if not jobs:
        raise OptionError(f"{inputs[0]} holds no image files; suffixes such as .png .tif .npy .jpg are looked for")
    if asked and not any(kind_of(job.src, kinds_) for job in jobs):
        raise OptionError(f"--{next(iter(asked)).replace('_', '-')} is for medical files, and there is none")

    single = len(jobs) == 1 and not jobs[0].resume
    if prior_map is not None and not single:
        raise OptionError(f"--prior-map {prior_map} is one file; it takes one input, and these are several or a folder")

    def run(job: Job, progress: Progress | None) -> Outcome:
        options: dict[str, Any] = {"format": format_, "overwrite": overwrite, "value_range": value_range}
        return run_job(job, upscaler, prior_map=prior_map, progress=progress, kinds=kinds_, **options)

    if single:
        with _bar(quiet, "row") as progress:
            outcome = run(jobs[0], progress)
        if outcome.state == "failed":
            _fail(outcome.message)
        if not quiet:
            click.echo(str(outcome.job.dst))
            upscaler.echo_residual()
        return
    counts = {"done": 0, "skipped": 0, "failed": 0}
    for job in _file_bar(jobs, quiet):
        outcome = run(job, None)
        counts[outcome.state] += 1
        if outcome.state == "failed":
            _error(outcome.message)
    summary = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    if not quiet or counts["failed"]:
        click.echo(f"{len(jobs)} files: {summary}", err=counts["failed"] > 0)
    if not quiet:
        upscaler.echo_residual()
    if counts["failed"]:
        raise SystemExit(EXIT_FAILURE)


@cli.command()
@click.argument("hr", metavar="[HR]", required=False, type=click.Path(path_type=Path))
@click.option("--lr", type=click.Path(path_type=Path), metavar="FILE", help="LR image; by default HR, downscaled.")
@click.option("-o", "--output", required=True, metavar="OUT", type=click.Path(path_type=Path), help="Picture to write.")
@_engine_options
@click.option("--value-range", nargs=2, type=float, metavar="LO HI", help="What black and white are.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.pass_obj
def compare(
    load: Load,
    hr: Path | None,
    lr: Path | None,
    output: Path,
    model: str,
    scale: int | None,
    backend: str,
    precision: str | None,
    threads: int | None,
    max_memory: int | None,
    value_range: tuple[float, float] | None,
    overwrite: bool,
) -> None:
    """Draw LR, bicubic, super-resolved and HR side by side, with scores.

    HR is downscaled as papers do it (bicubic, antialiased), then upscaled again; PSNR and SSIM are on luma with
    SCALE pixels cut from each side. With --lr alone there is nothing to score against.

    \b
    Examples:
      fastsr compare photo.png -o compared.png
      fastsr compare --lr small.png -o compared.png
    """
    from fastsr.compare import compare as compare_images
    from fastsr.compare import draw
    from fastsr.io import read_image, write_image
    from fastsr.io.atomic import check_output

    if hr is None and lr is None:
        raise click.UsageError("an HR image, or --lr FILE, is needed")
    check_output(output, overwrite=overwrite, source=hr or lr)
    images = {name: read_image(path).pixels for name, path in (("hr", hr), ("lr", lr)) if path is not None}
    upscaler = load(model, **_engine(scale, backend, precision, threads, max_memory))
    compared = compare_images(
        lambda image: upscaler.upscale(image, value_range=value_range),
        upscaler.scale,
        hr=images.get("hr"),
        lr=images.get("lr"),
        name=str(getattr(upscaler, "name", model)),
        data_range=value_range and value_range[1] - value_range[0],
    )
    write_image(output, draw(compared), overwrite=overwrite)
    for name, score in compared.scores.items():
        click.echo(f"{compared.name if name == 'sr' else name:8} {score}")
    click.echo(str(output))


@cli.command("eval")
@click.option("--data", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Folder of HR images.")
@_engine_options
@click.option("--window", nargs=2, type=float, metavar="LO HI", help="Percentiles of each image that are 0 and 1.")
@click.option("--style", default="markdown", show_default=True, metavar="NAME", help="markdown, csv or json.")
@click.option("-o", "--output", metavar="OUT", type=click.Path(path_type=Path), help="File to write; default: print.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.pass_obj
def eval_(
    load: Load,
    data: Path,
    model: str,
    scale: int | None,
    backend: str,
    precision: str | None,
    threads: int | None,
    max_memory: int | None,
    window: tuple[float, float] | None,
    style: str,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Measure a model on a folder of HR images: PSNR and SSIM of each and their means.

    Images are reduced as papers do it (bicubic, antialiased, 8 bit) and upscaled again; SCALE pixels are cut from
    each side; luma is BT.601's. Scans in a folder with a manifest.csv (columns file, p0.5, p99.5), or with --window,
    are measured in floating point, their window's width being the peak.

    \b
    Examples:
      fastsr eval --model fmen --scale 4 --data Set5
      fastsr eval --model bicubic --scale 2 --data slices --window 0.5 99.5 --style csv -o slices.csv
    """
    from fastsr import evaluation
    from fastsr.io.atomic import atomic_output, check_output

    if output is not None:
        check_output(output, overwrite=overwrite)
    upscaler = load(model, **_engine(scale, backend, precision, threads, max_memory))
    images = evaluation.references(data, window)
    scores = evaluation.evaluate(upscaler.upscale, upscaler.scale, images)
    about = {"model": upscaler.name, "scale": upscaler.scale, "data": data.name}
    text = evaluation.report(scores, style, about)
    if output is None:
        click.echo(text, nl=False)
        return
    with atomic_output(output, overwrite=overwrite) as file:
        file.write(text.encode())
    click.echo(str(output))


@cli.command()
@click.argument("what", metavar="FILE|MODEL")
def info(what: str) -> None:
    """Tell what an image file, a medical file, a .fsr file or a model is.

    \b
    Examples:
      fastsr info scan.tif
      fastsr info fmen
      fastsr info my_model.fsr
    """
    from fastsr.describe import describe

    lines = describe(what)
    width = max(len(key) for key, _ in lines)
    for key, value in lines:
        click.echo(f"{key:{width}}  {value}")


@cli.command()
def models() -> None:
    """List the models that come with FastSR."""
    entries = _fastsr().models()
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        scales = " ".join(f"x{scale}" for scale in entry.scales)
        click.echo(f"{entry.name:{width}}  {scales:9}  {entry.description}")


@cli.command()
def doctor() -> None:
    """Show what this machine can run, and test the engine."""
    report = dict(_fastsr().doctor())
    for key, value in report.items():
        if isinstance(value, dict):
            click.echo(f"{key}:")
            for name, reason in value.items():
                click.echo(f"  {name}: {'available' if reason is None else reason}")
        else:
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
            click.echo(f"{key}: {text}")
    if not str(report.get("self_test")).startswith("passed"):
        raise SystemExit(EXIT_FAILURE)


@cli.command("compile")
@click.argument("onnx", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@click.option("-o", "--output", metavar="OUT", required=True, type=click.Path(path_type=Path), help="File to write.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
def compile_(onnx: Path, output: Path, overwrite: bool) -> None:
    """Compile an ONNX network into a .fsr file that the engine runs.

    \b
    Example:
      fastsr compile my_network.onnx -o my_network.fsr
      fastsr upscale scan.png --model my_network.fsr
    """
    from fastsr.io.atomic import check_output

    check_output(output, overwrite=overwrite, source=onnx)
    _fastsr().compile(onnx).save(output)
    click.echo(str(output))


@cli.command()
@click.argument("model", metavar="MODEL")
@click.option("--data", required=True, metavar="DIR", type=click.Path(path_type=Path), help="Folder of HR images.")
@click.option("-o", "--output", metavar="OUT", required=True, type=click.Path(path_type=Path), help="File to write.")
@click.option("--scale", type=click.IntRange(1), metavar="S", help="This scale only; by default all of MODEL's file.")
@click.option("--images", type=click.IntRange(1), metavar="N", help="How many are looked at; by default 32.")
@click.option("--window", nargs=2, type=float, metavar="LO HI", help="Percentiles of each image that are 0 and 1.")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def quantize(
    model: str,
    data: Path,
    output: Path,
    scale: int | None,
    images: int | None,
    window: tuple[float, float] | None,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Prepare a model for --precision int8, on images like those that it is for.

    MODEL is a name or a .fsr file. OUT is the same model, which also knows between which ends the values of its
    layers lie, and says in its card on what that was found and how much PSNR integers lose there. The models that
    come with FastSR are prepared.

    \b
    Examples:
      fastsr quantize net.fsr --data photos/ -o net.fsr --overwrite
      fastsr upscale scan.png --model net.fsr --precision int8
    """
    from fastsr.io.atomic import check_output
    from fastsr.quantization import IMAGES
    from fastsr.quantization import quantize as prepare

    check_output(output, overwrite=overwrite)
    with _bar(quiet, "image") as progress:
        prepared = prepare(model, data, scale=scale, images=images or IMAGES, window=window, progress=progress)
    prepared.save(output)
    if not quiet:
        for name, lost in prepared.card["int8"]["loss_db"].items():
            click.echo(f"{name}: int8 loses {lost:.4f} dB of luma PSNR on these images")
        click.echo(str(output))


cli.add_command(_Elsewhere("bench", _bench))
cli.add_command(_Elsewhere("export", _export))
cli.add_command(_Elsewhere("engines", _engines))


class _Reported:
    """An upscaler that keeps the reports of its runs."""

    def __init__(self, upscaler: Any) -> None:
        self._upscaler = upscaler
        self._reports: list[Report] = []
        self.scale: int = upscaler.scale

    def stream(self, *args: Any, **options: Any) -> None:
        self._upscaler.stream(*args, **options)
        report = getattr(self._upscaler, "last_report", None)
        if report is not None:
            self.add(report)

    def add(self, report: Report) -> None:
        """Take the report of a file that went another way."""
        self._reports = [join_reports([*self._reports, report])]

    def echo_residual(self) -> None:
        """Print one line, if anything ran."""
        for report in self._reports:
            click.echo(f"residual of {report.residual_text()}")


def _fastsr() -> Any:
    import fastsr

    return fastsr


def _load(*args: Any, **options: Any) -> Any:
    return _fastsr().load(*args, **options)


@contextmanager
def _bar(quiet: bool, unit: str) -> Iterator[Progress | None]:
    """Show how many units are done on a terminal, once the work takes longer than PROGRESS_DELAY."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(unit=unit, delay=PROGRESS_DELAY, leave=False, file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _file_bar(jobs: Sequence[Job], quiet: bool) -> Iterator[Job]:
    """Yield jobs, showing how many are done on a terminal."""
    if quiet or not sys.stderr.isatty():
        yield from jobs
        return
    from tqdm import tqdm

    with tqdm(jobs, unit="file", delay=PROGRESS_DELAY, leave=False, file=sys.stderr) as bar:
        for job in bar:
            bar.set_postfix_str(job.src.name)
            yield job


def _error(message: str) -> None:
    click.echo(f"fastsr: error: {' '.join(message.split())}", err=True)


def _fail(message: str, code: int = EXIT_FAILURE) -> NoReturn:
    _error(message)
    raise SystemExit(code)


def _terminate(signal_number: int, frame: Any) -> NoReturn:
    """Turn SIGTERM into an exception, so that half-written outputs are removed."""
    raise SystemExit(EXIT_TERMINATED)


def _show_warning(message: Warning | str, *_: object) -> None:
    click.echo(f"fastsr: warning: {' '.join(str(message).split())}", err=True)


def main(arguments: Sequence[str] | None = None, *, load: Load | None = None) -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

    arguments: by default those of the process. load: what makes upscalers, by default fastsr.load.
    With FASTSR_DEBUG=1 errors show their traceback.
    """
    atexit.register(gc.freeze)  # or the interpreter looks through all that is left, only to throw it away
    debug = os.environ.get("FASTSR_DEBUG", "") not in ("", "0")
    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, _terminate)
    warnings.simplefilter("always", ValueRangeWarning)
    warnings.simplefilter("always", TrainedRangeWarning)
    warnings.simplefilter("always", ForcedWarning)
    warnings.simplefilter("always", NonFiniteWarning)
    warnings.simplefilter("always", EngineCacheWarning)
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        result = cli.main(
            list(arguments) if arguments is not None else None, "fastsr", standalone_mode=False, obj=load or _load
        )
    except click.UsageError as error:
        hint = f"; see `{error.ctx.command_path} --help`" if error.ctx else ""
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            click.echo(error.ctx.get_help() if error.ctx else "", err=True)
            raise SystemExit(EXIT_USAGE) from None
        _fail(error.format_message().rstrip(".") + hint, EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        if debug:
            raise
        _fail("interrupted", EXIT_INTERRUPTED)
    except click.ClickException as error:
        _fail(error.format_message())
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains at exit
        raise SystemExit(EXIT_FAILURE) from None
    except (FastSRError, OSError, MemoryError) as error:
        if debug:
            raise
        code = EXIT_USAGE if isinstance(error, OptionError) else EXIT_FAILURE
        _fail(str(error) or type(error).__name__, code)
    raise SystemExit(result if isinstance(result, int) else 0)


if __name__ == "__main__":
    main()
