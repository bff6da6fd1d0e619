"""NIfTI volumes: slice by slice, in the memory of a slice, with geometry and units kept.

The image of a slice is (H, W) = the slower and the faster of the two voxel axes of its plane, (H, W, C) for colours.
Voxels that are NaN or infinite are gaps: their neighbours are computed without them, and they stay what they are.
"""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from fastsr.consistency import Report, join_reports
from fastsr.errors import ImageFileError, OptionError, OutputError, PixelValueError, ShapeError
from fastsr.io.atomic import atomic_output
from fastsr.io.image import check_whole, reading, write_all
from fastsr.medical.frames import FrameUpscaler, Pixels, Stored
from fastsr.medical.intensity import Intensity, UnitMap, choose, from_bits
from fastsr.medical.nifti_header import (
    AXES,
    Volume,
    dropped_extensions,
    read_volume,
    slice_axis,
    upscaled_header,
)
from fastsr.medical.nifti_sniff import open_stream
from fastsr.medical.turning import Turned, Voxels
from fastsr.version import __version__

if TYPE_CHECKING:
    from fastsr.io.kinds import Progress, UpscaleFile
    from fastsr.medical import Run

_ZLIB_LEVEL = 3
_SCAN_BYTES = 1 << 20
_WRITE_BYTES = 1 << 18


def start(run: Run) -> UpscaleFile:
    """Return what upscales the NIfTI files of one run."""

    def upscale(src: Path, dst: Path, *, overwrite: bool, progress: Progress | None) -> None:
        upscale_nifti(src, dst, run, overwrite=overwrite, progress=progress)

    return upscale


def upscale_nifti(src: Path, dst: Path, run: Run, *, overwrite: bool = False, progress: Progress | None = None) -> None:
    """Upscale the slices of one file into another; either may be compressed: `src` by its content, `dst` by its name.

    Voxel type, byte order, scl_slope and scl_inter are kept; docs/medical.md says what else is, and what changes.
    progress: called with (rows done, rows in all) of the result.
    Raises ImageFileError, DtypeError, PixelValueError (no finite voxel), OptionError, OutputError, TrainedRangeError.
    """
    if not dst.name.lower().endswith((".nii", ".nii.gz")):
        raise OutputError(f"{dst}: a NIfTI volume stays one; a name that ends with .nii or .nii.gz is needed")
    volume = read_volume(src)
    layout = _Layout.of(volume, slice_axis(volume, run.options.plane), run.upscaler.scale)
    check_whole(src, layout.height, layout.width)
    if volume.intent and run.upscaler.name != "nearest":
        raise OptionError(
            f"{src} holds {volume.intent}, and there is nothing between two of them; --model nearest would do"
        )
    intensity = _intensity(volume, run)
    in_plane = [volume.spacing[a] for a in range(3) if a != layout.axis]
    run.guard.check(src, spacing_mm=in_plane, intensity=intensity)
    head = upscaled_header(volume, layout.axis, layout.scale, _note(volume, layout, run, intensity))
    units = UnitMap(intensity, volume.dtype, volume.slope, volume.inter) if intensity else None
    slices = _Greys(volume, run, units) if units else _Colours(volume, run)
    with ExitStack() as stack:
        file = stack.enter_context(atomic_output(dst, overwrite=overwrite))
        voxels = stack.enter_context(_Reader(volume))
        out = stack.enter_context(_writer(file, dst))
        write_all(out, head)
        work = _Work(volume, layout, slices, progress)
        work.do(voxels, out, dst.parent)
        voxels.finish()
    if run.on_report is not None and work.reports:
        run.on_report(join_reports(work.reports))


def describe(path: Path) -> list[tuple[str, str]]:
    """Say what a NIfTI file is. Raises ImageFileError, DtypeError, MissingExtraError."""
    volume = read_volume(path)
    X, Y, Z, T = volume.shape
    order = {"<": "little", ">": "big"}[volume.header.endianness]
    stored = f"{('RGB', 'RGBA')[volume.channels - 3]} of uint8" if volume.channels else volume.dtype.name
    if (volume.slope, volume.inter) != (1, 0):
        stored += f", times {volume.slope:g} plus {volume.inter:g}"
    return [
        ("file", str(path)),
        ("format", f"NIfTI-{volume.version}, {order} endian" + (", gzip" if volume.compressed else "")),
        ("size", f"{X} x {Y} x {Z}" + (f", {T} volumes" if T > 1 else "")),
        ("voxels", stored + (f", {volume.intent}" if volume.intent else "")),
        ("spacing", " x ".join(f"{v:.4g}" for v in volume.spacing) + " mm"),
        ("axes", volume.directions if volume.located else "directions unknown"),
        ("plane", f"{_letters(slice_axis(volume, 'auto'))} by default"),
    ]


