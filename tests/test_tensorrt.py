"""The back end tensorrt on a stub of TensorRT and of the driver: what can be known of it without a GPU."""

from __future__ import annotations

import ctypes
import json
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
from fake_tensorrt import WORK_BYTES, Machine, make

import fastsr
from fastsr.backends import nvidia
from fastsr.backends.base import Job, ValueRange
from fastsr.backends.nonfinite import is_finite
from fastsr.backends.tensorrt import library, network, runner, why_unavailable
from fastsr.backends.tensorrt.build import STEPS, Phases, Profile, build
from fastsr.backends.tensorrt.network import prepare
from fastsr.cli import main
from fastsr.errors import (
    BackendError,
    BackendUnavailableError,
    DeviceMemoryError,
    NonFiniteWarning,
    OptionError,
    ShapeError,
)
from fastsr.exporting.check import smooth_images
from fastsr.graph.builder import GraphBuilder
from fastsr.graph.calibrate import calibrate
from fastsr.graph.ir import INPUT
from fastsr.graph.model import CompiledModel
from fastsr.models import open_model


@pytest.fixture
def machine(monkeypatch, tmp_path):
    made = Machine(monkeypatch, tmp_path)
    yield made
    monkeypatch.undo()
    made.restart()


def upscale(made, x, box=None, progress=None):
    H, W = x.shape[:2]
    left, top, right, bottom = box or (0, 0, W, H)
    s = made.scale
    shape = s * (bottom - top), s * (right - left), made.out_channels
    result = np.full(shape, np.nan if x.dtype.kind == "f" else 77, x.dtype)
    values = ValueRange(0, 1) if x.dtype.kind == "f" else ValueRange(0, 255, 0, 255)
    made.run(x, result, Job(H, W, (left, top, right, bottom), (0, 0), values, progress), None)
    return result


@pytest.mark.parametrize(("name", "scale"), [("fmen", 2), ("bicubic", 3)])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("tf32", 1e-5), ("fp16", 2e-3)])
def test_results_are_those_of_the_engine(name, scale, precision, tolerance, machine, random_image):
    model = open_model(name, scale)
    made = runner(model, scale, 3, None, precision)
    for h, w in [(1, 1), (1, 17), (7, 13), (11, 5)]:  # smaller and larger than before: memory is used again
        x = random_image(h, w, 3, "float32")
        wanted = fastsr.upscale(x, model, scale=scale, backend="native")
        assert np.abs(upscale(made, x) - wanted).max() <= tolerance
    seen = []
    part = upscale(made, x, (1, 2, 4, 9), lambda *step: seen.append(step))
    assert np.abs(part - wanted[2 * scale : 9 * scale, scale : 4 * scale]).max() <= tolerance
    assert seen[-1] == (7 * scale, 7 * scale)
    (plan,) = machine.trt.built
    assert plan["tf32"] is (precision != "fp32")


def test_int8_of_a_prepared_model(machine):
    bare = open_model("fmen", 2)
    images = [image[0] for image in smooth_images(1)]
    model = calibrate(CompiledModel(bare.name, (bare.graph(2, 1),), bare.tensors), images)
    x = images[0][:, :, None]
    wanted = fastsr.upscale(x, bare, scale=2, backend="native")
    made = runner(model, 2, 1, None, "int8")
    psnr = -10 * np.log10(np.mean((upscale(made, x) - wanted) ** 2))
    assert 38 < psnr < 80  # integers, and the right ones
    assert machine.trt.built[0]["tf32"]
    with pytest.raises(OptionError, match="fmen x2 has no ranges for int8; fastsr quantize"):
        runner(CompiledModel(bare.name, (replace(bare.graph(2, 1), ranges={}),), bare.tensors), 2, 1, None, "int8")


def test_the_engine_is_built_once(machine):
    model = open_model("bicubic", 2)
    for _ in range(2):
        runner(model, 2, 1, None)
        machine.restart()
    assert len(machine.trt.built) == 1
    runner(model, 2, 3, None)
    runner(model, 2, 1, None, "fp16")
    assert len(machine.trt.built) == 3
    machine.set(machine.trt, version=12080)  # another driver
    runner(model, 2, 1, None)
    assert len(machine.trt.built) == 4
    fields = [entry.fields for entry in machine.cache.entries() if entry.fields["kind"] == "engine"]
    assert {f["driver"] for f in fields} == {"13.0", "12.8"}
    assert {(f["gpu"], f["capability"], f["library"]) for f in fields} == {("Fake GPU", "8.6", "tensorrt 10.9.0")}


