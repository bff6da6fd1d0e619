"""`fastsr bench`: what it writes, that wrong results are caught, and who runs where. No figure of time is judged."""

from __future__ import annotations

import csv
import json
import os
import sys
import textwrap
from itertools import groupby
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from fastsr.bench import cases, check, client, measure, peak, process, tables
from fastsr.bench.jobs import Job
from fastsr.bench.measure import Bench, Settings
from fastsr.bench.network import Network, planes
from fastsr.bench.peers import PEERS, find_peer, why_missing
from fastsr.bench.pictures import calibration, synthetic
from fastsr.bench.results import DIFFERS, FAILED, OK, Verdict
from fastsr.errors import BackendError, BackendUnavailableError, OptionError
from fastsr.graph import reference
from fastsr.graph.builder import GraphBuilder
from fastsr.graph.model import CompiledModel
from fastsr.io import write_image
from fastsr.models import open_model

MB = 1_000_000


class NoPeaks:
    """Stand in for the program that measures peaks, which takes seconds."""

    why_unavailable = "no peaks in tests"

    def __init__(self, folder):
        pass

    def measure(self, threads, *, reads):
        return {}


@pytest.fixture(autouse=True)
def _no_peaks(monkeypatch):
    monkeypatch.setattr(measure, "Peaks", NoPeaks)


