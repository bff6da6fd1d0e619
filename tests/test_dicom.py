"""Real DICOM files of every kind go through, and what must not go through says why."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_objects import CT, ct, grey, image, item, save
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_color_lut, pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

import fastsr
from fastsr.medical import Options
from fastsr.medical.dicom.read import open_image
from fastsr.medical.dicom.sniff import looks_like_dicom

DECODABLE = [
    "693_J2KR", "CR_MONOCHROME1_jpeg", "CR_jpeg_baseline", "CT_fragmented_no_bot_jpeg_ext", "CT_small", "JPEG-LL",
    "JPEG-lossy", "JPEG2000", "JPGLosslessP14SV1_1s_1f_8b", "MR_small", "MR_small_RLE", "MR_small_bigendian",
    "MR_small_implicit", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless", "OBXXXX1A_rle_2frame", "RG3_J2KI",
    "SC_rgb", "SC_rgb_16bit", "SC_rgb_2frame", "SC_rgb_jpeg_dcmtk", "SC_rgb_rle", "SC_rgb_small_odd_jpeg",
    "SC_ybr_full_422_uncompressed", "SC_ybr_full_uncompressed", "US1_J2KR", "US1_UNCR", "US_YBR_FULL_422",
    "color-pl", "emri_small", "emri_small_RLE", "emri_small_big_endian", "emri_small_jpeg_2k_lossless",
    "emri_small_jpeg_ls_lossless", "image_dfl", "mlut_18", "nema_CT1_JLSL", "nema_CT1_JLSN", "nema_CT1_JPLL",
    "nema_CT1_RLE", "nema_CT1_UNC", "nema_CT2_J2KR", "nema_MR3_JLSL", "nema_MR4_J2KR", "nema_MR4_JPLY",
    "nema_RG3_JLSL", "nema_XA1_JLSL", "vlut_04",
]  # fmt: skip
REFUSED = {
    "MR_truncated": "Pixel Data has 8130 of 8192 bytes",
    "reportsi": "Basic Text SR Storage",
    "no_meta": "no 'DICM' after 128 bytes",
    "rtdose_1frame": "RT Dose Storage.*a dose.*--force",
    "liver": "Segmentation Storage.*segment.*--force",
}
FORCED = ["liver", "rtdose_1frame"]  # go through all the same, if forced
TWELVE_BIT_JPEG = ("CT_fragmented_no_bot_jpeg_ext", "JPEG-lossy", "nema_MR4_JPLY")  # pydicom cannot, GDCM can
STORED = Options(normalize="stored")
KEPT = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation")


@pytest.fixture
def files(data):
    return data / "medical" / "dicom"


def decoded(path, tmp_path):
    """Return what pydicom, or DCMTK for 12-bit JPEG, decodes: stored values, colours as 8 or 16-bit RGB."""
    if path.stem in TWELVE_BIT_JPEG:
        if shutil.which("dcmdjpeg") is None:
            pytest.skip("DCMTK's dcmdjpeg is not installed (apt-get install dcmtk)")
        subprocess.run(["dcmdjpeg", path, tmp_path / "decoded.dcm"], check=True)
        path = tmp_path / "decoded.dcm"
    dataset = pydicom.dcmread(path)
    pixels = pixel_array(dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return (apply_color_lut(pixels, dataset) >> 8).astype(np.uint8)
    return pixels


def test_every_file_of_the_set_is_in_one_of_the_lists(files):
    assert sorted(p.stem for p in files.glob("*.dcm")) == sorted([*DECODABLE, *REFUSED])


@pytest.mark.filterwarnings("ignore::fastsr.ForcedWarning")
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", DECODABLE + FORCED)
def test_each_pixel_becomes_a_block_of_it(name, scale, files, tmp_path):
    source = files / f"{name}.dcm"
    before = source.read_bytes()
    options = Options(force=True) if name in FORCED else STORED
    out = fastsr.upscale_file(source, tmp_path / "out.dcm", model="nearest", scale=scale, medical=options)
    made = pydicom.dcmread(out)
    expected = decoded(source, tmp_path)
    frames = int(made.get("NumberOfFrames") or 1) > 1
    blocks = expected.repeat(scale, axis=int(frames)).repeat(scale, axis=1 + frames)
    assert made.pixel_array.dtype == expected.dtype.newbyteorder("=")
    assert (made.pixel_array == blocks).all()
    was = pydicom.dcmread(source)
    if was.SamplesPerPixel == 1 and was.PhotometricInterpretation != "PALETTE COLOR":
        assert all(made[keyword].value == was[keyword].value for keyword in KEPT)
    else:
        assert (made.PhotometricInterpretation, made.SamplesPerPixel, made.PlanarConfiguration) == ("RGB", 3, 0)
        assert made.PixelRepresentation == 0
    assert source.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "model", "scale"),
    [
        ("CT_small", "fmen", 4),
        ("MR_small_RLE", "fmen", 4),
        ("SC_rgb", "fmen", 4),
        ("emri_small", "fmen", 4),
        ("MR_small", "vdsr", 2),
        ("SC_rgb", "vdsr", 2),
    ],
)
@pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")
def test_networks_upscale_real_files(name, model, scale, files, tmp_path):
    source = files / f"{name}.dcm"
    out = fastsr.upscale_file(source, tmp_path / "out.dcm", model=model, scale=scale)
    bicubic = fastsr.upscale_file(source, tmp_path / "bicubic.dcm", model="bicubic", scale=scale)
    made, smooth = (pydicom.dcmread(path).pixel_array.astype(float) for path in (out, bicubic))
    assert made.shape == smooth.shape
    assert 0 < np.abs(made - smooth).mean() < 0.05 * np.ptp(smooth)  # near to interpolation, and not it


@pytest.mark.parametrize(("name", "message"), REFUSED.items())
def test_what_cannot_be_upscaled_says_why(name, message, files, tmp_path):
    with pytest.raises(fastsr.ImageFileError, match=message):
        fastsr.upscale_file(files / f"{name}.dcm", tmp_path / "out.dcm", model="nearest", scale=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16"])
def test_native_transfer_syntaxes_give_the_same_pixels(syntax, dtype, tmp_path):
    info = np.iinfo(dtype)
    pixels = grey(7, 13, low=int(info.min), high=int(info.max), dtype=dtype)
    dataset = image(CT, pixels, RescaleIntercept=0, RescaleSlope=1)
    big = syntax == ExplicitVRBigEndian
    if big:
        dataset.PixelData = pixels.astype(pixels.dtype.newbyteorder(">")).tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset["PixelData"].VR = "OW" if syntax == ImplicitVRLittleEndian or pixels.itemsize == 2 else "OB"
    save(dataset, tmp_path / "in.dcm")
    out = fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.dcm", model="nearest", scale=2, medical=STORED)
    made = pydicom.dcmread(out)
    assert (made.pixel_array == pixels.repeat(2, axis=0).repeat(2, axis=1)).all()


def test_bits_lie_where_high_bit_says(tmp_path):
    values = grey(5, 6, low=-2048, high=2047, dtype="int16")
    dirt = np.random.default_rng(1).integers(0, 8, values.shape).astype(np.int16)  # an overlay in bits below
    dataset = ct(values, bits=12, HighBit=14)
    dataset.PixelData = ((values.astype(np.int16) << 3) | dirt).astype(np.int16).tobytes()
    save(dataset, tmp_path / "in.dcm")
    made = pydicom.dcmread(fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.dcm", model="nearest", scale=2))
    assert (made.HighBit, made.BitsStored) == (14, 12)
    stored = np.frombuffer(made.PixelData, "<i2").reshape(10, 12)
    assert (stored >> 3 == values.repeat(2, axis=0).repeat(2, axis=1)).all()
    assert not (stored & 7).any()


def test_unused_bits_are_ignored(tmp_path):
    values = grey(4, 4)
    dataset = ct(values)
    dataset.PixelData = (values | (grey(4, 4, high=15, seed=1) << 12)).tobytes()
    save(dataset, tmp_path / "in.dcm")
    made = pydicom.dcmread(fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.dcm", model="nearest", scale=2))
    assert (np.frombuffer(made.PixelData, "<u2").reshape(8, 8) == values.repeat(2, axis=0).repeat(2, axis=1)).all()


@pytest.mark.parametrize("entry_bits", [8, 16])
def test_palette_becomes_rgb(entry_bits, tmp_path):
    rng = np.random.default_rng(0)
    tables = rng.integers(0, 1 << entry_bits, (3, 256)).astype(f"uint{entry_bits}")
    indices = grey(6, 5, high=255, dtype="uint8")
    palette = {
        f"{colour}PaletteColorLookupTable{part}": [256, 0, entry_bits] if part == "Descriptor" else tables[i].tobytes()
        for i, colour in enumerate(("Red", "Green", "Blue"))
        for part in ("Descriptor", "Data")
    }
    save(
        image("1.2.840.10008.5.1.4.1.1.7", indices, PhotometricInterpretation="PALETTE COLOR", **palette),
        tmp_path / "in.dcm",
    )
    made = pydicom.dcmread(fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.dcm", model="nearest", scale=2))
    expected = np.moveaxis(tables[:, indices], 0, -1) >> (entry_bits - 8)
    assert (made.pixel_array == expected.repeat(2, axis=0).repeat(2, axis=1)).all()
    assert "RedPaletteColorLookupTableData" not in made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "CT Image Storage.*32 bits"),
        ({"BitsStored": 17}, "Bits Stored 17"),
        ({"Rows": None}, r"no Rows \(0028,0010\)"),
        ({"Rows": 700}, "its frames need"),
        ({"PhotometricInterpretation": "CMYK"}, "CMYK"),
        ({"PixelSpacing": None}, "no PixelSpacing"),
        ({"PixelSpacing": [0.5, 0]}, "above 0"),
        ({"ImageOrientationPatient": None}, "no ImageOrientationPatient"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "right angles"),
        ({"ImagePositionPatient": [1, 2]}, "3 numbers"),
        ({"RescaleSlope": 0}, "Rescale Slope 0"),
        ({"SOPInstanceUID": None}, "no SOP Instance UID"),
        ({"SeriesInstanceUID": ""}, "no Series Instance UID"),
        ({"BurnedInAnnotation": "YES"}, "CT Image Storage.*--force"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "mosaic"),
        ({"NumberOfFrames": -1}, "Number of Frames -1"),
        ({"NumberOfFrames": 0}, "Number of Frames 0; 1 or more are needed"),
    ],
)
def test_wrong_elements_are_named(change, message, tmp_path):
    dataset = ct(grey(6, 7))
    for keyword, value in change.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    save(dataset, tmp_path / "in.dcm")
    with pytest.raises(fastsr.ImageFileError, match=message):
        fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.dcm", model="nearest", scale=2)
    assert [p.name for p in tmp_path.iterdir()] == ["in.dcm"]


def test_annotation_is_upscaled_if_forced(tmp_path):
    save(ct(grey(6, 7), BurnedInAnnotation="YES"), tmp_path / "in.dcm")
    out = fastsr.upscale_file(
        tmp_path / "in.dcm", tmp_path / "out.dcm", model="nearest", scale=2, medical=Options(force=True)
    )
    assert pydicom.dcmread(out).BurnedInAnnotation == "YES"


def test_an_image_of_floats_is_refused(tmp_path):
    dataset = ct(grey(4, 4))
    dataset.FloatPixelData = np.ones((4, 4), np.float32).tobytes()
    del dataset.PixelData
    save(dataset, tmp_path / "in.dcm")
    with pytest.raises(fastsr.ImageFileError, match=r"floating-point"):
        fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.dcm", model="nearest", scale=2)


def test_a_result_of_too_many_pixels_is_refused_before_the_work(tmp_path):
    save(ct(grey(1, 20000)), tmp_path / "in.dcm")
    with pytest.raises(fastsr.ShapeError, match=r"80000 x 4 pixels; DICOM holds 65535 per side: scale 3"):
        fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.dcm", model="nearest", scale=4)


def test_a_file_is_known_by_its_first_bytes(tmp_path):
    save(ct(grey(6, 7)), tmp_path / "IM000001")
    out = fastsr.upscale_file(tmp_path / "IM000001", model="nearest", scale=2)
    assert out == tmp_path / "IM000001_x2"
    assert pydicom.dcmread(out).Rows == 12


def test_an_image_format_is_no_output_for_dicom(tmp_path):
    save(ct(grey(6, 7)), tmp_path / "in.dcm")
    with pytest.raises(fastsr.OutputError, match="DICOM"):
        fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.png", model="nearest", scale=2)
    with pytest.raises(fastsr.OptionError, match="format"):
        fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out", model="nearest", scale=2, format="png")


def test_info_names_nobody(tmp_path):
    from fastsr.medical.dicom import describe

    save(ct(grey(6, 7)), tmp_path / "in.dcm")
    lines = dict(describe(tmp_path / "in.dcm"))
    assert lines["object"] == "CT Image Storage"
    assert lines["size"] == "7 x 6"
    assert lines["spacing"] == "0.75 x 0.5 mm (rows, columns)"
    assert "Anna" not in str(lines)


def test_frames_are_decoded_one_by_one(tmp_path):
    """Memory does not grow with the frames: what is alive at once is a frame, not the object."""
    import tracemalloc

    pixels = np.stack([grey(256, 256, seed=i) for i in range(40)])
    save(image("1.2.840.10008.5.1.4.1.1.7.3", pixels, bits=12), tmp_path / "in.dcm")
    opened = open_image(tmp_path / "in.dcm")
    tracemalloc.start()
    try:
        for i, frame in enumerate(opened.frames()):
            assert (frame[:, :, 0] == pixels[i]).all()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert i == 39
    assert peak < pixels.nbytes / 4


def test_missing_pydicom_says_what_to_install(tmp_path):
    import sys

    save(ct(grey(6, 7)), tmp_path / "in.dcm")
    program = """
