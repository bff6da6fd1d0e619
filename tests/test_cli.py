"""The `fastsr` command as a user meets it: outputs, messages, exit codes, Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import fastsr
from fastsr.cli import cli, main
from fastsr.errors import MemoryBudgetError, OptionError
from fastsr.io import read_image, write_image

ROOT = Path(fastsr.__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}


class Repeat:
    """Stand in for an upscaler: repeat every pixel."""

    def __init__(self, model, scale=None, **options):
        if model == "nothing":
            raise OptionError("model is 'nothing'; one of 'fmen' is needed")
        self.name = model
        self.scale = scale or 4
        self.options = options

    def upscale(self, image, **_):
        return image.repeat(self.scale, 0).repeat(self.scale, 1)

    def stream(self, source, sink, *, value_range=None, progress=None):
        if self.options.get("max_memory") == 1000:
            raise MemoryBudgetError("max_memory is 1000 bytes; 2000 would do", 2000)
        sink.write(0, self.upscale(source.read(0, source.shape[0])))


@pytest.fixture
def run(capfd):
    """Return run(*arguments) -> (exit code, stdout, stderr)."""

    def call(*arguments, load=Repeat):
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments], load=load)
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return call


def image(path, shape=(6, 5, 3), dtype="uint8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, np.random.default_rng(0).integers(0, 255, shape, dtype))
    return path


# --- upscale ----------------------------------------------------------------------------------------------------


def test_one_file_goes_beside_itself(tmp_path, run):
    image(tmp_path / "scan.png")
    code, out, err = run("upscale", tmp_path / "scan.png")
    assert (code, out, err) == (0, f"{tmp_path / 'scan_x4.png'}\n", "")
    assert read_image(tmp_path / "scan_x4.png").pixels.shape == (24, 20, 3)


def test_options_reach_the_engine(tmp_path, run):
    image(tmp_path / "a.png")
    seen = []

    def load(model, **options):
        seen.append((model, options))
        return Repeat(model, options["scale"])

    code, _, _ = run(
        *("upscale", tmp_path / "a.png", "-o", tmp_path / "b.tif", "--model", "vdsr", "--scale", "3"),
        *("--threads", "2", "--max-memory", "64MiB", "--backend", "native", "--value-range", "-1000", "3000"),
        *("--precision", "fp32"),
        load=load,
    )
    assert code == 0
    engine = {"threads": 2, "max_memory": 64 * 2**20, "backend": "native", "precision": "fp32"}
    assert seen == [("vdsr", {"scale": 3, **engine})]
    assert read_image(tmp_path / "b.tif").pixels.shape == (18, 15, 3)


def test_tree_with_a_bad_file(tmp_path, run):
    image(tmp_path / "in" / "a.png")
    image(tmp_path / "in" / "deep" / "b.npy")
    (tmp_path / "in" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    code, out, err = run("upscale", tmp_path / "in", "-o", tmp_path / "out")
    assert code == 1
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith("fastsr: error: ")
    assert "bad.png" in lines[0]
    assert lines[-1] == "3 files: 2 done, 1 failed"
    assert (tmp_path / "out" / "deep" / "b.npy").is_file()
    (tmp_path / "in" / "bad.png").unlink()
    assert run("upscale", tmp_path / "in", "-o", tmp_path / "out") == (0, "2 files: 2 skipped\n", "")
    assert run("upscale", tmp_path / "in", "-o", tmp_path / "out", "--overwrite", "-q") == (0, "", "")


def test_format_chooses_what_is_written(tmp_path, run):
    image(tmp_path / "a.png")
    code, out, _ = run("upscale", tmp_path / "a.png", "--format", "tif")
    assert code == 0
    assert out.strip().endswith("a_x4.tif")
    assert read_image(tmp_path / "a_x4.tif").info.format == "tiff"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["upscale", "none.png"], 1, "none.png does not exist"),
        (["upscale"], 2, "Missing argument 'IN...'"),
        (["upscale", "a.png", "--model", "nothing"], 2, "model is 'nothing'; one of"),
        (["upscale", "a.png", "--max-memory", "lots"], 2, "max_memory is 'lots'"),
        (["upscale", "a.png", "--max-memory", "1000"], 1, "max_memory is 1000 bytes; 2000 would do"),
        (["upscale", "a.png", "--scale", "0"], 2, "0 is not in the range x>=1"),
        (["upscale", "a.png", "--threads", "two"], 2, "'two' is not a valid integer"),
        (["upscale", "a.png", "--format", "gif"], 2, "format is 'gif'; one of png"),
        (["upscale", "a.png", "-o", "a.png"], 1, "is the input itself"),
        (["upscale", "a.png", "-o", "b.png"], 1, "b.png exists"),
        (["upscale", "a.png", "-o", "b.xyz"], 1, "names no format; one of .png"),
        (["upscale", "a.png", "-o", "missing/c.png"], 1, "folder missing does not exist"),
        (["upscale", "."], 2, "-o OUT is needed"),
        (["upscale", "empty", "-o", "out"], 2, "holds no image files"),
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["compare", "-o", "c.png"], 2, "an HR image, or --lr FILE, is needed"),
        (["compare", "a.png"], 2, "Missing option '-o'"),
        (["compare", "a.png", "-o", "b.png"], 1, "b.png exists"),
    ],
)
def test_errors_are_one_line(tmp_path, run, monkeypatch, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "a.png")
    image(tmp_path / "b.png")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    got, out, err = run(*arguments)
    assert got == code
    assert words in err
    assert err.startswith("fastsr: error: ")
    assert err.count("\n") == 1
    assert out == ""
    assert sorted(tmp_path.rglob("*")) == before


# --- the other commands -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], *([name] for name in sorted(cli.commands))], ids=str)
def test_help_teaches(run, command):
    code, out, err = run(*command, "--help")
    assert (code, err) == (0, "")
    assert "fastsr" in out
    assert command in ([], ["models"], ["doctor"], ["engines"]) or "Example" in out
    assert max(map(len, out.splitlines())) <= 100


def test_no_arguments_show_the_help(run):
    code, _, err = run()
    assert code == 2
    assert "fastsr upscale scan.png" in err


def test_the_help_lists_every_command_with_what_it_does(run):
    lines = {
        line.split()[0]: line.split()[1:] for line in run("--help")[1].partition("Commands:")[2].splitlines() if line
    }
    assert {"upscale", "bench", "engines", "export"} <= set(cli.commands) <= lines.keys()
    assert all(len(lines[name]) > 3 for name in cli.commands)


def test_a_wrong_command_is_told_the_nearest(run):
    code, _, err = run("exprt")
    assert code == 2
    assert "'export'" in err


# What `fastsr upscale scan.png` has no use for. All of it together took as long as the work itself.
UNUSED = """
    asyncio bz2 concurrent.futures csv email gzip hmac http importlib.metadata importlib.resources lzma
    multiprocessing nibabel numpy.ma numpy.random onnx onnxruntime PIL.GifImagePlugin PIL.JpegImagePlugin
    PIL.TiffImagePlugin pydicom random secrets shutil ssl subprocess tempfile tensorrt tifffile tomllib torch tqdm
    triton unittest urllib.request xml fastsr._cuda fastsr.backends.tensorrt.engine fastsr.backends.triton.kernels
    fastsr.bench fastsr.compare fastsr.describe fastsr.diagnostics fastsr.evaluation fastsr.exporting
    fastsr.graph.compiler fastsr.graph.passes fastsr.graph.qdq fastsr.graph.reference fastsr.graph.to_onnx
    fastsr.medical.dicom.read fastsr.medical.nifti fastsr.medical.nifti_header fastsr.quantization
