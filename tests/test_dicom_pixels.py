"""What the network sees of stored values, and what becomes of those that it does not see."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from dicom_objects import ct, enhanced_mr, grey, image, item, save

import fastsr
from fastsr.medical import Intensity, Options
from fastsr.medical.dicom.padding import Padding
from fastsr.medical.frames import enlarged_rows
from fastsr.medical.intensity import UnitMap

MR = "1.2.840.10008.5.1.4.1.1.4"
XRAY = "1.2.840.10008.5.1.4.1.1.1"


def upscaled(dataset, tmp_path, model="bicubic", scale=2, value_range=None, **options):
    save(dataset, tmp_path / "in.dcm")
    out = fastsr.upscale_file(
        *(tmp_path / "in.dcm", tmp_path / "out.dcm"),
        model=model,
        scale=scale,
        overwrite=True,
        value_range=value_range,
        medical=Options(**options),
    )
    return pydicom.dcmread(out)


def smooth(h, w, low, high, dtype):
    """Return pixels with little contrast between neighbours, so that interpolation stays within low..high."""
    y, x = np.mgrid[:h, :w]
    wave = (2 + np.sin(x / 3 + 0.4) + np.cos(y / 4 - 0.2)) / 4
    return (low + wave * (high - low)).astype(dtype)


@pytest.mark.parametrize(("model", "scale"), [("bicubic", 2), ("vdsr", 2), ("fmen", 4)])
@pytest.mark.parametrize(
    ("bits", "dtype"), [(8, "uint8"), (10, "uint16"), (12, "int16"), (12, "uint16"), (16, "uint16")]
)
@pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")
def test_frames_get_the_pixels_that_arrays_get(model, scale, bits, dtype, tmp_path):
    """The twin: the whole array at once, its range given by hand, integers all the way."""
    signed = dtype == "int16"
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    pixels = grey(9, 11, low=low, high=high, dtype=dtype)
    made = upscaled(image(XRAY, pixels, bits=bits, Modality="CR"), tmp_path, model, scale, normalize="stored")
    expected = fastsr.load(model, scale=scale).upscale(pixels, value_range=(low, high))
    assert made.pixel_array.dtype == expected.dtype
    assert np.abs(made.pixel_array.astype(int) - expected).max() <= 1  # two ways to round in float32
    assert (made.pixel_array == expected).mean() > 0.97
    assert made.pixel_array.min() >= low
    assert made.pixel_array.max() <= high


def test_results_are_clamped_to_bits_stored(tmp_path):
    pixels = np.zeros((8, 8), np.uint16)
    pixels[:, 4:] = 4095  # bicubic overshoots at both sides
    made = upscaled(ct(pixels), tmp_path).pixel_array
    assert (made.min(), made.max()) == (0, 4095)
    signed = upscaled(ct(pixels.astype(np.int16) - 2048, RescaleType="US"), tmp_path).pixel_array
    assert (signed.min(), signed.max()) == (-2048, 2047)


@pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")
def test_colours_go_through_together(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    made = upscaled(image("1.2.840.10008.5.1.4.1.1.7", pixels), tmp_path, "vdsr").pixel_array
    assert np.abs(made.astype(int) - fastsr.load("vdsr", scale=2).upscale(pixels)).max() <= 1


# --- beyond the range -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 9), (7, 13), (5, 1), (16, 4)])
def test_what_was_cut_off_is_enlarged_as_the_bicubic_model_does(h, w, scale, random_image):
    frame = random_image(h, w, 1, "float32")
    expected = frame if scale == 1 else fastsr.load("bicubic", scale=scale).upscale(frame)
    for n in (1, 3, 5, h * scale):
        rows = [
            enlarged_rows(lambda y0, y1: frame[y0:y1], h, scale, y0, min(y0 + n, h * scale))
            for y0 in range(0, h * scale, n)
        ]
        np.testing.assert_allclose(np.concatenate(rows), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("model", "scale"), [("fmen", 4), ("srresnet", 4), ("vdsr", 2)])
@pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")
def test_values_far_beyond_a_window_come_back_as_they_were(model, scale, tmp_path):
    """Air and bone beside a narrow soft-tissue window; shown as -14 and 21, srresnet returns nonsense."""
    hu = np.zeros((24, 30), np.int16) + 40
    hu[:, :10], hu[:, 20:] = -1000, 1500
    pixels = (hu + 1024).astype(np.uint16)
    made = upscaled(ct(pixels), tmp_path, model, scale, window=(40, 80))
    back = made.pixel_array.astype(int) - 1024
    inner = slice(8 * scale, 16 * scale)
    for columns, value in ((slice(2 * scale, 7 * scale), -1000), (slice(23 * scale, 28 * scale), 1500)):
        assert np.abs(back[inner, columns] - value).max() <= 8  # the network's own error on flat ground, in HU
    plain = fastsr.load("bicubic", scale=scale).upscale(hu, value_range=(-1024, 3071))
    assert np.abs(back - plain).max() <= 120  # the part that it sees, 0 to 120 HU, not the 2500 HU of the edges


@pytest.mark.parametrize("window", [(40, 80), (-600, 1500), (26.5, 9000)])
def test_interpolation_is_the_same_through_any_window(window, tmp_path):
    """Bicubic interpolation is linear: what the network sees of it and what it does not add up."""
    pixels = grey(12, 14)
    windowed = upscaled(ct(pixels), tmp_path, window=window).pixel_array.astype(int)
    whole = upscaled(ct(pixels), tmp_path).pixel_array
    assert np.abs(windowed - whole).max() <= 1


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"window": (40, 400)}, "-160 to 239 (window 40 width 400)"),
        ({"value_range": (-200, 300)}, "-200 to 300 (given)"),
        ({"normalize": "stored"}, "-1024 to 3071 (12 stored bits)"),
        ({}, "-1024 to 3071 (12 stored bits)"),
        ({"normalize": "percentile:0,100"}, "-1024 to 3071 (percentiles 0 to 100)"),
    ],
)
def test_the_range_is_in_the_units_of_the_source(options, seen, tmp_path):
    pixels = grey(6, 7)
    pixels[0, :2] = 0, 4095
    assert f"seen by the network: {seen}" in upscaled(ct(pixels), tmp_path, **options).DerivationDescription


def test_ct_of_sixteen_bits_is_seen_as_twelve(tmp_path):
    """-32768 to 32767 would show the network a nearly uniform picture."""
    pixels = smooth(8, 9, -1000, 2000, "int16")
    made = upscaled(ct(pixels, bits=16, RescaleIntercept=0), tmp_path)
    assert "-1024 to 3071 (12 bits of HU)" in made.DerivationDescription
    assert np.abs(made.pixel_array[::2, ::2].astype(int) - pixels).max() < 200


def test_sixteen_bits_of_anything_else_are_seen_by_percentiles(tmp_path):
    pixels = smooth(40, 50, 100, 900, "uint16")
    made = upscaled(image(MR, pixels, RescaleSlope=2, RescaleIntercept=5), tmp_path)
    low, high = np.percentile(pixels * 2.0 + 5, [0.5, 99.5])
    assert f"{low:.6g} to {high:.6g} (percentiles 0.5 to 99.5)" in made.DerivationDescription


def test_frames_with_rescales_of_their_own_share_one_range(tmp_path):
    pixels = np.stack([smooth(6, 7, 100, 200, "uint16")] * 2)
    dataset = enhanced_mr(pixels)
    for i, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        transformation = item(RescaleSlope=[1, 4][i], RescaleIntercept=[0, -300][i], RescaleType="US")
        group.PixelValueTransformationSequence = [transformation]
    made = upscaled(dataset, tmp_path, normalize="percentile:0,100")
    units = [pixels[0] * 1.0, pixels[1] * 4.0 - 300]
    seen = f"{min(u.min() for u in units):.6g} to {max(u.max() for u in units):.6g}"
    assert seen in made.DerivationDescription
    # bicubic is linear: the range changes nothing but the rounding
    plain = [fastsr.load("bicubic", scale=2).upscale(p, value_range=(0, 4095)) for p in pixels]
    assert np.abs(made.pixel_array.astype(int) - np.stack(plain)).max() <= 2


def test_a_window_needs_units_and_greys(tmp_path):
    lut = item(LUTDescriptor=[4096, 0, 16], ModalityLUTType="US")
    lut.add_new("LUTData", "OW", np.arange(4096, dtype="<u2").tobytes())
    dataset = ct(grey(5, 6), ModalityLUTSequence=[lut])
    del dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType
    with pytest.raises(fastsr.OptionError, match="Modality LUT"):
        upscaled(dataset, tmp_path, window=(40, 400))
    assert upscaled(dataset, tmp_path).ModalityLUTSequence == dataset.ModalityLUTSequence
    colours = image("1.2.840.10008.5.1.4.1.1.7", np.full((4, 4, 3), 9, np.uint8))
    with pytest.raises(fastsr.OptionError, match="colours"):
        upscaled(colours, tmp_path, window=(40, 400))
    with pytest.raises(fastsr.OptionError, match="width"):
        upscaled(ct(grey(5, 6)), tmp_path, window=(40, 0))


@pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")
def test_pixels_that_use_little_of_the_range_are_warned_of_once(tmp_path):
    from fastsr.medical.dicom import upscale_folder

    (tmp_path / "in").mkdir()
    for name in "abc":
        save(image(MR, smooth(6, 7, 0, 300, "uint16"), bits=12, name=name), tmp_path / "in" / name)
    with pytest.warns(fastsr.ValueRangeWarning, match=r"span 2.0% of 0 to 4095 \(12 stored bits\)") as caught:
        upscale_folder(tmp_path / "in", tmp_path / "out", fastsr.load("vdsr", scale=2))
    assert len([w for w in caught if w.category is fastsr.ValueRangeWarning]) == 1


# --- MONOCHROME1 ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")
def test_monochrome1_is_the_negative_of_monochrome2(tmp_path):
    pixels = grey(9, 8)
    negative = upscaled(ct(4095 - pixels, PhotometricInterpretation="MONOCHROME1"), tmp_path, "fmen", 4)
    positive = upscaled(ct(pixels), tmp_path, "fmen", 4)
    assert negative.PhotometricInterpretation == "MONOCHROME1"
    assert np.abs((4095 - negative.pixel_array.astype(int)) - positive.pixel_array).max() <= 1


# --- padding ----------------------------------------------------------------------------------------------------


def round_field(padding, h=20, w=22):
    """Return a CT slice whose corners are padding, and where they are."""
    y, x = np.mgrid[:h, :w]
    outside = np.hypot(y - (h - 1) / 2, x - (w - 1) / 2) > 9
    pixels = smooth(h, w, 1000, 1200, "int16")
    return np.where(outside, np.int16(padding), pixels), outside


@pytest.mark.parametrize(("model", "scale"), [("bicubic", 2), ("fmen", 4), ("nearest", 3)])
@pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")
def test_padding_stays_padding_and_nothing_else_becomes_it(model, scale, tmp_path):
    pixels, outside = round_field(-2000)
    dataset = ct(pixels, bits=16, PixelPaddingValue=-2000)
    made = upscaled(dataset, tmp_path, model, scale)
    big = outside.repeat(scale, axis=0).repeat(scale, axis=1)
    assert ((made.pixel_array == -2000) == big).all()
    assert made.PixelPaddingValue == -2000


@pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")
@pytest.mark.parametrize(("model", "scale"), [("bicubic", 2), ("fmen", 4)])
def test_padding_does_not_bleed(model, scale, tmp_path):
    """Whatever the padding value is, what is no padding comes out the same."""
    results = []
    for padding in (-2000, 0, 3000):
        pixels, outside = round_field(padding)
        made = upscaled(ct(pixels, bits=16, PixelPaddingValue=padding), tmp_path, model, scale)
        inside = ~outside.repeat(scale, axis=0).repeat(scale, axis=1)
        results.append(made.pixel_array[inside])
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()
    assert results[0].min() > 900  # values are 1000 to 1200; without the mask the edge would fall to some -500
    assert results[0].max() < 1300


def test_a_range_of_padding_values_keeps_each(tmp_path):
    pixels, outside = round_field(0)
    marks = np.where(outside, np.random.default_rng(0).integers(0, 4, pixels.shape), pixels).astype(np.uint16)
    made = upscaled(ct(marks, PixelPaddingValue=0, PixelPaddingRangeLimit=3), tmp_path, "bicubic")
    blocks = marks.repeat(2, axis=0).repeat(2, axis=1)
    big = outside.repeat(2, axis=0).repeat(2, axis=1)
    assert (made.pixel_array[big] == blocks[big]).all()
    assert made.pixel_array[~big].min() > 3


def test_padding_written_with_the_other_sign_is_understood(tmp_path):
    pixels, outside = round_field(-2000)
    dataset = ct(pixels, bits=16)
    dataset.add_new(0x00280120, "US", 65536 - 2000)
    made = upscaled(dataset, tmp_path)
    assert ((made.pixel_array == -2000) == outside.repeat(2, axis=0).repeat(2, axis=1)).all()


def test_results_step_aside_of_padding_values():
    stored = np.array([-3, 4, 5, 6, 7, 8, 9], np.int16)
    assert list(Padding(5, 7).avoid(stored, (-8, 9))) == [-3, 4, 4, 8, 8, 8, 9]
    assert list(Padding(5, 9).avoid(stored, (-8, 9))) == [-3, 4, 4, 4, 4, 4, 4]
    assert list(Padding(-8, 5).avoid(stored, (-8, 9))) == [6, 6, 6, 6, 7, 8, 9]


def test_an_image_of_padding_alone_goes_through(tmp_path):
    pixels = np.full((5, 6), 7, np.uint16)
    made = upscaled(ct(pixels, PixelPaddingValue=7), tmp_path)
    assert (made.pixel_array == 7).all()


def test_percentiles_leave_padding_out(tmp_path):
    pixels, outside = round_field(-2000)
    dataset = image(MR, pixels, PixelPaddingValue=-2000)
    made = upscaled(dataset, tmp_path)
    low, high = np.percentile(pixels[~outside], [0.5, 99.5])
    assert f"{low:.6g} to {high:.6g} (percentiles" in made.DerivationDescription


def test_units_are_as_exact_as_sixteen_bits_need():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    units = UnitMap(Intensity(-1000.5, 5000.25, "test"), values.dtype, 0.37, -1234.5)
    assert (units.to_stored(units.to_unit(values)) == values).all()


# --- consistency ------------------------------------------------------------------------------------------------


def block_means(pixels, s):
    h, w = pixels.shape[0] // s, pixels.shape[1] // s
    return pixels.astype(np.int64).reshape(h, s, w, s).sum(axis=(1, 3)) / s**2


def residual(made):
    """Return what Derivation Description says: mean, rms and max before, and of the result."""
    text = made.DerivationDescription.partition("Residual of ")[2]
    return [float(word.strip(",;.")) for word in text.split() if "e+" in word or "e-" in word][:6]


def consistent(dataset, tmp_path, consistency, model="vdsr", scale=2, **more):
    save(dataset, tmp_path / "in.dcm")
    arguments = {"model": model, "scale": scale, "consistency": consistency, "overwrite": True, **more}
    return pydicom.dcmread(fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.dcm", **arguments))


@pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")
@pytest.mark.parametrize("options", [{}, {"window": (40, 400)}, {"normalize": "percentile:10,90"}])
@pytest.mark.parametrize("dtype", ["uint16", "int16"])
def test_block_means_are_exact_in_stored_integers(dtype, options, tmp_path):
    """Whatever is beyond the range, and interpolated, included."""
    pixels = grey(13, 11, dtype=dtype, low=0 if dtype == "uint16" else -2048, high=4095 if dtype == "uint16" else 2047)
    made = consistent(ct(pixels), tmp_path, "block-mean", medical=Options(**options))
    assert (block_means(made.pixel_array, 2) == pixels).all()
    before, after = residual(made)[:3], residual(made)[3:]
    assert min(before) > 0
    assert after == [0, 0, 0]


@pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")
def test_the_residual_is_measured_in_the_units_of_the_source(tmp_path):
    pixels = grey(12, 10)
    made = consistent(ct(pixels, RescaleSlope=3, RescaleIntercept=0), tmp_path, None)
    difference = np.abs(block_means(made.pixel_array, 2) - pixels) * 3
    expected = [difference.mean(), np.sqrt((difference**2).mean()), difference.max()]
    assert residual(made) == pytest.approx([*expected, *expected], rel=1e-3)
    assert len(made.DerivationDescription) <= 1024


@pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")
def test_back_projection_comes_nearer(tmp_path):
    made = consistent(ct(smooth(20, 24, 500, 3500, "uint16") + grey(20, 24, high=300)), tmp_path, "back-projection")
    before, after = residual(made)[:3], residual(made)[3:]
    assert after[1] < before[1] / 2


@pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")
@pytest.mark.parametrize("consistency", ["block-mean", "back-projection"])
def test_consistency_leaves_padding_alone(consistency, tmp_path):
    results = []
    for padding in (-2000, 3000):
        pixels, outside = round_field(padding)
        made = consistent(ct(pixels, bits=16, PixelPaddingValue=padding), tmp_path, consistency, "bicubic")
        big = outside.repeat(2, axis=0).repeat(2, axis=1)
        assert ((made.pixel_array == padding) == big).all()
        results.append(made.pixel_array[~big])
    assert (results[0] == results[1]).all()


@pytest.mark.filterwarnings("ignore::fastsr.TrainedRangeWarning")
def test_other_settings_are_another_series(tmp_path):
    runs = [
        consistent(ct(grey(6, 7)), tmp_path, consistency, "bilinear", strength=strength)
        for consistency, strength in ((None, 1.0), ("block-mean", 1.0), (None, 0.5))
    ]
    assert len({made.SeriesInstanceUID for made in runs}) == 3
    assert "consistency block-mean" in runs[1].DerivationDescription
    assert "strength 0.5" in runs[2].DerivationDescription


def test_a_prior_map_is_of_images(tmp_path):
    save(ct(grey(6, 7)), tmp_path / "in.dcm")
    with pytest.raises(fastsr.OptionError, match="prior map"):
        fastsr.upscale_file(
            tmp_path / "in.dcm", tmp_path / "o.dcm", model="nearest", scale=2, prior_map=tmp_path / "m.png"
        )
