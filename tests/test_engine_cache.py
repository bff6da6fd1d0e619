"""Engines on the disk: built once, never run damaged, never half there. The builder is a fake, the files are real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from fastsr.backends.tensorrt.cache import EngineCache, default_folder, default_limit
from fastsr.backends.tensorrt.key import EngineKey, kernels_key
from fastsr.errors import EngineCacheWarning, OptionError

KEY = EngineKey("w", "fmen", "x4, 3 channels", "1", "tensorrt 10.9", "13.0", "GPU", "8.6", "fp16", "1x1-2x2-3x3")
ENGINE = np.random.default_rng(1).bytes(3000)


def never():
    raise AssertionError("built although it is there")


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


def test_built_once_then_read(cache):
    built = []
    assert cache.get(KEY, lambda: built.append(1) or ENGINE) == ENGINE
    assert cache.get(KEY, never) == ENGINE
    assert EngineCache(cache.folder).read(KEY) == ENGINE
    assert built == [1]
    (entry,) = cache.entries()
    assert entry.fields == KEY.fields()


def test_a_builder_that_fails_leaves_nothing(cache):
    with pytest.raises(ZeroDivisionError):
        cache.get(KEY, lambda: bytes(1 // 0))
    assert cache.entries() == []
    assert cache.get(KEY, lambda: ENGINE) == ENGINE


@pytest.mark.parametrize("field", [field.name for field in fields(EngineKey)])
def test_every_field_makes_another_engine(field, cache):
    cache.write(KEY, ENGINE)
    other = replace(KEY, **{field: getattr(KEY, field) + "'"})
    assert cache.read(other) is None
    assert cache.get(other, lambda: b"other") == b"other"
    assert cache.read(KEY) == ENGINE
    assert kernels_key(KEY).name != KEY.name


def test_a_file_under_another_name_is_not_taken(cache):
    """Its hash is right, but its key is not what was asked for."""
    cache.write(KEY, ENGINE)
    other = replace(KEY, gpu="another")
    (path,) = cache.folder.glob("*.engine")
    path.rename(path.with_name(other.name + ".engine"))
    assert cache.read(other) is None


def test_200_damages_are_found_and_built_anew(cache):
    """Truncation, flipped bits, zeroed and swapped blocks, appended and foreign bytes, at random places."""
    cache.write(KEY, ENGINE)
    (path,) = cache.folder.glob("*.engine")
    whole = path.read_bytes()
    rng = np.random.default_rng(7)
    kinds = set()
    for i in range(200):
        data, kind, at = bytearray(whole), i % 6, int(rng.integers(len(whole)))
        if kind == 0:
            del data[at:]
        elif kind == 1:
            data[at] ^= 1 << int(rng.integers(8))
        elif kind == 2:
            data[at : at + 64] = bytes(len(data[at : at + 64]))
        elif kind == 3:
            half = len(data) // 2
            data = data[half:] + data[:half]
            data[at] ^= 255
        elif kind == 4:
            data += rng.bytes(1 + at % 50)
        else:
            data = bytearray(rng.bytes(at))
        if bytes(data) == whole:  # zeros over zeros
            continue
        kinds.add(kind)
        path.write_bytes(data)
        assert cache.read(KEY) is None, (i, kind, at)
        assert cache.entries()[0].fields is None
        assert cache.get(KEY, lambda: ENGINE) == ENGINE
        assert path.read_bytes() == whole
    assert kinds == set(range(6))


CHILD = """
import sys, time
from pathlib import Path
from fastsr.backends.tensorrt.cache import EngineCache
from fastsr.backends.tensorrt.key import EngineKey
key = EngineKey("w", "fmen", "x4, 3 channels", "1", "tensorrt 10.9", "13.0", "GPU", "8.6", "fp16", "1x1-2x2-3x3")
folder = Path(sys.argv[1])
def build():
    with open(folder / "built", "a") as file:
        file.write("x")
    time.sleep(0.7)
    return b"engine" * 1000
