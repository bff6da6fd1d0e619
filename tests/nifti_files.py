"""NIfTI files made for tests, and how the tests read and upscale them."""

from __future__ import annotations

import gzip
import itertools
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from stored_twin import upscale_stored

import fastsr
from fastsr.medical import Options
from fastsr.medical.intensity import UnitMap

nib = pytest.importorskip("nibabel", reason="nibabel is not installed (pip install 'fastsr[medical]')")

ROOT = Path(fastsr.__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
OBLIQUE = np.array([[-0.7, 0.1, 0.3, 20], [0.2, 0.8, -0.4, -31.5], [0.1, -0.2, 2.5, 7.25], [0, 0, 0, 1.0]])


def random_voxels(shape, dtype="int16", seed=0):
    """Return smooth random voxels with some noise: 0 to 120 (8 bit) or 0 to 3000."""
    rng = np.random.default_rng([seed, *shape])
    most = 110 if np.dtype(dtype).itemsize == 1 else 3000
    grid = np.meshgrid(*(np.linspace(0, 3, n) for n in shape), indexing="ij")
    smooth = sum(np.sin(g * (2 + i) + i) for i, g in enumerate(grid))
    values = most * (0.5 + smooth / (2.2 * len(shape))) + rng.normal(size=shape) * most * 0.02
    return np.clip(values, 0, most).astype(dtype)


def save(path, stored, affine=OBLIQUE, *, kind=nib.Nifti1Header, order="<", codes=(1, 2), extensions=b"", **fields):
    """Write stored voxels (X, Y, ...) byte by byte: qform and sform of `affine`, then any header fields."""
    header = kind(endianness=order)
    if stored.dtype.names:
        header.set_data_dtype(stored.dtype)
    else:
        header.set_data_dtype(stored.dtype.newbyteorder(order))
        stored = stored.astype(stored.dtype.newbyteorder(order))
    header.set_data_shape(stored.shape)
    header.set_qform(affine, code=codes[0], strip_shears=True)
    if stored.ndim > 1:
        header.set_sform(affine, code=codes[1])
    extra = extensions or bytes(4)
    header["vox_offset"] = len(header.binaryblock) + len(extra)
    for key, value in fields.items():
        if key.startswith("pixdim"):
            header["pixdim"][int(key[6:])] = value
        else:
            header[key] = value
    data = header.binaryblock + extra + stored.tobytes("F")
    path.write_bytes(gzip.compress(data, 1) if path.name.endswith(".gz") else data)
    return path


def voxels(path):
    """Return the stored voxels as nibabel reads them, and the header as it is in the file."""
    image = nib.load(path)
    with (gzip.open if str(path).endswith(".gz") else open)(path, "rb") as file:
        header = type(image.header).from_fileobj(file, check=True)
    return image.dataobj.get_unscaled(), header


def upscaled(src, dst=None, **options):
    named = {k: options.pop(k) for k in ("plane", "normalize", "window", "strict") if k in options}
    dst = dst or src.with_name("out.nii")
    options = {"model": "bicubic", "scale": 2, "threads": 1, "overwrite": True} | options
    return fastsr.upscale_file(src, dst, medical=Options(**named), **options)


def twin(stored, axis, model, scale, intensity, slope=1.0, inter=0.0):
    """Slow twin: every slice of a volume in memory, through the array function."""
    sr = fastsr.load(model, scale=scale, threads=1)
    units = UnitMap(intensity, stored.dtype, slope, inter)
    slices = [upscale_stored(sr, np.ascontiguousarray(s.T), units).T for s in np.moveaxis(stored, axis, 0)]
    return np.moveaxis(np.stack(slices), 0, axis)


def corners(affine, shape):
    """Where the outermost corners of a volume lie: half a voxel beyond the centres."""
    ends = itertools.product(*((-0.5, n - 0.5) for n in shape[:3]))
    return np.array([affine @ (*end, 1) for end in ends])[:, :3]


def patched(path, stored=None, **fields):
    return save(path, random_voxels((6, 7, 5)) if stored is None else stored, **fields)


def random_affine(seed, left_handed):
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if (np.linalg.det(rotation) < 0) != left_handed:
        rotation[:, 0] *= -1
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.3, 4, 3)
    affine[:3, 3] = rng.uniform(-200, 200, 3)
    return affine


def extension(code, text):
    content = text + bytes(-(8 + len(text)) % 16)
    return struct.pack("<ii", 8 + len(content), code) + content
