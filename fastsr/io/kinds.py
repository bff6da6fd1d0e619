"""Files that are not images made of rows: volumes and objects that go through a function of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

Progress = Callable[[int, int], None]  # (rows done, rows in all)


class UpscaleFile(Protocol):
    """What upscales such a file into another: whole or not at all. Raises FastSRError."""

    def __call__(self, src: Path, dst: Path, *, overwrite: bool, progress: Progress | None) -> None: ...


class UpscaleSeries(UpscaleFile, Protocol):
    """What upscales files that belong together."""

    def plan(self, files: Sequence[Path]) -> list[Path]:
        """Take note of the files of one run; return them in the order in which they are to be done."""
        ...

    def check_done(self, src: Path, dst: Path) -> None:
        """Raise OutputError if `dst`, which is there, is not what upscaling `src` would give."""
        ...


@dataclass(frozen=True)
class FileKind:
    """One kind of file, beside the formats of `fastsr.io.formats`.

    suffixes: of its names, the longest first.  is_one: tells by a path's name or content.
    output_suffix: what the name of a file's output ends with.
    plan, check_done: those of an UpscaleSeries, where files belong together.
    """

    name: str
    suffixes: tuple[str, ...]
    is_one: Callable[[Path], bool]
    output_suffix: Callable[[Path], str]
    upscale: UpscaleFile
    plan: Callable[[Sequence[Path]], list[Path]] | None = None
    check_done: Callable[[Path, Path], None] | None = None


def kind_of(path: Path, kinds: Sequence[FileKind]) -> FileKind | None:
    """Return the kind that a file is of, or None: an image of some format, or nothing that is known."""
    return next((kind for kind in kinds if kind.is_one(path)), None)


def stem_of(path: Path, kind: FileKind) -> str:
    """Return a file's name without the suffix: "scan" of scan.nii.gz."""
    name = path.name
    for suffix in kind.suffixes:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return path.stem
