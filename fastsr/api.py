"""What `import fastsr` offers."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsr.backends.base import Progress
from fastsr.consistency.finish import Consistency
from fastsr.errors import OptionError
from fastsr.graph.model import CompiledModel
from fastsr.medical import Options as MedicalOptions
from fastsr.models import open_model, preferred_scale
from fastsr.upscaler import Upscaler, whole_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_MOST_MEMORY = 1 << 62
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)


def upscale(
    image: Any,
    model: Any = "fmen",
    *,
    scale: int = 4,
    backend: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    value_range: tuple[float, float] | None = None,
    consistency: Consistency | None = None,
    strength: float = 1.0,
    progress: Progress | None = None,
) -> Any:
    """Upscale `image` by `scale`; return an image of the same kind and pixel type.

    image: NumPy array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8, uint16, int16, float16, float32 or
    float64, any strides and byte order; or a PIL image. The 4th channel is alpha. Grey stays grey.
    model: a name from `fastsr.models()`, the path of a `.fsr` file, or a CompiledModel.
    backend: "auto" or a name from `fastsr.backends()`. threads: of the CPU; by default all.
    precision: "fp32", by default; "int8" computes in integers, 1.7 times as fast, some 0.01 dB worse on photos;
    "bf16" is for processors with AMX; GPUs have others (docs/gpu.md).
    max_memory: bound on working memory beside image and result, in bytes or as "64MB"; changes speed, not a pixel.
    value_range: the pixel values (low, high) that mean black and white. By default the whole range of integers,
    and 0..1 of floats; it is never guessed from the pixels. Integer results are clamped to it, floats are not.
    consistency: "block-mean" makes the mean of every scale x scale block its LR pixel, exactly for integers;
    "back-projection" makes the result's bicubic downscaling the LR image, nearly; see docs/consistency.md.
    strength: how much of the network's result there is beside bicubic interpolation: 1 is all, 0 nothing.
    progress: called with (rows done, rows in all).
    "auto" takes the fastest back end that is right here, as a trial found where there is a GPU (docs/gpu.md); the bits
    of a result are promised for "native". GPUs have precisions of their own, "tf32" and "fp16" among them; an fp16
    result that is not finite is computed again in fp32, with a NonFiniteWarning.
    Raises ShapeError, DtypeError, PixelValueError (NaN or infinity), OptionError, BackendUnavailableError,
    MemoryBudgetError and DeviceMemoryError (which state the least that would do).
    """
    memory = parse_size(max_memory)
    upscaler = _cached(model, scale, backend, precision, threads, memory, consistency, strength, *_environment())
    return upscaler.upscale(image, value_range=value_range, progress=progress)


def load(
    model: Any = "fmen",
    *,
    scale: int | None = None,
    backend: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    consistency: Consistency | None = None,
    strength: float = 1.0,
) -> Upscaler:
    """Return a reusable Upscaler: see `upscale` for the arguments and errors.

    scale: by default 4, or the largest that the model has. What a call did is in the Upscaler's `last_report`.
    """
    if scale is not None:
        scale = whole_number("scale", scale)
    opened = open_model(model, scale)
    if scale is None:
        scale = preferred_scale(opened.scales)
    return Upscaler(
        opened,
        scale,
        backend=backend,
        precision=precision,
        threads=threads,
        max_memory=parse_size(max_memory),
        consistency=consistency,
        strength=strength,
    )


def upscale_file(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str] | None = None,
    *,
    model: Any = "fmen",
    scale: int = 4,
    backend: str = "auto",
    precision: str | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    format: str | None = None,
    overwrite: bool = False,
    value_range: tuple[float, float] | None = None,
    medical: MedicalOptions | None = None,
    consistency: Consistency | None = None,
    strength: float = 1.0,
    prior_map: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Upscale the image file `src` into `dst`, by rows where the formats allow it; return the path written.

    dst: a file, a folder, or None for name_x4.png beside `src`. ICC profile, EXIF and resolution are carried over.
    Medical files (docs/medical.md) keep geometry and units; medical: how they are understood, `fastsr.medical.Options`.
    prior_map: a .npy or .tif file for what `prior_map` says of the result, or a .png for a picture of it: 128 is 0,
    1 and 255 are -1/8 and +1/8 of the value range. Not for medical files.
    Outputs appear complete or not at all. Raises ImageFileError, OutputError and what `upscale` raises; for medical
    files also MissingExtraError, TrainedRangeError.
    """
    from fastsr.io.files import upscale_file as run
    from fastsr.io.kinds import kind_of
    from fastsr.medical import kinds

    upscaler = load(
        model,
        scale=scale,
        backend=backend,
        precision=precision,
        threads=threads,
        max_memory=max_memory,
        consistency=consistency,
        strength=strength,
    )
    options: dict[str, Any] = {"format": format, "overwrite": overwrite, "value_range": value_range}
    medical_kinds = kinds(upscaler, medical, value_range)
    if medical not in (None, MedicalOptions()) and kind_of(Path(src), medical_kinds) is None:
        raise OptionError(f"{src} is no medical file, and {medical} is for those")
    return run(src, dst, upscaler, prior_map=prior_map, progress=progress, kinds=medical_kinds, **options)