@pytest.fixture
def make_peer(tmp_path, monkeypatch):
    """Return make_peer(name, body): a competitor whose run(x) is `body`, importable here and in worker processes.

    In the body `right` is the reference's result, and each call is appended to the file calls.txt.
    """
    folder = tmp_path / "peers"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(str(folder))

    def make(name, body, packages="{'numpy': 'numpy'}"):
        code = f"""
        import os
        import numpy as np
        from fastsr.graph import reference

        NAME, PACKAGES, PRECISIONS = "{name}", {packages}, ("fp32", "int8")

        def environment(isa):
            return None

        def prepare(network, precision, folder):
            return ""

        def load(network, precision, folder, size, threads):
            def run(x):
                with open({str(tmp_path / "calls.txt")!r}, "a") as file:
                    print("{name}", os.getpid(), file=file)
                right = reference.run(network.graph, network.model.tensors, x[0])[None].astype(np.float32)
                {body}
            return run
        """
        (folder / f"{name}.py").write_text(textwrap.dedent(code))
        return name

    yield make
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A .fsr file of a small x2 network that has what peers trip over: PReLU, pixel shuffle, a bicubic skip."""
    rng = np.random.default_rng(3)
    builder = GraphBuilder(3)
    x = builder.conv("input", rng.normal(0, 0.2, (8, 3, 3, 3)), rng.normal(0, 0.1, 8))
    x = builder.prelu(x, rng.uniform(0.1, 0.4, 8))
    x = builder.conv(x, rng.normal(0, 0.05, (12, 8, 3, 3)), rng.normal(0, 0.01, 12))
    x = builder.add(builder.pixel_shuffle(x, 2), builder.resize("input", 2, "bicubic"))
    graph, tensors = builder.finish(x)
    path = tmp_path_factory.mktemp("model") / "tiny.fsr"
    CompiledModel("tiny", (graph,), tensors).save(path)
    return str(path)


def compared(tmp_path, model, *jobs, **settings):
    bench = Bench(tmp_path / "bench", Settings(**{"rounds": 1, "memory": False} | settings), lambda step: None)
    return bench.compare("a case", model, jobs)


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    (tmp_path / "bench").mkdir()


# --- the command ------------------------------------------------------------------------------------------------


def test_writes_every_format(tmp_path, run, tiny):
    out_folder = tmp_path / "out"
    sizes = ("--size", "13x7", "--size", "20x9", "--threads", "1", "--threads", "2")
    arguments = ("bench", "--model", tiny, *sizes, "--rounds", "2", "-o", out_folder)
    code, out, err = run(*arguments)
    assert code == 0, err
    assert "--peers adds the competitors" in err
    with (out_folder / "bench.csv").open() as file:
        rows = list(csv.DictReader(file))
    settings = [("13", "7", "1"), ("13", "7", "2"), ("20", "9", "1"), ("20", "9", "2")]
    assert [(row["width"], row["height"], row["threads"]) for row in rows] == settings
    assert all(row["status"] == OK and float(row["ms"]) > 0 and row["rounds"] == "2" for row in rows)
    report = json.loads((out_folder / "bench.json").read_text())
    assert [row["ms"] for row in report["rows"]] == [float(row["ms"]) for row in rows]
    assert {"date", "processor", "system", "FastSR"} <= set(report["machine"])
    markdown = (out_folder / "bench.md").read_text()
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(rows)
    assert len({line.count("|") for line in table}) == 1
    assert "tiny x2, 20x9" in out
    assert "tiny x2, 20x9" in table[-1]
    picture = ElementTree.parse(out_folder / "bench.svg").getroot()
    bars = [rect for rect in picture.iter("{http://www.w3.org/2000/svg}rect") if rect.get("width") != "100%"]
    assert len(bars) == len(rows)
    code, _, err = run(*arguments)
    assert code == 1
    assert "bench.md" in err


def test_an_interrupted_run_leaves_what_is_done(tmp_path, run, tiny, monkeypatch):
    compare = Bench.compare

    def interrupted(bench, case, *arguments):
        if case == "20x9":
            raise KeyboardInterrupt
        return compare(bench, case, *arguments)

    monkeypatch.setattr(Bench, "compare", interrupted)
    sizes = ("--size", "13x7", "--size", "20x9", "--threads", "1", "--rounds", "1")
    code, _, _ = run("bench", "--model", tiny, *sizes, "-o", tmp_path / "out")
    assert code == 130
    report = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert [row["width"] for row in report["rows"]] == [13]
    assert "13x7" in (tmp_path / "out" / "bench.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--size", "0x7"), 2, "'0x7'"),
        (("--size", "large"), 2, "320x180"),
        (("--isa", "avx9"), 2, "'avx9'; this processor has scalar"),
        (("--precision", "fp8"), 2, "fp32, int8"),
        (("--peer", "no_such_engine"), 2, "openvino, onnxruntime"),
        (("--case", "no-such-case"), 2, "fmen-320x180"),
        (("--model", "no_such_model"), 2, "no_such_model"),
    ],
)
def test_wrong_options(run, arguments, code, words):
    got, _, err = run("bench", *arguments)
    assert got == code
    assert words in err


def test_list_names_cases_and_competitors(run):
    code, out, _ = run("bench", "--list")
    assert code == 0
    assert all(case.name in out for case in cases.CASES)
    assert all(name in out for name in PEERS)


def test_sweep_combines_isa_levels_and_pixels(tmp_path, run, tiny):
    sweep = ("--isa", "scalar", "--isa", "avx2", "--pixels", "float32", "--pixels", "uint8", "--threads", "1")
    arguments = ("--model", tiny, "--size", "9x5", *sweep, "--rounds", "1", "--no-memory", "-o", tmp_path / "out")
    code, _, err = run("bench", *arguments)
    if "this processor has" in err:
        pytest.skip("no AVX2 here")
    assert code == 0, err
    rows = json.loads((tmp_path / "out" / "bench.json").read_text())["rows"]
    assert [(row["isa"], row["engine"]) for row in rows] == [
        ("scalar", "FastSR"),
        ("scalar", "FastSR (uint8 image)"),
        ("avx2", "FastSR"),
        ("avx2", "FastSR (uint8 image)"),
    ]
    assert all(row["status"] == OK and row["memory_mb"] is None for row in rows)


# --- results are checked -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("return right", OK, ""),
        ("return right + np.float32(0.01)", DIFFERS, "differs by 0.01"),
        ("right[0, 2, -1, -1] += 0.003; return right", DIFFERS, "0.003 of 0..1; 0.002 is tolerated"),
        ("return right[:, :, :-1]", DIFFERS, "its result is (3, 17, 38), not (3, 18, 38)"),
        ("right[0, 0, 3, 3] = np.nan; return right", DIFFERS, "NaN"),
        ("raise ValueError('out of order')", FAILED, "ValueError: out of order"),
        ("os._exit(3)", FAILED, "ended with code 3"),
    ],
)
def test_wrong_peers_are_not_timed(tmp_path, tiny, make_peer, body, status, words):
    peer = make_peer("some_peer", body)
    ours, theirs = compared(tmp_path, tiny, Job(2, 9, 19), Job(2, 9, 19, engine=peer))
    assert ours.status == OK
    assert ours.of_fastsr == 1
    assert ours.ms > 0
    assert theirs.status == status
    assert words in theirs.note
    assert (theirs.ms is not None) == (status == OK)
    assert (theirs.of_fastsr is not None) == (status == OK)


def test_wrong_result_is_told_in_the_table(tmp_path, run, tiny, make_peer):
    peer = make_peer("wrong_peer", "return 1 - right")
    arguments = ("--size", "9x5", "--threads", "1", "--rounds", "1", "--no-memory", "--peer", peer)
    code, out, err = run("bench", "--model", tiny, *arguments)
    assert code == 0, err
    line = next(line for line in out.splitlines() if "wrong_peer" in line)
    assert "differs" in line
    assert "is tolerated" in line


def test_int8_is_judged_by_its_psnr(tmp_path, tiny, make_peer):
    """31 dB pass as int8 but not as fp32; 29 dB do not pass."""
    noise = "np.random.default_rng(0).choice([-1, 1], right.shape).astype(np.float32)"
    good = make_peer("good_peer", f"return right + 10 ** (-31 / 20) * {noise}")
    bad = make_peer("bad_peer", f"return right + 10 ** (-29 / 20) * {noise}")
    jobs = [Job(2, 9, 19, engine=e, precision=p) for e, p in ((good, "int8"), (bad, "int8"), (good, "fp32"))]
    first, second, third = compared(tmp_path, tiny, *jobs)
    assert (first.status, second.status, third.status) == (OK, DIFFERS, DIFFERS)
    assert first.psnr_db == pytest.approx(31, abs=0.01)
    assert "29.0 dB" in second.note


def test_comparison_is_exact_about_its_tolerance(random_image):
    truth = planes(random_image(5, 7)) * 1.2 - 0.1  # beyond 0..1, as networks answer
    for engine, tolerance in (("fastsr", check.OUR_TOLERANCE), ("mnn", check.PEER_TOLERANCE)):
        job = Job(1, 5, 7, engine=engine)
        assert check.compare(truth + np.float32(0.99 * tolerance), truth, job).wrong is None
        assert check.compare(truth + np.float32(1.01 * tolerance), truth, job).wrong is not None
    rounded = np.round(np.clip(truth, 0, 1) * 255) / np.float32(255)
    assert check.compare(rounded, truth, Job(1, 5, 7, pixels="uint8")).wrong is None
    assert check.compare(rounded, truth, Job(1, 5, 7)).wrong is not None
    rounded[1, 2, 3] += np.float32(1 / 255)
    assert check.compare(rounded, truth, Job(1, 5, 7, pixels="uint8")).wrong is not None


def test_fastsr_itself_is_checked_against_float64(tmp_path, tiny, monkeypatch):
    wrong = lambda *arguments: reference_run(*arguments) + 2e-4  # noqa: E731
    reference_run = reference.run
    monkeypatch.setattr(measure.reference, "run", wrong)
    with pytest.raises(BackendError, match=r"differs from float64 by 0\.0002"):
        compared(tmp_path, tiny, Job(2, 9, 19))


# --- processes, rounds, memory -----------------------------------------------------------------------------------


def test_rounds_are_interleaved(tmp_path, tiny, make_peer):
    jobs = [Job(2, 9, 19, engine=make_peer(name, "return right")) for name in ("first", "second")]
    rows = compared(tmp_path, tiny, *jobs, rounds=3)
    assert [row.rounds for row in rows] == [3, 3]
    calls = (tmp_path / "calls.txt").read_text().splitlines()
    order = [name for name, _ in groupby(line.split()[0] for line in calls)]
    assert order == ["first", "second"] * 4  # loading and checking, then the rounds


def test_memory_is_measured_in_a_process_of_its_own(tmp_path, tiny, make_peer):
    size = "np.ones(50_000_000 if x.shape[3] > 16 else 1, np.uint8)"
    hungry = make_peer("hungry", f"extra = {size}; return right + 0 * extra[:1]")
    [row] = compared(tmp_path, tiny, Job(2, 9, 19, engine=hungry), memory=True)
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux")
    assert 49 < row.memory_mb < 54
    assert row.process_mb > row.memory_mb + 10
    processes = {line.split()[1] for line in (tmp_path / "calls.txt").read_text().splitlines()}
    assert len(processes) == 2
    assert str(os.getpid()) not in processes


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_pages_that_the_system_takes_away_do_not_make_an_engine_small(tmp_path, tiny, make_peer):
    (tmp_path / "code").write_bytes(np.random.default_rng(0).bytes(20 * MB))
    mapped = f"mmap.mmap(os.open({str(tmp_path / 'code')!r}, os.O_RDONLY), 0, prot=mmap.PROT_READ)"
    use = "bytes(pages[::4096]) if x.shape[3] <= 16 else pages.madvise(mmap.MADV_DONTNEED)"
    peer = make_peer("idle", f"import mmap; pages = globals().setdefault('PAGES', {mapped}); {use}; return right")
    [row] = compared(tmp_path, tiny, Job(2, 9, 19, engine=peer), memory=True)
    assert 0 <= row.memory_mb < 4


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_of_fastsr_is_what_it_plans(tmp_path):
    from fastsr.backends.native import NativeRunner

    [row] = compared(tmp_path, "fmen", Job(4, 90, 320, threads=2, pixels="uint8"), memory=True)
    planned = NativeRunner(open_model("fmen", 4), 4, 3, 2).memory(90, 320, (0, 0, 320, 90), None)
    assert 0.5 * planned < row.memory_mb * MB < planned + 4 * MB


def test_isa_that_nothing_holds_a_peer_to(tmp_path, tiny, make_peer):
    peer = make_peer("free_peer", "return right")
    _, theirs = compared(tmp_path, tiny, Job(2, 9, 19, isa="scalar"), Job(2, 9, 19, engine=peer, isa="scalar"))
    assert theirs.status == FAILED
    assert "nothing holds it to scalar" in theirs.note


def test_silence_ends(tmp_path, tiny, make_peer, monkeypatch):
    peer = make_peer("silent", "import time; time.sleep(100)")
    monkeypatch.setattr(client, "PATIENCE", 4.0)
    [row] = compared(tmp_path, tiny, Job(2, 9, 19, engine=peer))
    assert row.status == FAILED
    assert "no answer to 'open' within 4 seconds" in row.note


# --- competitors -------------------------------------------------------------------------------------------------


def test_missing_peer_is_told_with_what_to_install(tmp_path, run, tiny, make_peer, monkeypatch):
    absent = make_peer("absent_peer", "return right", packages="{'no_such_module': 'no-such-package'}")
    code, _, err = run("bench", "--model", tiny, "--size", "9x5", "--peer", absent)
    assert code == 1
    assert "absent_peer" in err
    assert "pip install no-such-package" in err
    assert "pip install 'fastsr[bench]'" in err
    monkeypatch.setattr(measure, "PEERS", [absent])
    bench = Bench(tmp_path / "bench", Settings(), lambda step: None)
    assert bench.installed_peers() == []
    assert "pip install no-such-package" in bench.report.notes[-1]
    bench = Bench(tmp_path / "bench", Settings(peers=(absent,)), lambda step: None)
    with pytest.raises(BackendUnavailableError):
        bench.installed_peers()


def needs(peer):
    if (reason := why_missing(find_peer(peer))) is not None:
        pytest.skip(reason)


@pytest.mark.parametrize("name", PEERS)
def test_peers_agree_with_fastsr(tmp_path, tiny, name):
    needs(name)
    assert "fp32" in find_peer(name).PRECISIONS
    ours, theirs = compared(tmp_path, tiny, Job(2, 13, 7), Job(2, 13, 7, engine=name), memory=name == "onnxruntime")
    assert (theirs.status, theirs.note) == (OK, "")
    assert 0 < theirs.difference < 1e-3
    assert theirs.ms > 0
    assert theirs.version[0].isdigit()
    assert ours.memory_mb is None or theirs.memory_mb < 50


@pytest.mark.parametrize("name", [name for name in PEERS if "int8" in find_peer(name).PRECISIONS])
def test_int8_of_peers_and_what_it_loses(tmp_path, name):
    needs(name)
    needs("onnxruntime")  # which makes the QDQ network
    for folder, seed in (("calibrate", 1), ("set", 2)):
        write_image_into(tmp_path / folder, synthetic(280, 300, seed)[: 280 // seed, : 300 // seed])
    options = {"calibrate": tmp_path / "calibrate", "quality": (tmp_path / "set",)}
    [row] = compared(tmp_path, "fmen", Job(4, 24, 20, engine=name, precision="int8"), **options)
    assert row.status == OK, row.note
    assert row.note
    assert check.INT8_LEAST_PSNR < row.psnr_db < 80  # quantized, so not equal
    assert abs(row.loss_db) < 1


def write_image_into(folder, pixels):
    folder.mkdir()
    write_image(folder / "picture.png", pixels)


def test_quality_is_what_the_quality_table_measures(tmp_path):
    """The worker's PSNR is that of benchmarks/quality.py."""
    from benchmarks.quality import score

    for i, shape in enumerate([(60, 66), (60, 66), (71, 50)]):
        (tmp_path / "set").mkdir(exist_ok=True)
        write_image(tmp_path / "set" / f"{i}.png", synthetic(*shape, seed=i))
    bench = Bench(tmp_path / "bench", Settings(quality=(tmp_path / "set",)), lambda step: None)
    [measured] = bench._psnr(bench.network("bicubic", 4), Job(4, 15, 16))
    assert measured == pytest.approx(score("bicubic", 4, tmp_path / "set")[0], abs=1e-3)


