"""The script that checks and times on a GPU, without one: its table, bars, limits and what it does with failures."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fastsr[torch]'")

from benchmarks.gpu import __main__ as script
from benchmarks.gpu import cases, checks, eight_bits, entrants, memory, report, timing
from benchmarks.gpu.cases import Bar


def test_dry_run_writes_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cases, "DRY_CASES", cases.DRY_CASES[:1])
    monkeypatch.setattr(checks, "NETWORKS", (("bicubic", 3),))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert script.main(["--dry-run", "-o", str(tmp_path / "out"), "--data", str(tmp_path)]) == 0
    page = (tmp_path / "out" / "gpu.md").read_text()
    assert page in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())
    figures = found["figures"]["bicubic x2, LR 16x12"]
    assert set(figures) == {"native, user's call", cases.EAGER}
    assert all(row["ms"] > 0 for row in figures.values())
    assert figures[cases.EAGER]["off"] < 1e-6
    assert 0 < figures["native, user's call"]["off"] <= 0.51 / 255  # rounding to 8 bits
    assert found["checks"]["native fp32, bicubic x3 beside float64"][0]
    why = found["failures"]["bicubic x2, LR 16x12, triton fp16, user's call"]
    assert "BackendUnavailableError" in why
    assert why.split(":")[0] in page


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("here is a GPU")
    assert script.main(["-o", str(tmp_path)]) == 2
    assert "--dry-run" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_bars_are_judged_by_figures():
    figures = {"a": {"ms": 0.4, "bytes": 50e6}, "b": {"ms": 1.0, "bytes": 90e6}}
    assert Bar("c", "ms", "a", most=0.45).judge(figures) == "met: 0.400 ms"
    assert Bar("c", "ms", "a", most=0.2).judge(figures) == "not met: 0.400 ms"
    assert Bar("c", "ms", "a", factor=2, beside="b").judge(figures) == "met: 2.50 times (0.400 ms, 1.000 ms)"
    assert Bar("c", "bytes", "a", factor=2, beside="b").judge(figures) == "not met: 1.80 times (50.0 MB, 90.0 MB)"
    assert Bar("c", "bytes", "a", most=64e6).judge(figures) == "met: 50.0 MB"
    assert Bar("c", "ms", "a", factor=2, beside="x").judge(figures) == "not measured"
    assert Bar("c", "ms", "x", most=1).judge(figures) == "not measured"
    names = {e.name for e in entrants.ENTRANTS}
    for bar in cases.BARS:
        assert {bar.who, bar.beside or bar.who} <= names
        assert bar.case in {c.name for c in cases.CASES}
        assert bar.text


def test_tensorrt_takes_part_where_it_is_and_says_why_not_elsewhere(monkeypatch, tmp_path):
    pytest.importorskip("onnxruntime", reason="the stub of TensorRT computes with ONNX Runtime")
    from fake_tensorrt import Machine, make

    (entrant,) = (e for e in entrants.ENTRANTS if e.name == cases.TENSORRT)
    for name in ("tensorrt", "tensorrt_rtx"):
        machine = Machine(monkeypatch, tmp_path)
        machine.set(make(name))
        ready = entrant.make(cases.DRY_CASES[1], timing.Dry())
        ready.run()
        difference = np.abs(np.clip(ready.result(), 0, 1) - script._expected(cases.DRY_CASES[1]))
        assert difference.max() < 2e-3
        assert machine.trt.built[0]["shapes"] == {"input": ((1, 3, 6, 8),) * 3}
        assert ready.held == 3 * 12 * 16 * 2
    machine.set(devices=0)
    with pytest.raises(RuntimeError, match="GPU"):
        entrant.make(cases.DRY_CASES[1], timing.Dry())
    monkeypatch.undo()
    machine.restart()


def test_sanitizers_run_where_they_are(monkeypatch, tmp_path):
    found = {check.name: check for check in checks.checks(["cuda"], None)}
    chosen = [check for name, check in found.items() if "sanitizer" in name]
    assert len(chosen) == 4
    which = shutil.which
    monkeypatch.setattr(checks.shutil, "which", lambda name, path=None: which(name, path=str(tmp_path)))
    with pytest.raises(RuntimeError, match="CUDA toolkit"):
        chosen[0].run()
    program = tmp_path / "compute-sanitizer"
    for code in (0, 9):
        program.write_text(f"#!/bin/sh\necho '========= ERROR SUMMARY: {code} errors for' $2\nexit {code}\n")
        program.chmod(0o755)
        assert chosen[1].run() == (code == 0, f"ERROR SUMMARY: {code} errors for racecheck")
    assert not [check for check in checks.checks(["triton"], None) if "sanitizer" in check.name]


def test_a_step_that_fails_or_hangs_is_named_and_the_rest_goes_on():
    results = report.Report({"device": "none"})
    written = []
    steps = script.Steps(results, time.monotonic() + 60, lambda: written.append(len(results.failures)))
    with steps.step("broken", 10):
        raise ValueError("too | large")
    with steps.step("hanging", 0.05):
        time.sleep(5)
    with steps.step("fine", 10):
        pass
    assert results.failures == {"broken": "ValueError: too | large", "hanging": "the time was over"}
    assert written == [1, 2, 2]
    assert "| broken | ValueError: too / large |" in results.page(())
    assert not steps.over
    late = script.Steps(results, time.monotonic() - 1, lambda: None)
    with late.step("late", 10):
        time.sleep(1)
    assert late.over
    assert "late" in results.stopped


def test_runs_are_timed_in_turns():
    order = []

    class Fake(timing.Dry):
        def seconds(self, run, repeats):
            run()
            return {"slow": 0.5, "fast": 0.1}[order[-1]]

    runs = {name: lambda name=name: order.append(name) for name in ("slow", "fast")}
    assert timing.interleaved(Fake(), runs, 3, 60) == {"slow": 0.5, "fast": 0.1}
    assert order[-6:] == ["slow", "fast"] * 3
    ticks = iter(range(100))
    order.clear()
    timing.interleaved(Fake(), runs, 50, 2.5, clock=lambda: next(ticks))
    assert len(order) == 4 + 3 * 2


def test_eight_bits_pay_by_speed_and_psnr():
    half, whole = cases.OURS, cases.EIGHT_BITS["int8"]
    figures = {half: {"ms": 1.3}, whole: {"ms": 1.0}}
    assert eight_bits.verdict(figures, "int8", 0.1) == "pays: 1.30 times fp16, 0.100 dB lost"
    assert eight_bits.verdict(figures, "int8", 0.11) == "does not pay: 1.30 times fp16, 0.110 dB lost"
    assert eight_bits.verdict(figures, "int8", None) == "not known: 1.30 times fp16, PSNR not measured"
    assert eight_bits.verdict({half: {"ms": 1.2}, whole: {"ms": 1}}, "int8", 0).startswith("does not pay: 1.20 times")
    assert eight_bits.verdict(figures, "fp8", 0.2) == "does not pay: time not measured, 0.200 dB lost"
    assert {*cases.EIGHT_BITS.values(), half} <= {e.name for e in entrants.ENTRANTS}
    networks = [(case.model, case.scale, precision) for case, precision in eight_bits.pairs()]
    assert networks == [(m, s, p) for m, s in (("fmen", 4), ("vdsr", 2), ("srresnet", 4)) for p in ("int8", "fp8")]
    results = report.Report({"device": "none"}, figures={cases.CASES[0].name: figures}, losses={"fmen x4 int8": 0.05})
    page = results.page(())
    assert f"| {cases.CASES[0].name} | int8 | pays: 1.30 times fp16, 0.050 dB lost |" in page
    assert "at most 0.1 dB lost" in page


def test_losses_are_measured_in_steps(data, monkeypatch):
    """With the native engine in the GPU's place."""
    real = eight_bits.loss
    monkeypatch.setattr(eight_bits, "loss", lambda *arguments: real(*arguments, backend="native"))
    results = report.Report({"device": "none"})
    monkeypatch.setattr(cases, "CASES", cases.CASES[:1])
    monkeypatch.setattr(eight_bits, "CASES", cases.CASES)
    script._losses(data / "benchmarks", script.Steps(results, time.monotonic() + 60, lambda: None))
    assert 0 < results.losses["fmen x4 int8"] < 0.02
    assert "computes in fp32, int8, bf16" in results.failures["fmen x4 fp8, PSNR on Set5"]


