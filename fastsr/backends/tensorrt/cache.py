"""Engines on the disk: whole or not there, built once, found damaged before they run, and not too many of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastsr.backends.folder import cache_folder
from fastsr.backends.tensorrt.key import EngineKey
from fastsr.errors import EngineCacheWarning, OptionError, OutputError
from fastsr.io.atomic import atomic_output

LIMIT = 4 << 30  # bytes of all files together; FASTSR_ENGINES_MB overrides
_MAGIC = b"FSRENG1\n"
_DIGEST = 32  # bytes of a SHA-256
_SUFFIX = ".engine"
_WAIT = 0.05  # seconds between looks at a lock


@dataclass(frozen=True)
class Entry:
    """A file of the cache.  fields: of its key, None where it is damaged; size: bytes; used: seconds since 1970."""

    path: Path
    fields: dict[str, str] | None
    size: int
    used: float


def default_folder() -> Path:
    """Return where engines are kept: "engines" in the user's folder for caches, which FASTSR_CACHE moves."""
    return cache_folder() / "engines"


def default_limit() -> int:
    """Return the bytes that all engines may take together. Raises OptionError for a wrong FASTSR_ENGINES_MB."""
    text = os.environ.get("FASTSR_ENGINES_MB")
    if text is None:
        return LIMIT
    if not text.isdecimal() or not int(text):
        raise OptionError(f"FASTSR_ENGINES_MB is {text!r}; a whole number of megabytes, 1 or more, is needed")
    return int(text) * 1_000_000


class EngineCache:
    """A folder of engines, safe to use from many threads and processes.

    limit: bytes of all files together; the least recently used go first, never the one just written.
    """

    def __init__(self, folder: Path | None = None, limit: int | None = None) -> None:
        self.folder = default_folder() if folder is None else folder
        self.limit = default_limit() if limit is None else limit

    def get(self, key: EngineKey, build: Callable[[], bytes]) -> bytes:
        """Return the engine; if it is missing or damaged, build and keep it.

        Of several processes that want one engine, one builds and the others wait. Where nothing can be kept, the engine
        is returned all the same, with an EngineCacheWarning.
        """
        found = self.read(key)
        if found is not None:
            return found
        with ExitStack() as stack:
            try:
                stack.enter_context(self._locked(key))
            except OSError as error:
                engine = build()
                self._warn(error)
                return engine
            found = self.read(key)  # who held the lock may have built it
            if found is None:
                self._remove_partial(key)
                found = build()
                self.write(key, found)
            return found

    def read(self, key: EngineKey) -> bytes | None:
        """Return the engine, or None if there is none or its file is damaged, for whatever reason."""
        path = self._path(key)
        read = _read(path)
        if read is None or read[0] != key.fields():
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the time of last use
        return read[1]

    def write(self, key: EngineKey, engine: bytes) -> None:
        """Keep the engine, then remove old ones; where that fails, give an EngineCacheWarning."""
        header = json.dumps(key.fields(), sort_keys=True).encode()
        body = len(header).to_bytes(4, "little") + header + engine
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_output(self._path(key), overwrite=True) as file:
                file.write(_MAGIC + hashlib.sha256(body).digest())
                file.write(body)
        except OSError as error:  # OutputError is one
            self._warn(error)
            return
        self._evict(self._path(key))

    def forget(self, key: EngineKey) -> None:
        """Remove an engine that turned out not to run."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def entries(self) -> list[Entry]:
        """Return what is there, the last used first. Reads and checks every file."""
        entries = []
        for path in self._files():
            with contextlib.suppress(OSError):
                stat = path.stat()
                read = _read(path)
                entries.append(Entry(path, None if read is None else read[0], stat.st_size, stat.st_mtime))
        return sorted(entries, key=lambda entry: -entry.used)

    def clear(self) -> tuple[int, int]:
        """Remove all files of the cache; return how many engines, and bytes. Raises OutputError."""
        count = size = 0
        paths = self._files() + sorted(self.folder.glob(".*.partial-*")) + sorted(self.folder.glob("*.lock"))
        for path in paths:
            try:
                taken = path.stat().st_size
                path.unlink()
            except FileNotFoundError:  # another process was faster
                continue
            except OSError as error:
                raise OutputError(f"{path} cannot be removed: {error.strerror or error}") from error
            count, size = count + (path.suffix == _SUFFIX), size + taken
        return count, size

    def _path(self, key: EngineKey) -> Path:
        return self.folder / (key.name + _SUFFIX)

    def _files(self) -> list[Path]:
        return [path for path in sorted(self.folder.glob("*" + _SUFFIX)) if not path.name.startswith(".")]

    def _evict(self, newest: Path) -> None:
        files = []
        for path in self._files():
            with contextlib.suppress(OSError):
                stat = path.stat()
                files.append((path == newest, stat.st_mtime_ns, stat.st_size, path))
        total = sum(size for _, _, size, _ in files)
        for is_newest, _, size, path in sorted(files):
            if total <= self.limit or is_newest:
                return
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size

    def _remove_partial(self, key: EngineKey) -> None:
        """Remove what a process that was killed left; whoever holds the lock is the only one that writes."""
        for path in self.folder.glob(f".{key.name}*.partial-*"):
            with contextlib.suppress(OSError):
                path.unlink()

    @contextmanager
    def _locked(self, key: EngineKey) -> Iterator[None]:
        """Hold the lock of one engine, which ends with the process, however that ends. Raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / (key.name + ".lock")
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                while not _try_lock(descriptor):
                    time.sleep(_WAIT)
                if _is_file(descriptor, path):  # or `clear` removed it, and another may hold a new one
                    yield
                    return
            finally:
                os.close(descriptor)

    def _warn(self, error: OSError) -> None:
        message = f"engines cannot be kept in {self.folder}: {error}; FASTSR_CACHE names another folder"
        warnings.warn(message, EngineCacheWarning, stacklevel=4)


def _read(path: Path) -> tuple[dict[str, str], bytes] | None:
    """Return (fields of the key, engine) of a file that is whole."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    start = len(_MAGIC) + _DIGEST
    body = memoryview(data)[start:]
    if data[: len(_MAGIC)] != _MAGIC or hashlib.sha256(body).digest() != data[len(_MAGIC) : start]:
        return None
    end = start + 4 + int.from_bytes(data[start : start + 4], "little")
    fields: dict[str, str] = json.loads(data[start + 4 : end])
    return fields, data[end:]


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
