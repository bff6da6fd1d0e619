"""12-bit JPEG (process 4), which pydicom's decoders leave out, by GDCM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.uid import JPEGExtended12Bit

from fastsr.errors import ImageFileError, MissingExtraError


def decode(encoded: bytes, path: Path, rows: int, columns: int) -> npt.NDArray[np.uint16]:
    """Return one grey frame (rows, columns). Raises ImageFileError, MissingExtraError."""
    try:
        import gdcm
    except ImportError:
        raise MissingExtraError(
            f"{path} is stored as 12-bit JPEG; pip install python-gdcm brings its decoder"
        ) from None
    image: Any = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(_element(gdcm, encoded))
    grey = gdcm.PhotometricInterpretation.MONOCHROME2
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(grey))
    syntax = gdcm.TransferSyntax.GetTSType(str(JPEGExtended12Bit))
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    text = image.GetBuffer()  # bytes in the disguise of a string
    pixels = np.frombuffer(text.encode("utf-8", "surrogateescape") if text else b"", "<u2")
    if pixels.size != rows * columns:
        raise ImageFileError(f"{path} is damaged or truncated: a frame holds {pixels.size} of {rows * columns} pixels")
    return pixels.reshape(rows, columns)


def _element(gdcm: Any, encoded: bytes) -> Any:
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(encoded)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    return element
