"""Downscaling equals MATLAB's imresize to the bit."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastsr.errors import DtypeError, OptionError, ShapeError
from fastsr.imresize import crop_to_multiple, downscale

DATA = Path(os.environ.get("FASTSR_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
FOLDERS = [
    *[(f"{name}/x{s}", name, s, "replicate") for name in ("Set5", "Set14") for s in (2, 3, 4)],
    *[(f"{name}/x4", name, 4, "replicate") for name in ("B100", "Urban100_12")],
    *[(f"Set5_mirror_border/x{s}", "Set5", s, "mirror") for s in (2, 3, 4)],
]


@pytest.mark.parametrize(("folder", "source", "scale", "border"), FOLDERS)
def test_equals_matlab(folder, source, scale, border):
    if not (DATA / "matlab_lr").is_dir():
        pytest.skip("no data folder: set FASTSR_DATA to compare with the MATLAB images")
    paths = sorted((DATA / "matlab_lr" / folder).iterdir())
    assert paths
    for path in paths:
        hr = crop_to_multiple(np.asarray(Image.open(DATA / "benchmarks" / source / path.name)), scale)
        expected = np.asarray(Image.open(path))
        result = downscale(hr, scale, border)
        if expected.ndim > result.ndim:  # a grey picture that the reference stores as RGB
            result = np.repeat(result[:, :, None], 3, axis=2)
        assert np.array_equal(result, expected), path


def slow_downscale(image, scale, border):
    """The recipe, one pixel at a time: rows, round, clamp, then columns, round, clamp."""

    def cubic(x):
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    def pixel(line, i):
        n = len(line)
        if border == "replicate":
            return float(line[min(max(i, 0), n - 1)])
        i %= 2 * n
        return float(line[i if i < n else 2 * n - 1 - i])

    def shrink(line):
        out = []
        for x in range(1, len(line) // scale + 1):
            u = x * scale + 0.5 * (1 - scale) - 1  # 1-based in MATLAB
            taps = range(math.floor(u) - 2 * scale - 1, math.ceil(u) + 2 * scale + 2)
            weights = [cubic((u - t) / scale) for t in taps]
            y = sum(w * pixel(line, t) for w, t in zip(weights, taps, strict=True)) / sum(weights)
            if np.issubdtype(image.dtype, np.integer):
                y = min(max(math.floor(y + 0.5), 0), np.iinfo(image.dtype).max)
            out.append(y)
        return out

    rows = np.array([shrink(column) for column in image.T.tolist()]).T
    return np.array([shrink(row) for row in rows.tolist()]).astype(image.dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
@pytest.mark.parametrize("border", ["replicate", "mirror"])
@pytest.mark.parametrize(("h", "w", "scale"), [(2, 2, 2), (4, 8, 4), (3, 9, 3), (12, 20, 4), (26, 14, 2)])
def test_equals_slow_twin(h, w, scale, border, dtype):
    rng = np.random.default_rng(h * w)
    peak = 1.0 if dtype is np.float64 else np.iinfo(dtype).max
    image = (rng.integers(0, 2, (h, w)) * peak).astype(dtype)  # black and white: overshoot is clamped
    result, expected = downscale(image, scale, border), slow_downscale(image, scale, border)
    assert result.dtype == dtype
    assert result.shape == (h // scale, w // scale)
    if dtype is np.float64:
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-14)
    else:
        assert np.array_equal(result, expected)


def test_channels_are_apart_and_constants_stay():
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    result = downscale(image, 4)
    for c in range(3):
        assert np.array_equal(result[:, :, c], downscale(image[:, :, c], 4))
    assert (downscale(np.full((8, 8), 65535, np.uint16), 4) == 65535).all()
    assert downscale(np.full((8, 8), 0.25, np.float32), 2).dtype == np.float32
    assert np.array_equal(downscale(image, 1), image)


def test_refuses_what_it_cannot_do():
    with pytest.raises(ShapeError, match="cropping to 8x4"):
        downscale(np.zeros((9, 7), np.uint8), 4)
    with pytest.raises(ShapeError):
        downscale(np.zeros((0, 4), np.uint8), 4)
    with pytest.raises(ShapeError):
        downscale(np.zeros((4,), np.uint8), 4)
    with pytest.raises(DtypeError):
        downscale(np.zeros((4, 4), np.int32), 4)
    with pytest.raises(OptionError):
        downscale(np.zeros((4, 4), np.uint8), 4, "wrap")
    with pytest.raises(OptionError):
        downscale(np.zeros((4, 4), np.uint8), 0)
