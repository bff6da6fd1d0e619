"""The header of a NIfTI file: read, checked, and changed to that of the upscaled volume.

Voxel axes are i, j, k (0, 1, 2); i is the fastest in the file. Affines map voxel indices, counted at voxel centres,
to mm. Source: the NIfTI-1 and NIfTI-2 definitions of nifti.nimh.nih.gov; structs by nibabel.
"""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from fastsr.errors import DtypeError, ImageFileError, MissingExtraError, OptionError, OutputError
from fastsr.io.image import reading
from fastsr.medical.nifti_sniff import magic, open_stream

Affine = npt.NDArray[np.float64]  # (4, 4)
Extension = tuple[int, bytes]  # (code, content)

AXES = "ijk"
PLANES = {"sagittal": "LR", "coronal": "AP", "axial": "IS"}  # the directions that a plane's normal may have
_COLOURS = {128: 3, 2304: 4}  # RGB24 and RGBA32: channels of uint8
_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_REFUSED = {1: "binary", 32: "complex64", 1536: "float128", 1792: "complex128", 2048: "complex256"}
_LABELS = {1002: "labels", 1005: "names of anatomical regions"}  # intents
_MAX_OFFSET = 64 << 20  # of the voxels: extensions are no larger
_MM = {1: 1000.0, 2: 1.0, 3: 0.001}  # by the code of the unit of length
_FAR = 1e30  # mm, or microns: nothing lies there, and squares of it can still be told
_SAME_SPACING = 0.99  # spacings within 1 % count as equal: they are float32, and often computed
# What may be said of the upscaled volume too. Others repeat the old grid, or may: a missing note is better than a
# wrong one. 6 comment, 8 XCEDE, 12 workflow, 18 to 26 diffusion directions and weights, 34 timing of frames.
_KEPT_EXTENSIONS = (6, 8, 12, 18, 20, 22, 24, 26, 34)
COMMENT = 6


