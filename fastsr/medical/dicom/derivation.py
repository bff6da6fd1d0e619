"""The header of the derived object: what stays, what changes, what is dropped. docs/dicom.md has the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from fastsr.consistency import Report
from fastsr.errors import ShapeError
from fastsr.medical.dicom import image_type, lossy
from fastsr.medical.dicom.acquisition import drop_acquisition
from fastsr.medical.dicom.decode import Layout
from fastsr.medical.dicom.geometry import scale_geometry
from fastsr.medical.dicom.pixel_coordinates import scale_pixel_coordinates
from fastsr.medical.dicom.recipe import IMPLEMENTATION_CLASS_UID, Recipe
from fastsr.medical.dicom.refusals import SEGMENTATION, class_uid, forced_note
from fastsr.version import __version__

_MOST_PIXELS = 65535  # of a side: Rows and Columns are US
_LO, _ST = 64, 1024  # characters that a value may have
# What is true of the source's pixels, file or approval only.
_DROPPED = (
    "IconImageSequence",
    "SmallestImagePixelValue",
    "LargestImagePixelValue",
    "SmallestPixelValueInSeries",
    "LargestPixelValueInSeries",
    "SmallestImagePixelValueInPlane",
    "LargestImagePixelValueInPlane",
    "HistogramSequence",
    "DVHSequence",
    "DVHNormalizationPoint",
    "DVHNormalizationDoseValue",
    "InstanceCreationDate",
    "InstanceCreationTime",
    "InstanceCreatorUID",
    "SOPInstanceStatus",
    "SOPAuthorizationDateTime",
    "SOPAuthorizationComment",
    "AuthorizationEquipmentCertificationNumber",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "DataSetTrailingPadding",
    "PixelDataProviderURL",
    "StorageMediaFileSetID",
    "StorageMediaFileSetUID",
)
_SIGNATURES = ("DigitalSignaturesSequence", "MACParametersSequence")
_PALETTE = tuple(
    f"{colour}PaletteColorLookupTable{part}"
    for colour in ("Red", "Green", "Blue", "Alpha")
    for part in ("Descriptor", "Data")
) + tuple(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue", "Alpha"))


def derive(
    header: Dataset,
    layout: Layout,
    recipe: Recipe,
    path: Path,
    *,
    number: int | None = None,
    residual: bool = False,
) -> Dataset:
    """Return the header of the derived object, without its pixels; `header` is left as it is.

    header: of the source, file meta information included, as `read.open_image` gives it; layout: of the pixels that
    are upscaled; path: what errors call the source; number: Instance Number where the source has none; residual:
    Derivation Description gets a place for the residual, which `set_residual` fills.
    Raises ImageFileError for geometry that cannot be carried over, ShapeError for a result too large.
    """
    _check_size(layout, recipe.scale, path)
    image = deepcopy(header)
    _to_native_order(image)
    _drop(image, recipe.keep_private)
    if image_type.is_enhanced(header):
        drop_acquisition(image)
    lossy.keep_history(image, header)
    _describe_pixels(image, layout, recipe.scale)
    scale_geometry(image, path, recipe.scale)
    scale_pixel_coordinates(image, recipe.scale)
    _reference_source(image, header, recipe, residual)
    _reidentify(image, header, recipe, number)
    image.file_meta = _file_meta(image)
    return image


def set_residual(image: Dataset, report: Report) -> None:
    """Put the residual in its place in Derivation Description, which keeps its length."""
    before, after = report.bicubic_before, report.bicubic_after
    if before is None or after is None:
        before, after = report.block_mean_before, report.block_mean_after
    numbers = (before.mean_abs, before.rms, before.max_abs, after.mean_abs, after.rms, after.max_abs)
    image.DerivationDescription = image.DerivationDescription.replace(
        _residual_note(report.consistency), _residual_note(report.consistency, numbers)
    )


def _residual_note(consistency: str | None, numbers: Sequence[float] = (math.nan,) * 6) -> str:
    """Say how far the result, made small again, is from the source: as long with numbers as without."""
    kind = "bicubic downscaling" if consistency == "back-projection" else "block means"
    text = [f"{number:9.3e}".rjust(9) for number in numbers]
    return (
        f"Residual of {kind} in the source's units: before consistency mean {text[0]}, rms {text[1]}, max {text[2]}; "
        f"of the result mean {text[3]}, rms {text[4]}, max {text[5]}."
    )


def _to_native_order(image: Dataset) -> None:
    """Turn the words of a big endian source's OW, OF, OD, OL and OV values round; pydicom turns all others."""
    if image.original_encoding[1] is not False:
        return
    sizes = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
    for element in image.iterall():
        size = sizes.get(element.VR)
        if size and isinstance(element.value, bytes):
            whole = element.value[: len(element.value) // size * size]
            turned = b"".join(whole[i : i + size][::-1] for i in range(0, len(whole), size))
            element.value = turned


def _drop(image: Dataset, keep_private: bool) -> None:
    if not keep_private:
        image.remove_private_tags()
    for keyword in _DROPPED:
        if keyword in image:
            del image[keyword]
    for tag in list(image.keys()):
        if tag.element == 0 or 0x5000 <= tag.group < 0x5100:  # group lengths, curves
            del image[tag]
    _drop_signatures(image)


def _drop_signatures(dataset: Dataset) -> None:
    for keyword in _SIGNATURES:
        if keyword in dataset:
            del dataset[keyword]
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _drop_signatures(item)


def _check_size(layout: Layout, scale: int, path: Path) -> None:
    rows, columns = layout.rows * scale, layout.columns * scale
    if max(rows, columns) > _MOST_PIXELS:
        most = _MOST_PIXELS // max(layout.rows, layout.columns)
        raise ShapeError(
            f"{path} would become {columns} x {rows} pixels; DICOM holds {_MOST_PIXELS} per side: scale {most} would do"
        )


def _describe_pixels(image: Dataset, layout: Layout, scale: int) -> None:
    image.Rows, image.Columns = layout.rows * scale, layout.columns * scale
    image.PhotometricInterpretation = layout.photometric
    image.SamplesPerPixel = layout.samples
    image.BitsAllocated, image.BitsStored, image.HighBit = layout.bits_allocated, layout.bits_stored, layout.high_bit
    image.PixelRepresentation = int(layout.signed)
    if layout.samples == 1:
        return
    image.PlanarConfiguration = 0
    for keyword in _PALETTE:
        if keyword in image:
            del image[keyword]


def _reference_source(image: Dataset, header: Dataset, recipe: Recipe, residual: bool) -> None:
    """Say what the image was made from, how, and by what."""
    note = forced_note(header)
    description = recipe.description + (f" {note}" if note else "")
    description += f" {_residual_note(recipe.consistency)}" if residual else ""
    before = str(header.get("DerivationDescription") or "").strip()
    if before:
        description = f"{description} The source's: {before}"
    image.DerivationDescription = description[:_ST]
    image.DerivationCodeSequence = [*(image.get("DerivationCodeSequence") or ()), _resampling()]
    image.SourceImageSequence = [_source(header)]
    image.ContributingEquipmentSequence = [*(image.get("ContributingEquipmentSequence") or ()), _equipment(recipe)]
    groups = image.get("PerFrameFunctionalGroupsSequence") or ()
    if class_uid(header) == SEGMENTATION:
        image.ReferencedSeriesSequence = [*(image.get("ReferencedSeriesSequence") or ()), _series(header)]
    elif groups:
        evidence = [*(image.get("SourceImageEvidenceSequence") or ()), _evidence(header)]
        image.SourceImageEvidenceSequence = evidence
    for i, group in enumerate(groups):
        item = Dataset()
        item.DerivationDescription = recipe.description
        item.DerivationCodeSequence = [_resampling()]
        item.SourceImageSequence = [_source(header, frame=i + 1)]
        group.DerivationImageSequence = [*(group.get("DerivationImageSequence") or ()), item]


def _reidentify(image: Dataset, header: Dataset, recipe: Recipe, number: int | None) -> None:
    image.SOPInstanceUID = recipe.uid("instance", str(header.SOPInstanceUID))
    image.SeriesInstanceUID = recipe.uid("series", str(header.SeriesInstanceUID))
    source_number = header.get("SeriesNumber")
    image.SeriesNumber = recipe.series_number(None if source_number in (None, "") else int(source_number))
    suffix = f" {recipe.model} x{recipe.scale} (FastSR)"
    described = str(header.get("SeriesDescription") or "")
    image.SeriesDescription = f"{described[: _LO - len(suffix)]}{suffix}".strip()[:_LO]
    if image.get("InstanceNumber") in (None, "") and number is not None:
        image.InstanceNumber = number
    if header.get("ConcatenationUID"):
        image.ConcatenationUID = recipe.uid("concatenation", str(header.ConcatenationUID))
    if header.get("SOPInstanceUIDOfConcatenationSource"):
        source = str(header.SOPInstanceUIDOfConcatenationSource)
        image.SOPInstanceUIDOfConcatenationSource = recipe.uid("instance", source)
    image_type.set_derived(image, header)


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _resampling() -> Dataset:
    return _code("113085", "Spatial resampling")


def _source(header: Dataset, frame: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    if frame is not None:
        item.ReferencedFrameNumber = frame
    item.PurposeOfReferenceCodeSequence = [_code("121322", "Source image for image processing operation")]
    return item


def _evidence(header: Dataset) -> Dataset:
    """Say in which study and series the source is."""
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID = header.SOPClassUID
    instance.ReferencedSOPInstanceUID = header.SOPInstanceUID
    series.SeriesInstanceUID = header.SeriesInstanceUID
    series.ReferencedSOPSequence = [instance]
    study.StudyInstanceUID = header.StudyInstanceUID
    study.ReferencedSeriesSequence = [series]
    return study


def _series(header: Dataset) -> Dataset:
    """Say the same as the Common Instance Reference Module does (PS3.3 C.12.2)."""
    series, instance = Dataset(), Dataset()
    instance.ReferencedSOPClassUID = header.SOPClassUID
    instance.ReferencedSOPInstanceUID = header.SOPInstanceUID
    series.SeriesInstanceUID = header.SeriesInstanceUID
    series.ReferencedInstanceSequence = [instance]
    return series


def _equipment(recipe: Recipe) -> Dataset:
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_code("109102", "Processing Equipment")]
    item.Manufacturer = "FastSR"
    item.ManufacturerModelName = "FastSR"
    item.SoftwareVersions = __version__
    item.ContributionDescription = recipe.description[:_ST]
    return item


def _file_meta(image: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(image.SOPClassUID)
    meta.MediaStorageSOPInstanceUID = UID(image.SOPInstanceUID)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = f"FASTSR_{__version__}"[:16]
    return meta
