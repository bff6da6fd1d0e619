"""What goes wrong with long runs: kill -9, NaN, full disks, small GPUs, bad images and misspelt recipes."""

import csv
import dataclasses
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

torch = pytest.importorskip("torch")

from test_training import TINY, crops, pictures, run  # noqa: E402

import fastsr  # noqa: E402
from fastsr.errors import ModelFileError, OptionError, OutputError, ShapeError, TrainingError  # noqa: E402
from fastsr.models import open_model  # noqa: E402
from training import loop, progress, recipe  # noqa: E402
from training.__main__ import main  # noqa: E402
from training.card import make_card  # noqa: E402
from training.crops import Crops  # noqa: E402
from training.data import load_sets  # noqa: E402
from training.loop import Training, too_large, train  # noqa: E402
from training.run import choose_device  # noqa: E402

TOML = """
net = "fmen"
scales = [4]
steps = {steps}
batch = 2
crop = 32
lr = 1e-3
ema = 0.5
[data]
"{folder}" = 1.0
"""


@pytest.fixture
def own_recipe(tmp_path):
    """A recipe over a folder of somebody's own images; FASTSR_DATA leads nowhere."""
    folder = tmp_path / "own images"
    folder.mkdir()
    for i, pixels in enumerate(pictures()):
        Image.fromarray(pixels).save(folder / f"{i}.png")

    def write(steps=30):
        path = tmp_path / "own.toml"
        path.write_text(TOML.format(steps=steps, folder=folder))
        return path

    write.folder = folder
    return write


def start(path, out, *options):
    environment = os.environ | {"FASTSR_DATA": str(path.parent / "nowhere"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "training", str(path), "--out", str(out), "--threads", "1", *options]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_killed_run_goes_on_to_the_same_weights(own_recipe, tmp_path):
    path = own_recipe(steps=30)
    broken = start(path, tmp_path / "broken", "--save-seconds", "0")
    checkpoint = tmp_path / "broken" / "checkpoint.pt"
    deadline = time.monotonic() + 120
    while not (checkpoint.exists() and torch.load(checkpoint, weights_only=True)["step"] >= 4):
        assert broken.poll() is None, broken.stdout.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(broken.pid, signal.SIGKILL)
    broken.wait()
    broken.stdout.close()
    stopped_at = torch.load(checkpoint, weights_only=True)["step"]
    assert 4 <= stopped_at < 30
    said = {}
    for name in ("broken", "whole"):
        process = start(path, tmp_path / name)
        said[name] = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said[name]
    assert f"resumed at step {stopped_at}" in said["broken"]
    results = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("broken", "whole")]
    assert results[0]["step"] == results[1]["step"] == 30
    for part in ("net", "ema"):
        for key, value in results[0][part].items():
            assert torch.equal(value, results[1][part][key]), key
    left = [p.name for p in (tmp_path / "broken").iterdir() if "partial" in p.name]
    assert len(left) <= 1  # of the moment of the kill
    models = [fastsr.load(tmp_path / name / "own.fsr") for name in ("broken", "whole")]
    x = np.random.default_rng(1).integers(0, 255, (9, 8, 3), np.uint8)
    assert np.array_equal(models[0].upscale(x), models[1].upscale(x))
    card = models[0].model.card
    assert card["trained_on"]["sets"] == {"own images": 1.0}  # no path of this machine
    assert str(tmp_path) not in str(card)


def test_smoke_run_learns(own_recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["training", str(own_recipe(10**6)), "--smoke", "--out", str(tmp_path / "run")])
    monkeypatch.setenv("FASTSR_DATA", str(tmp_path / "nowhere"))
    main()
    said = capsys.readouterr().out
    before, after = said.rpartition("loss ")[2].split(" -> ")
    assert float(after) < 0.7 * float(before)
    assert fastsr.load(tmp_path / "run" / "own.fsr").scale == 4
    with Image.open(tmp_path / "run" / "curve.png") as curve:
        assert len(np.unique(np.asarray(curve).reshape(-1, 3), axis=0)) > 3


def test_nan_stops_and_the_last_good_checkpoint_stays(tmp_path):
    training = Training(TINY, crops(TINY))
    step = training.run_step

    def run_step(advance):
        loss = step(advance)
        return loss * torch.nan if training.step == 6 else loss

    training.run_step = run_step
    with pytest.raises(TrainingError, match=r"nan.*checkpoint\.pt"):
        train(training, tmp_path, save_seconds=0, say=lambda line: None)
    good = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert good["step"] == 5
    assert all(v.isfinite().all() for v in good["net"].values())


