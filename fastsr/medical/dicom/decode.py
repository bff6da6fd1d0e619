"""Frames of Pixel Data as arrays of stored values, or of RGB: one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import Decoder, get_decoder
from pydicom.pixels.processing import apply_color_lut

from fastsr.errors import ImageFileError, MissingExtraError

Pixels = npt.NDArray[Any]

# For each way of compression, the decoders to use where they are installed: the same file gives the same pixels
# wherever `fastsr[medical]` is, and any other decoder of pydicom's serves where it is not.
_PREFERRED = {
    uid.JPEGBaseline8Bit: ("pillow", "gdcm"),
    uid.JPEGExtended12Bit: ("pillow", "gdcm"),
    uid.JPEGLossless: ("gdcm",),
    uid.JPEGLosslessSV1: ("gdcm",),
    uid.JPEGLSLossless: ("pyjpegls",),
    uid.JPEGLSNearLossless: ("pyjpegls",),
    uid.JPEG2000Lossless: ("pylibjpeg",),
    uid.JPEG2000: ("pylibjpeg",),
    uid.HTJ2KLossless: ("pylibjpeg",),
    uid.HTJ2KLosslessRPCL: ("pylibjpeg",),
    uid.HTJ2K: ("pylibjpeg",),
    uid.RLELossless: ("pylibjpeg",),
}
_PLAIN = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB")
_YBR = ("YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")


@dataclass(frozen=True)
class Layout:
    """How pixels are stored: the Image Pixel module.

    frames, rows, columns, samples (1 or 3); bits_allocated (1, 8, 16 or 32) > high_bit >= bits_stored - 1; signed:
    two's complement; photometric: the Photometric Interpretation.
    """

    frames: int
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of one sample, in native byte order; a single bit has a byte of its own in memory."""
        return np.dtype(f"{'i' if self.signed else 'u'}{max(self.bits_allocated // 8, 1)}")

    @property
    def limits(self) -> tuple[int, int]:
        """The least and the largest stored value."""
        if self.signed:
            return -(1 << (self.bits_stored - 1)), (1 << (self.bits_stored - 1)) - 1
        return 0, (1 << self.bits_stored) - 1

    @property
    def grey(self) -> bool:
        return self.photometric in ("MONOCHROME1", "MONOCHROME2")

    @property
    def inverted(self) -> bool:
        """Whether small values are displayed bright."""
        return self.photometric == "MONOCHROME1"

    def after(self) -> Layout:
        """Describe the arrays that `decoded_frames` yields: grey as stored, every colour as RGB."""
        if self.photometric == "PALETTE COLOR":
            return replace(
                self, samples=3, photometric="RGB", bits_allocated=8, bits_stored=8, high_bit=7, signed=False
            )
        return self if self.grey else replace(self, photometric="RGB")


@dataclass(frozen=True)
class PixelData:
    """Where Pixel Data is. place: (offset, length) of its value in the file; data: the value itself where the file
    is compressed as a whole (deflated), else None. length is None where it is undefined: encapsulated frames.
    """

    vr: str
    place: tuple[int, int | None]
    data: bytes | None = None


def decoded_frames(path: Path, header: Dataset, layout: Layout, pixels: PixelData) -> Iterator[Pixels]:
    """Yield (rows, columns, samples) of stored values for each frame, read and decoded one by one.

    Palette colours and YBR become RGB. Raises ImageFileError, MissingExtraError.
    """
    with path.open("rb") as file:
        file.seek(pixels.place[0])
        count = 0
        for raw in _raw_frames(path, file, header, layout, pixels):
            if count == layout.frames:  # codestreams beyond the last frame, of which nothing speaks
                return
            yield _values(raw, header, layout)
            count += 1
    if count != layout.frames:
        raise ImageFileError(f"{path} is damaged or truncated: it holds {count} of {layout.frames} frames")


