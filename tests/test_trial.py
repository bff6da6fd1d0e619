"""How "auto" finds the fastest back end that is right. No GPU is needed: back ends are stubs around the native one."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import fastsr
from fastsr import diagnostics
from fastsr.backends import BACKENDS, trial
from fastsr.backends.base import Backend
from fastsr.backends.native import NativeRunner
from fastsr.backends.nvidia import Gpu
from fastsr.errors import BackendUnavailableError

FAST, NATIVE, SLOW = 0.001, 0.02, 0.05  # seconds of a run, on a clock that only runs go by


class Stub(NativeRunner):
    """The native engine in a time and with an error of its own."""

    seconds, off, error = FAST, 0.0, None
    now = 0.0

    def run(self, pixels, target, job, max_memory):
        if self.error:
            raise self.error
        super().run(pixels, target, job, max_memory)
        target += np.float32(self.off)
        Stub.now += self.seconds


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with a GPU. machine.add(name, seconds, off, error): a GPU back end; machine.made: which were run."""
    made = []

    def backend(name, precisions=("fp32",), **how):
        kind = type(name, (Stub,), how)

        def runner(model, scale, channels, threads, precision):
            made.append(name)
            return kind(model, scale, channels, threads, "fp32")

        return Backend(name, name, lambda: None, runner, precisions, gpu=name != "native", bounded=True)

    known = [backend("native", ("fp32", "int8", "bf16"), seconds=NATIVE)]
    monkeypatch.setattr(importlib.import_module("fastsr.backends"), "BACKENDS", known)
    monkeypatch.setattr(trial, "why_no_gpu", lambda: None)
    monkeypatch.setattr(trial, "time", SimpleNamespace(perf_counter=lambda: Stub.now))
    gpu = Gpu("Stub GPU", "9.0", "13.0")
    monkeypatch.setattr(trial, "driver", lambda: SimpleNamespace(gpu=lambda: gpu))
    monkeypatch.setenv("FASTSR_CACHE", str(tmp_path))
    monkeypatch.delenv("FASTSR_TRIAL")
    monkeypatch.delenv("FASTSR_BACKEND")

    def add(name, seconds=FAST, off=0.0, error=None, **options):
        known.append(backend(name, seconds=seconds, off=off, error=error, **options))

    return SimpleNamespace(add=add, made=made, known=known, file=tmp_path / "trials.json")


def load(**options):
    return fastsr.load("bicubic", scale=2, **options)


def test_the_fastest_that_is_right_is_taken_and_said(machine, random_image):
    machine.add("slow", SLOW)
    machine.add("wrong", off=0.3)
    machine.add("broken", error=RuntimeError("no kernel image"))
    machine.add("fast", off=1e-6)
    sr = load()
    assert sr.backend == "fast"
    assert sr.why == "20.0 times native, a largest difference of 1e-06"
    assert sr.skipped["wrong"] == "has a largest difference of 3e-01; 1e-05 is allowed"
    assert sr.skipped["broken"] == "failed: RuntimeError: no kernel image"
    assert sr.skipped["slow"] == "takes 50.0 times as long as fast"
    assert sr.skipped["native"] == "takes 20.0 times as long as fast"
    x = random_image(6, 7, 3, "float32")
    assert np.abs(sr.upscale(x) - load(backend="native").upscale(x)).max() <= 1.1e-6


def test_native_stays_where_nothing_else_is_right_and_faster(machine):
    machine.add("slow", SLOW)
    machine.add("wrong", off=float("nan"))
    sr = load()
    assert sr.backend == "native"
    assert set(sr.skipped) == {"slow", "wrong"}
    assert "; wrong has a largest difference of nan" in sr.why
    assert sr.why.startswith("20.0 ms; ")
    assert sr.why.endswith("; slow takes 2.5 times as long as native")


def test_a_trial_is_made_once_and_kept_in_a_readable_file(machine):
    machine.add("fast")
    load()
    assert machine.made.count("fast") == 2  # the trial, the upscaler
    first = machine.file.read_text()
    ((key, figures),) = json.loads(first).items()
    assert "bicubic x2, 3 channels, fp32" in key
    assert "Stub GPU (9.0), driver 13.0" in key
    assert f"fastsr {fastsr.__version__}" in key
    assert set(figures) == {"native", "fast"}
    assert load().backend == "fast"
    assert machine.made.count("fast") == 3
    assert machine.file.read_text() == first
    fastsr.load("bicubic", scale=3)
    assert len(json.loads(machine.file.read_text())) == 2
    machine.add("new")
    load()
    assert len(json.loads(machine.file.read_text())) == 3


