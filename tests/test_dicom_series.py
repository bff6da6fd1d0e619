"""Folders of DICOM files: one new series for each, resumable, and nothing half-written."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pydicom
import pytest
from dicom_objects import ct, grey, image, item, save, uid

import fastsr
from fastsr.graph.model import CompiledModel
from fastsr.io import write_image
from fastsr.medical import Options
from fastsr.medical.dicom import upscale_folder

MR = "1.2.840.10008.5.1.4.1.1.4"
NEAREST = fastsr.load("nearest", scale=2)
CARD = {"normalization": {"kind": "percentile", "low": 0.5, "high": 99.5}}


@pytest.fixture
def folder(tmp_path):
    """A folder in which names, numbers and places disagree: slices c, a, b lie at 0, 2 and 4 mm."""
    source = tmp_path / "in"
    (source / "deeper").mkdir(parents=True)
    for name, z, number in (("c", 0, 3), ("a", 2, 1), ("b", 4, 2)):
        place = source / "deeper" / "IM_b" if name == "b" else source / f"IM_{name}"
        save(ct(grey(6, 7, seed=number), z=z, name=name, InstanceNumber=number), place)
    return source


def run(source, target, upscaler=NEAREST, *, overwrite=False, **options):
    return upscale_folder(source, target, upscaler, Options(**options), overwrite=overwrite)


def states(outcomes):
    return [outcome.state for outcome in outcomes]


def results(target):
    return {p.relative_to(target).as_posix(): pydicom.dcmread(p) for p in sorted(target.rglob("*")) if p.is_file()}


def fastsr_command(*arguments, **kwargs):
    command = [sys.executable, "-m", "fastsr.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


def test_a_folder_becomes_one_new_series(folder, tmp_path):
    before = {p: p.read_bytes() for p in folder.rglob("IM*")}
    outcomes = run(folder, tmp_path / "out")
    assert states(outcomes) == ["done"] * 3
    assert [o.job.src.name for o in outcomes] == ["IM_c", "IM_a", "IM_b"]  # along the normal
    made = results(tmp_path / "out")
    assert sorted(made) == ["IM_a", "IM_c", "deeper/IM_b"]
    assert len({d.SeriesInstanceUID for d in made.values()}) == len({d.SeriesNumber for d in made.values()}) == 1
    assert len({d.SOPInstanceUID for d in made.values()}) == 3
    assert [made[name].InstanceNumber for name in ("IM_c", "IM_a", "deeper/IM_b")] == [3, 1, 2]
    assert {p: p.read_bytes() for p in folder.rglob("IM*")} == before


def test_series_in_one_folder_are_kept_apart(folder, tmp_path):
    save(ct(grey(6, 7), name="other", SeriesInstanceUID=uid("other series"), SeriesNumber=4), folder / "other")
    assert states(run(folder, tmp_path / "out")) == ["done"] * 4
    made = results(tmp_path / "out")
    assert len({d.SeriesInstanceUID for d in made.values()}) == 2
    assert made["other"].SeriesInstanceUID != made["IM_a"].SeriesInstanceUID
    assert 4001 <= made["other"].SeriesNumber <= 4999


def test_slices_without_a_number_get_one_in_order(tmp_path):
    (tmp_path / "in").mkdir()
    for name, z in (("x", 6), ("y", -1), ("z", 2)):
        save(ct(grey(4, 5), z=z, name=name, InstanceNumber=None), tmp_path / "in" / name)
    run(tmp_path / "in", tmp_path / "out")
    assert {name: int(d.InstanceNumber) for name, d in results(tmp_path / "out").items()} == {"y": 1, "z": 2, "x": 3}


def test_a_second_run_does_nothing_twice(folder, tmp_path):
    target = tmp_path / "out"
    run(folder, target)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in target.rglob("IM*")}
    assert states(run(folder, target)) == ["skipped"] * 3
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in target.rglob("IM*")} == before


def test_an_interrupted_run_is_continued_in_the_same_series(folder, tmp_path):
    target, whole = tmp_path / "out", tmp_path / "whole"
    run(folder, target)
    run(folder, whole)
    (target / "IM_a").unlink()
    assert sorted(states(run(folder, target))) == ["done", "skipped", "skipped"]
    for path in whole.rglob("IM*"):
        assert (target / path.relative_to(whole)).read_bytes() == path.read_bytes()


def test_what_was_made_with_other_settings_is_not_mixed_in(folder, tmp_path):
    target = tmp_path / "out"
    run(folder, target)
    before = {p: p.read_bytes() for p in target.rglob("IM*")}
    for options in ({"window": (40, 400)}, {"keep_private": True}):
        outcomes = run(folder, target, **options)
        assert states(outcomes) == ["failed"] * 3
        assert all("--overwrite replaces it" in outcome.message for outcome in outcomes)
    assert states(run(folder, target, fastsr.load("bilinear", scale=2))) == ["failed"] * 3
    assert {p: p.read_bytes() for p in target.rglob("IM*")} == before
    assert states(run(folder, target, overwrite=True, window=(40, 400))) == ["done"] * 3


def test_something_else_in_the_place_of_an_output_is_kept(folder, tmp_path):
    target = tmp_path / "out"
    run(folder, target)
    (target / "IM_a").write_bytes(b"notes")
    assert "failed" in states(run(folder, target))
    assert (target / "IM_a").read_bytes() == b"notes"


def test_bad_files_do_not_stop_the_others(folder, tmp_path):
    whole = (folder / "IM_a").read_bytes()
    (folder / "IM_truncated").write_bytes(whole[:-20])
    (folder / "IM_header_only").write_bytes(whole[:400])
    report = item(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", SOPInstanceUID=uid("report"), Modality="SR")
    report.file_meta = ct(grey(2, 2)).file_meta
    save(report, folder / "report")
    (folder / "notes.txt").write_text("no DICOM")
    (folder / ".hidden").write_bytes(whole)
    outcomes = run(folder, tmp_path / "out")
    failed = {o.job.src.name: o.message for o in outcomes if o.state == "failed"}
    assert sorted(failed) == ["IM_header_only", "IM_truncated", "report"]
    assert "Basic Text SR Storage" in failed["report"]
    assert "truncated" in failed["IM_truncated"]
    assert sorted(results(tmp_path / "out")) == ["IM_a", "IM_c", "deeper/IM_b"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PatientID": "P2"}, "different patients"),
        ({"StudyInstanceUID": uid("other study")}, "different studies"),
        ({"Modality": "MR"}, "different modalities"),
    ],
)
def test_a_series_of_two_things_is_refused(change, message, folder, tmp_path):
    save(ct(grey(6, 7), name="d", **change), folder / "IM_d")
    outcomes = run(folder, tmp_path / "out")
    assert states(outcomes) == ["failed"] * 4
    assert all(message in outcome.message for outcome in outcomes)
    assert not any("Anna" in outcome.message for outcome in outcomes)  # whoever it is
    assert results(tmp_path / "out") == {}


def test_one_object_in_two_files_is_done_once(folder, tmp_path):
    (folder / "copy").write_bytes((folder / "IM_a").read_bytes())
    outcomes = run(folder, tmp_path / "out")
    assert sorted(states(outcomes)) == ["done"] * 3 + ["failed"]
    (failed,) = (o for o in outcomes if o.state == "failed")
    assert "one of them is enough" in failed.message


def percentile_model():
    bilinear = fastsr.load("bilinear", scale=2).model
    return CompiledModel("bilinear", bilinear.graphs, bilinear.tensors, CARD)


def test_percentiles_are_those_of_the_series_and_not_of_a_slice(tmp_path):
    """MR with the card of a model that asks for percentiles: 12 bits stored, but no meaning in their range."""
    (tmp_path / "in").mkdir()
    slices = {
        name: grey(20, 21, low=low, high=low + 100, seed=low) for name, low in (("a", 100), ("b", 1500), ("c", 3000))
    }
    for name, pixels in slices.items():
        save(image(MR, pixels, bits=12, name=name, RescaleSlope=2, RescaleIntercept=0), tmp_path / "in" / name)
    run(tmp_path / "in", tmp_path / "out", fastsr.load(percentile_model(), scale=2))
    low, high = np.percentile(np.stack(list(slices.values())) * 2.0, [0.5, 99.5])
    made = results(tmp_path / "out")
    for dataset in made.values():
        assert f"{low:.6g} to {high:.6g} (percentiles 0.5 to 99.5)" in dataset.DerivationDescription
    for name, pixels in slices.items():  # and the way back: no slice is stretched
        blurred = fastsr.load("bilinear", scale=2).upscale(pixels, value_range=(0, 4095))
        assert np.abs(made[name].pixel_array.astype(int) - blurred).max() <= 1


def test_slices_with_scales_of_their_own_share_a_range(tmp_path):
    """PET: every slice has its slope."""
    (tmp_path / "in").mkdir()
    slices = {name: (grey(9, 8, low=0, high=30000, dtype="int16", seed=i), 0.5 + i) for i, name in enumerate("abc")}
    for name, (pixels, slope) in slices.items():
        pet = image(
            "1.2.840.10008.5.1.4.1.1.128", pixels, name=name, RescaleSlope=slope, RescaleIntercept=0, Modality="PT"
        )
        save(pet, tmp_path / "in" / name)
    run(tmp_path / "in", tmp_path / "out")
    values = np.stack([pixels * slope for pixels, slope in slices.values()])
    low, high = np.percentile(values.astype(np.float32), [0.5, 99.5])
    made = results(tmp_path / "out")
    assert len({d.SeriesInstanceUID for d in made.values()}) == 1
    for dataset in made.values():
        assert f"{low:.6g} to {high:.6g}" in dataset.DerivationDescription


def test_ct_beside_mr_keeps_its_own_rule(tmp_path):
    (tmp_path / "in").mkdir()
    save(ct(grey(6, 7), name="ct"), tmp_path / "in" / "ct")
    save(image(MR, grey(6, 7), name="mr", SeriesInstanceUID=uid("mr")), tmp_path / "in" / "mr")
    run(tmp_path / "in", tmp_path / "out", fastsr.load(percentile_model(), scale=2))
    made = results(tmp_path / "out")
    assert "12 stored bits" in made["ct"].DerivationDescription
    assert "percentiles" in made["mr"].DerivationDescription


# --- the command line -------------------------------------------------------------------------------------------


def test_command_for_a_file_and_a_folder(folder, tmp_path):
    done = fastsr_command("upscale", folder / "IM_a", "-o", tmp_path / "big.dcm", "--model", "nearest", "--scale", 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [str(tmp_path / "big.dcm"), "residual of block means: mean 0, rms 0, max 0"]
    assert pydicom.dcmread(tmp_path / "big.dcm").Rows == 12
    arguments = ("upscale", folder, "-o", tmp_path / "out", "--model", "nearest", "--scale", 2)
    assert fastsr_command(*arguments).stdout.splitlines()[0] == "3 files: 3 done"
    assert fastsr_command(*arguments).stdout.strip() == "3 files: 3 skipped"


def test_command_takes_images_and_dicom_in_one_tree(folder, tmp_path, random_image):
    write_image(folder / "photo.png", random_image(5, 6, 3, "uint8"))
    arguments = ("upscale", folder, "-o", tmp_path / "out", "--model", "nearest", "--scale", 2)
    assert fastsr_command(*arguments).stdout.splitlines()[0] == "4 files: 4 done"
    assert (tmp_path / "out" / "photo.png").is_file()


def test_command_options(tmp_path):
    dataset = ct(grey(6, 7), BurnedInAnnotation="YES")
    dataset.private_block(0x0029, "MAKER", create=True).add_new(0x10, "LO", "secret")
    save(dataset, tmp_path / "in.dcm")
    arguments = ("upscale", tmp_path / "in.dcm", "-o", tmp_path / "out.dcm", "--model", "nearest", "--scale", 2)
    refused = fastsr_command(*arguments)
    assert refused.returncode == 1
    assert "CT Image Storage" in refused.stderr
    assert "--force" in refused.stderr
    done = fastsr_command(*arguments, "--force", "--keep-private", "--window", 40, 400)
    assert done.returncode == 0, done.stderr
    made = pydicom.dcmread(tmp_path / "out.dcm")
    assert "window 40 width 400" in made.DerivationDescription
    assert made.private_block(0x0029, "MAKER")[0x10].value == "secret"
    help_ = fastsr_command("upscale", "--help").stdout
    assert all(option in help_ for option in ("--window", "--keep-private", "--force"))


# --- whole or not at all ----------------------------------------------------------------------------------------


def test_a_target_that_cannot_be_written(folder, tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    target.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        if os.access(target, os.W_OK):
            pytest.skip("this user may write everywhere (root)")
        outcomes = run(folder, target)
    finally:
        target.chmod(stat.S_IRWXU)
    assert states(outcomes) == ["failed"] * 3
    assert all("permission denied" in outcome.message.lower() for outcome in outcomes)
    assert list(target.iterdir()) == []


def test_a_target_that_cannot_be_made(folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    outcomes = run(folder, tmp_path / "file" / "out")
    assert states(outcomes) == ["failed"] * 3
    assert all("cannot be made" in outcome.message for outcome in outcomes)


def test_a_full_disk_leaves_nothing(folder, tmp_path):
    """A limit on file size stands for it, also where the user is root."""
    program = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
from fastsr.cli import main
main(["upscale", sys.argv[1], "-o", sys.argv[2], "--model", "nearest", "--scale", "8"])
"""
    pytest.importorskip("resource", reason="there are no limits on file sizes here")
    command = [sys.executable, "-c", program, str(folder), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("nothing was left behind") == 3
    assert [p for p in (tmp_path / "out").rglob("*") if p.is_file()] == []


@pytest.mark.parametrize("killer", ["SIGTERM", "SIGKILL"])
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there are no such signals here")
def test_killed_in_the_middle_and_continued(killer, tmp_path):
    """Complete outputs stay, none is half, and the next run goes on in the same series."""
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for i in range(12):
        save(ct(grey(64, 64, seed=i), z=i, name=str(i)), source / f"{i:02}.dcm")
    sources = {p.name: p.read_bytes() for p in source.iterdir()}
    arguments = ["upscale", str(source), "-o", str(target), "--model", "vdsr", "--scale", "2", "--quiet"]
    process = subprocess.Popen([sys.executable, "-m", "fastsr.cli", *arguments], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list(target.glob("*.dcm"))) < 3 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(getattr(signal, killer))
    assert process.wait() != 0, "it was done before it could be killed"
    finished = {p.name: p.read_bytes() for p in target.glob("*.dcm")}
    assert 3 <= len(finished) < 12
    for name in finished:
        assert pydicom.dcmread(target / name).pixel_array.shape == (128, 128)
    if killer == "SIGTERM":
        assert len(list(target.iterdir())) == len(finished)  # not even a hidden part
    again = fastsr_command(*arguments)
    assert again.returncode == 0, again.stderr
    made = {p.name: pydicom.dcmread(p) for p in target.glob("*.dcm")}
    assert len(made) == 12
    assert len({d.SeriesInstanceUID for d in made.values()}) == 1
    assert all((target / name).read_bytes() == data for name, data in finished.items())
    assert {p.name: p.read_bytes() for p in source.iterdir()} == sources


def test_a_frame_that_cannot_be_decoded_leaves_nothing(tmp_path):
    """The second frame is damaged: the first has been written by then."""
    from pydicom.encaps import encapsulate
    from pydicom.uid import RLELossless

    pixels = np.stack([grey(8, 9, seed=i) for i in range(2)])
    dataset = image("1.2.840.10008.5.1.4.1.1.7.3", pixels, bits=12)
    dataset.compress(RLELossless)
    frames = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=2))
    dataset.PixelData = encapsulate([frames[0], frames[1][:70]])
    save(dataset, tmp_path / "in.dcm")
    with pytest.raises(fastsr.ImageFileError, match=r"in\.dcm"):
        fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.dcm", model="nearest", scale=2)
    assert [p.name for p in tmp_path.iterdir()] == ["in.dcm"]


