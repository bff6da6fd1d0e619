"""TensorRT-RTX itself parses and builds our networks, without a GPU; docs/tensorrt.md has the figures."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fastsr
from benchmarks.engines import CAPABILITIES, PAGE, PRECISIONS, engine, network, row
from fastsr.backends.nvidia import why_no_gpu
from fastsr.backends.tensorrt.build import STEPS, Profile, build
from fastsr.backends.tensorrt.library import find_library
from fastsr.errors import BackendError, BackendUnavailableError, OptionError
from fastsr.exporting import onnx_bytes, target_of
from fastsr.models import open_model


@pytest.fixture(scope="module")
def rtx():
    try:
        library = find_library()
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    if not library.is_rtx:
        pytest.skip(f"{library.name} is installed; only TensorRT-RTX builds without a GPU")
    return library


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_table_is_current(precision, rtx):
    """Activation memory and size of FMEN's engines; 5 builds, 5 to 10 s."""
    page = PAGE.read_text()
    if f"{rtx.name} {rtx.version}," not in page:
        pytest.skip(f"docs/tensorrt.md is about another version than {rtx.version}: python -m benchmarks.engines")
    onnx = network(precision)
    for capability in CAPABILITIES:
        assert row(precision, capability, engine(rtx, onnx, precision, capability)) in page


@pytest.mark.parametrize(("name", "scale"), [("vdsr", 2), ("srresnet", 4), ("bicubic", 3)])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_network_builds(name, scale, precision, rtx):
    target = target_of(open_model(name, scale), scale, 1)
    seen = []
    options = {"capabilities": ["8.6", "12.0"], "progress": lambda *step: seen.append(step)}
    built = build(rtx, onnx_bytes(target, precision, "fp32", None), 1, Profile(), **options)
    assert len(built.engine) > 1000
    assert seen == sorted(seen)
    assert len(set(seen)) > 5
    assert seen[-1] == (STEPS, STEPS)


def test_progress_can_end_a_build(rtx):
    def stop(done, total):
        raise KeyboardInterrupt

    onnx = network("fp32")
    with pytest.raises(KeyboardInterrupt):
        build(rtx, onnx, 3, Profile(), capabilities=["8.6"], progress=stop)
    assert build(rtx, onnx, 3, Profile(), capabilities=["8.6"]).engine


def test_nonsense_is_refused_in_its_words(rtx):
    with pytest.raises(BackendError, match="refuses the network: "):
        build(rtx, b"nonsense", 3, Profile(), capabilities=["8.6"])


def test_export_to_tensorrt(rtx, tmp_path):
    command = [sys.executable, "-m", "fastsr.cli", "export", "fmen", "--scale", "2", "--to", "tensorrt"]
    command += ["-o", "f.engine", "--precision", "fp16", "--gpu", "8.9"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["f.engine"]
    assert done.stderr == ""
    onnx = fastsr.export("fmen", tmp_path / "f.onnx", scale=2, precision="fp16")
    assert (tmp_path / "f.engine").stat().st_size > onnx.stat().st_size  # kernels and weights


def test_export_asks_which_gpu(rtx, tmp_path):
    if why_no_gpu() is None:
        pytest.skip("there is a GPU")
    with pytest.raises(BackendUnavailableError, match=r"no NVIDIA .*name what it is for: 7.5, 8.0, .*--gpu"):
        fastsr.export("bicubic", tmp_path / "f.engine", to="tensorrt")
    with pytest.raises(OptionError, match=r"'9.0' is not known"):
        fastsr.export("bicubic", tmp_path / "f.engine", to="tensorrt", compute_capabilities=["9.0"])
    assert not list(tmp_path.iterdir())
