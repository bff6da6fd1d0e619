"""The Triton kernels compiled for GPUs that are not here: docs/gpu-kernels.md is up to date, and keeps the limits.

Compiling all kernels takes minutes, so this test compiles a few, others after each change of the table, and trusts
the table for those whose machine code follows from the same source, constants and compiler (their identity). What
changed is compiled by `python -m benchmarks.gpu_kernels`.
"""

from __future__ import annotations

import hashlib

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fastsr[triton]'")
triton = pytest.importorskip("triton", reason="Triton is not installed: pip install 'fastsr[triton]'")

from benchmarks import gpu_kernels
from fastsr.backends.triton import aot
from fastsr.errors import BackendError

COMPILED = 3  # kernels each time


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    if f"Triton {triton.__version__}," not in gpu_kernels.TABLE.read_text():
        pytest.skip(f"the table is of another Triton than {triton.__version__}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTSR_CACHE", str(tmp_path_factory.mktemp("cache")))  # the shipped block sizes, not the user's
        return {want.identity: want for want in gpu_kernels.wanted()}


def test_the_table_is_up_to_date(wanted):
    rows = gpu_kernels.read()
    assert set(rows) == set(wanted), "run: python -m benchmarks.gpu_kernels"
    for identity, want in wanted.items():
        assert want.row(rows[identity].facts) == rows[identity]


def test_every_kernel_keeps_the_limits():
    rows = gpu_kernels.read()
    assert len(rows) > 100
    assert {(row.sm, row.precision) for row in rows.values()} == {
        (sm, p) for sm in (80, 90) for p in ("fp32", "tf32", "fp16", "bf16")
    }
    assert not {row.identity: found for row in rows.values() if (found := gpu_kernels.breaches(row))}


def test_some_kernels_compile_to_what_the_table_says(wanted, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # compile, rather than remember
    table = gpu_kernels.TABLE.read_bytes()
    rows = gpu_kernels.read()
    chosen = sorted(rows, key=lambda identity: hashlib.sha256(table + identity.encode()).digest())[:COMPILED]
    for identity in chosen:
        want = wanted[identity]
        assert aot.compile_call(want.call, want.precision, want.sm) == rows[identity].facts


def test_breaches_are_seen(monkeypatch):
    row = next(row for row in gpu_kernels.read().values() if row.kernel == "chain" and row.precision == "fp16")
    values = row.__dict__
    assert not gpu_kernels.breaches(row)
    for changed in ({"stack": 8}, {"spills": 1}, {"shared": 1 << 20}, {"matrix": 0}):
        assert gpu_kernels.breaches(gpu_kernels.Row(**(values | changed)))
    monkeypatch.setattr(aot.shutil, "which", lambda name: None)
    with pytest.raises(BackendError, match="CUDA toolkit"):
        aot._tool("no-such-tool")
