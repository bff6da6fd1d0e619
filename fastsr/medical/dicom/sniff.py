"""Tell DICOM files from others, without reading them."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".dicom", ".dcm", ".ima")
_PREAMBLE = 128


def is_part10(head: bytes) -> bool:
    """Say whether these first 132 bytes are those of a file in the DICOM file format (PS3.10)."""
    return head[_PREAMBLE : _PREAMBLE + 4] == b"DICM"


def looks_like_dicom(path: Path) -> bool:
    """Say whether a file has a DICOM suffix, or a DICOM file's first bytes whatever its name. Never raises."""
    if path.name.lower().endswith(SUFFIXES):
        return True
    try:
        with path.open("rb") as file:
            return is_part10(file.read(_PREAMBLE + 4))
    except OSError:
        return False
