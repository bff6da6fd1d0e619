"""The typed errors of FastSR. Every error that the library raises on purpose is a FastSRError. And the warnings.

Each message names the value, the limit, and what would have worked.
"""

from __future__ import annotations


class FastSRError(Exception):
    """Base of every error that FastSR raises on purpose."""


class OptionError(FastSRError, ValueError):
    """An option has a value that does not exist: a model, a back end, a scale, a range, a box."""


class ShapeError(FastSRError, ValueError):
    """An image has a shape that cannot be upscaled: empty, wrong number of axes or channels, too large."""


class DtypeError(FastSRError, TypeError):
    """An image has a pixel type that is not supported: bool, object, complex, 32-bit integers."""


class PixelValueError(FastSRError, ValueError):
    """An image holds NaN or infinity, so no result would mean anything."""


class MemoryBudgetError(FastSRError, MemoryError):
    """`max_memory` is below the least that would do.

    least: bytes of working memory that the call needs at least.
    """

    def __init__(self, message: str, least: int) -> None:
        super().__init__(message)
        self.least = least


class ImageFileError(FastSRError, OSError):
    """An image file cannot be read: missing, truncated, unknown format, or larger than is sane to open."""


class OutputError(FastSRError, OSError):
    """A result cannot be written: it exists, equals the input, no permission, no space, format cannot hold it."""


class EngineCacheWarning(UserWarning):
    """A built engine cannot be kept: its folder is read-only or the disk is full. It is used, and built again later."""


class ModelFileError(FastSRError, ValueError):
    """A `.fsr` file is not one, or its contents contradict each other."""


class ModelIntegrityError(ModelFileError):
    """A `.fsr` file is truncated or damaged: its size or hash is not what it says."""


class ModelVersionError(ModelFileError):
    """A `.fsr` file was written in a format newer than this version of FastSR reads."""


class ForcedWarning(UserWarning):
    """A medical object that is no picture, such as a dose or a mask, is upscaled because `force` said so."""


class GraphError(FastSRError, ValueError):
    """A network's graph is not valid: shapes, names or scales contradict each other."""


class UnsupportedOperationError(GraphError):
    """A network uses an operation that FastSR's graph does not know; the message names it and its node."""


class BackendUnavailableError(FastSRError, RuntimeError):
    """A back end that was asked for by name cannot run here; the message says why and what to install."""


class BackendError(FastSRError, RuntimeError):
    """A back end failed while running."""


class DeviceMemoryError(BackendError, MemoryError):
    """The memory of a GPU is too small, even for the smallest part of the image.

    least: bytes of device memory that would do; 0 where nobody knows.
    """

    def __init__(self, message: str, least: int = 0) -> None:
        super().__init__(message)
        self.least = least


class MissingExtraError(FastSRError, ImportError):
    """A file needs a package that an extra of FastSR brings and that is not installed; the message says which."""


class TrainedRangeError(FastSRError, ValueError):
    """A medical image is outside of what the model was trained on, and `strict` was asked for."""


class TrainedRangeWarning(UserWarning):
    """A medical image is outside of what the model was trained on: its modality, spacing or intensities."""


class TrainingError(FastSRError, RuntimeError):
    """A training run cannot go on: its loss is no number, or the device's memory is too small."""


class ValueRangeWarning(UserWarning):
    """16-bit pixels use so little of their range that a network sees a nearly black image; value_range would help."""


class NonFiniteWarning(RuntimeWarning):
    """A result in fp16 held NaN or infinity; it was computed again in fp32."""