@pytest.mark.parametrize(
    "text",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:06:56 UTC 2025\nGCC version: 12.2",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build",
    ],
)
def test_the_version_of_the_driver(text, machine):
    assert nvidia.driver().gpu().driver == "13.0"
    nvidia.MODULE.write_text(text)
    assert nvidia.driver().gpu().driver == "13.0, 580.65.06"
    nvidia.MODULE.write_text("something else")
    assert nvidia.driver().gpu().driver == "13.0"


def test_timings_go_from_build_to_build(machine):
    for channels in (1, 3):
        runner(open_model("bicubic", 2), 2, channels, None)
    assert machine.trt.timings_seen == [b"", b"+"]


def test_kernels_of_rtx_are_kept(machine, random_image):
    machine.set(make("tensorrt_rtx", "1.7.1"))
    for _ in range(2):
        upscale(runner(open_model("bicubic", 2), 2, 3, None), random_image(3, 4, 3, "float32"))
        machine.restart()
    assert machine.trt.kernels_seen == [b"kernels"]
    assert machine.trt.timings_seen == []  # it would ask for a GPU
    assert machine.trt.built[0]["sm"] == [86]


def test_an_engine_that_does_not_load_is_built_anew(machine):
    model = open_model("bicubic", 2)
    runner(model, 2, 1, None)
    machine.trt.unloadable = 1
    runner(model, 2, 1, None)
    assert len(machine.trt.built) == 2
    machine.trt.unloadable = 2
    with pytest.raises(BackendError, match="cannot load the engine: Serialization assertion failed"):
        runner(model, 2, 1, None)


def in_threads(count, work):
    barrier, results = threading.Barrier(count), []

    def run():
        barrier.wait()
        results.extend(work())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_each_thread_has_a_context(machine, random_image):
    made = runner(open_model("bicubic", 2), 2, 3, None)
    x = random_image(9, 9, 3, "float32")
    wanted = upscale(made, x)
    results = in_threads(4, lambda: [upscale(made, x) for _ in range(3)])
    assert len(machine.trt.contexts) == 5
    assert len(results) == 12
    assert all(np.array_equal(result, wanted) for result in results)
    assert len(machine.cuda.streams) == 1  # those of finished threads are gone, and their memory
    assert len(machine.cuda.allocated) == 3


def test_images_larger_than_the_profile_are_cut(machine, monkeypatch, random_image):
    monkeypatch.setattr(network, "PROFILE", Profile((1, 1), (8, 8), (17, 23)))
    monkeypatch.setattr(prepare, "__kwdefaults__", {**prepare.__kwdefaults__, "profile": network.PROFILE})
    model = open_model("bicubic", 2)
    made = runner(model, 2, 3, None)
    x = random_image(40, 61, 3, "uint8")
    steps = []
    result = upscale(made, x, progress=lambda *step: steps.append(step))
    assert np.abs(result.astype(int) - fastsr.upscale(x, model, scale=2, backend="native")).max() <= 1
    assert len(machine.trt.runs) >= 9
    assert max(shape[2] for shape in machine.trt.runs) <= 17
    assert max(shape[3] for shape in machine.trt.runs) <= 23
    assert steps == sorted(steps)
    assert steps[-1] == (80, 80)
    monkeypatch.setattr(network, "PROFILE", Profile((1, 1), (3, 3), (5, 5)))
    with pytest.raises(OptionError, match="too little"):
        runner(model, 2, 3, None)


def test_smaller_parts_where_memory_is_small(machine, random_image):
    model = open_model("bicubic", 2)
    x = random_image(70, 50, 3, "float32")
    wanted = fastsr.upscale(x, model, scale=2, backend="native")
    machine.set(memory=40 * 50 * (WORK_BYTES + 60))
    made = runner(model, 2, 3, None)
    assert np.abs(upscale(made, x) - wanted).max() <= 1e-5
    assert max(shape[2] for shape in machine.trt.runs) < 70
    assert machine.cuda.most <= machine.cuda.memory
    machine.set(machine.trt, memory=100_000)
    made = runner(model, 2, 3, None)
    with pytest.raises(DeviceMemoryError, match=r"at least \d+ bytes would do.*backend='native'") as caught:
        upscale(made, x)
    least = caught.value.least
    assert not machine.cuda.allocated
    machine.cuda.memory = least
    assert np.abs(upscale(made, x) - wanted).max() <= 1e-5
    assert isinstance(caught.value, MemoryError)


