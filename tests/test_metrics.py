"""PSNR and SSIM equal what the literature's tools compute."""

import math

import numpy as np
import pytest

from fastsr.errors import DtypeError, OptionError, ShapeError
from fastsr.metrics import luma_bt601, psnr, ssim


def noisy_pair(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    peak = 1.0 if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max
    h, w = shape[:2]
    smooth = 0.5 + 0.4 * np.sin(np.arange(h)[:, None] / 5) * np.cos(np.arange(w)[None] / 7)
    if len(shape) == 3:
        smooth = smooth[:, :, None] * np.linspace(0.5, 1, shape[2])
    noisy = np.clip(smooth + rng.normal(0, 0.05, shape), 0, 1)
    return (smooth * peak).astype(dtype), (noisy * peak).astype(dtype), float(peak)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(11, 11), (40, 33), (24, 31, 3)])
def test_ssim_and_psnr_equal_scikit_image(shape, dtype):
    metrics = pytest.importorskip("skimage.metrics")
    a, b, peak = noisy_pair(shape, dtype)
    kind = {"data_range": peak, "channel_axis": 2 if len(shape) == 3 else None}
    expected = metrics.structural_similarity(
        a.astype(np.float64),
        b.astype(np.float64),
        gaussian_weights=True,
        sigma=1.5,
        truncate=3.5,  # int(3.5 * 1.5 + 0.5) = 5 to either side: the 11x11 window
        use_sample_covariance=False,
        **kind,
    )
    assert ssim(a, b, data_range=peak) == pytest.approx(expected, abs=1e-6)
    expected = metrics.peak_signal_noise_ratio(a.astype(np.float64), b.astype(np.float64), data_range=peak)
    assert psnr(a, b, data_range=peak) == pytest.approx(expected, abs=1e-9)


def slow_ssim(a, b, peak):
    """Equation (7), one window at a time."""
    t = np.arange(11) - 5
    w = np.exp(-(t[:, None] ** 2 + t[None] ** 2) / (2 * 1.5**2))
    w /= w.sum()
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    values = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            p, q = a[i : i + 11, j : j + 11].astype(float), b[i : i + 11, j : j + 11].astype(float)
            mp, mq = (w * p).sum(), (w * q).sum()
            vp, vq, cov = (
                (w * (p - mp) ** 2).sum(),
                (w * (q - mq) ** 2).sum(),
                (w * (p - mp) * (q - mq)).sum(),
            )
            values.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return np.mean(values)


def test_ssim_equals_slow_twin():
    a, b, peak = noisy_pair((17, 14), np.uint8)
    assert ssim(a, b) == pytest.approx(slow_ssim(a, b, peak), abs=1e-12)


def test_psnr_by_hand():
    a = np.zeros((4, 4), np.uint8)
    b = a.copy()
    b[0, 0] = 4  # mean square error 1
    assert psnr(a, b) == pytest.approx(20 * math.log10(255))
    assert psnr(a.astype(np.uint16), b.astype(np.uint16)) == pytest.approx(20 * math.log10(65535))
    assert psnr(a.astype(np.float32), b.astype(np.float32), data_range=4.0) == pytest.approx(20 * math.log10(4))
    assert psnr(a, a) == math.inf
    assert ssim(np.full((12, 12), 7, np.uint8), np.full((12, 12), 7, np.uint8)) == pytest.approx(1, abs=1e-12)


def test_border_is_cut_from_every_side():
    a, b, _ = noisy_pair((40, 33), np.uint8)
    for metric in (psnr, ssim):
        assert metric(a, b, border=4) == metric(a[4:-4, 4:-4], b[4:-4, 4:-4])
    spoiled = a.copy()
    spoiled[:, -1] = 255 - spoiled[:, -1]
    assert psnr(a, spoiled, border=1) == math.inf


def test_luma_is_studio_swing():
    corners = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0]]], np.uint8)
    np.testing.assert_allclose(luma_bt601(corners), [[16, 235, 81.481]], atol=1e-12)
    np.testing.assert_allclose(luma_bt601(corners / 255, data_range=1.0) * 255, [[16, 235, 81.481]], atol=1e-12)
    a, b, _ = noisy_pair((24, 31, 3), np.uint8)
    for metric in (psnr, ssim):
        assert metric(a, b, luma=True) == metric(luma_bt601(a), luma_bt601(b), data_range=255)


def test_refuses_what_means_nothing():
    a = np.zeros((16, 16), np.uint8)
    with pytest.raises(ShapeError, match=r"\(16, 16\).*\(16, 15\)"):
        psnr(a, a[:, :15])
    with pytest.raises(ShapeError):
        ssim(a[:10], a[:10])
    with pytest.raises(ShapeError):
        psnr(a, a, border=8)
    with pytest.raises(ShapeError):
        psnr(a, a, luma=True)
    with pytest.raises(DtypeError):
        psnr(a, a.astype(np.uint16))
    with pytest.raises(DtypeError):
        psnr(a.astype(bool), a.astype(bool), data_range=1)
    with pytest.raises(OptionError, match="data_range"):
        psnr(a.astype(np.float32), a.astype(np.float32))
    with pytest.raises(OptionError):
        psnr(a, a, data_range=0)
    with pytest.raises(OptionError):
        psnr(a, a, border=-1)