print("ready", flush=True)
sys.stdin.readline()
assert EngineCache(folder / "engines").get(key, build) == b"engine" * 1000
"""


def child(code, tmp_path):
    command = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


def test_of_two_processes_one_builds(tmp_path):
    processes = [child(CHILD, tmp_path) for _ in range(2)]
    for process in processes:
        go(process)
    assert [process.wait(30) for process in processes] == [0, 0]
    assert (tmp_path / "built").read_text() == "x"


def test_of_many_threads_one_builds(cache):
    built, results = [], []

    def build():
        built.append(1)
        time.sleep(0.2)
        return ENGINE

    threads = [threading.Thread(target=lambda: results.append(cache.get(KEY, build))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1]
    assert results == [ENGINE] * 6


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("moment", ["build", "write"])
def test_a_killed_process_leaves_no_engine_and_no_lock(moment, tmp_path):
    stop = "print('there', flush=True); time.sleep(60)"
    code = CHILD.replace("    time.sleep(0.7)\n", f"    {stop}\n")
    if moment == "write":
        code = CHILD.replace("time.sleep(0.7)", "pass").replace(
            'print("ready"', f"import os\ndef fsync(file):\n    {stop}\nos.fsync = fsync\nprint('ready'"
        )
    process = child(code, tmp_path)
    go(process)
    assert process.stdout.readline() == "there\n"
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    cache = EngineCache(tmp_path / "engines")
    left = [path for path in cache.folder.iterdir() if ".partial-" in path.name]
    assert len(left) == (moment == "write")
    assert cache.entries() == []
    assert cache.read(KEY) is None
    assert cache.get(KEY, lambda: ENGINE) == ENGINE  # does not wait for the dead
    assert not [path for path in cache.folder.iterdir() if ".partial-" in path.name]


def test_the_least_recently_used_goes_first(tmp_path):
    keys = [replace(KEY, weights=str(i)) for i in range(5)]
    size = len(ENGINE) + 1000
    cache = EngineCache(tmp_path, limit=3 * size)
    for i, key in enumerate(keys[:3]):
        cache.write(key, ENGINE)
        os.utime(tmp_path / f"{key.name}.engine", (1000 + i, 1000 + i))
    assert cache.read(keys[0]) == ENGINE  # now the last used
    cache.write(keys[3], ENGINE)
    assert [cache.read(key) is not None for key in keys] == [True, False, True, True, False]
    tiny = EngineCache(tmp_path, limit=1)
    tiny.write(keys[4], ENGINE)
    assert [cache.read(key) is not None for key in keys] == [False, False, False, False, True]


def test_a_folder_that_cannot_be_written_costs_a_warning_only(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    cache = EngineCache(tmp_path / "file" / "engines")
    with pytest.warns(EngineCacheWarning, match="FASTSR_CACHE"):
        assert cache.get(KEY, lambda: ENGINE) == ENGINE
    assert cache.entries() == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_read(cache):
    cache.write(KEY, ENGINE)
    cache.folder.chmod(0o500)
    try:
        assert cache.get(KEY, never) == ENGINE
        with pytest.warns(EngineCacheWarning, match="denied"):
            assert cache.get(replace(KEY, gpu="other"), lambda: b"x") == b"x"
    finally:
        cache.folder.chmod(0o700)


def test_a_full_disk_costs_a_warning_only(cache, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    cache.write(KEY, b"old")
    monkeypatch.setattr(os, "fsync", full)
    other = replace(KEY, gpu="other")
    with pytest.warns(EngineCacheWarning, match="no space is left"):
        assert cache.get(other, lambda: ENGINE) == ENGINE
    assert cache.read(other) is None
    assert cache.read(KEY) == b"old"
    assert len(cache.entries()) == 1
    assert not list(cache.folder.glob(".*.partial-*"))


def test_clear(cache):
    assert cache.clear() == (0, 0)
    for gpu in "ab":
        cache.get(replace(KEY, gpu=gpu), lambda: ENGINE)
    count, size = cache.clear()
    assert count == 2
    assert size > 2 * len(ENGINE)
    assert list(cache.folder.iterdir()) == []


def test_folder_and_limit_from_the_environment(monkeypatch):
    monkeypatch.setenv("FASTSR_CACHE", "/somewhere")
    monkeypatch.setenv("FASTSR_ENGINES_MB", "300")
    assert default_folder() == Path("/somewhere/engines")
    assert default_limit() == 300_000_000
    monkeypatch.delenv("FASTSR_CACHE")
    assert default_folder().parts[-2:] == ("fastsr", "engines")
    monkeypatch.setenv("FASTSR_ENGINES_MB", "0")
    with pytest.raises(OptionError, match="megabytes"):
        default_limit()
