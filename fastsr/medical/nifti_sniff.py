"""Tell NIfTI files from others by their names and first bytes, compressed or not."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

_GZIP = b"\x1f\x8b"


def open_stream(path: Path) -> BinaryIO:
    """Open a file that may be compressed by gzip, as its content says."""
    with path.open("rb") as file:
        compressed = file.read(2) == _GZIP
    if not compressed:
        return path.open("rb")
    import gzip

    return cast(BinaryIO, gzip.open(path))


def is_nifti(path: Path) -> bool:
    """Say whether a path has a NIfTI file's name or content. Never raises."""
    try:
        if path.name.lower().endswith((".nii", ".nii.gz")):
            return not path.is_dir()
        if not path.is_file():  # a pipe would be emptied
            return False
        with open_stream(path) as file:
            return magic(file.read(352)) is not None
    except (OSError, EOFError, ValueError, zlib.error):
        return False


def magic(head: bytes) -> tuple[int, bool] | None:
    """Return (version, header and voxels in one file) of what begins with these bytes, or None."""
    size = {struct.unpack_from(order + "i", head)[0] for order in "<>"} if len(head) >= 348 else set()
    if 540 in size and head[4:12] in (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n"):
        return 2, head[4:7] == b"n+2"
    if 348 in size and head[344:348] in (b"n+1\0", b"ni1\0"):
        return 1, head[344:347] == b"n+1"
    return None
