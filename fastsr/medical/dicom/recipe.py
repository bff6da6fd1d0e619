"""How a derived object is made, and the UIDs that follow from it.

UIDs are computed, not drawn: 2.25 and the number of a UUID (PS3.5 B.2) that is a hash of the source's UID and of all
that the result depends on. The same source, model and settings give the same object with the same UIDs, byte by byte,
so a run can be repeated or resumed; anything else gives another series.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID

from fastsr.medical.intensity import Intensity
from fastsr.version import __version__

# Of this program, in the file meta information: a UUID of its own.
IMPLEMENTATION_CLASS_UID = UID("2.25.190918311182436687852413498227644781713")
_SERIES_STEP = 1000
_MOST_NUMBER = (1 << 31) - 1


@dataclass(frozen=True)
class Recipe:
    """What, beside the source, makes a derived object what it is.

    intensity: the range that the network sees as 0..1, in the source's units, or None: all that Bits Stored can say.
    """

    model: str
    sha256: str
    scale: int
    backend: str
    precision: str
    consistency: str | None
    strength: float
    intensity: Intensity | None
    keep_private: bool

    @classmethod
    def of(cls, upscaler: Any, intensity: Intensity | None = None, *, keep_private: bool = False) -> Recipe:
        """Describe what `upscaler`, an Upscaler, will do."""
        return cls(
            upscaler.name,
            upscaler.model.sha256,
            upscaler.scale,
            upscaler.backend,
            str(getattr(upscaler, "precision", "fp32")),
            upscaler.consistency,
            upscaler.strength,
            intensity,
            keep_private,
        )

    @property
    def description(self) -> str:
        """For Derivation Description: ASCII, some 200 characters."""
        seen = "the whole range of Bits Stored" if self.intensity is None else str(self.intensity)
        finish = "" if self.strength == 1 else f", strength {self.strength:g}"
        finish += "" if self.consistency is None else f", consistency {self.consistency}"
        return (
            f"Super-resolution x{self.scale} by FastSR {__version__}: model {self.model}, "
            f"weights SHA-256 {self.sha256}, {self.precision}, back end {self.backend}{finish}; "
            f"range seen by the network: {seen}. Research use."
        )

    def uid(self, kind: str, source: str) -> UID:
        """Return the UID that follows from the source's UID; kind: "series", "instance", ..."""
        digest = bytearray(self._digest(kind, source)[:16])
        digest[6] = (digest[6] & 0x0F) | 0x80  # RFC 9562: version 8, of one's own making
        digest[8] = (digest[8] & 0x3F) | 0x80
        return UID(f"2.25.{uuid.UUID(bytes=bytes(digest)).int}")

    def series_number(self, source: int | None) -> int:
        """Return a number that sorts behind the source's and differs between recipes: 3 gives 3001 to 3999."""
        mark = 1 + int.from_bytes(self._digest("number", "")[:4], "big") % (_SERIES_STEP - 1)
        number = (source or 0) * _SERIES_STEP + mark
        return number if 0 <= number <= _MOST_NUMBER else mark

    def _digest(self, kind: str, source: str) -> bytes:
        seen = (self.intensity.low, self.intensity.high) if self.intensity else None
        facts = (
            *("fastsr", __version__, kind, source, self.model, self.sha256, self.scale),
            *(self.backend, self.precision, self.consistency, self.strength, seen, self.keep_private),
        )
        return hashlib.sha256("\0".join(map(repr, facts)).encode()).digest()