def _raw_frames(path: Path, file: BinaryIO, header: Dataset, layout: Layout, pixels: PixelData) -> Iterator[Pixels]:
    syntax = header.file_meta.TransferSyntaxUID
    if layout.bits_allocated == 1:
        yield from _unpacked(file, layout, pixels)
        return
    if syntax == uid.JPEGExtended12Bit and layout.bits_stored > 8:
        from fastsr.medical.dicom.jpeg12 import decode

        for encoded in generate_frames(file, number_of_frames=layout.frames):
            yield decode(encoded, path, layout.rows, layout.columns)
        return
    decoder = _decoder(path, syntax)
    options: dict[str, Any] = {
        "pixel_keyword": "PixelData",
        "pixel_vr": pixels.vr,
        "number_of_frames": layout.frames,
        "rows": layout.rows,
        "columns": layout.columns,
        "samples_per_pixel": layout.samples,
        "photometric_interpretation": layout.photometric,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": int(layout.signed),
        "correct_unused_bits": False,  # _values does, by High Bit
    }
    if layout.samples > 1:
        options["planar_configuration"] = int(header.get("PlanarConfiguration") or 0)
    if "ExtendedOffsetTable" in header and "ExtendedOffsetTableLengths" in header:
        options["extended_offsets"] = (header.ExtendedOffsetTable, header.ExtendedOffsetTableLengths)
    plugin = _plugin(decoder, syntax)
    source = file if pixels.data is None else pixels.data
    for array, properties in decoder.iter_array(source, decoding_plugin=plugin, **options):
        kind = str(properties["photometric_interpretation"])
        if kind not in _PLAIN:
            raise ImageFileError(f"{path} holds {kind} pixels, which did not become RGB; convert the file before")
        yield array


def _unpacked(file: BinaryIO, layout: Layout, pixels: PixelData) -> Iterator[Pixels]:
    """Yield frames of bits, the first lowest (PS3.5 8.1.1); a frame may begin and end within a byte."""
    size, begin = layout.rows * layout.columns, 0
    for _ in range(layout.frames):
        first, last = begin // 8, -(-(begin + size) // 8)
        file.seek(pixels.place[0] + first)
        packed = file.read(last - first) if pixels.data is None else pixels.data[first:last]
        bits = np.unpackbits(np.frombuffer(packed, np.uint8), bitorder="little")
        yield bits[begin - 8 * first :][:size].reshape(layout.rows, layout.columns)
        begin += size


def _decoder(path: Path, syntax: uid.UID) -> Decoder:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise ImageFileError(f"{path} is stored as {syntax.name}, which cannot be decoded; convert it before") from None
    if syntax.is_compressed and not decoder.is_available:
        raise MissingExtraError(f"{path} is stored as {syntax.name}; pip install 'fastsr[medical]' brings its decoder")
    return decoder


def _plugin(decoder: Decoder, syntax: uid.UID) -> str:
    if not syntax.is_compressed:
        return ""
    available = decoder.available_plugins
    return next((name for name in _PREFERRED.get(syntax, ()) if name in available), available[0])


def _values(raw: Pixels, header: Dataset, layout: Layout) -> Pixels:
    """Return what the bits that count say: Bits Stored of them, from High Bit down."""
    shift = layout.high_bit + 1 - layout.bits_stored
    values = raw.astype(np.int32 if layout.bits_allocated < 32 else np.int64)
    values = (values >> shift) & ((1 << layout.bits_stored) - 1)
    if layout.signed:
        sign = 1 << (layout.bits_stored - 1)
        values = (values ^ sign) - sign
    values = values.astype(layout.dtype)
    if layout.photometric == "PALETTE COLOR":
        colours = apply_color_lut(values, header)
        return colours if colours.dtype == np.uint8 else (colours >> 8).astype(np.uint8)
    return values[:, :, None] if values.ndim == 2 else values


def known_photometric(name: str) -> bool:
    """Say whether pixels of this Photometric Interpretation can be read."""
    return name in _PLAIN + _YBR