def test_infinite_gradient_counts_as_nan():
    training = Training(TINY, crops(TINY))
    training.net.head.weight.register_hook(lambda g: g * torch.inf)
    assert training.run_step(0.1).isnan()


def test_full_disk_is_said_and_leaves_the_checkpoint(tmp_path):
    training = run(TINY, tmp_path, stop_at=3, save_seconds=0)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "import torch; from pathlib import Path; from training.loop import save_atomically\n"
        "from fastsr.errors import OutputError\n"
        "try: save_atomically({'x': torch.rand(100_000)}, Path(sys.argv[1]))\n"
        "except OutputError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "checkpoint.pt")]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout
    assert "checkpoint.pt cannot be written" in said
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name]
    training.load(tmp_path / "checkpoint.pt")


def test_output_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        train(Training(TINY, crops(TINY)), tmp_path / "file" / "run", say=lambda line: None)


def test_small_gpu_is_told_what_fits(tmp_path):
    r = dataclasses.replace(TINY, batch=8)
    training = Training(r, crops(r))
    step = training.run_step

    def run_step(advance):
        if training.crops.batch > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return step(advance)

    training.run_step = run_step
    with pytest.raises(TrainingError, match=r"8 crops of 32x32.*batch = 2 would fit.*crop = 16"):
        train(training, tmp_path, say=lambda line: None)
    training.crops.batch = 8

    def never(advance):
        raise torch.cuda.OutOfMemoryError

    training.run_step = never
    assert "not even one" in too_large(training)


def test_missing_gpu_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionError, match="no GPU"):
        choose_device("cuda")
    assert choose_device("auto").type == "cpu"


def test_corrupt_and_small_images_are_named_and_counted(own_recipe):
    r = recipe.load(own_recipe())
    (own_recipe.folder / "broken.png").write_bytes((own_recipe.folder / "0.png").read_bytes()[:60])
    (own_recipe.folder / "text.jpg").write_text("no picture")
    Image.new("RGB", (31, 99)).save(own_recipe.folder / "small.png")
    said = []
    sets = load_sets(r, said.append)
    assert len(sets[0].hr) == 4
    assert any("broken.png" in line for line in said)
    assert any("text.jpg" in line for line in said)
    assert "4 images (2 unreadable, 1 too small)" in said[-1]
    with pytest.raises(ShapeError, match=r"smaller than the 128 pixels.*smaller crop"):
        load_sets(dataclasses.replace(r, crop=128), said.append)


def test_folders_without_images(own_recipe, tmp_path):
    r = recipe.load(own_recipe())
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, message in ((empty, "no image files"), (tmp_path / "none", "no folder")):
        with pytest.raises(OptionError, match=message):
            load_sets(dataclasses.replace(r, data={str(folder): 1.0}))
    with pytest.raises(OptionError, match="BSD200"):
        load_sets(dataclasses.replace(r, data={"BSD20": 1.0}))


def test_sixteen_bit_images_are_for_grey_networks(own_recipe):
    r = recipe.load(own_recipe())
    deep = np.random.default_rng(1).integers(0, 4000, (40, 40)).astype(np.uint16)
    Image.fromarray(deep).save(own_recipe.folder / "deep.png")
    with pytest.raises(OptionError, match=r"deep\.png.*uint16.*colours = 1"):
        load_sets(r)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 3", "did you mean 'steps'"),
        ("xyzzy = 3", "known are name, net"),
        ("lr = -1", "lr is -1; more than 0"),
        ("lr = nan", "lr is nan"),
        ("batch = 1.5", "batch is 1.5; int"),
        ("ema = 1", "ema is 1"),
        ("bf16 = 2", "bf16 is 2"),
        ("scales = [3, 4]", "fmen has one of"),
        ("scales = 4", "a list such as"),
        ("crop = 30", "crop is 30"),
        ("loss = 'l3'", "loss is 'l3'"),
        ("teaching = 1.5", "teaching is 1.5; a share"),
        ("norms = 'layer'", "norms is 'layer'; one of"),
        ("= 3", "no readable TOML"),
    ],
)
def test_wrong_recipes(own_recipe, text, message):
    path = own_recipe()
    key = text.partition(" =")[0]
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{key} =")]
    path.write_text("\n".join([text, *lines]))
    with pytest.raises(OptionError, match=message):
        recipe.load(path)


