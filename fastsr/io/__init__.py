"""Image files in and out: PNG, TIFF, NPY, JPEG, WebP and BMP, whole or row by row. Decoders load on first use."""

from fastsr.io.atomic import atomic_output
from fastsr.io.files import upscale_file
from fastsr.io.formats import FORMATS, Format, open_image, open_sink, open_source, read_image, write_image
from fastsr.io.image import MAX_PIXELS, ImageFile, ImageInfo, Reader, Sink, Source

__all__ = [
    "FORMATS", "MAX_PIXELS", "Format", "ImageFile", "ImageInfo", "Reader", "Sink", "Source",
    "atomic_output", "open_image", "open_sink", "open_source", "read_image", "upscale_file", "write_image",
]  # fmt: skip
