"""Which intensities a network sees as 0 and 1, and the way there and back."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from fastsr.errors import DtypeError, ModelFileError, OptionError, PixelValueError, ShapeError
from fastsr.medical.intensity import (
    Intensity,
    UnitMap,
    card_percentiles,
    choose,
    from_bits,
    from_percentiles,
    from_window,
    parse_normalize,
)
from fastsr.medical.percentiles import percentiles

WANTED = (0, 0.5, 12.5, 50, 99.5, 100)
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
CARD = {"normalization": {"kind": "percentile", "low": 0.5, "high": 99.5}}


def random_values(n, dtype, seed=0):
    rng = np.random.default_rng([seed, n])
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (rng.normal(size=n) * 10.0 ** rng.integers(-12, 12, n)).astype(kind)
    return rng.integers(np.iinfo(kind).min, np.iinfo(kind).max, n, kind, endpoint=True)


def pieces(values, size=7):
    return lambda: (values[i : i + size] for i in range(0, len(values), size))


# --- percentiles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("n", [1, 2, 3, 97, 2000])
def test_percentiles_of_integers_are_exact(dtype, n):
    values = random_values(n, dtype)
    # Python's integers: np.percentile itself rounds 64-bit values
    ordered = sorted(int(v) for v in values)
    for q, got in zip(WANTED, percentiles(pieces(values), WANTED), strict=True):
        below = int((n - 1) * q / 100)
        low, high = ordered[below], ordered[min(below + 1, n - 1)]
        assert got == pytest.approx(low + (high - low) * ((n - 1) * q / 100 - below), rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "float32", "float64", ">i2", ">f4", "bool"])
@pytest.mark.parametrize("n", [1, 5, 1009])
def test_percentiles_are_those_of_numpy(dtype, n):
    values = random_values(n, np.dtype(dtype).newbyteorder("=")) if dtype != "bool" else random_values(n, "int8") > 0
    got = percentiles(pieces(values.astype(dtype), 13), WANTED)
    expected = np.percentile(values.astype(np.float64), WANTED)
    np.testing.assert_allclose(got, expected, rtol=2**-23, atol=1e-20)


def test_percentiles_are_exact_for_float32_of_any_size():
    tiny = np.float32(1e-40)  # subnormal, and both zeros
    values = np.array([3e38, -3e38, tiny, -tiny, 0.0, -0.0, 1.0], np.float32)
    assert percentiles(lambda: [values], (0, 100)) == [float(values.min()), float(values.max())]
    assert percentiles(lambda: [values], (50,)) == [0.0]


def test_pieces_do_not_matter():
    values = random_values(5000, "float32")
    assert percentiles(pieces(values, 1), WANTED) == percentiles(lambda: [values.reshape(50, 100)], WANTED)


@pytest.mark.parametrize("dtype", ["int16", "float32", "float64", "int64"])
def test_memory_of_percentiles_does_not_grow(dtype):
    piece = random_values(1 << 16, dtype)

    def peak(times):
        tracemalloc.start()
        percentiles(lambda: (piece for _ in range(times)), (0.5, 99.5))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(60) <= peak(3) * 1.02


@pytest.mark.parametrize(
    ("values", "error", "words"),
    [
        (np.array([1.0, np.nan, np.inf]), PixelValueError, "2 or more values are NaN, infinite"),
        (np.array([1e300]), PixelValueError, "beyond float32"),
        (np.empty(0, np.int16), ShapeError, "no values"),
        (np.ones(3, np.complex64), DtypeError, "complex64"),
        (np.ones(3, np.longdouble), DtypeError, "up to 64 bits"),
    ],
)
def test_bad_values_are_refused(values, error, words):
    with pytest.raises(error, match=words):
        percentiles(lambda: [values], WANTED)


# --- ranges -----------------------------------------------------------------------------------------------------


def test_window_is_that_of_dicom():
    """PS3.3 C.11.2.1.2.1: c=2048, w=4096 covers 0..4095; c=100, w=100 is black at and below 50, white above 149."""
    assert from_window(2048, 4096).value_range == (0, 4095)
    assert from_window(100, 100).value_range == (50, 149)
    assert from_window(40, 400, "LINEAR_EXACT").value_range == (-160, 240)
    assert from_window(40, 400, "SIGMOID").value_range == (-160, 240)
    assert from_window(0, 2).value_range == (-1, 0)


@pytest.mark.parametrize("center", [-1000.5, 0, 40])
@pytest.mark.parametrize("width", [2, 3, 400.25])
def test_window_follows_the_formula(center, width):
    """The standard's y = ((x - (c - 0.5)) / (w - 1) + 0.5) is what a network sees."""
    units = UnitMap(from_window(center, width), np.dtype("float64"))
    x = np.linspace(center - width / 2, center + width / 2, 11)
    np.testing.assert_allclose(units.to_unit(x), (x - (center - 0.5)) / (width - 1) + 0.5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((40, 1), "width above 1"),
        ((40, 0, "LINEAR_EXACT"), "width above 0"),
        ((float("nan"), 10), "center nan"),
        ((0, 10, "CUBIC"), "'CUBIC'; LINEAR, LINEAR_EXACT or SIGMOID"),
    ],
)
def test_windows_that_are_none(arguments, words):
    with pytest.raises(OptionError, match=words):
        from_window(*arguments)