"""


def test_upscaling_a_file_imports_nothing_else(tmp_path):
    image(tmp_path / "scan.png")
    code = """
        import sys
        import click, numpy, PIL.PngImagePlugin
        before = set(sys.modules)  # what they import is their affair
        from fastsr.cli import main
        try:
            main()
        finally:
            print(*set(sys.modules) - before, file=sys.stderr)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), "upscale", "scan.png"]
    result = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    loaded = set(result.stderr.split())
    assert (tmp_path / "scan_x4.png").exists()
    assert {"fastsr._native", "fastsr.io.png"} <= loaded
    assert not loaded & set(UNUSED.split())


def test_version(run):
    code, out, _ = run("--version")
    assert code == 0
    assert out.split()[0] == "fastsr"


def test_compare_writes_a_picture_and_prints_scores(tmp_path, run):
    image(tmp_path / "hr.png", (64, 80, 3))
    code, out, err = run("compare", tmp_path / "hr.png", "-o", tmp_path / "c.png")
    assert (code, err) == (0, "")
    assert "bicubic" in out
    assert "dB" in out
    assert read_image(tmp_path / "c.png").pixels.shape[2] == 3
    code, out, _ = run("compare", "--lr", tmp_path / "hr.png", "-o", tmp_path / "d.png")
    assert code == 0
    assert "dB" not in out


def test_info_on_an_image(tmp_path, run):
    image(tmp_path / "a.png", (6, 5), "uint16")
    code, out, _ = run("info", tmp_path / "a.png")
    assert code == 0
    assert "5 x 6" in out
    assert "uint16 grey" in out
    code, _, err = run("info", tmp_path / "none.png")
    assert code == 1
    assert "does not exist" in err