@pytest.mark.parametrize("damage", ["", "{", "[]", "{KEY: 3}", "{KEY: {'fast': {'ms': 'x', 'difference': 0.0}}}", None])
def test_a_damaged_file_means_another_trial(machine, damage):
    machine.add("fast")
    machine.add("wrong", off=0.3)
    load()
    (key,) = json.loads(machine.file.read_text())
    if damage is None:  # a file that claims the wrong one to be right, in fields that none has
        text = json.dumps({key: {"native": {"ms": 1.0}, "fast": {"ms": 9.0}, "wrong": {"ms": 0.1, "ok": True}}})
    else:
        text = damage.replace("KEY", json.dumps(key)).replace("'", '"')
    machine.file.write_text(text)
    assert load().backend == "fast"
    assert set(json.loads(machine.file.read_text())[key]) == {"native", "fast", "wrong"}


def test_where_nothing_can_be_kept_it_still_works(machine, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FASTSR_CACHE", str(tmp_path / "file" / "below"))
    machine.add("fast")
    assert load().backend == "fast"


def test_precisions(machine):
    """fp32, where none is asked for, is not given up for speed; one that native lacks is tried beside its fp32."""
    machine.add("coarse", precisions=("tf32",))
    machine.add("half", precisions=("fp32", "fp16"), off=1e-4)
    assert load().backend == "native"
    sr = load(precision="fp16")
    assert (sr.backend, sr.precision) == ("half", "fp16")
    assert sr.why.endswith("ms, a largest difference of 1e-04")
    machine.known[-1:] = []
    machine.add("half", precisions=("fp32", "fp16"), off=0.1)
    machine.add("other", precisions=("fp32", "fp16"), error=ValueError("bad"))
    with pytest.raises(BackendUnavailableError, match=r"half has a largest difference of 1e-01.*other failed: .*bad"):
        load(precision="fp16")


def test_integers_are_judged_in_decibels():
    rows = {"native": {"ms": 9.0}, "near": {"ms": 2.0, "psnr": 45.2}, "far": {"ms": 1.0, "psnr": 20.0}}
    found = trial.judge(rows, "int8")
    assert (found.chosen, found.why) == ("near", "4.5 times native, 45.2 dB of native")
    assert found.refused["far"] == "has 20.0 dB of native; 38 dB is the least"


def test_no_trial_where_it_is_switched_off_or_a_name_is_given(machine, monkeypatch):
    machine.add("fast")
    assert load(backend="native").why == ""
    assert load(backend="fast").backend == "fast"
    monkeypatch.setenv("FASTSR_TRIAL", "0")
    sr = load()
    assert (sr.backend, sr.why, sr.skipped) == ("native", "", {})
    monkeypatch.delenv("FASTSR_TRIAL")
    monkeypatch.setattr(trial, "why_no_gpu", lambda: "no driver")
    assert load().backend == "native"
    assert not machine.file.exists()
    assert machine.made.count("fast") == 1


def test_doctor_says_what_auto_takes_and_why(machine, monkeypatch):
    monkeypatch.setattr(diagnostics, "BACKENDS", machine.known)
    machine.add("fast")
    machine.add("wrong", off=0.3)
    report = fastsr.doctor()
    assert report["auto"] == "fast"
    assert report["trial"].startswith("20.0 times native")
    assert report["backends"]["wrong"].startswith("failed: it differs")


def test_without_a_driver_nothing_is_imported():
    code = (
        "import fastsr, sys, numpy as np; from fastsr.backends import nvidia, triton; "
        "nvidia.ctypes.CDLL = triton._driver = lambda *a: exec('raise OSError') if a else False; "
        "fastsr.upscale(np.ones((4, 5, 3), 'uint8'), 'bicubic', scale=2); "
        "assert not {'torch', 'triton', 'onnxruntime', 'tensorrt'} & set(sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FASTSR_")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_the_real_list_of_back_ends_has_native_as_reference():
    assert [b.name for b in BACKENDS if b.name == trial.NATIVE]
