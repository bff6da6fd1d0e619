"""The script that checks and times on a GPU, without one: its table, bars, limits and what it does with failures."""

from __future__ import annotations

import json
import shutil
import time

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fastsr[torch]'")

from benchmarks.gpu import __main__ as script
from benchmarks.gpu import cases, checks, entrants, report, timing
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