def chain(*factors):
    """Return a network that multiplies a pixel by one factor after the other."""
    b, x = GraphBuilder(1), INPUT
    for factor in factors:
        x = b.conv(x, np.full((1, 1, 1, 1), factor))
    graph, tensors = b.finish(x)
    return CompiledModel("chain", (graph,), tensors)


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_fp16_results_that_are_not_finite_are_computed_in_fp32(machine, random_image):
    machine.set(make(exact=True))
    x = random_image(6, 5, 1, "float32") + np.float32(0.1)
    made = runner(chain(3e4, 3e4, 1e-4, 1e-4), 1, 1, None, "fp16")  # 9e8 between: fine in fp32
    assert len(machine.trt.built) == 1
    for _ in range(2):
        with pytest.warns(NonFiniteWarning, match="tensorrt in fp16 gave NaN or infinity for an image of 5 x 6"):
            result = upscale(made, x)
        np.testing.assert_allclose(result, 9 * x, rtol=1e-5)
    assert len(machine.trt.built) == 2  # fp32 too, once
    insane = runner(chain(*[3e4] * 10), 1, 1, None, "fp16")
    with pytest.warns(NonFiniteWarning), pytest.raises(BackendError, match="not sane"):
        upscale(insane, x)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_found(value):
    y = np.random.default_rng(1).random((3, 40, 50), dtype=np.float32) * 1e38
    assert is_finite(y)
    y[1, 20, 30] = value
    assert not is_finite(y)
    y[0, 1, 2] = -np.inf
    assert not is_finite(y)


def test_progress_of_a_build_only_grows_and_reaches_the_end(machine):
    seen = []
    prepare(open_model("bicubic", 2), 2, 3, progress=lambda *step: seen.append(step))
    assert seen == sorted(seen)
    assert seen[-1] == (STEPS, STEPS)
    assert [done for done, _ in seen][:4] == [125, 250, 375, 500]


def test_progress_can_end_a_build(machine):
    def stop(done, total):
        if done > STEPS // 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(open_model("bicubic", 2), 2, 3, progress=stop)
    assert machine.trt.built == []
    assert [entry for entry in machine.cache.entries() if entry.fields["kind"] == "engine"] == []


def test_phases_of_unknown_parents_and_missing_steps():
    phases = Phases()
    phases.start("a", None, 2)
    phases.start("b", "a", 10)
    phases.step("b", 4)
    assert phases.done == pytest.approx(0.25)
    phases.finish("b")  # before its last step
    phases.step("a", 0)
    assert phases.done == pytest.approx(0.5)
    phases.start("stray", "nobody", 0)
    phases.step("stray", 7)
    phases.step("gone", 1)
    assert phases.done == 1


@pytest.mark.parametrize(
    ("refuse", "message"),
    [("parse", "refuses the network: operator Xyz"), ("build", "cannot build the engine: no tactic was found")],
)
def test_what_tensorrt_says_is_passed_on(refuse, message, machine):
    machine.set(make(refuse=refuse))
    with pytest.raises(BackendError, match=message):
        runner(open_model("bicubic", 2), 2, 3, None)


def test_activation_memory_is_read(machine):
    made = build(library.find_library(), b"onnx", 3, Profile())
    assert made.activations == 1234


def test_why_unavailable(machine, monkeypatch):
    assert why_unavailable() is None
    machine.set(make(version="8.6.1"))
    assert "tensorrt 8.6.1: tensorrt 10 or newer is needed" in why_unavailable()
    machine.set(devices=0)
    assert "no NVIDIA GPU can be used: no device (CUDA error 100)" in why_unavailable()
    for name in library._MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    machine.cuda.devices = 1
    machine.restart()
    assert "pip install 'fastsr[tensorrt]'" in why_unavailable()
    monkeypatch.setenv("FASTSR_TENSORRT", "tensorflow")
    with pytest.raises(OptionError, match="FASTSR_TENSORRT"):
        library.find_library()