def test_recipe_without_images_or_steps(own_recipe):
    path = own_recipe()
    whole = path.read_text()
    path.write_text(whole.partition("[data]")[0])
    with pytest.raises(OptionError, match=r"\[data\]"):
        recipe.load(path)
    path.write_text(whole.replace("steps", "#"))
    with pytest.raises(OptionError, match="steps"):
        recipe.load(path)


def test_recipes_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("fmen_x4", "recipes/fmen_x4.toml", "training/recipes/fmen_x4.toml"):
        assert recipe.find(name) == recipe.RECIPES / "fmen_x4.toml"
    with pytest.raises(OptionError, match="fmen_x2, fmen_x3"):
        recipe.find("fmen_x9")


def test_errors_end_the_command_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["training", "fmen_x9"])
    with pytest.raises(SystemExit, match=r"training: error: there is no recipe fmen_x9"):
        main()


def test_checkpoint_of_another_recipe(tmp_path):
    run(TINY, tmp_path, stop_at=2, save_seconds=0)
    other = dataclasses.replace(TINY, scales=(2,))
    with pytest.raises(ModelFileError, match=r"checkpoint\.pt.*another recipe"):
        train(Training(other, crops(other)), tmp_path, say=lambda line: None)
    (tmp_path / "checkpoint.pt").write_bytes(b"half a file")
    with pytest.raises(ModelFileError, match="damaged"):
        train(Training(TINY, crops(TINY)), tmp_path, say=lambda line: None)


def test_log_goes_on_where_the_checkpoint_is(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "LEAST_STEPS", 1)
    monkeypatch.setattr(progress, "LEAST_SECONDS", 0)
    clock = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: clock.__setitem__(0, clock[0] + 1) or clock[0])
    lines = []
    training = Training(TINY, crops(TINY))
    step = training.run_step

    def run_step(advance):
        if training.step == 7:
            raise KeyboardInterrupt
        return step(advance)

    training.run_step = run_step
    with pytest.raises(KeyboardInterrupt):
        train(training, tmp_path, save_seconds=9, say=lines.append)
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"]
    logged = [int(row["step"]) for row in progress.read_log(tmp_path / "log.csv")]
    assert kept < logged[-1]
    train(Training(TINY, crops(TINY)), tmp_path, say=lines.append)
    with (tmp_path / "log.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(1, 13))
    assert "images/s" in lines[0]
    assert "left" in lines[0]
    assert "val -" in lines[0]


def test_durations():
    assert [progress.duration(s) for s in (7, 89, 90, 3600, 11100)] == [
        "7 s", "89 s", "2 min", "60 min", "3 h 05 min",
    ]  # fmt: skip


def test_recipe_in_the_documentation_is_valid(tmp_path):
    text = (ROOT / "training" / "README.md").read_text()
    path = tmp_path / "scanner.toml"
    path.write_text(text.partition("```toml\n")[2].partition("```")[0])
    r = recipe.load(path)
    assert (r.model_name, r.colours, len(r.data)) == ("fmen-scanner", 1, 2)


def test_own_scans_train_a_grey_network(tmp_path):
    folder = tmp_path / "slices"
    folder.mkdir()
    deep = np.random.default_rng(1).integers(0, 4000, (5, 5)).astype(np.uint16).repeat(8, 0).repeat(8, 1)
    Image.fromarray(deep).save(folder / "a.png")
    np.save(folder / "b.npy", deep.astype(np.float32) - 1000)
    r = dataclasses.replace(TINY, colours=1, data={str(folder): 1.0})
    sets = load_sets(r, lambda line: None)
    np.testing.assert_allclose(sets[0].hr[0], sets[0].hr[1], atol=1e-5)  # windows undo an offset
    training = Training(r, Crops(sets, 2, 32, 1))
    assert training.run_step(0.5).isfinite()
    card = make_card(training, 30.0)
    assert card["normalization"] == {"kind": "percentile", "low": 0.5, "high": 99.5}
    assert card["trained_on"] == {"sets": {"slices": 1.0}}  # nobody said what they show
    assert "of their owner" in card["licence"]
    assert "taught_by" not in card
    taught = dataclasses.replace(r, teacher="bicubic", teaching=0.5)
    training = Training(taught, Crops(load_sets(taught, lambda line: None), 2, 32, 1))
    assert training.run_step(0.5).isfinite()
    scale = taught.scales[0]
    name = f"bicubic x{scale}, sha256 {open_model('bicubic', scale).sha256[:12]}"
    assert make_card(training, 30.0)["taught_by"] == [name]
