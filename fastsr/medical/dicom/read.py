"""DICOM files in: what they hold, what is refused and why, and their frames."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from fastsr.errors import ImageFileError
from fastsr.io.image import check_whole, reading
from fastsr.medical.dicom import refusals
from fastsr.medical.dicom.decode import Layout, PixelData, Pixels, decoded_frames, known_photometric
from fastsr.medical.dicom.sniff import is_part10

_PIXEL_DATA = 0x7FE00010
_UNDEFINED = 0xFFFFFFFF
_VRS = (b"OB", b"OW", b"UN")
_BITS = {refusals.RT_DOSE: (16, 32), refusals.SEGMENTATION: (1,)}  # allocated; of all other SOP classes 8 or 16


@dataclass(frozen=True)
class DicomImage:
    """An image of one or more frames.

    header: the dataset without Pixel Data, file meta information included; layout: of the arrays that `frames` yields.
    """

    path: Path
    header: Dataset
    layout: Layout
    stored: Layout
    pixel_data: PixelData

    def frames(self) -> Iterator[Pixels]:
        """Yield (rows, columns, samples) of stored values for each frame; palette colours and YBR become RGB.

        Frames are read and decoded one by one. Raises ImageFileError, MissingExtraError.
        """
        with reading(self.path):
            yield from decoded_frames(self.path, self.header, self.stored, self.pixel_data)


def read_header(path: Path) -> Dataset:
    """Read a DICOM file's dataset up to its pixels. Raises ImageFileError."""
    with reading(path), path.open("rb") as file:
        _check_part10(path, file)
        header: Dataset = dcmread(file, stop_before_pixels=True)
        return header


def open_image(path: Path) -> DicomImage:
    """Open a DICOM image and check that it can be upscaled. Raises ImageFileError, which names the SOP class."""
    with reading(path), path.open("rb") as file:
        _check_part10(path, file)
        header = dcmread(file, stop_before_pixels=True)
        refusals.check_object(path, header)
        pixel_data = _deflated(path) if _is_deflated(path, header) else _locate(path, header, file)
        stored = layout_of(path, header)
        _check_length(path, stored, pixel_data)
    return DicomImage(path, header, stored.after(), stored, pixel_data)


def _check_part10(path: Path, file: BinaryIO) -> None:
    if not is_part10(file.read(132)):
        raise ImageFileError(
            f"{path} has no 'DICM' after 128 bytes, so it is no file of the DICOM file format (PS3.10); an object "
            "without its file meta information has to be given one before"
        )
    file.seek(0)


def _is_deflated(path: Path, header: Dataset) -> bool:
    syntax = header.file_meta.get("TransferSyntaxUID")
    if not syntax:
        raise ImageFileError(f"{path} has no Transfer Syntax UID (0002,0010) in its file meta information")
    return bool(syntax == DeflatedExplicitVRLittleEndian)


def _deflated(path: Path) -> PixelData:
    whole = dcmread(path)
    if _PIXEL_DATA not in whole:
        raise _no_pixels(path, whole)
    element = whole[_PIXEL_DATA]
    return PixelData(str(element.VR), (0, len(element.value)), bytes(element.value))


def _locate(path: Path, header: Dataset, file: BinaryIO) -> PixelData:
    """Read the tag and length of Pixel Data, at which reading stopped."""
    syntax = header.file_meta.TransferSyntaxUID
    order = "<" if syntax.is_little_endian else ">"
    head = file.read(8)
    if len(head) < 8:
        raise _no_pixels(path, header)
    group, element = struct.unpack(order + "HH", head[:4])
    if (group << 16) | element != _PIXEL_DATA:
        raise refusals.refused(path, header, "its pixels are floating-point numbers (7FE0,0008 or 7FE0,0009)")
    if syntax.is_implicit_VR or head[4:6] not in _VRS:  # some files are implicit and say that they are not
        vr, length = "OW", struct.unpack(order + "L", head[4:])[0]
    else:
        vr, length = head[4:6].decode("ascii", "replace"), struct.unpack(order + "L", file.read(4))[0]
    place = file.tell()
    if length != _UNDEFINED and place + length > path.stat().st_size:
        have = path.stat().st_size - place
        raise ImageFileError(f"{path} is damaged or truncated: Pixel Data has {have} of {length} bytes")
    if (length == _UNDEFINED) != syntax.is_compressed:
        kind = "encapsulated" if length == _UNDEFINED else "not encapsulated"
        raise ImageFileError(f"{path} is damaged: its Pixel Data is {kind}, its transfer syntax {syntax.name}")
    return PixelData(vr, (place, None if length == _UNDEFINED else length))