@pytest.mark.parametrize(("model", "scale"), [("vdsr", 3), ("bilinear", 2), ("bicubic", 4)])
@pytest.mark.parametrize("size", [(1, 1), (7, 13), (1, 24)])
def test_spelled_out_interpolation_is_the_same(tmp_path, model, scale, size):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    network = Network.create(tmp_path / "network", open_model(model, scale), scale, calibration(None, scale))
    x = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    wanted = reference.run(network.graph, network.model.tensors, x[0])
    session = onnxruntime.InferenceSession(network.portable_onnx(), providers=["CPUExecutionProvider"])
    assert np.abs(session.run(None, {"input": x})[0][0] - wanted).max() < 1e-5


def test_given_qdq_network_is_used(tmp_path):
    given = tmp_path / "given.onnx"
    given.write_bytes(b"somebody's int8 network")
    bench = Bench(tmp_path / "bench", Settings(qdq=given), lambda step: None)
    assert bench.network("bicubic", 4).qdq_onnx().read_bytes() == given.read_bytes()


# --- pictures ----------------------------------------------------------------------------------------------------


def test_pictures_are_the_same_each_time_and_not_flat():
    for shape in [(1, 1), (7, 13), (64, 65)]:
        picture = synthetic(*shape)
        assert picture.shape == (*shape, 3)
        assert np.array_equal(picture, synthetic(*shape))
    assert 30 < picture.std() < 60
    assert (picture != synthetic(64, 65, seed=1)).mean() > 0.9
    rows = np.diff(picture.astype(float), axis=0)
    assert 1 < np.abs(rows).mean() < 30  # smoother than noise, detailed down to single pixels


