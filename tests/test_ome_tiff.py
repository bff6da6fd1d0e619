"""OME-TIFF: its planes are pages, and its XML tells their new size in pixels and in micrometres."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tifffile

import fastsr


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((5, 12, 9), "ZYX"),
        ((2, 3, 7, 13), "CZYX"),
        ((2, 2, 3, 6, 5), "TCZYX"),
        ((2, 12, 9, 3), "TYXS"),
        ((7, 13), "YX"),
    ],
)
@pytest.mark.parametrize("scale", [2, 3])
def test_axes_and_physical_sizes_are_kept(tmp_path, shape, axes, scale):
    pixels = np.random.default_rng(0).integers(0, 65535, shape, np.uint16)
    about = {"axes": axes, "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    rgb = axes.endswith("S")
    src, dst = tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"
    tifffile.imwrite(src, pixels, metadata=about, photometric="rgb" if rgb else "minisblack")
    fastsr.upscale_file(src, dst, model="nearest", scale=scale)
    with tifffile.TiffFile(dst) as file:
        assert file.is_ome
        assert file.series[0].axes == axes
        y, x = axes.index("Y"), axes.index("X")
        np.testing.assert_array_equal(file.series[0].asarray(), pixels.repeat(scale, y).repeat(scale, x))
        sizes = dict(re.findall(r'(PhysicalSize[XYZ])="([^"]*)"', file.ome_metadata))
    assert {key: float(value) for key, value in sizes.items()} == pytest.approx(
        {"PhysicalSizeX": 0.5 / scale, "PhysicalSizeY": 0.25 / scale, "PhysicalSizeZ": 2.0}
    )