def _no_pixels(path: Path, header: Dataset) -> ImageFileError:
    return refusals.refused(path, header, "it holds no image (no Pixel Data)")


def layout_of(path: Path, header: Dataset) -> Layout:
    """Return how an object's pixels are stored. Raises ImageFileError if they cannot be upscaled."""

    def number(keyword: str, default: int | None = None) -> int:
        value = header.get(keyword)
        if value in (None, ""):
            if default is None:
                raise ImageFileError(f"{path} has no {_spelled(keyword)}, which every image needs")
            return default
        return int(value)

    bits = number("BitsAllocated")
    possible = _BITS.get(refusals.class_uid(header), (8, 16))
    if bits not in possible:
        needed = " or ".join(map(str, possible))
        raise refusals.refused(path, header, f"its pixels have {bits} bits (Bits Allocated); {needed} can be upscaled")
    syntax = header.file_meta.TransferSyntaxUID
    if bits == 1 and (syntax.is_compressed or not syntax.is_little_endian):
        raise refusals.refused(path, header, f"its bits are stored as {syntax.name}; decompress it before")
    stored = number("BitsStored")
    layout = Layout(
        frames=number("NumberOfFrames", 1),
        rows=number("Rows"),
        columns=number("Columns"),
        samples=number("SamplesPerPixel", 1),
        bits_allocated=bits,
        bits_stored=stored,
        high_bit=number("HighBit", stored - 1),
        signed=number("PixelRepresentation", 0) == 1,
        photometric=str(header.get("PhotometricInterpretation", "MONOCHROME2")).strip(),
    )
    check_whole(path, layout.rows, layout.columns)
    if not 1 <= stored <= layout.high_bit + 1 <= bits:
        raise ImageFileError(
            f"{path} has Bits Stored {stored}, High Bit {layout.high_bit} and Bits Allocated {bits}, which do not fit"
        )
    if syntax.is_compressed and layout.high_bit != stored - 1:
        raise ImageFileError(f"{path} has High Bit {layout.high_bit}; compressed pixels need {stored - 1}")
    samples = 1 if layout.grey or layout.photometric == "PALETTE COLOR" else 3
    if not known_photometric(layout.photometric) or layout.samples != samples:
        kind = f"{layout.samples} samples of {layout.photometric}"
        raise refusals.refused(path, header, f"its pixels have {kind}; MONOCHROME, PALETTE COLOR, RGB and YBR can be")
    if layout.frames < 1:
        raise ImageFileError(f"{path} has Number of Frames {layout.frames}; 1 or more are needed")
    return layout


def without_pixels(dataset: Dataset) -> Dataset:
    """Return a dataset that shares all elements but Pixel Data."""
    bare = Dataset({tag: dataset.get_item(tag) for tag in dataset.keys() if tag != _PIXEL_DATA})  # noqa: SIM118
    bare.file_meta = getattr(dataset, "file_meta", FileMetaDataset())
    implicit_vr, little_endian = dataset.original_encoding
    bare.set_original_encoding(implicit_vr, little_endian, dataset.original_character_set)
    return bare


def _spelled(keyword: str) -> str:
    from pydicom.datadict import dictionary_description, tag_for_keyword

    tag = tag_for_keyword(keyword)
    assert tag is not None
    return f"{dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _check_length(path: Path, layout: Layout, pixel_data: PixelData) -> None:
    """Raise ImageFileError if native pixels are fewer than the frames need: before the work, not after it."""
    have = pixel_data.place[1]
    if have is None:
        return
    samples = 2 if layout.photometric == "YBR_FULL_422" else layout.samples
    need = -(-layout.frames * layout.rows * layout.columns * samples * layout.bits_allocated // 8)
    if have < need:
        raise ImageFileError(f"{path} is damaged or truncated: Pixel Data has {have} bytes; its frames need {need}")
