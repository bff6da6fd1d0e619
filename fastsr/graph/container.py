"""The bytes of a `.fsr` file: a safetensors file of float32 tensors whose metadata says what the model is.

    8 bytes   length of the header, little endian
    header    JSON; spaces at its end let the data begin at a multiple of 64
    data      the tensors in the order of their names, little endian, without holes

`__metadata__` holds fastsr.format, fastsr.sha256, fastsr.model and fastsr.card, all of them strings. The hash is
the SHA-256 of the whole file with its own 64 digits replaced by '0', so that any changed bit is found.
Reading runs nothing and trusts nothing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastsr.errors import ModelFileError, ModelIntegrityError, ModelVersionError
from fastsr.graph.ir import Array

FORMAT = 1
ALIGNMENT = 64
MAX_HEADER = 16 << 20
MAX_FILE = 2 << 30
MAX_TENSORS = 4096

_HASH_KEY = b'"fastsr.sha256":"'  # cannot occur inside a JSON string, where its quotes would be escaped
_META_KEYS = {"fastsr.format", "fastsr.sha256", "fastsr.model", "fastsr.card"}
_F32 = np.dtype("<f4")


def to_json_text(value: Any) -> str:
    """Return `value` as compact ASCII JSON. Raises ValueError or TypeError for what JSON cannot hold."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def from_json_text(text: str | bytes, where: str) -> Any:
    """Read JSON strictly: no duplicate keys, NaN or Infinity. Raises ModelFileError."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{where}: broken JSON: {error}") from error


def write(tensors: Mapping[str, Array], model: str, card: str) -> bytes:
    """Return the file's bytes. The same model and card give the same bytes. Raises ModelFileError."""
    if len(tensors) > MAX_TENSORS:
        raise ModelFileError(f"the model has {len(tensors)} tensors; {MAX_TENSORS} are possible")
    meta = {"fastsr.format": str(FORMAT), "fastsr.sha256": "0" * 64, "fastsr.model": model, "fastsr.card": card}
    header: dict[str, Any] = {"__metadata__": meta}
    data, end = [], 0
    for name in sorted(tensors):
        data.append(np.ascontiguousarray(tensors[name], dtype=_F32).tobytes())
        begin, end = end, end + len(data[-1])
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [begin, end]}
    text = to_json_text(header).encode("ascii")
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    if len(text) > MAX_HEADER or 8 + len(text) + end > MAX_FILE:
        raise ModelFileError(
            f"the model needs a header of {len(text)} bytes and {end} bytes of data; "
            f"{MAX_HEADER} and {MAX_FILE} together are possible"
        )
    blob = bytearray(b"".join([len(text).to_bytes(8, "little"), text, *data]))
    place = blob.index(_HASH_KEY) + len(_HASH_KEY)
    blob[place : place + 64] = hashlib.sha256(blob).hexdigest().encode("ascii")
    return bytes(blob)


def read(data: bytes, where: str) -> tuple[dict[str, Array], dict[str, str]]:
    """Return (tensors, metadata). The tensors are views of `data`.

    where: what the errors call the file. Raises ModelFileError, ModelIntegrityError, ModelVersionError.
    """
    header, start = _header(data, where)
    meta = header.pop("__metadata__", None)
    if not isinstance(meta, dict) or "fastsr.format" not in meta:
        raise ModelFileError(f"{where}: no .fsr file: its metadata has no 'fastsr.format'")
    version = meta["fastsr.format"]
    if version != str(FORMAT):
        if isinstance(version, str) and version.isascii() and version.isdecimal() and 0 < int(version[:9]) != FORMAT:
            raise ModelVersionError(f"{where}: format {version[:9]}; this version of FastSR reads format {FORMAT}")
        raise ModelFileError(f"{where}: format {version!r:.40}; this version of FastSR reads format {FORMAT}")
    if set(meta) != _META_KEYS or not all(isinstance(value, str) for value in meta.values()):
        raise ModelFileError(f"{where}: the metadata is {sorted(meta)}, strings {sorted(_META_KEYS)} are needed")
    if len(header) > MAX_TENSORS:
        raise ModelFileError(f"{where}: {len(header)} tensors; {MAX_TENSORS} are possible")

    spans = {name: _span(name, entry, where) for name, entry in header.items()}
    end = 0
    for name, (_, first, last) in sorted(spans.items(), key=lambda item: item[1][1:]):
        if first != end:
            raise ModelFileError(f"{where}: tensor {name!r} begins at byte {first}, {end} is needed")
        end = last
    if len(data) != start + end:
        raise ModelIntegrityError(f"{where}: {len(data)} bytes, its header says {start + end}: truncated or damaged")
    _check_hash(data, start, meta["fastsr.sha256"], where)

    tensors = {}
    for name, (shape, first, last) in spans.items():
        array = np.frombuffer(data, _F32, (last - first) // 4, start + first).reshape(shape)
        if not np.isfinite(array).all():
            raise ModelFileError(f"{where}: tensor {name!r} holds NaN or infinity")
        tensors[name] = array
    return tensors, meta


def _header(data: bytes, where: str) -> tuple[dict[str, Any], int]:
    if len(data) > MAX_FILE:
        raise ModelFileError(f"{where}: {len(data)} bytes; {MAX_FILE} are possible")
    length = int.from_bytes(data[:8], "little")
    if len(data) < 10 or data[8:9] != b"{":
        raise ModelFileError(f"{where}: no .fsr file")
    if length > MAX_HEADER:
        raise ModelFileError(f"{where}: no .fsr file: a header of {length} bytes; {MAX_HEADER} are possible")
    if 8 + length > len(data):
        raise ModelIntegrityError(f"{where}: truncated: {len(data)} bytes, the header alone needs {8 + length}")
    try:
        text = data[8 : 8 + length].decode("ascii")
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{where}: the header is not ASCII: damaged, or no .fsr file") from error
    header = from_json_text(text, f"{where}, header")
    assert isinstance(header, dict)  # it begins with {
    return header, 8 + length


def _span(name: str, entry: Any, where: str) -> tuple[list[int], int, int]:
    """Return (shape, first byte, last byte + 1) of one tensor, relative to the data."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"} or entry["dtype"] != "F32":
        raise ModelFileError(f"{where}: tensor {name!r} is no F32 tensor")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not (_sizes(shape) and len(shape) <= 8 and _sizes(offsets) and len(offsets) == 2):
        raise ModelFileError(f"{where}: tensor {name!r} has no sane shape and offsets")
    if offsets[1] - offsets[0] != 4 * math.prod(shape):
        raise ModelFileError(f"{where}: tensor {name!r} {shape} does not fill the bytes {offsets}")
    return shape, offsets[0], offsets[1]


def _sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int and 0 <= v <= MAX_FILE for v in value)


def _check_hash(data: bytes, start: int, stated: str, where: str) -> None:
    place = data.find(_HASH_KEY, 0, start) + len(_HASH_KEY)
    if data[place : place + 64] != stated.encode("ascii", "replace"):
        raise ModelIntegrityError(f"{where}: the hash is not where it should be: damaged")
    digest = hashlib.sha256(data[:place])
    digest.update(b"0" * 64)
    digest.update(memoryview(data)[place + 64 :])
    if digest.hexdigest() != stated:
        raise ModelIntegrityError(f"{where}: SHA-256 is {digest.hexdigest()}, the file says {stated}: damaged")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key occurs twice")
    return result


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")