def test_calibration_pictures_come_from_the_folder(tmp_path):
    (tmp_path / "deep").mkdir()
    write_image(tmp_path / "deep" / "large.png", np.full((300, 280, 3), 200, np.uint8))
    write_image(tmp_path / "grey.png", np.full((280, 280), 100, np.uint8))
    write_image(tmp_path / "small.png", np.zeros((90, 280, 3), np.uint8))
    crops = calibration(tmp_path, 4)
    assert crops.shape == (2, 64, 64, 3)
    assert sorted(set(crops.flatten())) == [100, 200]
    assert len(calibration(None, 4)) == 16
    with pytest.raises(OptionError, match="384x384"):
        calibration(tmp_path, 6)


# --- cases, bars, tables -----------------------------------------------------------------------------------------


def test_cases_have_names_of_their_own():
    assert len({case.name for case in cases.CASES}) == len(cases.CASES)
    assert cases.select(["all"]) == cases.CASES
    assert [case.name for case in cases.select(["uint8", "threads"])] == ["threads", "uint8"]


@pytest.mark.parametrize("name", ["threads", "uint8", "budget", "command", "file", "memory", "fmen-avx2"])
def test_cases_run_in_small(tmp_path, run, monkeypatch, name):
    from fastsr.bench.machine import usable_isa_levels

    if name == "fmen-avx2" and "avx2" not in usable_isa_levels():
        pytest.skip("no AVX2 here")
    monkeypatch.setattr(measure, "PEERS", [])
    monkeypatch.setattr(cases, "QUICK", 160 if name == "memory" else 40)  # some MB, or pages of others outweigh it
    code, out, err = run("bench", "--case", name, "--quick", "--rounds", "1", "--no-memory", "-o", tmp_path / "out")
    assert code == 0, err
    verdicts = json.loads((tmp_path / "out" / "bench.json").read_text())["verdicts"]
    assert verdicts
    for verdict in verdicts:
        assert verdict["met"] is None
        assert not verdict["judged"]
        assert verdict["value"] is None if name == "fmen-avx2" else verdict["value"] > 0
    assert "not judged" in out or name == "fmen-avx2"