def compile(source: Any, *, name: str | None = None, card: Mapping[str, Any] | None = None) -> CompiledModel:
    """Compile a network for every back end; `.save(path)` writes a `.fsr` file.

    source: the path of an ONNX file (opset 11 to 21) or of a `.fsr` file, or an FMEN, VDSR or SRGAN module.
    Raises UnsupportedOperationError (naming operation and node), GraphError, ModelFileError, OptionError.
    """
    from fastsr.graph.compiler import compile_model

    return compile_model(source, name=name, card=card)


def quantize(
    model: Any,
    data: str | os.PathLike[str],
    *,
    scale: int | None = None,
    images: int | None = None,
    window: tuple[float, float] | None = None,
    progress: Progress | None = None,
) -> CompiledModel:
    """Prepare a model for `precision="int8"` on a folder of HR images; `.save(path)` writes it.

    model: as for `upscale`. scale: by default all that the model's file has. images: how many of the folder are looked
    at, by default 32. window: percentiles of each image that mean 0 and 1, such as (0.5, 99.5) for scans.
    The card says under "int8" what was found, `loss_db` among it: the luma PSNR that integers lose on these images.
    Raises OptionError for a folder without images, ImageFileError, ShapeError for too small ones.
    """
    from fastsr.quantization import IMAGES
    from fastsr.quantization import quantize as prepare

    return prepare(
        model, Path(data), scale=scale, images=IMAGES if images is None else images, window=window, progress=progress
    )


def doctor() -> dict[str, Any]:
    """Return what runs here: ISA levels, threads, back ends with reasons, and the result of a self-test."""
    from fastsr.diagnostics import examine

    return examine()


def export(
    model: Any,
    path: str | os.PathLike[str],
    *,
    to: str = "onnx",
    scale: int | None = None,
    channels: int | None = None,
    precision: str | None = None,
    io: str = "fp32",
    images: Sequence[str | os.PathLike[str]] = (),
    compute_capabilities: Sequence[str] = (),
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Write a network for others to run; return the path written.

    model: as for `fastsr.load`. to: "onnx", opset 17, any height and width; or "tensorrt", an engine for the GPU that
    is there, or for named compute_capabilities such as "8.6" with TensorRT-RTX, which needs no GPU to build.
    scale: by default 4, or the largest. channels: 3 or 1; by default 3 where the model has it.
    precision: "fp32" (default), "fp16" (weights and values), or "int8" (explicit QuantizeLinear and DequantizeLinear,
    int8 weights). io: type of input and output in fp16 files, "fp32" or "fp16". Both are (N, C, H, W), 0..1.
    images: files or folders that calibrate int8; not needed for models that `quantize` prepared.
    progress: called with (steps done, steps in all) while an engine is built.
    The file appears only after the ONNX checker accepted it and ONNX Runtime's output agreed with FastSR's on several
    small images, as closely as fastsr/backends/precision.py says.
    Raises OptionError, OutputError, GraphError, BackendUnavailableError, BackendError (the outputs differ).
    """
    from fastsr.exporting import export as run

    return run(
        model,
        path,
        to=to,
        scale=scale,
        channels=channels,
        precision=precision,
        io=io,
        images=images,
        compute_capabilities=compute_capabilities,
        overwrite=overwrite,
        progress=progress,
    )


def parse_size(size: int | str | None) -> int | None:
    """Return bytes: 64000000, "64MB" (10^6), "64MiB" (2^20), None. Raises OptionError."""
    if size is None:
        return None
    if isinstance(size, str) and (match := _SIZE.fullmatch(size)):
        number, unit, binary = match.groups()
        power = " kmgt".index(unit.lower() or " ")
        value = int(min(float(number) * (1024 if binary else 1000) ** power, _MOST_MEMORY))
    elif isinstance(size, int) and not isinstance(size, bool):
        value = min(size, _MOST_MEMORY)
    else:
        raise OptionError(f"max_memory is {size!r}; a number of bytes, or such as '64MB' or '1.5GiB', is needed")
    if value < 1:
        raise OptionError(f"max_memory is {size!r}; more than 0 bytes are needed")
    return value


def _environment() -> tuple[str | None, ...]:
    return tuple(os.environ.get(f"FASTSR_{name}") for name in ("ISA", "BACKEND", "TRIAL"))


@lru_cache(maxsize=4)
def _cached_load(
    model: Any,
    scale: int,
    backend: str,
    precision: str | None,
    threads: int | None,
    max_memory: int | None,
    consistency: Consistency | None,
    strength: float,
    *environment: str | None,
) -> Upscaler:
    return load(
        model,
        scale=scale,
        backend=backend,
        precision=precision,
        threads=threads,
        max_memory=max_memory,
        consistency=consistency,
        strength=strength,
    )


def _cached(
    model: Any,
    scale: int,
    backend: str,
    precision: str | None,
    threads: int | None,
    max_memory: int | None,
    consistency: Any,
    strength: Any,
    *environment: str | None,
) -> Upscaler:
    by_name = isinstance(model, str) and os.sep not in model and not model.endswith(".fsr")
    plain = type(scale) is int and type(threads) in (int, type(None)) and type(strength) in (int, float)
    plain = plain and isinstance(backend, str) and isinstance(precision, (str, type(None)))
    plain = plain and isinstance(consistency, (str, type(None)))
    found = _cached_load if by_name and plain else _cached_load.__wrapped__
    return found(model, scale, backend, precision, threads, max_memory, consistency, strength, *environment)
