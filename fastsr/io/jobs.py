"""Many files: which input goes to which output, and what came of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fastsr.errors import FastSRError, ImageFileError, OptionError, OutputError
from fastsr.io.files import StreamUpscaler, output_name, output_path, upscale_file
from fastsr.io.formats import format_of_suffix
from fastsr.io.kinds import FileKind, Progress, kind_of


@dataclass(frozen=True)
class Job:
    """One input and its output.

    make_folder: the output's folder is made where it does not exist.
    resume: an output at least as new as its input counts as done.
    clash: another input with the same output, if there is one.
    """

    src: Path
    dst: Path
    make_folder: bool = False
    resume: bool = False
    clash: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a job: "done", "skipped" (it had been done before) or "failed", for the reason `message`."""

    job: Job
    state: Literal["done", "skipped", "failed"]
    message: str = ""


def plan_jobs(
    inputs: Sequence[Path],
    output: Path | None,
    scale: int,
    format: str | None = None,
    kinds: Sequence[FileKind] = (),
) -> list[Job]:
    """List what to do, in order.

    One file goes to `output`, a file or a folder; several go into the folder `output`; a folder's tree is mirrored
    there. Without `output` each file gets name_x4 beside it. In a folder, only names with a known suffix and files
    of one of the `kinds` are taken, no hidden ones and none from inside `output`. Raises OptionError where this is not
    possible.
    """
    folders = [path for path in inputs if path.is_dir()]
    if folders and output is None:
        raise OptionError(f"{folders[0]} is a folder; -o OUT is needed, the folder that its tree is mirrored into")
    if (folders or len(inputs) > 1) and output is not None and output.exists() and not output.is_dir():
        raise OptionError(f"{output} is a file; several inputs need a folder")
    if not folders and len(inputs) == 1:
        if output is not None and _means_folder(output):
            name = "".join(output_name(inputs[0], format, kinds))
            return [Job(inputs[0], output / name, make_folder=True)]
        return [Job(inputs[0], output_path(inputs[0], output, scale, format, kinds))]
    jobs: dict[str, Job] = {}
    for src, relative in _walk(inputs, output, kinds):
        if output is None:
            dst = output_path(src, None, scale, format, kinds)
        else:
            dst = output / relative.with_name("".join(output_name(src, format, kinds)))
        key = os.path.realpath(dst)
        clash = jobs[key].src if key in jobs else None
        jobs[key if clash is None else f"{key}\0{len(jobs)}"] = Job(src, dst, output is not None, True, clash)
    return _in_order(list(jobs.values()), kinds)


def _in_order(jobs: list[Job], kinds: Sequence[FileKind]) -> list[Job]:
    """Let kinds whose files belong together say in which order they are done; all other files come before."""
    for kind in kinds:
        if kind.plan is not None:
            mine = [job for job in jobs if kind_of(job.src, kinds) is kind]
            place = {path: i for i, path in enumerate(kind.plan([job.src for job in mine]))}
            jobs = [job for job in jobs if job not in mine] + sorted(mine, key=lambda job: place[job.src])
    return jobs


def run_job(
    job: Job,
    upscaler: StreamUpscaler,
    *,
    format: str | None = None,
    overwrite: bool = False,
    value_range: tuple[float, float] | None = None,
    prior_map: Path | None = None,
    progress: Progress | None = None,
    kinds: Sequence[FileKind] = (),
) -> Outcome:
    """Do one job; a FastSRError becomes a failed outcome."""
    try:
        if job.clash is not None:
            raise OutputError(f"{job.dst} is the output of {job.clash} already; give them different names or folders")
        if job.resume and not overwrite and _is_done(job, kinds):
            return Outcome(job, "skipped")
        if job.make_folder:
            _make_folder(job.dst.parent)
        upscale_file(
            job.src,
            job.dst,
            upscaler,
            format=format,
            overwrite=overwrite,
            value_range=value_range,
            prior_map=prior_map,
            progress=progress,
            kinds=kinds,
        )
    except FastSRError as error:
        return Outcome(job, "failed", str(error))
    return Outcome(job, "done")


def _is_done(job: Job, kinds: Sequence[FileKind]) -> bool:
    """Say whether the output is there and at least as new as its input.

    Raises OutputError if it is older, or was made in another way as far as its kind can tell.
    """
    if not (job.src.is_file() and job.dst.is_file()) or job.dst.samefile(job.src):
        return False
    if job.dst.stat().st_mtime < job.src.stat().st_mtime:
        raise OutputError(f"{job.dst} exists and is older than {job.src}; --overwrite replaces it")
    kind = kind_of(job.src, kinds)
    if kind is not None and kind.check_done is not None:
        kind.check_done(job.src, job.dst)
    return True


def _means_folder(path: Path) -> bool:
    return path.is_dir() or (path.suffix == "" and not path.exists())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder {folder} cannot be made: {error.strerror or error}") from error


def _walk(inputs: Sequence[Path], output: Path | None, kinds: Sequence[FileKind]) -> Iterator[tuple[Path, Path]]:
    """Yield (file, path relative to its input folder), sorted within each folder."""
    out = Path(os.path.realpath(output)) if output is not None else None
    for path in inputs:
        if not path.is_dir():
            yield path, Path(path.name)
            continue
        if out == Path(os.path.realpath(path)):
            raise OptionError(f"{path} is both the input and the output folder; another output folder is needed")
        for folder, names, files in os.walk(path, onerror=_cannot_list):
            names[:] = sorted(
                n for n in names if not n.startswith(".") and Path(os.path.realpath(os.path.join(folder, n))) != out
            )
            for name in sorted(files):
                file = Path(folder, name)
                if not name.startswith(".") and (format_of_suffix(file) or kind_of(file, kinds)):
                    yield file, file.relative_to(path)


def _cannot_list(error: OSError) -> None:
    raise ImageFileError(f"the folder {error.filename} cannot be read: {error.strerror}") from error
