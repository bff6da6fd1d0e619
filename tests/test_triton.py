"""The back end triton without a GPU: plans, block sizes, reasons; and its kernels in Triton's interpreter."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastsr
from fastsr.backends import triton as backend
from fastsr.backends.triton import calls, configs, plan
from fastsr.backends.triton.configs import Config
from fastsr.backends.triton.plan import DEFAULT, RESULT, SINGLE, ChainLaunch, Fusion, assign_slots, lower, reads
from fastsr.backends.triton.quantize import LARGEST, plan_of
from fastsr.errors import BackendUnavailableError, ModelFileError, OptionError
from fastsr.graph.builder import GraphBuilder
from fastsr.graph.ir import INPUT
from fastsr.models import open_model
from tests.random_graphs import random_graph

ROOT = Path(__file__).resolve().parent.parent
NEEDED = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "triton")),
    reason="torch and triton are not installed: pip install 'fastsr[triton]'",
)


@NEEDED
def test_kernels_in_the_interpreter(tmp_path):
    """All of tests/interpreted/*_cases.py, in a process that had the variable set from the start."""
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "triton.toml").write_bytes((ROOT / "tests" / "interpreted" / "triton.toml").read_bytes())
    files = [f"tests/interpreted/{name}_cases.py" for name in ("triton", "eight_bit")]
    command = [sys.executable, "-m", "pytest", *files, "-q", "-p", "no:cacheprovider"]
    environment = os.environ | {"TRITON_INTERPRET": "1", "FASTSR_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


def test_fmen_takes_nineteen_launches():
    model = open_model("fmen", 4)
    made = lower(model.graph(4, 3), model.tensors)
    stages = [len(x.convs) if isinstance(x, ChainLaunch) else 1 for x in made.launches]
    warmup, block = [1, 2, 3], [2, 1, 3]  # squeeze, ERB, ERB + excite; ERB, squeeze, ERB + excite
    assert stages == [1, 1, *warmup, *block * 4, 1, 1]
    assert (made.launches[0].x, made.launches[-1].y) == (plan.PIXELS, RESULT)
    assert made.launches[-1].epilogue.factor == 4
    assert made.widths == (56, 56, 56, 16)  # elements a pixel: the skip, a block's two, the narrow ones
    assert len(lower(model.graph(4, 3), model.tensors, SINGLE).launches) == 34
    assert len(lower(model.graph(4, 3), model.tensors, Fusion(hfab="whole")).launches) == 15


@pytest.mark.parametrize(("name", "launches"), [("vdsr", 12), ("srresnet", 10), ("bicubic", 1)])
def test_other_networks(name, launches):
    model = open_model(name, 4)
    assert len(lower(model.graph(4, 3), model.tensors).launches) == launches


def test_an_intermediate_value_that_is_read_elsewhere_is_kept():
    rng = np.random.default_rng(0)
    b = GraphBuilder(3)
    w = [rng.standard_normal((8, c, 3, 3)) for c in (3, 8, 8)]
    head = b.conv(INPUT, w[0])
    middle = b.step(b.conv(head, w[1]), "relu")
    graph, tensors = b.finish(b.add(b.conv(middle, w[2]), middle))
    made = lower(graph, tensors)
    assert not any(isinstance(x, ChainLaunch) for x in made.launches)


def test_nodes_may_have_any_name():
    rng = np.random.default_rng(0)
    b = GraphBuilder(3)
    x = b.conv(INPUT, rng.standard_normal((3, 3, 1, 1)), name="pixels")
    graph, tensors = b.finish(b.conv(x, rng.standard_normal((3, 3, 1, 1)), name="result"))
    made = lower(graph, tensors)
    assert [(x.x, x.y) for x in made.launches] == [(plan.PIXELS, "pixels"), ("pixels", RESULT)]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("fusion", [DEFAULT, SINGLE], ids=["fused", "single"])
def test_no_value_alive_loses_its_slot(seed, fusion):
    """Follow the launches: what a launch reads must still be in its slot, and the slot be large enough."""
    graph, tensors = random_graph(seed, steps=20)
    made = lower(graph, tensors, fusion)
    held: dict[int, str] = {}
    for launch in made.launches:
        for name in reads(launch):
            if name in made.values:
                assert held[made.slots[name]] == name, f"{launch.y} reads {name}"
        if launch.y != RESULT:
            slot = made.slots[launch.y]
            assert made.values[launch.y].elements <= made.widths[slot]
            if launch.x in made.slots:
                assert slot != made.slots[launch.x], "a convolution reads neighbours of what it writes"
            held[slot] = launch.y
    assert made.launches[-1].y == RESULT
    assert assign_slots(made.launches, made.values) == (made.slots, made.widths)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("factor", [1, 2])
def test_packed_weights_hold_each_weight_once(flat, factor):
    w = np.random.default_rng(0).standard_normal((12, 5, 3, 3)).astype(np.float32)
    pack = calls.pack_flat if flat else calls.pack_taps
    packed = pack(w, 8, factor, 16, 16).reshape(-1, 16)
    rows = 80 if flat else 144
    assert packed.shape == (rows, 16)
    assert np.array_equal(np.sort(packed[packed != 0]), np.sort(w.ravel()))
    K = 7
    place = K if factor == 1 else (K % 4) * 3 + K // 4  # (c, dy, dx) -> (dy, dx, c)
    assert packed[(4 * 8 if flat else 4 * 16) + 2, place] == w[K, 2, 1, 1]


def test_tf32_rounds_to_nearest():
    x = np.array([1 + 2**-11, 1 + 2**-10, 1 + 3 * 2**-12, -1 - 3 * 2**-12, 3e-39], np.float32)
    wanted = np.array([1 + 2**-10, 1 + 2**-10, 1 + 2**-10, -1 - 2**-10, 3e-39], np.float32)
    assert np.allclose(calls.round_to_tf32(x), wanted, rtol=0, atol=1e-40)


def test_block_sizes_come_from_the_users_file_first(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTSR_CACHE", str(tmp_path))
    shipped = configs.choose("conv", 50, 50, "fp16", 90)
    assert configs.choose("conv", 50, 50, "bf16", 120) == shipped  # newer: that of the newest that is known
    assert configs.choose("conv", 50, 50, "fp16", 75) == Config()
    mine = Config(bm=256, warps=8)
    text = configs.dump({90: {"conv": {"half": {"64x64": mine}}}}, "mine")
    configs.user_file().write_text(text)
    assert configs.choose("conv", 50, 50, "fp16", 90) == mine
    assert configs.choose("conv", 50, 50, "fp32", 90) == configs.choose("conv", 50, 50, "fp32", 80)
    assert configs.choose("conv", 3, 50, "fp16", 90).flat
    for wrong in (
        "bm = 1",
        '[sm_90.conv.half]\n"64x64" = { bm = "x" }',
        '[sm_90.conv.half]\n"64x64" = { nn = 1 }',
        "[",
    ):
        configs.user_file().write_text(wrong)
        os.utime(configs.user_file(), ns=(1, hash(wrong) % 10**9))
        with pytest.raises(ModelFileError, match=r"triton\.toml"):
            configs.choose("conv", 50, 50, "fp16", 90)


@NEEDED
def test_autotune_keeps_the_fastest(tmp_path, monkeypatch):
    from fastsr.backends.triton.autotune import autotune

    monkeypatch.setenv("FASTSR_CACHE", str(tmp_path))
    rng = np.random.default_rng(0)
    b = GraphBuilder(3)
    graph, tensors = b.finish(
        b.conv(b.conv(INPUT, rng.standard_normal((16, 3, 3, 3))), rng.standard_normal((3, 16, 3, 3)))
    )
    model = fastsr.graph.model.CompiledModel("two", (graph,), tensors)
    tried = []

    def measure(launch):
        tried.append(launch)
        if len(tried) == 2:
            raise RuntimeError("out of resources")  # as a kernel that does not fit
        return 1.0 - 0.1 * (len(tried) == 4)

    found = autotune(model, 1, 8, 8, "fp16", most=6, measure=measure)
    assert set(found) == {"conv 16x16"}
    assert len(tried) == 6
    assert configs.choose("conv", 3, 16, "fp16", 80) == found["conv 16x16"]
    assert found["conv 16x16"] != configs.load(configs.SHIPPED)
    with pytest.raises(BackendUnavailableError, match="GPU"):
        autotune(model, 1, 8, 8)


def test_it_says_why_it_cannot_run(monkeypatch):
    real = backend.importlib.util.find_spec
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda n: None if n == "triton" else real(n))
    assert backend.why_unavailable() == "triton not installed: pip install 'fastsr[triton]'"
    with pytest.raises(BackendUnavailableError, match=r"triton.*fastsr\[triton\]"):
        fastsr.load(backend="triton")
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda n: object())
    monkeypatch.setattr(backend, "_driver", lambda: False)
    with pytest.raises(BackendUnavailableError, match="no NVIDIA driver"):
        fastsr.load(backend="triton", precision="fp16")


def test_asking_whether_it_runs_imports_nothing_without_a_driver():
    code = (
        "import fastsr, sys; from fastsr.backends import triton; triton._driver = lambda: False; "
        "assert triton.why_unavailable(); assert not {'torch', 'triton', 'tomllib'} & set(sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_precisions_are_checked():
    with pytest.raises(OptionError, match="fp64"):
        fastsr.load(precision="fp64")
    with pytest.raises(OptionError, match="native"):
        fastsr.load(backend="native", precision="tf32")
    assert fastsr.load().precision == "fp32"


def test_fp8_needs_a_gpu_that_has_it():
    configs.check_capability("int8", 80)
    configs.check_capability("fp8", 90)
    with pytest.raises(BackendUnavailableError, match=r"9\.0 or newer; this one has 8\.0: 'int8' and 'fp16' run on it"):
        configs.check_capability("fp8", 80)


@pytest.mark.parametrize("name", ["fmen", "vdsr", "srresnet"])
def test_what_is_in_8_bits(name):
    """All that 3x3 layers read, as the shipped files say, but the image, VDSR's bicubic skip, and the last layer's."""
    model = open_model(name, 4)
    for kind in ("int8", "fp8"):
        made = plan_of(model, model.graph(4, 3), kind)
        floats = {value.name for value in made.values.values() if not value.kind}
        assert floats == {made.launches[-1].x} | ({"bicubic"} if name == "vdsr" else set())
        assert len(made.values) > len(floats) + 5
        kinds = {value.name: value.kind for value in made.values.values()}
        whole = [x for x in made.launches if isinstance(x, plan.ConvLaunch) and kinds.get(x.x)]
        for launch in whole:
            most = np.abs(launch.weight).reshape(len(launch.weight), -1).max(1)
            assert np.allclose(most, LARGEST[kind])
            assert kind == "fp8" or np.array_equal(launch.weight, np.rint(launch.weight))
    floats = lower(model.graph(4, 3), model.tensors)
    assert [x.kernel for x in made.launches] == [x.kernel for x in floats.launches]
