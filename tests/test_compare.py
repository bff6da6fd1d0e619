"""The comparison picture: what is in it, and that its numbers are those of the literature."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fastsr import metrics
from fastsr.compare import compare, draw, enlarge_bicubic
from fastsr.errors import OptionError, ShapeError
from fastsr.imresize import crop_to_multiple, downscale

DATA = Path(os.environ.get("FASTSR_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
SET5_X4 = {"baby": 31.78, "bird": 30.18, "butterfly": 22.10, "head": 31.59, "woman": 26.46}  # bicubic, as published


def nearest(scale):
    return lambda image: image.repeat(scale, 0).repeat(scale, 1)


def picture(h, w, channels=3, dtype="uint8"):
    y, x = np.mgrid[:h, :w]
    planes = [np.sin(y / 5 + c) * np.cos(x / 4) for c in range(channels)]
    stacked = np.stack(planes, -1)
    stacked[: h // 4, -(w // 4) :] *= np.sign(np.sin(7 * x[: h // 4, -(w // 4) :]))[..., None]  # detail, upper right
    stacked = (stacked - stacked.min()) / np.ptp(stacked)
    if np.dtype(dtype).kind == "f":
        return stacked.astype(dtype)[..., 0] if channels == 1 else stacked.astype(dtype)
    limits = np.iinfo(dtype)
    image = (limits.min + stacked * (limits.max - float(limits.min))).astype(dtype)
    return image[..., 0] if channels == 1 else image


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_kind_of_image_is_drawn(dtype, channels):
    hr = picture(98, 131, channels, dtype)
    compared = compare(nearest(4), 4, hr=hr)
    assert compared.lr.shape[:2] == (24, 32)
    assert compared.sr.shape == compared.bicubic.shape == compared.hr.shape
    assert compared.sr.dtype == hr.dtype
    drawn = draw(compared)
    assert drawn.dtype == np.uint8
    assert drawn.ndim == 3
    assert drawn.shape[1] > 4 * 131


def test_scores_are_those_of_the_full_depth():
    hr = picture(96, 128, 3, "uint16")
    compared = compare(nearest(4), 4, hr=hr)
    sr = nearest(4)(downscale(hr, 4))
    expected = metrics.psnr(hr, sr, data_range=float(np.ptp(hr)), border=4, luma=True)
    assert compared.scores["sr"].psnr == pytest.approx(expected)
    assert compare(nearest(4), 4, hr=hr, data_range=65535).peak == 65535


def test_box_is_where_the_detail_is():
    compared = compare(nearest(4), 4, hr=picture(256, 256))
    y0, x0, y1, x1 = compared.box
    assert y1 <= 80
    assert x0 >= 176
    assert y0 % 4 == x0 % 4 == 0
    assert y1 - y0 == x1 - x0


@pytest.mark.parametrize(("h", "w"), [(4, 4), (5, 300), (300, 5), (64, 1200), (1200, 64), (900, 1300)])
def test_odd_shapes_stay_viewable(h, w):
    drawn = draw(compare(nearest(4), 4, hr=picture(h, w)))
    assert max(drawn.shape) <= 2200


def test_without_hr_there_are_no_scores():
    compared = compare(nearest(2), 2, lr=picture(40, 50))
    assert compared.scores == {}
    assert compared.hr is None
    assert draw(compared).shape[1] < draw(compare(nearest(2), 2, hr=picture(80, 100))).shape[1]


def test_constant_image_is_drawn():
    draw(compare(nearest(2), 2, hr=np.full((40, 40), 7, np.uint16)))


def test_what_does_not_fit_is_refused():
    with pytest.raises(OptionError, match="neither"):
        compare(nearest(2), 2)
    with pytest.raises(ShapeError, match="has to be 20x20"):
        compare(nearest(2), 2, hr=picture(40, 40), lr=picture(10, 10))
    with pytest.raises(ShapeError, match="smaller than 4x4"):
        compare(nearest(4), 4, hr=np.zeros((3, 9), np.uint8))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_keeps_straight_lines(scale):
    ramp = np.arange(12.0)[:, None] * 2 + np.arange(9.0) * 3
    large = enlarge_bicubic(ramp, scale)
    y, x = (((np.arange(n * scale) + 0.5) / scale - 0.5) for n in ramp.shape)
    inner = (slice(2 * scale, -2 * scale),) * 2
    np.testing.assert_allclose(large[inner], (y[:, None] * 2 + x * 3)[inner], atol=1e-9)


@pytest.mark.skipif(not (DATA / "benchmarks" / "Set5").is_dir(), reason="needs the Set5 images")
@pytest.mark.parametrize("name", sorted(SET5_X4))
def test_bicubic_scores_are_the_published_ones(name):
    from fastsr.io import read_image

    hr = crop_to_multiple(read_image(DATA / "benchmarks" / "Set5" / f"{name}.png").pixels, 4)
    bicubic = enlarge_bicubic(downscale(hr, 4), 4)
    assert metrics.psnr(hr, bicubic, border=4, luma=True) == pytest.approx(SET5_X4[name], abs=0.05)
