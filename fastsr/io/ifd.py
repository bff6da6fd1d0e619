"""Image file directories: the tagged tables that TIFF files and EXIF blocks share (TIFF 6.0, section 2)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Union

ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 2, 3, 4, 5, 7, 16
# type -> (bytes a value, bytes that are swapped together)
_TYPES = {
    1: (1, 1), ASCII: (1, 1), SHORT: (2, 2), LONG: (4, 4), RATIONAL: (8, 4), 6: (1, 1), UNDEFINED: (1, 1),
    8: (2, 2), 9: (4, 4), 10: (8, 4), 11: (4, 4), 12: (8, 8), 13: (4, 4), LONG8: (8, 8), 17: (8, 8), 18: (8, 8),
}  # fmt: skip

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 274, 282, 283, 296
EXIF_IFD, GPS_IFD, INTEROP_IFD = 0x8769, 0x8825, 0xA005
PIXEL_X, PIXEL_Y, FOCAL_X, FOCAL_Y = 0xA002, 0xA003, 0xA20E, 0xA20F
_SUB_IFDS = (EXIF_IFD, GPS_IFD, INTEROP_IFD)
# What a page of TIFF says about the picture and not about how it is stored.
ABOUT_PICTURE = (271, 272, ORIENTATION, 305, 306, 315, 33432, EXIF_IFD, GPS_IFD)
_MAX_ENTRIES = 4096
_MAX_VALUE = 2**24  # bytes of one value


@dataclass(frozen=True)
class Entry:
    """One value of a directory: its TIFF type, and its bytes in little-endian order."""

    type: int
    data: bytes

    @property
    def count(self) -> int:
        """How many values of the type there are."""
        return len(self.data) // _TYPES[self.type][0]


Ifd = dict[int, Union[Entry, "Ifd"]]


def short(*values: int) -> Entry:
    """Make 16-bit values."""
    return Entry(SHORT, struct.pack(f"<{len(values)}H", *values))


def long(values: Sequence[int], big: bool = False) -> Entry:
    """Make 32-bit values, or 64-bit ones for BigTIFF."""
    return Entry(LONG8 if big else LONG, struct.pack(f"<{len(values)}{'Q' if big else 'L'}", *values))


def rational(value: float) -> Entry:
    """Make the nearest fraction that two 32-bit numbers hold."""
    part = Fraction(value).limit_denominator(100_000)
    if part.numerator >= 2**32:
        part = Fraction(2**32 - 1)
    return Entry(RATIONAL, struct.pack("<2L", part.numerator, part.denominator))


def ascii_(text: bytes) -> Entry:
    """Make a text that ends in NUL."""
    return Entry(ASCII, text.rstrip(b"\0") + b"\0")


def number(entry: Entry | Ifd | None) -> float | None:
    """Return the first value of an integer or rational entry, or None."""
    if not isinstance(entry, Entry) or not entry.count:
        return None
    if entry.type in (SHORT, LONG, LONG8):
        return float(int.from_bytes(entry.data[: _TYPES[entry.type][0]], "little"))
    if entry.type == RATIONAL:
        top, bottom = struct.unpack_from("<2L", entry.data)
        return top / bottom if bottom else None
    return None


def parse_exif(blob: bytes | None) -> Ifd | None:
    """Parse an EXIF block (with or without its "Exif" prefix); None if there is none or it is damaged."""
    if not blob:
        return None
    blob = blob.removeprefix(b"Exif\0\0")
    try:
        order = {b"II*\0": "<", b"MM\0*": ">"}[blob[:4]]
        (first,) = struct.unpack_from(order + "L", blob, 4)
        return _parse(lambda at, n: blob[at : at + n], first, order, big=False, depth=0)
    except (KeyError, struct.error, ValueError):
        return None


def parse_page(read_at: Callable[[int, int], bytes], offset: int, order: str, big: bool) -> Ifd | None:
    """Parse what a TIFF page's directory at `offset` says about the picture; None if it is damaged.

    read_at(offset, n) returns n bytes of the file; order is "<" or ">"; big: the file is a BigTIFF.
    """
    try:
        page = _parse(read_at, offset, order, big, depth=0, wanted=ABOUT_PICTURE)
    except (struct.error, ValueError):
        return None
    return page or None


def build_exif(directory: Ifd | None) -> bytes | None:
    """Serialize a directory as an EXIF block."""
    return b"II*\0" + struct.pack("<L", 8) + pack(directory, 8, big=False) if directory else None


def orientation(blob: bytes | None) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where none is given."""
    value = number((parse_exif(blob) or {}).get(ORIENTATION))
    return int(value) if value is not None and 1 <= value <= 8 else 1


