"""A model that is ready to upscale: whole images, regions, tiles and streams, all with the same pixels."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from fastsr.alpha import BLEED, fill_transparent
from fastsr.backends import choose_backends, fastest
from fastsr.backends.base import (
    NATIVE_DTYPES,
    Backend,
    BoundedRunner,
    Box,
    DeviceRunner,
    Job,
    Pixels,
    Progress,
    Runner,
    ValueRange,
)
from fastsr.consistency import Report
from fastsr.consistency.blend import blend
from fastsr.consistency.finish import Consistency
from fastsr.errors import (
    BackendError,
    BackendUnavailableError,
    DeviceMemoryError,
    DtypeError,
    MemoryBudgetError,
    OptionError,
    ShapeError,
)
from fastsr.finishing import Finishing, Mix, checked_consistency, checked_strength, context
from fastsr.graph.model import CompiledModel
from fastsr.models.baselines import interpolation
from fastsr.pixels import SpanCheck, check_dtype, check_extent, open_image, values_of
from fastsr.version import __version__

MAX_THREADS = 256
# LR rows that are converted at once where an image is not upscaled in place; fewer where a budget asks for it.
_BAND_CHOICES = (256, 64, 16, 4)
# Bytes that converting takes for each pixel and channel of a band, and filling under transparency for each pixel.
_CONVERT_BYTES = 12
_FILL_BYTES = 160
_MIX_BYTES = 32  # that mixing takes for each sample of a row of the result
_DEVICE_ARRAYS = ("__dlpack__", "__cuda_array_interface__")
_AMPLE = 1 << 62  # a budget that is large enough for anything


class RowSource(Protocol):
    """An image that is read by rows. shape: (H, W, C), C = 1 grey, 2 grey + alpha, 3 RGB, 4 RGB + alpha."""

    @property
    def shape(self) -> tuple[int, int, int]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def read(self, y0: int, y1: int) -> Pixels:
        """Return rows y0 <= y < y1 as (y1 - y0, W, C). Called with growing y0, each row once."""
        ...


class RowSink(Protocol):
    """Where the rows of a result go."""

    def write(self, y0: int, rows: Pixels) -> Any:
        """Take rows y0.. as (n, scale * W, C), from top to bottom; `rows` is valid during the call only."""
        ...


@dataclass(frozen=True)
class Tile:
    """An independent piece of work; boxes are (left, top, right, bottom).

    lr: the LR pixels whose result this is; read: the LR pixels that it needs, lr with the network's halo;
    sr: where the result belongs in the whole result; shape: (H, W, C) of the whole LR image.
    """

    lr: Box
    read: Box
    sr: Box
    shape: tuple[int, int, int]


class Upscaler:
    """One model at one scale on one back end. Made by `fastsr.load`; safe to use from many threads.

    name, scale, backend, precision: what runs; model: its CompiledModel; isa: the native engine's ISA level, or None;
    why: what a trial of "auto" measured, or ""; skipped: back ends that "auto" did not take, with reasons;
    consistency, strength: as given to `fastsr.load`.
    """

    def __init__(
        self,
        model: CompiledModel,
        scale: int,
        *,
        backend: str = "auto",
        precision: str | None = None,
        threads: int | None = None,
        max_memory: int | None = None,
        consistency: Consistency | None = None,
        strength: float = 1.0,
    ) -> None:
        if threads is not None:
            threads = whole_number("threads", threads)
            if not 1 <= threads <= MAX_THREADS:
                raise OptionError(f"threads is {threads}; 1 to {MAX_THREADS} are possible")
        if scale not in model.scales:
            known = ", ".join(str(s) for s in model.scales)
            raise OptionError(f"{model.name} has no scale {scale!r}; it has {known}")
        candidates = choose_backends(backend, precision, bounded=max_memory is not None)
        self._threads = threads
        self._max_memory = max_memory
        self._runners: dict[int, Runner] = {}
        self._lock = threading.Lock()
        self._reports = threading.local()
        self._latest_report: Report | None = None
        self.model = model
        self.name = model.name
        self.scale = scale
        self.consistency = checked_consistency(consistency)
        self.strength = checked_strength(strength)
        self._network = model if self.strength > 0 else interpolation("bicubic", scale)
        self._channels = sorted(graph.channels for graph in self._network.graphs if graph.scale == scale)
        if not any(self._squares(channels) and channels in (1, 3) for channels in self._channels):
            raise OptionError(f"{self.name} takes {self._channels} channels; 1 or 3, as many in as out, are needed")
        self.why, refused = "", {}
        found = fastest(backend, candidates, self._network, scale, self._channels[-1], threads, precision)
        if found is not None:
            self.why, refused = found.why, dict(found.refused)
            candidates = _in_order(candidates, found.chosen, refused)
        self._backend, skipped = self._first_that_runs(candidates, precision)
        self.skipped = refused | skipped
        self.backend = self._backend.name
        self.isa = self._runner(self._channels[0]).isa
        self._bicubic: Upscaler | None = None
        if 0 < self.strength < 1:
            self._bicubic = Upscaler(interpolation("bicubic", scale), scale, backend=self.backend, threads=threads)

    def without_consistency(self) -> Upscaler:
        """Return the same upscaler without consistency, for who enforces it on pixels made of its result."""
        if self.consistency is None:
            return self
        options: dict[str, Any] = {"threads": self._threads, "max_memory": self._max_memory}
        options |= {"precision": self.precision, "strength": self.strength}
        return Upscaler(self.model, self.scale, backend=self.backend, **options)

    @property
    def last_report(self) -> Report | None:
        """What the call that this thread finished last did; see `Report`. None before the first.

        In a thread that has finished none: of the call that any thread finished last. A call that fails leaves it.
        """
        return getattr(self._reports, "latest", None) or self._latest_report

    def upscale(
        self, image: Any, *, value_range: tuple[float, float] | None = None, progress: Progress | None = None
    ) -> Any:
        """Upscale `image`; see `fastsr.upscale`.

        With a GPU back end also a PyTorch tensor, or an array of a library with DLPack or __cuda_array_interface__:
        (H, W), (H, W, 1) or (H, W, 3), any strides; the result is a PyTorch tensor on the same device.
        """
        if not isinstance(image, np.ndarray) and any(hasattr(image, name) for name in _DEVICE_ARRAYS):
            runner = self._runner(self._channels[-1])
            if isinstance(runner, DeviceRunner):
                return self._upscale_tensor(image, value_range)
        opened = open_image(image)
        pixels = opened.pixels
        H, W, C = pixels.shape
        values = values_of(pixels.dtype, value_range)
        span = SpanCheck(pixels.dtype, value_range)
        span.look(pixels)
        span.warn()
        target = self._target(H, W, C, pixels.dtype)
        whole = Job(H, W, (0, 0, W, H), (0, 0), values, _in_rows(progress, H * self.scale))
        finishing = self._finishing(whole, whole.box, C, pixels.dtype)
        step = self._within_budget(finishing, lambda budget, _: self._run_whole(pixels, target, whole, budget))
        result = finishing.array(pixels, target, step)
        self._report(finishing)
        return opened.restore(result)

    def _upscale_tensor(self, image: Any, value_range: tuple[float, float] | None) -> Any:
        if self.consistency is not None or self.strength != 1:
            raise OptionError("consistency and strength are for NumPy arrays and PIL images; this is a tensor")
        shape = tuple(image.shape)
        if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3)):
            raise ShapeError(f"the tensor has shape {shape}; (H, W), (H, W, 1) or (H, W, 3) is needed")
        check_extent(shape[0], shape[1])
        dtype = _checked_dtype(str(image.dtype).removeprefix("torch."))
        if dtype not in NATIVE_DTYPES:
            raise DtypeError(f"the tensor is {dtype}; {', '.join(d.name for d in NATIVE_DTYPES)} are possible")
        channels = self._network_channels(shape[2] if len(shape) == 3 else 1)
        runner = self._runner(channels)
        assert isinstance(runner, DeviceRunner)
        return runner.run_tensor(image, values_of(dtype, value_range), self._max_memory)

    def region(self, image: Any, box: Box, *, value_range: tuple[float, float] | None = None) -> Any:
        """Return exactly what `upscale(image)` has in scale * box, computing little else.

        box: (left, top, right, bottom) in LR pixels, inside the image. Raises OptionError for another box.
        """
        opened = open_image(image)
        H, W, C = opened.pixels.shape
        box = _checked_box(box, H, W)
        job = Job(H, W, box, (0, 0), values_of(opened.pixels.dtype, value_range))
        left, top, right, bottom = self._needs(job, C)
        job = replace(job, origin=(top, left))
        return opened.restore(self._run_box(opened.pixels[top:bottom, left:right], job))

    def tiles(self, shape: tuple[int, ...], size: int | tuple[int, int]) -> Iterator[Tile]:
        """Cut an image into independent tiles, row by row.

        shape: of the image, (H, W) or (H, W, C); size: of a tile in LR pixels, one number or (height, width).
        Tiles may be done in any order and on any machine with `upscale_tile`; together they are the whole result,
        to the bit.
        """
        H, W, C = _checked_shape(shape, (1, 3, 4))
        sides = [whole_number("the tile size", n) for n in (size if isinstance(size, (tuple, list)) else (size, size))]
        if len(sides) != 2 or min(sides) < 1:
            raise OptionError(f"the tile size is {size}; one number or (height, width), 1 or more pixels, is needed")
        return self._tiles(H, W, C, sides[0], sides[1])

    def _tiles(self, H: int, W: int, C: int, height: int, width: int) -> Iterator[Tile]:
        s = self.scale
        for top in range(0, H, height):
            for left in range(0, W, width):
                lr = left, top, min(left + width, W), min(top + height, H)
                job = Job(H, W, lr, (0, 0), ValueRange(0, 1))
                yield Tile(lr, self._needs(job, C), (s * lr[0], s * lr[1], s * lr[2], s * lr[3]), (H, W, C))

    def upscale_tile(self, pixels: Any, tile: Tile, *, value_range: tuple[float, float] | None = None) -> Any:
        """Upscale one tile. pixels: the image's pixels in `tile.read`; returns those of `tile.sr`."""
        opened = open_image(pixels)
        left, top, right, bottom = tile.read
        wanted = (bottom - top, right - left, tile.shape[2])
        if opened.pixels.shape != wanted:
            raise ShapeError(f"the tile's pixels are {opened.pixels.shape}; its read box is {wanted}")
        job = Job(tile.shape[0], tile.shape[1], tile.lr, (top, left), values_of(opened.pixels.dtype, value_range))
        return opened.restore(self._run_box(opened.pixels, job))

    def stream(
        self,
        source: RowSource,
        sink: RowSink,
        *,
        value_range: tuple[float, float] | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Upscale rows as they come: neither image need fit into memory, and the pixels are those of `upscale`.

        Working memory grows with the width, not with the height.
        """
        H, W, C = _checked_shape(source.shape, (1, 2, 3, 4))
        dtype = _checked_dtype(source.dtype)
        values = values_of(dtype, value_range)
        whole = Job(H, W, (0, 0, W, H), (0, 0), values, _in_rows(progress, H * self.scale))
        span = SpanCheck(dtype, value_range)

        def read(y0: int, y1: int) -> Pixels:
            rows = source.read(y0, y1)
            wanted = y1 - y0, W, C
            if not isinstance(rows, np.ndarray) or rows.shape != wanted or rows.dtype != dtype:
                got = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
                raise ShapeError(f"read({y0}, {y1}) returned {got}; {dtype} {wanted} is needed")
            return span.look(rows)

        self._stream(read, sink, whole, C, dtype)
        span.warn()

    # ---- how a job is split into runs of networks ----

    def _run_whole(self, pixels: Pixels, target: Pixels, whole: Job, limit: int | None) -> None:
        C = pixels.shape[2]
        if limit is None or self._in_place(C, pixels.dtype):
            self._run(pixels, target, whole, limit)
            return
        for band, budget in self._bands(whole, C, pixels.dtype, limit):
            left, top, right, bottom = self._reads(band, C)
            part = replace(band, origin=(top, left))
            rows = slice(band.box[1] * self.scale, band.box[3] * self.scale)
            self._run(pixels[top:bottom, left:right], target[rows], part, budget)

    def _run_box(self, pixels: Pixels, job: Job) -> Pixels:
        """Return the finished pixels of the job's box."""
        C, dtype = pixels.shape[2], pixels.dtype
        left, top, right, bottom = context(self.consistency, job.box, job.height, job.width)
        wide = replace(job, box=(left, top, right, bottom))
        target = self._target(bottom - top, right - left, C, dtype)
        finishing = self._finishing(wide, job.box, C, dtype)
        step = self._within_budget(finishing, lambda budget, _: self._run(pixels, target, wide, budget))
        result = finishing.array(pixels, target, step)
        self._report(finishing)
        return result

    def _stream(
        self, read: Callable[[int, int], Pixels], sink: RowSink, whole: Job, C: int, dtype: np.dtype[Any]
    ) -> None:
        finishing = self._finishing(whole, whole.box, C, dtype)
        begun = False

        def read_once(y0: int, y1: int) -> Pixels:
            nonlocal begun
            begun = True
            return read(y0, y1)

        def run(limit: int | None, step: int) -> None:
            read_and_keep, finish_and_write = finishing.stream(read_once, sink.write, step)
            self._stream_network(read_and_keep, finish_and_write, whole, C, dtype, limit)

        self._within_budget(finishing, run, self._reach(C), lambda: begun)
        self._report(finishing)

    def _stream_network(
        self,
        read: Callable[[int, int], Pixels],
        write: Callable[[int, Pixels], Any],
        whole: Job,
        C: int,
        dtype: np.dtype[Any],
        limit: int | None,
    ) -> None:
        if self._in_place(C, dtype) and self._runner(C).stream(read, write, dtype, whole, limit):
            return
        window = _Window(read, whole.width, C, dtype)
        for band, budget in self._bands(whole, C, dtype, limit):
            left, top, right, bottom = self._reads(band, C)
            target = self._target(band.box[3] - band.box[1], whole.width, C, dtype)
            pixels = window.rows(top, bottom)[:, left:right]
            self._run(pixels, target, replace(band, origin=(top, left)), budget)
            write(band.box[1] * self.scale, target)

    def _within_budget(
        self,
        finishing: Finishing,
        run: Callable[[int | None, int], None],
        halo: int | None = None,
        begun: Callable[[], bool] = lambda: False,
    ) -> int:
        """Call run(the network's share of max_memory, step) with the largest step that fits; return the step.

        halo: of the network, for a stream. begun: whether it is too late for another try.
        """
        limit = self._max_memory
        if limit is None:
            run(None, finishing.steps[0])
            return finishing.steps[0]
        least = _AMPLE
        for step in finishing.steps:
            own = finishing.memory(step, halo)
            try:
                run(max(limit - own, 1), step)
                return step
            except MemoryBudgetError as error:
                if begun():
                    raise
                least = min(least, error.least + own)
        raise MemoryBudgetError(f"max_memory is {limit} bytes; this call needs at least {least} bytes", least)

    def _finishing(self, job: Job, crop: Box, channels: int, dtype: np.dtype[Any]) -> Finishing:
        mix = None
        if self._bicubic is not None:
            plain, reach = self._bicubic, self._bicubic._reach(channels)

            def memory(step: int) -> int:
                return plain._mix_memory(job, step, channels, dtype)

            mix = Mix(self._mix, reach, memory)
        return Finishing(self.consistency, self.scale, job, crop, channels, dtype, mix)

    def _mix(self, pixels: Pixels, sr: Pixels, job: Job) -> None:
        """Mix bicubic interpolation into sr, the network's result for the job's box."""
        assert self._bicubic is not None
        left, top, right, bottom = self._bicubic._reads(job, pixels.shape[2])
        y, x = job.origin
        bicubic = self._target(job.box[3] - job.box[1], job.box[2] - job.box[0], pixels.shape[2], pixels.dtype)
        part = pixels[top - y : bottom - y, left - x : right - x]
        budget = None if self._max_memory is None else _AMPLE
        self._bicubic._run(part, bicubic, replace(job, origin=(top, left), progress=None), budget)
        blend(sr, bicubic, self.strength)

    def _mix_memory(self, job: Job, step: int, channels: int, dtype: np.dtype[Any]) -> int:
        """Return the bytes that `step` LR rows of this upscaler's result take, and mixing them into another's."""
        runner = self._runner(self._network_channels(channels - 1 if channels in (2, 4) else channels))
        if not isinstance(runner, BoundedRunner):
            return 0  # the network will refuse the budget
        row = self.scale**2 * job.width * channels
        needs = [
            self._band_needs(runner, band, step, channels, dtype, _AMPLE)[0]
            for band in self._unlike_bands(job, step, channels)
        ]
        return max(needs) + step * row * dtype.itemsize + _MIX_BYTES * row

    def _reach(self, channels: int) -> int:
        """Return how many LR rows around a row of LR pixels its result depends on."""
        far = 1 << 20
        row = Job(2 * far, 1, (0, far, 1, far + 1), (0, 0), ValueRange(0, 1))
        return far - self._reads(row, channels)[1]

    def _needs(self, job: Job, channels: int) -> Box:
        """Return the LR pixels that the finished result of the job's box depends on."""
        wide = replace(job, box=context(self.consistency, job.box, job.height, job.width))
        boxes = [self._reads(wide, channels)]
        if self._bicubic is not None:
            boxes.append(self._bicubic._reads(wide, channels))
        left, top, right, bottom = zip(*boxes, strict=True)
        return min(left), min(top), max(right), max(bottom)

    def _report(self, finishing: Finishing) -> None:
        before, after, bicubic_before, bicubic_after = finishing.residuals()
        report = Report(
            model=self.name,
            version=__version__,
            sha256=self.model.sha256,
            scale=self.scale,
            precision=self.precision if self.strength > 0 else self._backend.precisions[0],
            backend=self.backend,
            consistency=self.consistency,
            strength=self.strength,
            block_mean_before=before,
            block_mean_after=after,
            bicubic_before=bicubic_before,
            bicubic_after=bicubic_after,
        )
        self._reports.latest = self._latest_report = report

    def release(self) -> None:
        """Give back the working memory that is kept for the next call."""
        for runner in list(self._runners.values()):
            if isinstance(runner, BoundedRunner):
                runner.release()

    def _runner(self, channels: int) -> Runner:
        with self._lock:
            if channels not in self._runners:
                precision = self.precision if self.strength > 0 else self._backend.precisions[0]
                arguments = self._network, self.scale, channels, self._threads, precision
                self._runners[channels] = self._backend.runner(*arguments)
            return self._runners[channels]

    def _first_that_runs(self, candidates: list[Backend], precision: str | None) -> tuple[Backend, dict[str, str]]:
        """Return the first back end that takes the network, and why those before it did not."""
        skipped: dict[str, str] = {}
        for backend in candidates:
            self._backend = backend
            self.precision = precision or backend.precisions[0]
            try:
                self._runner(self._channels[0])
            except (BackendError, BackendUnavailableError) as error:
                if backend is candidates[-1]:
                    raise
                skipped[backend.name] = str(error)
                continue
            return backend, skipped
        raise BackendUnavailableError("no back end can run here")

    def _squares(self, channels: int) -> bool:
        return self._network.graph(self.scale, channels).out_channels == channels

    def _network_channels(self, channels: int) -> int:
        """Return the channels of the network that upscales grey (1) or RGB (3) pixels."""
        if channels in self._channels and self._squares(channels):
            return channels
        if 1 in self._channels and self._squares(1):
            return 1  # each colour on its own
        raise OptionError(f"{self.name} upscales RGB images only; convert the grey image to RGB")

    def _in_place(self, channels: int, dtype: np.dtype[Any]) -> bool:
        """Say whether the network reads and writes the caller's pixels as they are."""
        return channels in (1, 3) and self._network_channels(channels) == channels and dtype in NATIVE_DTYPES

    def _reads(self, job: Job, channels: int) -> Box:
        colours = channels - 1 if channels in (2, 4) else channels
        left, top, right, bottom = self._runner(self._network_channels(colours)).reads(job.height, job.width, job.box)
        if colours != channels:
            left, top = max(left - BLEED, 0), max(top - BLEED, 0)
            right, bottom = min(right + BLEED, job.width), min(bottom + BLEED, job.height)
        return left, top, right, bottom

    def _run(self, pixels: Pixels, target: Pixels, job: Job, budget: int | None) -> None:
        try:
            self._run_unguarded(pixels, target, job, budget)
        except MemoryError as error:
            if isinstance(error, (MemoryBudgetError, DeviceMemoryError)):
                raise
            raise BackendError(
                "the system has not enough memory; max_memory, .region() or .stream() take less"
            ) from error

    def _run_unguarded(self, pixels: Pixels, target: Pixels, job: Job, budget: int | None) -> None:
        C = pixels.shape[2]
        if C in (2, 4):
            colour = fill_transparent(pixels[:, :, :-1], pixels[:, :, -1])
            first = replace(job, progress=_part(job.progress, 0, C - 1, C))
            self._run(colour, target[:, :, :-1], first, budget)
            if budget is not None:
                self.release()  # the budget is for one network at a time
            alpha = replace(job, values=values_of(pixels.dtype, None), progress=_part(job.progress, C - 1, C, C))
            self._run(pixels[:, :, -1:], target[:, :, -1:], alpha, budget)
            if budget is not None:
                self.release()
        elif pixels.dtype not in NATIVE_DTYPES:
            with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which the engine refuses
                converted = pixels.astype(np.float32 if pixels.dtype.kind == "f" else pixels.dtype.newbyteorder("="))
            result = np.empty(target.shape, converted.dtype)
            self._run(converted, result, job, budget)
            with np.errstate(over="ignore"):
                target[...] = result
        elif self._network_channels(C) != C:
            for c in range(C):
                plane = replace(job, progress=_part(job.progress, c, c + 1, C))
                self._run(pixels[:, :, c : c + 1], target[:, :, c : c + 1], plane, budget)
        else:
            self._runner(C).run(pixels, target, job, budget)

    def _bands(
        self, whole: Job, channels: int, dtype: np.dtype[Any], limit: int | None
    ) -> Iterator[tuple[Job, int | None]]:
        """Cut a job into bands of rows whose conversions fit the limit; yield each with the engine's share."""
        rows, budget = _BAND_CHOICES[0], None
        if limit is not None:
            rows, budget = self._band_within(whole, channels, dtype, limit)
        count = -(-whole.height // rows)
        for i in range(count):
            box = 0, i * rows, whole.width, min((i + 1) * rows, whole.height)
            yield replace(whole, box=box, progress=_part(whole.progress, box[1], box[3], whole.height)), budget

    def _band_within(self, whole: Job, channels: int, dtype: np.dtype[Any], limit: int) -> tuple[int, int]:
        """Return (rows of a band, the engine's share of `limit`): the tallest bands that fit."""
        runner = self._runner(self._network_channels(channels - 1 if channels in (2, 4) else channels))
        if not isinstance(runner, BoundedRunner):
            raise OptionError(f"max_memory is kept by backend='native' only, not by {self.backend!r}")
        least = None
        for rows in _BAND_CHOICES:
            needs = [
                self._band_needs(runner, band, rows, channels, dtype, limit)
                for band in self._unlike_bands(whole, rows, channels)
            ]
            if all(need <= limit for need, _ in needs):
                return rows, limit - max(extra for _, extra in needs)
            need = max(need for need, _ in needs)
            least = need if least is None else min(least, need)
        raise MemoryBudgetError(f"max_memory is {limit} bytes; this call needs at least {least} bytes", least or 0)

    def _unlike_bands(self, whole: Job, rows: int, channels: int) -> Iterator[Job]:
        """Yield the bands that reach the image's border, and one of those between, which are all alike."""
        between = False
        for top in range(0, whole.height, rows):
            band = replace(whole, box=(0, top, whole.width, min(top + rows, whole.height)))
            _, first, _, last = self._reads(band, channels)
            inside = first > 0 and last < whole.height
            if not (inside and between):
                yield band
            between |= inside

    def _band_needs(
        self, runner: BoundedRunner, band: Job, rows: int, channels: int, dtype: np.dtype[Any], limit: int
    ) -> tuple[int, int]:
        """Return the bytes that a band needs in all (the least, where that is above `limit`), and for conversion."""
        _, first, _, last = self._reads(band, channels)
        pixels_in, pixels_out = (last - first) * band.width, rows * band.width * self.scale**2
        extra = (pixels_in + pixels_out) * channels * (_CONVERT_BYTES + dtype.itemsize)
        if channels in (2, 4):
            extra += pixels_in * _FILL_BYTES
        try:
            return extra + runner.memory(band.height, band.width, band.box, max(limit - extra, 1)), extra
        except MemoryBudgetError as error:
            return extra + error.least, extra

    def _target(self, height: int, width: int, channels: int, dtype: np.dtype[Any]) -> Pixels:
        shape = height * self.scale, width * self.scale, channels
        try:
            return np.empty(shape, dtype)
        except (MemoryError, ValueError) as error:
            size = shape[0] * shape[1] * channels * dtype.itemsize
            hint = "use .stream() or .region(), which need no whole result"
            raise BackendError(f"the result {shape} takes {size} bytes, which there are not: {hint}") from error


class _Window:
    """Rows of a source, each read once, kept while a later band may read them again."""

    def __init__(self, read: Callable[[int, int], Pixels], width: int, channels: int, dtype: np.dtype[Any]) -> None:
        self._read = read
        self._top = 0
        self._rows: Pixels = np.empty((0, width, channels), dtype)

    def rows(self, top: int, bottom: int) -> Pixels:
        kept = self._rows[top - self._top :]
        have = top + len(kept)
        parts = [kept] if have >= bottom else [kept, self._read(have, bottom)]
        self._rows, self._top = np.concatenate(parts, dtype=kept.dtype), top  # in the source's byte order
        return self._rows[: bottom - top]


def _part(progress: Progress | None, begin: int, end: int, whole: int) -> Progress | None:
    """Report the progress of one part, from `begin` to `end` of `whole`, as progress of the whole."""
    if progress is None:
        return None
    return lambda done, total: progress(begin * total + (end - begin) * done, whole * total)


def _in_rows(progress: Progress | None, rows: int) -> Progress | None:
    """Report progress in any unit as rows of the result."""
    if progress is None:
        return None
    return lambda done, total: progress(rows * done // total, rows)


def whole_number(name: str, value: Any) -> int:
    """Return an option's value as an int. Raises OptionError unless it is a whole number (NumPy's count)."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise OptionError(f"{name} is {value!r}; a whole number is needed") from None


def _checked_box(box: Any, height: int, width: int) -> Box:
    sides = list(box) if isinstance(box, (tuple, list, np.ndarray)) else []
    if len(sides) != 4:
        raise OptionError(f"the box is {str(box)[:80]}; (left, top, right, bottom) in LR pixels is needed")
    left, top, right, bottom = (whole_number("a side of the box", side) for side in sides)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise OptionError(
            f"the box ({left}, {top}, {right}, {bottom}) is empty or not inside the image of {width} x {height} pixels"
        )
    return left, top, right, bottom


def _checked_shape(shape: Any, channels: tuple[int, ...]) -> tuple[int, int, int]:
    try:
        sides = [operator.index(side) for side in shape]
    except TypeError:
        sides = []
    if len(sides) not in (2, 3) or (len(sides) == 3 and sides[2] not in channels):
        raise ShapeError(f"the shape is {str(shape)[:80]}; (H, W) or (H, W, C) with C one of {channels} is needed")
    check_extent(sides[0], sides[1])
    return sides[0], sides[1], sides[2] if len(sides) == 3 else 1


def _in_order(candidates: list[Backend], chosen: str | None, refused: dict[str, str]) -> list[Backend]:
    """Return the chosen back end, and the CPU's behind it in case it fails later. Raises BackendUnavailableError."""
    if chosen is None:
        raise BackendUnavailableError("no back end works here" + "".join(f"; {n} {why}" for n, why in refused.items()))
    return sorted((b for b in candidates if b.name == chosen or not b.gpu), key=lambda b: b.name != chosen)


def _checked_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        known: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        raise DtypeError(f"the pixel type is {str(dtype)[:80]}; a NumPy type is needed") from None
    check_dtype(known)
    return known
