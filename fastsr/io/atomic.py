"""Output files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fastsr.errors import FastSRError, OutputError
from fastsr.io.image import PathLike

_NAME_BYTES = 255  # of a file name, on nearly every file system


@contextmanager
def atomic_output(path: PathLike, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a hidden file beside `path` for writing and rename it to `path` when the block ends without an error.

    Whatever ends the block, KeyboardInterrupt included, leaves either the whole new file or what was there
    before. Without `overwrite` a file that appears meanwhile is kept. Raises OutputError.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    target = Path(os.path.realpath(path))  # a link goes on pointing to what is replaced
    partial = target.with_name(_partial_name(target.name))
    try:
        # Not mkstemp: the file gets the permissions that any new file here would get.
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(partial, flags, 0o666), "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _publish(partial, target, overwrite)
    except FastSRError:
        raise
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        with suppress(OSError):
            partial.unlink()
    _sync_folder(target.parent)


def check_output(path: Path, *, overwrite: bool = False, source: Path | None = None) -> None:
    """Raise OutputError if `path` cannot be written: before the work, not after it.

    source: the input, which is never replaced.
    """
    try:
        _check_output(path, overwrite, source)
    except FastSRError:
        raise
    except OSError as error:
        raise _output_error(path, error) from error


def _check_output(path: Path, overwrite: bool, source: Path | None) -> None:
    if path.is_dir():
        raise OutputError(f"{path} is a folder; a file name is needed")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: the folder {path.parent} does not exist; create it first")
    if path.exists():
        if source is not None and source.exists() and path.samefile(source):
            raise OutputError(f"{path} is the input itself; another name is needed, even to overwrite")
        if not stat.S_ISREG(path.stat().st_mode):
            raise OutputError(f"{path} is not a regular file; it cannot be replaced as a whole")
        if not overwrite:
            raise OutputError(f"{path} exists; overwriting has to be asked for (--overwrite, overwrite=True)")
    folder = os.path.dirname(os.path.realpath(path))
    if not os.access(folder, os.W_OK):
        read_only = hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY
        reason = "the file system is read-only" if read_only else f"permission denied in {path.parent}"
        raise OutputError(f"{path} cannot be written: {reason}")


def _partial_name(name: str) -> str:
    suffix = f".partial-{os.getpid()}-{os.urandom(4).hex()}"
    kept = os.fsencode(name)[: _NAME_BYTES - 1 - len(suffix)]
    return "." + kept.decode(errors="ignore") + suffix


def _publish(partial: Path, target: Path, overwrite: bool) -> None:
    if overwrite:
        if target.exists():
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        os.replace(partial, target)
        return
    try:
        os.link(partial, target)  # fails if the name has been taken since the check
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        os.replace(partial, target)


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # the name is durable where folders can be synced
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _output_error(path: Path, error: OSError) -> OutputError:
    reasons = {
        errno.ENOSPC: "no space is left on the device",
        errno.EDQUOT: "the disk quota is used up",
        errno.EFBIG: "the file would be larger than the system allows",
        errno.EACCES: "permission denied",
        errno.EROFS: "the file system is read-only",
        errno.EEXIST: "another program made it meanwhile",
        errno.ENAMETOOLONG: f"its name is longer than {_NAME_BYTES} bytes",
    }
    reason = reasons.get(error.errno or 0, error.strerror or str(error))
    return OutputError(f"{path} cannot be written: {reason}; nothing was left behind")