@dataclass(frozen=True)
class Volume:
    """What a file holds. shape: (X, Y, Z, T); dtype: of the file, its byte order included.

    channels: 0, or 3 or 4 of uint8 in each voxel; slope, inter: units = slope * stored + inter; offset: of the first
    voxel, in bytes; header: nibabel's, as it is in the file.
    """

    path: Path
    header: Any
    extensions: tuple[Extension, ...]
    compressed: bool
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    channels: int
    slope: float
    inter: float
    offset: int

    @property
    def version(self) -> int:
        return 1 if int(self.header["sizeof_hdr"]) == 348 else 2

    @property
    def affine(self) -> Affine:
        """The affine that readers use: sform, else qform, else spacing alone."""
        return np.asarray(self.header.get_best_affine(), np.float64)

    @property
    def located(self) -> bool:
        """Whether the file says where the volume lies and how it is turned."""
        return int(self.header["sform_code"]) > 0 or int(self.header["qform_code"]) > 0

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance of voxel centres along i, j, k in mm; a file without a unit is taken to be in mm."""
        unit = _MM.get(int(self.header["xyzt_units"]) & 7, 1.0)
        return tuple(float(v) * unit for v in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def directions(self) -> str:
        """The letters of where i, j, k point most: "RAS" is right, anterior, superior."""
        from nibabel import orientations

        codes = cast(Any, orientations).aff2axcodes(self.affine)
        return "".join(code or "?" for code in codes)

    @property
    def intent(self) -> str | None:
        """What the voxels are, if they are names and no quantities."""
        return _LABELS.get(int(self.header["intent_code"]))


def read_volume(path: Path) -> Volume:
    """Read and check a header. Raises ImageFileError, DtypeError, MissingExtraError."""
    nifti1, nifti2 = _nibabel()
    with reading(path), open_stream(path) as file:
        head = file.read(544)
        if not head:
            raise ImageFileError(f"{path} is empty")
        kind = magic(head)
        if kind is None:
            raise ImageFileError(f"{path} is no NIfTI file; its first bytes are {head[:8]!r}")
        version, single = kind
        if not single:
            raise ImageFileError(f"{path} is the header of a pair of files; one .nii or .nii.gz can be read")
        size, kind_of_header = (348, nifti1.Nifti1Header) if version == 1 else (540, nifti2.Nifti2Header)
        if len(head) < size + 4:
            raise ImageFileError(f"{path} is truncated: it has {len(head)} bytes, and its header alone {size + 4}")
        header = kind_of_header(head[:size], check=False)
        header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1  # qfac; 0 means 1
        start = float(header["vox_offset"])
        if not (size + 4 <= start <= _MAX_OFFSET and start == int(start)):
            raise ImageFileError(f"{path}: voxels begin at byte {start:g}; {size + 4} to {_MAX_OFFSET} is possible")
        head += file.read(max(int(start) - len(head), 0))
        extensions = _extensions(path, head[size : int(start)], header.endianness)
        compressed = isinstance(file, gzip.GzipFile)
    return _checked(path, header, extensions, compressed, int(start))


def _checked(path: Path, header: Any, extensions: list[Extension], compressed: bool, offset: int) -> Volume:
    shape = _shape(path, header)
    dtype, channels = _dtype(path, header)
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if channels or not math.isfinite(slope) or slope == 0:  # which is to say: as they are
        slope, inter = 1.0, 0.0
    if not math.isfinite(inter):
        raise ImageFileError(f"{path}: scl_inter is {inter}; a finite number is needed")
    _check_geometry(path, header, shape)
    return Volume(path, header, tuple(extensions), compressed, shape, dtype, channels, slope, inter, offset)


def _shape(path: Path, header: Any) -> tuple[int, int, int, int]:
    ndim = int(header["dim"][0])
    sides = [int(n) for n in header["dim"][1 : 1 + max(ndim, 0)]]
    if not 2 <= ndim <= 7 or min(sides) < 1:
        raise ImageFileError(
            f"{path} has the shape {' x '.join(map(str, sides)) or 'of nothing'}; 2 to 4 axes of one voxel or more are "
            "needed"
        )
    if any(n > 1 for n in sides[4:]):
        raise ImageFileError(f"{path} has the shape {' x '.join(map(str, sides))}; up to 4 axes can be upscaled")
    X, Y, Z, T = (sides + [1, 1])[:4]
    return X, Y, Z, T


def _dtype(path: Path, header: Any) -> tuple[np.dtype[Any], int]:
    """Return (type of what is stored, channels)."""
    code, bits = int(header["datatype"]), int(header["bitpix"])
    channels = _COLOURS.get(code, 0)
    if code not in _DTYPES and not channels:
        name = _REFUSED.get(code, "unknown")
        hint = "; save the magnitude, or real and imaginary parts" if "complex" in name else ""
        raise DtypeError(
            f"{path} holds voxels of type {code} ({name}); integers of 8 to 64 bits, float32, float64, RGB24 and "
            f"RGBA32 can be upscaled{hint}"
        )
    dtype = np.dtype(np.uint8) if channels else np.dtype(header.endianness + _DTYPES[code])
    wanted = 8 * dtype.itemsize * max(channels, 1)
    if bits != wanted:
        raise ImageFileError(f"{path}: datatype {code} has {wanted} bits, and bitpix says {bits}")
    return dtype, channels


def _check_geometry(path: Path, header: Any, shape: Sequence[int]) -> None:
    pixdim = [float(v) for v in header["pixdim"][1:4]]
    for axis, spacing in enumerate(pixdim):
        if shape[axis] > 1 and not 0 < spacing < _FAR:
            raise ImageFileError(f"{path}: pixdim[{axis + 1}] is {spacing:g}; a spacing above 0 is needed")
    if int(header["sform_code"]) > 0:
        sform = _sform(header)
        if not (np.abs(sform) < _FAR).all():
            raise ImageFileError(f"{path}: the sform has NaN or infinite numbers; set sform_code to 0, or mend it")
        if not np.linalg.norm(sform[:3, :3], axis=0).all():
            raise ImageFileError(f"{path}: the sform gives an axis no length; set sform_code to 0, or mend it")
    if int(header["qform_code"]) > 0:
        numbers = [float(header[key]) for key in _QFORM]
        if not (np.abs(numbers) < _FAR).all() or sum(v * v for v in numbers[:3]) > 1 + 1e-5:
            raise ImageFileError(f"{path}: the qform's numbers {numbers} are no rotation; set qform_code to 0")


def _sform(header: Any) -> Affine:
    with np.errstate(invalid="ignore"):  # a NaN may come where the code says that there is no sform
        return np.array([*(header["srow_" + x] for x in "xyz"), (0, 0, 0, 1)], np.float64)


_QFORM = ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")


def slice_axis(volume: Volume, plane: str) -> int:
    """Return the voxel axis that slices are stacked along: 0, 1 or 2.

    plane: "auto", the two finest axes (spacings within 1 % count as equal, earlier axes come first; an axis of one
    voxel is never in the plane if it can be helped); "axial", "coronal", "sagittal", the plane of voxel axes that
    lies closest; or two of the letters ijk. Raises OptionError.
    """
    name = plane.strip().lower()
    if int(volume.header["dim"][0]) == 2:
        if name not in ("auto", "ij", "ji"):
            raise OptionError(f"{volume.path} is one slice, of two axes; its plane is ij, and not {plane!r}")
        return 2
    if name == "auto":
        spacing = [0.0 if n > 1 else math.inf for n in volume.shape[:3]]
        if math.inf not in spacing:
            spacing = list(volume.spacing)
        return max(axis for axis in range(3) if spacing[axis] >= _SAME_SPACING * max(spacing))
    if len(name) == 2 and len(set(name) & set(AXES)) == 2:
        return next(axis for axis in range(3) if AXES[axis] not in name)
    if name not in PLANES:
        raise OptionError(f"plane is {plane!r}; auto, {', '.join(PLANES)}, ij, ik or jk is needed")
    if not volume.located:
        raise OptionError(
            f"{volume.path} does not say how it is turned (qform_code and sform_code are 0), so which plane is {name} "
            "is unknown; two of its axes, such as ij, would do"
        )
    found = [axis for axis, code in enumerate(volume.directions) if code in PLANES[name]]
    if not found:
        raise OptionError(f"{volume.path}: its axes {volume.directions} have no {name} plane; ij, ik or jk would do")
    return found[0]


def upscaled_header(volume: Volume, axis: int, scale: int, note: str) -> bytes:
    """Return the bytes before the voxels of the result, whose field of view is that of the volume.

    axis: that slices are stacked along, which stays as it is; note: what made it, added as a comment extension.
    Raises OutputError where the format cannot hold the new size.
    """
    header = volume.header.copy()
    plane = [a for a in range(3) if a != axis]
    limit = int(np.iinfo(header["dim"].dtype).max)
    qform = header.get_qform(coded=False) if int(header["qform_code"]) > 0 else None
    for a in plane:
        if volume.shape[a] * scale > limit:
            raise OutputError(
                f"{volume.path}: {volume.shape[a]} voxels times {scale} are more than the {limit} that NIfTI-"
                f"{volume.version} can say; a smaller scale{', or NIfTI-2,' if volume.version == 1 else ''} would do"
            )
        if a < int(header["dim"][0]):
            header["dim"][1 + a] = volume.shape[a] * scale
        header["pixdim"][1 + a] = float(header["pixdim"][1 + a]) / scale
    for i, row in enumerate(upscaled_affine(_sform(header), plane, scale)[:3]):
        header["srow_" + "xyz"[i]] = row
    if qform is not None:
        for i, offset in enumerate(upscaled_affine(np.asarray(qform, np.float64), plane, scale)[:3, 3]):
            header["qoffset_" + "xyz"[i]] = offset
    if (int(header["dim_info"]) >> 4 & 3) - 1 in plane:  # slices of the acquisition are no slices any more
        for key in ("slice_code", "slice_start", "slice_end", "slice_duration"):
            header[key] = 0
    kept = [entry for entry in volume.extensions if entry[0] in _KEPT_EXTENSIONS]
    tail = _pack([*kept, (COMMENT, note.encode())], header.endianness)
    header["vox_offset"] = len(header.binaryblock) + len(tail)
    return bytes(header.binaryblock) + tail


def upscaled_affine(affine: Affine, plane: Sequence[int], scale: int) -> Affine:
    """Return A' with columns A / s of the plane, and the origin moved by A (1/(2s) - 1/2) along them.

    The corners of the volume, half a voxel beyond the outer voxels' centres, stay where they are.
    """
    result: Affine = affine.copy()
    for a in plane:
        result[:, a] = affine[:, a] / scale
        result[:, 3] += affine[:, a] * (0.5 / scale - 0.5)
    return result


def dropped_extensions(volume: Volume) -> list[int]:
    """List the codes of the extensions that the result does not get."""
    return [code for code, _ in volume.extensions if code not in _KEPT_EXTENSIONS]


def _extensions(path: Path, tail: bytes, endianness: str) -> list[Extension]:
    """Read what lies between header and voxels: 4 bytes, then (size, code, content) of each extension."""
    found: list[Extension] = []
    at = 4
    while tail[:1] != b"\0" and at + 8 <= len(tail):
        size, code = struct.unpack_from(endianness + "ii", tail, at)
        if size == 0:
            break  # padding
        if size < 8 or at + size > len(tail):
            raise ImageFileError(f"{path}: a header extension of {size} bytes at {at} does not fit before the voxels")
        found.append((code, tail[at + 8 : at + size]))
        at += size
    return found


def _pack(extensions: Sequence[Extension], endianness: str) -> bytes:
    parts = [b"\1\0\0\0" if extensions else bytes(4)]
    for code, content in extensions:
        padded = content + bytes(-(8 + len(content)) % 16)
        parts += [struct.pack(endianness + "ii", 8 + len(padded), code), padded]
    return b"".join(parts)


def _nibabel() -> tuple[Any, Any]:
    try:
        from nibabel import nifti1, nifti2
    except ImportError as error:
        raise MissingExtraError("NIfTI files need nibabel: pip install 'fastsr[medical]'") from error
    return nifti1, nifti2