def test_memory_by_the_driver(monkeypatch):
    """What an array takes, where the driver's memory is that of a stub; and what a process that fails says."""
    taken = [100]

    def run():
        taken[0] = 700
        time.sleep(0.05)
        taken[0] = 300

    assert memory.most_taken(lambda: 1000 - taken[0], run) == 600
    with pytest.raises(RuntimeError, match="no NVIDIA driver"):
        memory.weigh("cuda", "fp16", cases.DRY_CASES[1])

    class Network:
        precision = "fp16"

        def upscale(self, image):
            return image

        def release(self):
            pass

    monkeypatch.setattr(entrants.fastsr, "load", lambda *a, **k: Network())
    monkeypatch.setattr(memory, "weigh", lambda backend, precision, case: 12.5e6)
    entrant = next(e for e in entrants.ENTRANTS if e.name == "cuda fp16, user's call")
    field = [replace(entrant, make=lambda case, device: replace(entrant.make(case, device), run=lambda: None))]
    for case, cell in ((cases.CASES[1], "12.5 (driver)"), (cases.CASES[0], "")):
        results = report.Report({"device": "none"})
        monkeypatch.setattr(script, "_expected", lambda case: np.zeros((case.height, case.width, 3)))
        script._measure(case, field, timing.Dry(), script.Steps(results, time.monotonic() + 60, lambda: None))
        assert not results.failures
        assert f"| {entrant.name} | 0.0" in results.page(())
        assert f" | {cell} | " in results.page(())