@dataclass(frozen=True)
class _Layout:
    """How slices lie in the file. axis: that they are stacked along; count: of slices of one volume.

    height, width: of their images; voxel: shape of one voxel, () or (channels,).
    """

    axis: int
    scale: int
    count: int
    height: int
    width: int
    voxel: tuple[int, ...]

    @classmethod
    def of(cls, volume: Volume, axis: int, scale: int) -> _Layout:
        width, height = (volume.shape[a] for a in range(3) if a != axis)
        return cls(axis, scale, volume.shape[axis], height, width, (volume.channels,) if volume.channels else ())


class _Work:
    """The upscaling of one file's slices."""

    def __init__(self, volume: Volume, layout: _Layout, slices: _Greys | _Colours, progress: Progress | None) -> None:
        self._volume, self._layout, self._slices, self._progress = volume, layout, slices, progress
        self._done = 0  # slices
        self.reports: list[Report] = []  # one, of what is done
        self._slice: Voxels = np.empty((layout.height, layout.width, *layout.voxel), volume.dtype)

    def do(self, voxels: _Reader, out: BinaryIO, folder: Path) -> None:
        """Write the voxels of the result. folder: where temporary files may be."""
        for _ in range(self._volume.shape[3]):
            if self._layout.axis == 2:
                for _ in range(self._layout.count):
                    voxels.fill(self._slice)
                    self._upscale(lambda _, rows: write_all(out, rows.data))
            else:
                self._turned(voxels, out, folder)

    def _turned(self, voxels: _Reader, out: BinaryIO, folder: Path) -> None:
        at, s = self._layout, self._layout.scale
        X, Y, Z, _ = self._volume.shape
        row_bytes = self._slice[0].nbytes
        across = 1 - at.axis  # of the planes (Y, X) in the file: where their slices lie
        with ExitStack() as stack:
            turned = stack.enter_context(Turned(folder, at.count, Z, row_bytes, across))
            result = stack.enter_context(Turned(folder, at.count, s * Z, s * row_bytes, across))
            for first in range(0, Z, turned.block):
                planes = np.empty((min(turned.block, Z - first), Y, X, *at.voxel), self._volume.dtype)
                voxels.fill(planes)
                turned.put(first, planes)
            for index in range(at.count):
                turned.get_slice(index, self._slice)
                self._upscale(lambda y, rows, index=index: result.put_slice(index, y, rows))  # type: ignore[misc]
            for planes in result.planes(self._volume.dtype, (s * at.width, *at.voxel)):
                write_all(out, np.ascontiguousarray(planes).data)

    def _upscale(self, write: Callable[[int, Voxels], None]) -> None:
        """Upscale the slice that is held."""
        count = self._layout.count * self._volume.shape[3]
        progress, done = self._progress, self._done
        report = self._slices.upscale(
            self._slice, write, progress and (lambda d, of: progress(done * of + d, count * of))
        )
        self.reports = [join_reports([*self.reports, report])]
        self._done += 1


class _Greys:
    """Upscales slices of quantities."""

    def __init__(self, volume: Volume, run: Run, units: UnitMap) -> None:
        self._volume, self._units = volume, units
        info = np.iinfo(units.dtype) if units.dtype.kind != "f" else None
        limits = None if info is None else (int(info.min), int(info.max))
        self._frames = FrameUpscaler.of(
            run.upscaler, Stored(units.dtype, limits, gaps=None if info is not None else _NotFinite())
        )

    def upscale(self, pixels: Voxels, write: Callable[[int, Voxels], None], progress: Progress | None) -> Report:
        """Upscale one slice (H, W); `write` takes (first row, rows) as the file stores them."""
        done = 0

        def give_on(rows: Voxels) -> None:
            nonlocal done
            write(done, np.ascontiguousarray(rows[:, :, 0], dtype=self._volume.dtype))
            done += len(rows)

        try:
            finish = self._frames.upscale(pixels[:, :, None], self._units, give_on, progress)
        except PixelValueError as error:
            raise PixelValueError(f"{self._volume.path}: {error}") from error
        return self._frames.report(finish, abs(self._volume.slope))


class _Colours:
    """Upscales slices of colours, as other images are."""

    def __init__(self, volume: Volume, run: Run) -> None:
        self._channels, self._upscaler = volume.channels, run.upscaler

    def upscale(self, pixels: Voxels, write: Callable[[int, Voxels], None], progress: Progress | None) -> Report:
        """Upscale one slice (H, W, C)."""
        self._upscaler.stream(_ColourRows(pixels), _ColourSink(write), progress=progress)
        report = self._upscaler.last_report
        assert report is not None
        return report


class _ColourRows:
    """A slice of colours as the rows that an upscaler takes."""

    dtype = np.dtype(np.uint8)

    def __init__(self, pixels: Voxels) -> None:
        self._pixels = pixels
        self.shape = pixels.shape

    def read(self, y0: int, y1: int) -> Voxels:
        return self._pixels[y0:y1]


