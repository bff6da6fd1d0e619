"""FastSR: fast, exact, small-memory super-resolution.

import fastsr
big = fastsr.upscale(image)            # NumPy or PIL in, the same kind out, 4 times larger
sr = fastsr.load("fmen", max_memory="64MB")
part = sr.region(image, (10, 20, 50, 60))
"""

from fastsr import medical, metrics
from fastsr.api import compile, doctor, export, load, quantize, upscale, upscale_file
from fastsr.backends import backends
from fastsr.consistency import Report, Residual, join_reports, prior_map
from fastsr.errors import (
    BackendError,
    BackendUnavailableError,
    DeviceMemoryError,
    DtypeError,
    EngineCacheWarning,
    FastSRError,
    ForcedWarning,
    GraphError,
    ImageFileError,
    MemoryBudgetError,
    MissingExtraError,
    ModelFileError,
    ModelIntegrityError,
    ModelVersionError,
    NonFiniteWarning,
    OptionError,
    OutputError,
    PixelValueError,
    ShapeError,
    TrainedRangeError,
    TrainedRangeWarning,
    UnsupportedOperationError,
    ValueRangeWarning,
)
from fastsr.graph.model import CompiledModel
from fastsr.models import ModelInfo, models
from fastsr.upscaler import Tile, Upscaler
from fastsr.version import __version__

__all__ = [
    "BackendError",
    "BackendUnavailableError",
    "CompiledModel",
    "DeviceMemoryError",
    "DtypeError",
    "EngineCacheWarning",
    "FastSRError",
    "ForcedWarning",
    "GraphError",
    "ImageFileError",
    "MemoryBudgetError",
    "MissingExtraError",
    "ModelFileError",
    "ModelInfo",
    "ModelIntegrityError",
    "ModelVersionError",
    "NonFiniteWarning",
    "OptionError",
    "OutputError",
    "PixelValueError",
    "Report",
    "Residual",
    "ShapeError",
    "Tile",
    "TrainedRangeError",
    "TrainedRangeWarning",
    "UnsupportedOperationError",
    "Upscaler",
    "ValueRangeWarning",
    "__version__",
    "backends",
    "compile",
    "doctor",
    "export",
    "join_reports",
    "load",
    "medical",
    "metrics",
    "models",
    "prior_map",
    "quantize",
    "upscale",
    "upscale_file",
]