def test_a_competitor_enters_the_verdict(tmp_path, make_peer, monkeypatch):
    peer = make_peer("rival", "return right")
    monkeypatch.setattr(measure, "PEERS", [peer])
    bench = Bench(tmp_path / "bench", Settings(rounds=1, memory=False), lambda step: None)
    case = cases.Case(
        "a", "", "bicubic", 4, 9, 7, cases.beside_peers(cases.Bar(1, 2), int8_bar=cases.Bar(1, 2)), quick=False
    )
    case.measure(bench, case)
    ours, theirs = bench.report.rows
    beside, int8 = bench.report.verdicts
    assert beside.value == theirs.ms / ours.ms
    assert beside.met == (theirs.ms >= ours.ms)
    assert "rival" in beside.note
    assert int8.value is None
    assert int8.met is None


def test_verdicts():
    above = Verdict("a", "ratio", 3.2, 3.2, 4, at_least=True)
    below = Verdict("a", "MB", 49.0, 48, 24, at_least=False, unit="MB")
    assert above.met is True
    assert below.met is False
    assert Verdict("a", "MB", None, 48, 24, at_least=False).met is None
    lines = tables.verdict_table([above, below])
    assert "yes" in lines[2]
    assert "NO" in lines[3]
    assert "49 MB" in lines[3]


def test_whole_commands(tmp_path):
    write_image(tmp_path / "a.png", synthetic(8, 8))
    arguments = ["upscale", str(tmp_path / "a.png"), "--model", "bicubic", "--overwrite", "-q"]
    assert 0.02 < process.command_seconds(arguments) < 60
    if Path("/proc/self/status").exists():
        assert 10 * MB < process.command_peak(arguments) < 500 * MB
    with pytest.raises(BackendError, match=r"ended with code 1.*nothing\.png"):
        process.command_seconds(["upscale", str(tmp_path / "nothing.png")])


def test_peaks(tmp_path, monkeypatch):
    peaks = peak.Peaks(tmp_path)
    if peaks.why_unavailable is not None:
        pytest.skip(peaks.why_unavailable)
    found = peaks.measure(1, reads=False)
    if peaks.why_unavailable is None:
        assert 0.1 < found["fma_avx2"] < 1e4
        assert peak.compute_peak(found, "fp32", "avx2") == found["fma_avx2"]
        assert not any(name.startswith("read") for name in found)
    monkeypatch.setattr(peak.shutil, "which", lambda name: None)
    without = peak.Peaks(tmp_path)
    assert "no C++ compiler" in without.why_unavailable
    assert without.measure(1, reads=True) == {}