def test_no_driver(machine, monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open")

    machine.restart()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert why_unavailable().startswith("no NVIDIA driver")
    with pytest.raises(BackendUnavailableError, match="no NVIDIA driver"):
        runner(open_model("bicubic", 2), 2, 3, None)


def test_what_the_driver_says_is_passed_on(machine, monkeypatch, random_image):
    made = runner(open_model("bicubic", 2), 2, 3, None)
    monkeypatch.setattr(machine.cuda, "cuMemcpyDtoHAsync_v2", lambda *_: 700, raising=False)
    with pytest.raises(BackendError, match=r"cuMemcpyDtoHAsync_v2 failed: failed \(CUDA error 700\)"):
        upscale(made, random_image(4, 4, 3, "float32"))


def test_a_gpu_that_rtx_does_not_know(machine):
    machine.set(make("tensorrt_rtx", "1.7.1"), capability=(9, 0), name=b"NVIDIA H100")
    with pytest.raises(BackendUnavailableError, match=r"does not know the NVIDIA H100 .*9.0.*pip install tensorrt"):
        runner(open_model("bicubic", 2), 2, 3, None)


def test_wrong_options(machine):
    model = open_model("bicubic", 2)
    with pytest.raises(OptionError, match="tensorrt has fp32, tf32, fp16, int8"):
        runner(model, 2, 3, None, "fp8")
    with pytest.raises(OptionError, match="least <= usual <= most"):
        Profile((2, 1), (1, 1), (1, 1))
    with pytest.raises(OptionError, match="for the GPU that is there only"):
        build(library.find_library(), b"", 3, Profile(), capabilities=["8.6"])
    machine.set(make("tensorrt_rtx", "1.7.1"))
    with pytest.raises(OptionError, match=r"'9.0' is not known; 7.5, 8.0, 8.6, 12.0 are"):
        build(library.find_library(), b"", 3, Profile(), capabilities=["9.0"])
    kept = network._Kept(model, 2, 3, "fp32")
    with pytest.raises(ShapeError, match=r"\(3, H, W\) is needed"):
        kept.run(np.zeros((1, 4, 4), np.float32))


def test_auto_takes_it_and_says_so(machine, random_image):
    x = random_image(6, 7, 3, "uint8")
    sr = fastsr.load("bicubic", scale=2)
    assert (sr.backend, sr.precision, sr.skipped) == ("tensorrt", "fp32", {})
    assert np.abs(sr.upscale(x).astype(int) - fastsr.upscale(x, "bicubic", scale=2, backend="native")).max() <= 1
    assert sr.last_report.backend == "tensorrt"
    assert fastsr.load("bicubic", scale=2, precision="fp16").precision == "fp16"
    assert fastsr.load("bicubic", scale=2, max_memory="64MB").backend == "native"  # which keeps it
    report = fastsr.doctor()
    assert (report["auto"], report["backends"]["tensorrt"]) == ("tensorrt", None)


def test_auto_tries_it_beside_the_native_engine(machine, monkeypatch, tmp_path):
    monkeypatch.delenv("FASTSR_TRIAL")
    monkeypatch.setenv("FASTSR_CACHE", str(tmp_path))
    sr = fastsr.load("bicubic", scale=2, max_memory=None)
    assert sr.backend in ("tensorrt", "native")  # which is faster here is not the question
    ((key, figures),) = json.loads((tmp_path / "trials.json").read_text()).items()
    assert "Fake GPU (8.6), driver 13.0" in key
    assert 0 < figures["tensorrt"]["difference"] < 1e-5
    assert {"ms"} == set(figures["native"])
    assert sr.why


def test_auto_passes_over_what_fails_and_says_why(machine, random_image):
    machine.set(make(refuse="build"))
    sr = fastsr.load("bicubic", scale=2)
    assert sr.backend == "native"
    assert "no tactic was found" in sr.skipped["tensorrt"]
    report = fastsr.doctor()
    assert report["auto"] == "native"
    assert "no tactic was found" in report["backends"]["tensorrt"]
    with pytest.raises(BackendError, match="no tactic was found"):
        fastsr.load("bicubic", scale=2, backend="tensorrt")
    with pytest.raises(BackendError, match="no tactic was found"):
        fastsr.load("bicubic", scale=2, precision="tf32")  # nothing else that is there has it


def test_doctor_finds_wrong_results(machine, monkeypatch):
    right = network.Engine.run
    monkeypatch.setattr(network.Engine, "run", lambda self, x: right(self, x) + np.float32(1e-4))
    report = fastsr.doctor()
    assert "differs from the reference by 1.0e-04" in report["backends"]["tensorrt"]
    assert report["auto"] == "native"


def test_engines_command(machine, capsys):
    def run(*arguments):
        with pytest.raises(SystemExit) as end:
            main(["engines", *arguments])
        return end.value.code, capsys.readouterr()

    assert run("build", "bicubic", "--scale", "2", "--precision", "fp16")[0] == 0
    (path,) = (e.path for e in machine.cache.entries() if e.fields["network"].startswith("x2, 1"))
    path.write_bytes(b"damaged")
    code, said = run("list")
    assert code == 0
    assert "bicubic, x2, 3 channels, fp16" in said.out
    assert "Fake GPU (8.6), tensorrt 10.9.0, CUDA 13.0" in said.out
    assert said.out.count("damaged") == 1
    assert "timings of builds" in said.out
    code, said = run("build", "bicubic", "--channels", "7")
    assert (code, "no graph for scale 4 and 7 channels" in said.err) == (2, True)
    assert run("build", "bicubic", "--precision", "int4")[0] == 2
    assert run("clear")[1].out.startswith("3 files, ")
    assert machine.cache.entries() == []
    machine.set(devices=0)
    code, said = run("build", "bicubic")
    assert (code, "no NVIDIA GPU can be used" in said.err) == (1, True)