import sys
sys.modules["pydicom"] = None
import fastsr
try:
    fastsr.upscale_file(sys.argv[1], sys.argv[2], model="nearest", scale=2)
except fastsr.MissingExtraError as error:
    print(error)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "in.dcm"), str(tmp_path / "out.dcm")]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pip install 'fastsr[medical]'" in said.stdout


@pytest.mark.filterwarnings("ignore")  # pydicom's, of files that are wrong on purpose
def test_files_that_come_with_pydicom_go_through_or_say_why(tmp_path):
    """Those in its package, many of them damaged or odd: no other error than ours, and nothing left behind by those."""
    out, done = tmp_path / "out.dcm", 0
    for name in sorted((Path(pydicom.data.__file__).parent / "test_files").rglob("*")):  # without downloading any
        if not looks_like_dicom(Path(name)):
            continue
        reason = "done"
        try:
            fastsr.upscale_file(name, out, model="nearest", scale=2, medical=STORED)
        except fastsr.FastSRError as error:
            reason = str(error)
        if reason != "done":
            assert Path(name).name in reason
            assert list(tmp_path.iterdir()) == []
        else:
            made = pydicom.dcmread(out)
            assert made.pixel_array.shape[-2 if made.SamplesPerPixel == 1 else -3] % 2 == 0
            out.unlink()
            done += 1
    assert done > 40


def test_an_object_may_be_implicit_where_it_says_explicit(tmp_path):
    source = get_testdata_file("SC_rgb_jpeg.dcm")
    made = pydicom.dcmread(fastsr.upscale_file(source, tmp_path / "out.dcm", model="nearest", scale=2))
    assert made.pixel_array.shape == (512, 512, 3)


def test_a_nested_item_is_no_image():
    """`derive` refuses what it cannot place, also where no file is involved."""
    from fastsr.medical.dicom import derive

    with pytest.raises(fastsr.FastSRError):
        derive(item(Rows=4, Columns=4), fastsr.load("nearest", scale=2))