def test_info_and_compile_of_a_network(tmp_path, run):
    onnx = pytest.importorskip("onnx")
    weight = onnx.numpy_helper.from_array(np.zeros((12, 3, 3, 3), np.float32), "w")
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1]),
        onnx.helper.make_node("DepthToSpace", ["y"], ["z"], blocksize=2, mode="CRD"),
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 3, "h", "w"]), ("z", [1, 3, "H", "W"]))
    ]
    graph = onnx.helper.make_graph(nodes, "small", ends[:1], ends[1:], [weight])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), tmp_path / "m.onnx")
    code, _, err = run("compile", tmp_path / "m.onnx", "-o", tmp_path / "m.fsr")
    assert (code, err) == (0, "")
    code, out, _ = run("info", tmp_path / "m.fsr")
    assert code == 0
    assert "x2 RGB   324 parameters" in out
    assert "sha256" in out
    assert run("compile", tmp_path / "m.onnx", "-o", tmp_path / "m.fsr")[0] == 1


def test_models_and_doctor(run):
    code, out, _ = run("models")
    assert code == 0
    assert "fmen" in out
    code, out, _ = run("info", "fmen")
    assert code == 0
    assert "341,066 parameters" in out
    for scale in (2, 3, 4):  # each scale is a file of its own: its scores are told, and what they share only once
        assert f"x{scale} scores" in out
        assert f"Set5 x{scale} psnr" in out
    assert out.count("value_range") == 1
    code, _, err = run("info", "nothing")
    assert code == 2
    assert "neither a file nor a model; models are" in err
    code, out, _ = run("doctor")
    assert code == 0
    assert "native: available" in out


def test_engine_upscales_a_file_as_in_memory(tmp_path, run):
    image(tmp_path / "a.png", (20, 30, 3))
    code, _, err = run("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", load=None)
    assert (code, err) == (0, "")
    expected = fastsr.upscale(read_image(tmp_path / "a.png").pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png").pixels, expected)


# --- processes --------------------------------------------------------------------------------------------------

SLOW = """
    import sys, time
    from fastsr.cli import main
    class Slow:
        name, scale = "slow", 2
        def stream(self, source, sink, *, value_range=None, progress=None):
            for y in range(source.shape[0]):
                sink.write(2 * y, source.read(y, y + 1).repeat(2, 0).repeat(2, 1))
                print("row", flush=True)
                time.sleep(0.1)
    main(load=lambda *a, **k: Slow())
"""


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_signal_in_the_middle_leaves_nothing(tmp_path, number, code, suffix):
    image(tmp_path / "a.png", (500, 40))
    command = [sys.executable, "-c", textwrap.dedent(SLOW), "upscale", "a.png", "-o", f"b.{suffix}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, **pipes) as process:
        for _ in range(3):
            assert process.stdout.readline() == "row\n"
        assert len(list(tmp_path.iterdir())) == 2  # the input and a hidden half
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == code
    assert "Traceback" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_debug_shows_the_traceback(tmp_path):
    command = [sys.executable, "-m", "fastsr.cli", "compare", "none.png", "-o", "x.png"]
    environment = ENVIRONMENT | {"FASTSR_DEBUG": "1"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" in result.stderr
    assert "ImageFileError" in result.stderr


def test_importing_the_command_is_light():
    heavy = ("PIL", "tifffile", "tqdm", "torch", "onnx")
    code = f"import sys, fastsr.cli; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_interrupted_engine_leaves_nothing(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((30_000, 400, 3), np.uint8))
    command = [sys.executable, "-m", "fastsr.cli", "upscale", "a.npy", "-o", "b.npy"]
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not any(p.stat().st_size > 1000 for p in tmp_path.glob(".b.npy.partial-*")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err.strip() == "fastsr: error: interrupted"  # after the ^C that a terminal shows
    assert [p.name for p in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.parametrize(
    ("shape", "dtype"), [((9, 11), "uint16"), ((9, 11, 2), "uint8"), ((9, 11, 4), "uint16"), ((9, 11, 3), "float64")]
)
def test_file_has_the_pixels_of_the_array(tmp_path, shape, dtype):
    rng = np.random.default_rng(0)
    pixels = rng.random(shape) if dtype == "float64" else rng.integers(0, 255, shape, dtype)
    write_image(tmp_path / "a.tif", pixels)
    assert fastsr.upscale_file(tmp_path / "a.tif", tmp_path / "b.tif") == tmp_path / "b.tif"
    written = read_image(tmp_path / "b.tif").pixels
    assert written.dtype == pixels.dtype
    if len(shape) == 3 and shape[2] == 2:  # no array of two channels is an image; its alpha is grey
        np.testing.assert_array_equal(written[:, :, 1], fastsr.upscale(np.ascontiguousarray(pixels[:, :, 1])))
    else:
        np.testing.assert_array_equal(written, fastsr.upscale(pixels))
