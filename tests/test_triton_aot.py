"""The Triton kernels compiled for GPUs that are not here: docs/gpu-kernels.md is up to date, and keeps the limits.

Compiling all kernels takes minutes, so this test compiles a few, others after each change of the table, and trusts
the table for those whose machine code follows from the same source, constants and compiler (their identity). What
changed is compiled by `python -m benchmarks.gpu_kernels`.
"""

from __future__ import annotations

import hashlib

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fastsr[triton]'")
pytest.importorskip("triton", reason="Triton is not installed: pip install 'fastsr[triton]'")

import numpy as np
import triton

from benchmarks import gpu_kernels
from fastsr.backends.triton import aot
from fastsr.backends.triton.configs import LEAST_SM, PRECISIONS
from fastsr.errors import BackendError
from fastsr.graph.builder import GraphBuilder
from fastsr.graph.ir import INPUT
from fastsr.graph.passes import fuse_pointwise

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
        (sm, p) for sm in (80, 90) for p in PRECISIONS if sm >= LEAST_SM.get(p, 80)
    }
    assert not {row.identity: found for row in rows.values() if (found := gpu_kernels.breaches(row))}


def test_some_kernels_compile_to_what_the_table_says(wanted, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # compile, rather than remember
    table = gpu_kernels.TABLE.read_bytes()
    rows = gpu_kernels.read()
    chosen = sorted(rows, key=lambda identity: hashlib.sha256(table + identity.encode()).digest())[:COMPILED]
    for identity in chosen:
        want = wanted[identity]
        assert aot.compile_call(want.call, want.sm) == rows[identity].facts


def test_breaches_are_seen(monkeypatch):
    row = next(row for row in gpu_kernels.read().values() if row.kernel == "chain" and row.precision == "fp16")
    values = row.__dict__
    assert not gpu_kernels.breaches(row)
    for changed in ({"stack": 8}, {"spills": 1}, {"shared": 1 << 20}, {"matrix": 0}):
        assert gpu_kernels.breaches(gpu_kernels.Row(**(values | changed)))
    monkeypatch.setattr(aot.shutil, "which", lambda name: None)
    with pytest.raises(BackendError, match="CUDA toolkit"):
        aot._tool("no-such-tool")


def test_launches_compile_as_they_are_called(monkeypatch, tmp_path):
    """The executor's calls through Triton's just-in-time path, for an sm_90 that is only claimed: all but running."""
    import torch
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    from fastsr.backends.base import ValueRange
    from fastsr.backends.triton import kernels
    from fastsr.backends.triton.executor import Executor, Window
    from fastsr.backends.triton.plan import lower

    class Claimed:
        def get_current_target(self):
            return GPUTarget("cuda", 90, 32)

        def get_current_device(self):
            return 0

        def get_current_stream(self, device):
            return 0

    compiled = []

    class Compiled:
        def __init__(self, kernel):
            self.kernel = kernel

        def __getitem__(self, grid):
            def call(**arguments):
                made = self.kernel.warmup(grid=grid, **arguments)
                compiled.append((self.kernel.__name__, len(made.asm["cubin"]) > 0))

            return call

    rng = np.random.default_rng(0)
    b = GraphBuilder(3)
    x = b.conv(INPUT, rng.standard_normal((16, 3, 3, 3)))
    x = b.conv(b.step(b.conv(x, rng.standard_normal((16, 16, 3, 3))), "relu"), rng.standard_normal((16, 16, 3, 3)))
    y = b.add(b.pixel_shuffle(b.slice(x, 2, 14), 2), b.resize(INPUT, 2, "bilinear"))
    plan = lower(*fuse_pointwise(*b.finish(y)))
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("FASTSR_CACHE", str(tmp_path))
    for name in ("conv", "chain", "resize", "pointwise"):
        monkeypatch.setattr(kernels, name, Compiled(getattr(kernels, name)))
    executor = Executor(plan, "fp16", torch.device("cpu"))
    pixels, result = torch.zeros(9, 11, 3, dtype=torch.uint8), torch.zeros(18, 22, 3, dtype=torch.uint8)
    monkeypatch.setattr(driver, "_active", Claimed())
    values = ValueRange(0, 255, 0, 255)
    executor.enqueue(pixels, result, Window(0, 0, 18, 22), values, executor.buffers(9, 11))
    kinds = [name for name, _ in compiled]
    assert kinds == ["conv", "chain", "pointwise", "pointwise", "resize", "pointwise"]
    assert all(ok for _, ok in compiled)