def test_stored_bits():
    assert from_bits(12).value_range == (0, 4095)
    assert from_bits(12, signed=True).value_range == (-2048, 2047)
    assert from_bits(12, slope=2, inter=-1024).value_range == (-1024, 7166)
    assert from_bits(8, slope=-1, inter=255).value_range == (0, 255)
    assert "12 stored bits" in str(from_bits(12))


@pytest.mark.parametrize("ends", [(1, 1), (2, 1), (0, float("inf")), (float("nan"), 1)])
def test_a_range_has_two_ends(ends):
    with pytest.raises(OptionError, match="low < high"):
        Intensity(*ends, "given")


@pytest.mark.parametrize("slope", [1.0, 0.25, -2.0])
def test_percentiles_are_of_the_source_s_units(slope):
    values = random_values(999, "int16")
    got = from_percentiles(pieces(values), 2, 90, slope, 10.0)
    assert got.value_range == pytest.approx(np.percentile(values * slope + 10.0, (2, 90)))
    assert got.origin == "percentiles 2 to 90"


@pytest.mark.parametrize("slope", [1.0, -1.0])
def test_volumes_of_mostly_one_value(slope):
    sparse = np.zeros(1000, np.int16)
    sparse[3] = 900
    got = from_percentiles(lambda: [sparse], slope=slope)
    assert got.value_range == ((0, 900) if slope > 0 else (-900, 0))
    assert "least to largest" in got.origin
    for value in (0, -5, 1e12):
        flat = from_percentiles(lambda value=value: [np.full(9, value, np.float32)], slope=slope)
        assert flat.low == slope * np.float32(value)
        assert flat.high > flat.low


# --- which one --------------------------------------------------------------------------------------------------

VALUES = np.arange(1001, dtype=np.int16)
STATED = from_bits(12)
GIVEN = Intensity(-5, 5, "given")


@pytest.mark.parametrize(
    ("card", "options", "expected"),
    [
        ({}, {}, (5, 995)),  # nobody says anything
        ({}, {"stated": STATED}, (0, 4095)),
        ({}, {"stated": STATED, "modality": "MR"}, (0, 4095)),
        (CARD, {"stated": STATED, "modality": "CT"}, (0, 4095)),
        (CARD, {"stated": STATED, "modality": "MR"}, (5, 995)),
        (CARD, {"stated": STATED}, (0, 4095)),
        (CARD, {}, (5, 995)),
        ({"normalization": {"kind": "percentile", "low": 1, "high": 90}}, {}, (10, 900)),
        (CARD, {"normalize": "percentile:10,20"}, (100, 200)),
        (CARD, {"stated": STATED, "modality": "MR", "normalize": "stored"}, (0, 4095)),
        ({}, {"stated": STATED, "normalize": "percentile"}, (5, 995)),
        (CARD, {"stated": STATED, "modality": "MR", "given": GIVEN}, (-5, 5)),
    ],
)
def test_who_decides(card, options, expected):
    assert choose(card, lambda: [VALUES], **options).value_range == pytest.approx(expected)