def test_missing_frames_are_missed(tmp_path):
    from pydicom.encaps import encapsulate, generate_frames
    from pydicom.uid import RLELossless

    dataset = image("1.2.840.10008.5.1.4.1.1.7.3", np.stack([grey(8, 9, seed=i) for i in range(3)]), bits=12)
    dataset.compress(RLELossless)
    dataset.PixelData = encapsulate(list(generate_frames(dataset.PixelData, number_of_frames=3))[:2])
    save(dataset, tmp_path / "in.dcm")
    with pytest.raises(fastsr.ImageFileError):
        fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.dcm", model="nearest", scale=2)
    assert not (tmp_path / "out.dcm").exists()


def test_the_input_is_never_the_output(folder):
    with pytest.raises(fastsr.OutputError, match="the input itself"):
        fastsr.upscale_file(folder / "IM_a", folder / "IM_a", model="nearest", scale=2, overwrite=True)


PEAK = """
import sys
import fastsr
fastsr.upscale_file(sys.argv[1], sys.argv[2], model="nearest", scale=4)
print(*(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_frames(tmp_path):
    """Both ends stream: the peak of 60 frames is that of 6, though the result is 10 times as large."""
    peaks = []
    for frames in (6, 60):
        pixels = np.stack([grey(256, 256, seed=i) for i in range(frames)])
        save(image("1.2.840.10008.5.1.4.1.1.7.3", pixels, bits=12), tmp_path / f"{frames}.dcm")
        command = [sys.executable, "-c", PEAK, str(tmp_path / f"{frames}.dcm"), str(tmp_path / f"{frames}_x4.dcm")]
        peaks.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < 1.05 * peaks[0]