def upright_exif(blob: bytes | None) -> bytes | None:
    """Return the block with orientation 1."""
    directory = parse_exif(blob)
    if directory and ORIENTATION in directory:
        directory[ORIENTATION] = short(1)
    return build_exif(directory)


def scale_exif(blob: bytes | None, scale: int, height: int, width: int) -> bytes | None:
    """Return the block for a picture `scale` times as fine: pixel counts and resolutions are brought up to date.

    A damaged block is left out. The thumbnail (the second directory) is dropped.
    """
    directory = parse_exif(blob)
    if directory is None:
        return None
    camera = directory.get(EXIF_IFD)
    tables = [(directory, (X_RESOLUTION, Y_RESOLUTION))]
    if isinstance(camera, dict):
        tables.append((camera, (FOCAL_X, FOCAL_Y)))
        for tag, pixels in ((PIXEL_X, width), (PIXEL_Y, height)):
            if tag in camera:
                camera[tag] = long([pixels])
    for table, tags in tables:
        for tag in tags:
            value = number(table.get(tag))
            if value:
                table[tag] = rational(value * scale)
    return build_exif(directory)


def pack(directory: Ifd, at: int, big: bool) -> bytes:
    """Serialize a directory for file offset `at`: its table, then what the table points to; no next directory.

    The pointer to the next directory lies at next_pointer(directory, at, big).
    """
    head, width, inline = ("<Q", 20, 8) if big else ("<H", 12, 4)
    pointer = "<Q" if big else "<L"
    table = bytearray(struct.pack(head, len(directory)))
    body = bytearray()
    body_at = at + struct.calcsize(head) + width * len(directory) + inline
    for tag, value in sorted(directory.items(), key=lambda item: item[0]):
        if isinstance(value, dict):
            body += b"\0" * (len(body) % 2)
            kind, count, data = (LONG8 if big else LONG), 1, struct.pack(pointer, body_at + len(body))
            body += pack(value, body_at + len(body), big)
        else:
            kind, count, data = value.type, value.count, value.data
            if len(data) > inline:
                body += b"\0" * (len(body) % 2)
                offset = struct.pack(pointer, body_at + len(body))
                body += data
                data = offset
        table += struct.pack("<HHQ" if big else "<HHL", tag, kind, count) + data.ljust(inline, b"\0")
    return bytes(table + struct.pack(pointer, 0) + body)


def next_pointer(directory: Ifd, at: int, big: bool) -> int:
    """Return the file offset of the pointer to the next directory."""
    return at + (8 + 20 * len(directory) if big else 2 + 12 * len(directory))


def _parse(
    read_at: Callable[[int, int], bytes],
    at: int,
    order: str,
    big: bool,
    depth: int,
    wanted: Sequence[int] | None = None,
) -> Ifd:
    head, row, inline = ("Q", 20, 8) if big else ("H", 12, 4)
    start = struct.calcsize(order + head)
    (n,) = struct.unpack(order + head, read_at(at, start))
    if n > _MAX_ENTRIES or depth > 2:
        raise ValueError(f"a directory of {n} entries at depth {depth}")
    table = read_at(at + start, n * row)
    directory: Ifd = {}
    for i in range(n):
        tag, kind, count = struct.unpack_from(order + ("HHQ" if big else "HHL"), table, i * row)
        if kind not in _TYPES or (wanted is not None and tag not in wanted):
            continue
        size, unit = _TYPES[kind]
        value = table[(i + 1) * row - inline : (i + 1) * row]
        (offset,) = struct.unpack(order + ("Q" if big else "L"), value)
        if tag in _SUB_IFDS:
            directory[tag] = _parse(read_at, offset, order, big, depth + 1)
            continue
        if count * size > _MAX_VALUE:
            raise ValueError(f"tag {tag} has {count} values")
        data = value[: count * size] if count * size <= inline else read_at(offset, count * size)
        if len(data) != count * size:
            raise ValueError(f"tag {tag} reaches beyond the end")
        directory[tag] = Entry(kind, data if order == "<" else _swap(data, unit))
    return directory


def _swap(data: bytes, unit: int) -> bytes:
    return data if unit == 1 else b"".join(data[i : i + unit][::-1] for i in range(0, len(data), unit))
