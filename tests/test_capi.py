"""The C library: built, installed, linked and run as an embedder does; the same bits as `fastsr.upscale`."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cpp_build import ROOT, generator, installed_c_library, run

import fastsr
from fastsr.graph.model import CompiledModel
from fastsr.models import MODELS, WEIGHTS, open_model
from tests.c_library import CLibrary
from tests.random_graphs import random_graph

SHIPPED = [(spec.name, scale) for spec in MODELS if spec.files for scale in spec.scales]
NETWORKS = [
    (g.channels, name, scale) for name, scale in SHIPPED for g in open_model(name, scale).graphs if g.scale == scale
]
DTYPES = ["uint8", "uint16", "int16", "float32"]
SHAPES = [(1, 1), (1, 29), (31, 1), (7, 13)]

if not sys.platform.startswith("linux"):
    pytest.skip("the C library is tested on Linux", allow_module_level=True)
for tool in ("cmake", "cc", "c++"):
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is needed", allow_module_level=True)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    """Where the library is installed, by the two commands of docs/embedding.md."""
    return installed_c_library(tmp_path_factory)


@pytest.fixture(scope="module")
def lib(prefix):
    found = sorted(prefix.glob("lib*/**/libfastsr.so"))
    assert len(found) == 1
    return found[0].parent


@pytest.fixture(scope="module")
def library(lib):
    return CLibrary(lib / "libfastsr.so")


def built_example(name, prefix, folder, *options):
    run("cmake", "-S", ROOT / "examples" / name, "-B", folder, *generator(), f"-DCMAKE_PREFIX_PATH={prefix}", *options)
    run("cmake", "--build", folder)
    return folder


def pkg_config(lib, *arguments):
    if shutil.which("pkg-config") is None:
        pytest.skip("pkg-config is needed")
    environment = {**os.environ, "PKG_CONFIG_PATH": str(lib / "pkgconfig")}
    return run("pkg-config", *arguments, "fastsr", env=environment).split()


# ---- the ABI ----


def committed_abi():
    lines = (ROOT / "csrc/capi/abi.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_exactly_the_committed_functions_are_exported(lib):
    table = run("nm", "-D", "--defined-only", "--with-symbol-versions", lib / "libfastsr.so")
    exported = {line.split()[2] for line in table.splitlines() if line.split()[1] != "A"}
    assert all(name.endswith("@@FASTSR_0") for name in exported)
    functions = [f"function {name.removesuffix('@@FASTSR_0')}" for name in exported]
    assert sorted(functions) == [line for line in committed_abi() if line.startswith("function ")]


def test_structs_and_values_are_the_committed_ones(prefix, tmp_path):
    if sys.maxsize < 2**32:
        pytest.skip("the list is for 64 bits")
    flags = ["-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror", f"-I{prefix / 'include'}"]
    run("cc", *flags, ROOT / "csrc/tests/abi.c", "-o", tmp_path / "abi")
    wanted = [line for line in committed_abi() if not line.startswith("function ")]
    assert run(tmp_path / "abi").splitlines() == wanted
    header = (prefix / "include/fastsr/fastsr.h").read_text()
    declared = set(re.findall(r"^FSR_API [^(]*?(fsr_\w+)\(", header, re.MULTILINE))
    assert declared == {line.split()[1] for line in committed_abi() if line.startswith("function ")}


def test_the_library_neither_prints_nor_aborts_and_needs_no_python(lib):
    imported = {line.split()[-1].split("@")[0] for line in run("nm", "-Du", lib / "libfastsr.so").splitlines()}
    assert not imported & {"abort", "exit", "_exit", "printf", "puts", "putchar", "perror", "fputs", "fwrite", "stderr"}
    assert not imported & {"_ZSt4cout", "_ZSt4cerr", "_ZSt4clog"}
    needed = re.findall(r"NEEDED.*\[(.+?)\.so", run("readelf", "-d", lib / "libfastsr.so"))
    assert set(needed) <= {"libstdc++", "libm", "libgcc_s", "libc", "ld-linux-x86-64", "libpthread"}


def test_versions_agree(library):
    version = library.lib.fsr_version().decode()
    assert version == fastsr.__version__
    assert f"project(fastsr VERSION {version} " in (ROOT / "CMakeLists.txt").read_text()


def test_the_wheel_has_no_c_library(tmp_path):
    if importlib.util.find_spec("pybind11") is None:
        pytest.skip("pybind11 is needed")
    folder = run(sys.executable, "-m", "pybind11", "--cmakedir").strip()
    python = f"-DPython_EXECUTABLE={sys.executable}"
    run("cmake", "-S", ROOT, "-B", tmp_path, *generator(), f"-Dpybind11_DIR={folder}", python)
    assert not (tmp_path / "csrc/capi").exists()
    assert "libfastsr" not in (tmp_path / "cmake_install.cmake").read_text()


# ---- the same bits as Python ----


@pytest.mark.filterwarnings("ignore::fastsr.errors.ValueRangeWarning")  # one random pixel is a narrow range
@pytest.mark.parametrize(("channels", "name", "scale"), NETWORKS)
def test_same_bits_as_python(library, name, scale, channels, random_image):
    model = library.open(open_model(name, scale).to_bytes())
    for i, (h, w) in enumerate(SHAPES):
        for dtype in DTYPES[i % 2 :: 2]:
            x = random_image(h, w, channels, dtype)
            wanted = fastsr.upscale(x, name, scale=scale, backend="native")
            assert model.upscale(x, scale).tobytes() == wanted.tobytes()
            got = model.stream(x, scale, push=1 + i, pull=1 + 4 * i, threads=1 + i % 2, strip_rows=(0, 3, 8, 1)[i])
            assert got.tobytes() == wanted.tobytes()


@pytest.mark.parametrize(("value", "precision"), [(1, "int8"), (2, "bf16")])
@pytest.mark.parametrize(("channels", "name", "scale"), NETWORKS)
def test_same_bits_as_python_in_every_precision(library, name, scale, channels, value, precision, random_image):
    model = library.open(open_model(name, scale).to_bytes())
    x = random_image(11, 67, channels, "uint8")
    wanted = fastsr.upscale(x, name, scale=scale, backend="native", precision=precision)
    assert not np.array_equal(wanted, fastsr.upscale(x, name, scale=scale, backend="native"))
    assert model.upscale(x, scale, precision=value).tobytes() == wanted.tobytes()
    assert (
        model.stream(x, scale, push=2, pull=9, threads=2, strip_rows=3, precision=value).tobytes() == wanted.tobytes()
    )


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("uint16", 0, 4095),
        ("int16", -1024, 3071),
        ("uint8", 3, 99.5),
        ("uint8", -50, 1000),
        ("int16", -0.5, 1e6),
        ("float32", -1000, 3000),
        ("float32", 1 / 3, 0.7),
        ("uint16", 1e-3, 65535),
    ],
)
def test_value_ranges_are_those_of_python(library, dtype, low, high, random_image):
    model = library.open(open_model("fmen", 4).to_bytes())
    x = random_image(5, 17, 1, dtype)
    wanted = fastsr.upscale(x, value_range=(low, high), backend="native")
    assert model.upscale(x, 4, value_low=low, value_high=high).tobytes() == wanted.tobytes()
    assert model.stream(x, 4, 2, 3, value_low=low, value_high=high).tobytes() == wanted.tobytes()


@pytest.mark.parametrize("limits", [(1.0, 1.0), (2.0, 1.0), (0.0, float("inf")), (300, 400), (5e-31, 8e-31), (0, 1e31)])
def test_value_ranges_that_python_refuses_are_refused(library, limits, random_image):
    model = library.open(open_model("fmen", 4).to_bytes())
    x = random_image(2, 2, 1, "uint8")
    with pytest.raises(fastsr.OptionError):
        fastsr.upscale(x, value_range=limits)
    with pytest.raises(RuntimeError, match="value range is"):
        model.upscale(x, 4, value_low=limits[0], value_high=limits[1])


def test_strides_of_all_kinds(library, random_image):
    model = library.open(open_model("fmen", 4).to_bytes())
    x = random_image(9, 21, 3, "uint16")
    wanted = fastsr.upscale(x, backend="native")
    for turned in (x[::-1], x[:, ::-1], x[:, :, ::-1]):
        assert model.upscale(turned, 4).tobytes() == fastsr.upscale(turned, backend="native").tobytes()
    planar = np.ascontiguousarray(x.transpose(2, 0, 1)).transpose(1, 2, 0)
    assert model.stream(planar, 4, 2, 7).tobytes() == wanted.tobytes()
    room = np.zeros((3, 2 * 84, 36 + 5), np.uint16)  # planar, turned, with gaps
    target = room[:, ::2, :36].transpose(2, 1, 0)
    assert np.array_equal(model.upscale(x, 4, target=target), wanted)
    assert not room[:, 1::2].any()


@pytest.mark.parametrize("seed", range(6))
def test_streams_of_random_networks(library, seed, random_image):
    graph, tensors = random_graph(seed, channels=1 + 2 * (seed % 2))
    compiled = CompiledModel("random", (graph,), tensors)
    model = library.open(compiled.to_bytes())
    for h, w in [(1, 1), (2, 9), (23, 11)]:
        x = random_image(h, w, graph.channels, "float32")
        wanted = fastsr.load(compiled, scale=graph.scale, backend="native").upscale(x)
        assert model.upscale(x, graph.scale).tobytes() == wanted.tobytes()
        for push, pull, strip in [(1, 1, 1), (5, 3, 2), (64, 64, 8)]:
            assert model.stream(x, graph.scale, push, pull, strip_rows=strip).tobytes() == wanted.tobytes()


# ---- embedders ----


@pytest.mark.parametrize("static", ["OFF", "ON"])
def test_a_program_that_uses_find_package(prefix, tmp_path, static):
    built_example("embed_cmake", prefix, tmp_path, f"-DEMBED_STATIC={static}")
    assert "the result is 37 rows behind, and the same" in run(tmp_path / "embed")


def test_find_package_refuses_another_version(prefix, tmp_path):
    project = "cmake_minimum_required(VERSION 3.24)\nproject(other LANGUAGES C)\nfind_package(fastsr 0.2 REQUIRED)\n"
    (tmp_path / "CMakeLists.txt").write_text(project)
    command = ["cmake", "-S", tmp_path, "-B", tmp_path / "build", *generator(), f"-DCMAKE_PREFIX_PATH={prefix}"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "version: 0.1.0" in result.stderr


C_FLAGS = ["-std=c11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O1"]


@pytest.fixture(scope="module")
def pgm_sr(lib, tmp_path_factory):
    """The program of examples/embed_c, by pkg-config, with the shared library."""
    program = tmp_path_factory.mktemp("embed_c") / "pgm_sr"
    flags = pkg_config(lib, "--cflags", "--libs")
    run("cc", *C_FLAGS, ROOT / "examples/embed_c/main.c", "-o", program, *flags, f"-Wl,-rpath,{lib}")
    assert "libfastsr.so.0" in run("readelf", "-d", program)
    return program


def test_the_program_of_the_guide(prefix, lib, tmp_path):
    program = re.search(r"```c\n(#include.*?)```", (ROOT / "docs/embedding.md").read_text(), re.DOTALL)
    assert program is not None
    (tmp_path / "main.c").write_text(program[1])
    link = [f"-I{prefix / 'include'}", f"-L{lib}", "-lfastsr", f"-Wl,-rpath,{lib}"]
    run("cc", *C_FLAGS, tmp_path / "main.c", "-o", tmp_path / "program", *link)
    assert run(tmp_path / "program", prefix / "share/fastsr/fmen_x4.fsr") == "done\n"


def write_pgm(path, x, maxval):
    head = f"P5\n# a comment\n{x.shape[1]} {x.shape[0]}\n{maxval}\n".encode()
    path.write_bytes(head + x.astype(">u2" if maxval > 255 else "u1").tobytes())


def read_pgm(path):
    data = path.read_bytes()
    head = re.match(rb"P5\n(\d+) (\d+)\n(\d+)\n", data)
    assert head is not None
    width, height, maxval = (int(number) for number in head.groups())
    return np.frombuffer(data[head.end() :], ">u2" if maxval > 255 else "u1").reshape(height, width), maxval


@pytest.mark.parametrize(("h", "w", "maxval"), [(7, 13, 255), (1, 1, 65535), (19, 31, 4095), (5, 3, 100)])
def test_the_c_program_gives_the_bits_of_python(pgm_sr, tmp_path, h, w, maxval):
    x = np.random.default_rng(h).integers(0, maxval, (h, w), "uint16", endpoint=True)
    write_pgm(tmp_path / "in.pgm", x, maxval)
    run(pgm_sr, WEIGHTS / "fmen_x4.fsr", tmp_path / "in.pgm", tmp_path / "out.pgm")
    got, its_maxval = read_pgm(tmp_path / "out.pgm")
    native = x if maxval > 255 else x.astype("uint8")
    assert its_maxval == maxval
    assert np.array_equal(got, fastsr.upscale(native, value_range=(0, maxval), backend="native"))
    assert {p.name for p in tmp_path.iterdir()} == {"in.pgm", "out.pgm"}


def test_the_c_program_leaves_nothing_half_written(pgm_sr, tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (40, 9), "uint8")
    write_pgm(tmp_path / "in.pgm", x, 255)
    whole = (tmp_path / "in.pgm").read_bytes()
    for damaged in (whole[:-1], whole[:2], b"P6" + whole[2:], b"P5 99999999999 1 255\n", b"P5 3 3 70000\n", b""):
        (tmp_path / "in.pgm").write_bytes(damaged)
        command = [pgm_sr, WEIGHTS / "fmen_x4.fsr", tmp_path / "in.pgm", tmp_path / "out.pgm"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (result.returncode, [p.name for p in tmp_path.iterdir()]) == (1, ["in.pgm"])
        assert result.stderr.strip()
    result = subprocess.run([pgm_sr, ROOT / "LICENSE", tmp_path / "in.pgm", "out"], capture_output=True, check=False)
    assert result.returncode == 1


def test_pkg_config_links_a_moved_static_library(prefix, lib, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(prefix, moved, ignore=shutil.ignore_patterns("*.so*"))
    at = moved / lib.relative_to(prefix)
    flags = pkg_config(at, "--cflags", "--libs", "--static")
    assert pkg_config(at, "--modversion") == [fastsr.__version__]
    (models,) = pkg_config(at, "--variable=modeldir")
    run("cc", *C_FLAGS, ROOT / "examples/embed_c/main.c", "-o", tmp_path / "pgm_sr", *flags)
    assert "libfastsr" not in run("readelf", "-d", tmp_path / "pgm_sr")
    x = np.random.default_rng(1).integers(0, 255, (3, 5), "uint8")
    write_pgm(tmp_path / "in.pgm", x, 255)
    run(tmp_path / "pgm_sr", Path(models) / "vdsr.fsr", tmp_path / "in.pgm", tmp_path / "out.pgm")
    assert np.array_equal(read_pgm(tmp_path / "out.pgm")[0], fastsr.upscale(x, "vdsr", scale=4, backend="native"))


def test_the_scanner_allocates_nothing_and_reports(prefix, tmp_path):
    built_example("scanner", prefix, tmp_path)
    report = run(tmp_path / "scanner", WEIGHTS / "fmen_x4.fsr", 40, 50, 2000, 2, 2)
    assert "latency 37 rows" in report
    assert "allocations while scanning: 0" in report
    times = [[float(t) for t in re.findall(r"([\d.]+) ms", line)] for line in report.splitlines()[1:4]]
    assert all(0 < median <= most_of <= largest for median, most_of, largest in times)
    assert times[1][0] > times[0][0]  # its place waits for more rows
