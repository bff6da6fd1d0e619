"""The history of lossy compression, which a derived image inherits (PS3.3 C.7.6.1.1.5)."""

from __future__ import annotations

from pydicom import uid
from pydicom.dataset import Dataset

# Transfer syntaxes that lose something, and the name of their method. JPEG 2000 and JPEG-LS near-lossless may be
# lossless; unless the file says so, they are taken for lossy.
_METHODS = {
    uid.JPEGBaseline8Bit: "ISO_10918_1",
    uid.JPEGExtended12Bit: "ISO_10918_1",
    uid.JPEGLSNearLossless: "ISO_14495_1",
    uid.JPEG2000: "ISO_15444_1",
    uid.HTJ2K: "ISO_15444_15",
}


def keep_history(image: Dataset, header: Dataset) -> None:
    """Set Lossy Image Compression where the source was lossy and did not say so; what it says is kept."""
    method = _METHODS.get(header.file_meta.TransferSyntaxUID)
    if method is None or header.get("LossyImageCompression") not in (None, ""):
        return
    image.LossyImageCompression = "01"
    if header.get("LossyImageCompressionMethod") in (None, ""):
        image.LossyImageCompressionMethod = method