def test_what_cannot_be_decided():
    with pytest.raises(OptionError, match="does not state its range; percentile would do"):
        choose({}, lambda: [VALUES], normalize="stored")
    with pytest.raises(OptionError, match="one of them is needed"):
        choose({}, lambda: [VALUES], given=GIVEN, normalize="percentile")


@pytest.mark.parametrize(
    "text", ["", "none", "percentile:", "percentile:5", "percentile:9,3", "percentile:-1,3", "auto:1,2"]
)
def test_normalize_is_understood_or_refused(text):
    with pytest.raises(OptionError, match="auto, stored, percentile or percentile:LOW,HIGH"):
        parse_normalize(text)
    assert parse_normalize(" Percentile:1,99.9 ") == ("percentile", (1, 99.9))


@pytest.mark.parametrize(
    "rule", ["percentile", {}, {"kind": "zscore"}, {"kind": "percentile"}, {"kind": "percentile", "low": 9, "high": 3}]
)
def test_cards_that_cannot_be_understood(rule):
    with pytest.raises(ModelFileError, match="the card's normalization is"):
        card_percentiles({"normalization": rule})
    assert card_percentiles({}) is None


# --- there and back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*INTEGERS, "float32", "float64"])
@pytest.mark.parametrize(("slope", "inter"), [(1.0, 0.0), (0.5, -1024.0), (-3.0, 7.0)])
def test_there_and_back(dtype, slope, inter):
    span = 4000 if np.dtype(dtype).itemsize > 1 else 100
    stored = np.random.default_rng(1).integers(0, span, (9, 11)).astype(dtype)
    ends = sorted((slope * 0 + inter, slope * span + inter))
    units = UnitMap(Intensity(ends[0], ends[1], "given"), np.dtype(dtype), slope, inter)
    unit = units.to_unit(stored)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, (stored * slope + inter - ends[0]) / (ends[1] - ends[0]), atol=1e-6)
    back = units.to_stored(unit)
    assert back.dtype == np.dtype(dtype)
    np.testing.assert_allclose(
        back.astype(float), stored.astype(float), atol=span * 2**-23 if back.dtype.kind == "f" else 0
    )


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_clamped_to_their_type(dtype):
    info = np.iinfo(dtype)
    units = UnitMap(Intensity(0, 100, "given"), np.dtype(dtype))
    least, most = units.to_stored(np.array([-1e30, 1e30], np.float32))
    assert least == info.min
    assert info.max - 2048 <= int(most) <= info.max
    assert UnitMap(Intensity(0, 100, "given"), np.dtype(dtype), limits=(1, 90)).to_stored(
        np.array([-1, 9], np.float32)
    ).tolist() == [1, 90]


def test_large_offsets_keep_their_digits():
    """float32 alone would hold 1e9 in steps of 64."""
    stored = (10**9 + np.random.default_rng(0).integers(0, 1000, (5, 7))).astype(np.int32)
    units = UnitMap(from_percentiles(lambda: [stored]), stored.dtype)
    np.testing.assert_array_equal(units.to_stored(units.to_unit(stored)), stored)


def test_what_does_not_fit():
    with pytest.raises(PixelValueError, match="beyond what float32 holds"):
        UnitMap(Intensity(0, 3e38, "given"), np.dtype("float32")).to_stored(np.array([2.0], np.float32))
    with pytest.raises(DtypeError, match="complex64"):
        UnitMap(GIVEN, np.dtype("complex64"))
    with pytest.raises(OptionError, match="no range of stored values"):
        UnitMap(GIVEN, np.dtype("int16"), slope=1e-320)