class _ColourSink:
    """Takes an upscaler's rows of colours."""

    def __init__(self, write: Callable[[int, Voxels], None]) -> None:
        self._write = write

    def write(self, y0: int, rows: Voxels) -> None:
        self._write(y0, np.ascontiguousarray(rows))


class _NotFinite:
    """The gaps of floats: NaN, and infinity. A result is never one of them."""

    def mask(self, stored: Pixels) -> npt.NDArray[np.bool_]:
        return ~np.isfinite(stored)

    def avoid(self, stored: Pixels, limits: tuple[int, int] | None) -> Pixels:
        return stored


class _Reader:
    """The voxels of a file from the first to the last."""

    def __init__(self, volume: Volume) -> None:
        self._path = volume.path
        self._wanted = math.prod(volume.shape) * volume.dtype.itemsize * max(volume.channels, 1)
        self._read = 0
        with reading(self._path):
            if not volume.compressed:
                self._check(self._path.stat().st_size - volume.offset)
            self._file = open_stream(self._path)
            try:
                self._file.seek(volume.offset)
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def fill(self, out: Voxels) -> None:
        """Fill `out` with the next bytes. Raises ImageFileError where there are too few."""
        view = memoryview(cast(Any, out)).cast("B")
        with reading(self._path):
            while view:
                try:
                    n = self._file.readinto(view)  # type: ignore[attr-defined]
                except EOFError:  # a compressed stream without its end
                    n = 0
                if not n:
                    self._check(self._read)
                view = view[n:]
                self._read += n

    def pieces(self, dtype: np.dtype[Any]) -> Iterator[Voxels]:
        """Yield all voxels as arrays (n,)."""
        left = self._wanted // dtype.itemsize
        while left:
            piece = np.empty(min(left, _SCAN_BYTES // dtype.itemsize), dtype)
            self.fill(piece)
            yield piece
            left -= len(piece)
        self.finish()

    def finish(self) -> None:
        """Read what is behind the voxels, so that a compressed file's checksum is looked at."""
        with reading(self._path):
            while self._file.read(_SCAN_BYTES):
                pass

    def _check(self, there: int) -> None:
        if there < self._wanted:
            raise ImageFileError(
                f"{self._path} is truncated: {max(there, 0)} bytes of voxels are there, {self._wanted} are needed"
            )


def _intensity(volume: Volume, run: Run) -> Intensity | None:
    """Choose what a network sees as 0..1, once for the whole file; None for colours, which have their whole range."""
    normalize = run.options.normalize
    if volume.channels:
        if run.given or normalize != "auto":
            raise OptionError(f"{volume.path} holds colours, whose range is 0 to 255; no other can be given")
        return None

    def chunks() -> Iterator[Voxels]:
        with _Reader(volume) as voxels:
            for piece in voxels.pieces(volume.dtype):
                yield piece if piece.dtype.kind != "f" else piece[np.isfinite(piece)]

    stated = None
    if volume.dtype.itemsize == 1:  # 8 bits are the range that pictures have
        stated = from_bits(8, volume.dtype.kind == "i", volume.slope, volume.inter)
    try:
        return choose(
            *(run.upscaler.model.card, chunks),
            stated=stated,
            given=run.given,
            normalize=normalize,
            slope=volume.slope,
            inter=volume.inter,
        )
    except PixelValueError as error:
        raise PixelValueError(f"{volume.path}: {error}") from error
    except ShapeError as error:  # there is no other reason for it: a volume has a voxel or more
        raise PixelValueError(f"{volume.path} has no finite voxel; there is nothing to upscale") from error


@contextmanager
def _writer(file: BinaryIO, dst: Path) -> Iterator[BinaryIO]:
    """Write into an open file, compressed if its name says so; the same voxels give the same bytes."""
    if not dst.name.lower().endswith(".gz"):
        yield file
        return
    packed: Any = gzip.GzipFile("", "wb", _ZLIB_LEVEL, file, mtime=0)
    with packed, io.BufferedWriter(packed, _WRITE_BYTES) as buffered:
        yield cast(BinaryIO, buffered)


def _note(volume: Volume, layout: _Layout, run: Run, intensity: Intensity | None) -> str:
    model = run.upscaler.model
    note = (
        f"FastSR {__version__}: {model.name} x{layout.scale} in the plane {_letters(layout.axis)}, model sha256 "
        f"{model.sha256}; the network saw {intensity or 'colours'} as 0 to 1; research use"
    )
    if dropped := dropped_extensions(volume):
        note += f"; left out header extensions of the old grid, codes {', '.join(map(str, dropped))}"
    return note


def _letters(axis: int) -> str:
    return "".join(AXES[a] for a in range(3) if a != axis)
