"""What `fastsr info` says of a DICOM file."""

from __future__ import annotations

from pathlib import Path

from fastsr.medical.dicom.geometry import pixel_spacing
from fastsr.medical.dicom.read import open_image
from fastsr.medical.dicom.refusals import class_name, forced_note


def describe(path: Path) -> list[tuple[str, str]]:
    """Return (key, value) lines: no word that identifies a patient. Raises ImageFileError."""
    image = open_image(path)
    header, stored = image.header, image.stored
    spacing = pixel_spacing(header)
    bits = f"{stored.bits_stored} of {stored.bits_allocated} bits, {'signed' if stored.signed else 'unsigned'}"
    lines = [
        ("file", str(path)),
        ("format", f"DICOM, {header.file_meta.TransferSyntaxUID.name}"),
        ("object", class_name(header)),
        ("modality", str(header.get("Modality") or "not stated")),
        ("size", f"{stored.columns} x {stored.rows}" + (f", {stored.frames} frames" if stored.frames > 1 else "")),
        ("pixels", f"{stored.photometric}, {bits}"),
        ("spacing", f"{spacing[0]:g} x {spacing[1]:g} mm (rows, columns)" if spacing else "not stated"),
    ]
    if forced_note(header):
        lines.append(("upscaled", "only with --force, as its pixels are no picture"))
    return lines
