"""Training lowers the loss, and an interrupted run ends with the very same weights."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from fastsr.errors import OptionError  # noqa: E402
from training import export, recipe  # noqa: E402
from training.data import TRAINING_SETS, Crops, make_pairs  # noqa: E402
from training.loop import Training, train  # noqa: E402
from training.recipe import Recipe  # noqa: E402

RECIPES = sorted((recipe.Path(recipe.__file__).parent / "recipes").glob("*.toml"))
TINY = Recipe("tiny", "fmen", (4,), steps=12, batch=2, crop=32, lr=1e-3, data={}, warmup=2, ema=0.5)


def pictures(count=4, h=56, w=72):
    """Coloured waves and edges: (h, w, 3) uint8."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:h, :w]
    images = []
    for _ in range(count):
        a, b, phase = rng.uniform(-0.4, 0.4), rng.uniform(-0.4, 0.4), rng.uniform(0, 6, 3)
        wave = np.sin(a * y[..., None] + b * x[..., None] + phase)
        edges = np.where(a * (y - h / 2) > b * (x - w / 2), 60.0, -60.0)[..., None]
        images.append((128 + 60 * wave + edges).clip(0, 255).astype(np.uint8))
    return images


def crops(r):
    return Crops([make_pairs(pictures(), r.scales)], r.batch, r.crop, r.seed)


def run(r, out, stop_at=None, **options):
    """Train; with `stop_at`, break off after so many steps, as a killed process would."""
    training = Training(r, crops(r))

    class Killed(Exception):
        pass

    step = training.run_step

    def run_step(advance):
        if training.step == stop_at:
            raise Killed
        return step(advance)

    training.run_step = run_step
    if stop_at is None:
        train(training, out, say=lambda line: None, **options)
    else:
        with pytest.raises(Killed):
            train(training, out, say=lambda line: None, **options)
    return training


@pytest.mark.parametrize("net, scales", [("fmen", (4,)), ("vdsr", (2, 3, 4)), ("srgan_generator", (4,))])
def test_loss_falls(net, scales, tmp_path):
    r = dataclasses.replace(TINY, net=net, scales=scales, crop=24, steps=40, bf16=0.5)
    training = Training(r, crops(r))
    losses = [training.run_step(1 / r.steps) for _ in range(r.steps)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-8:]) < 0.8 * np.mean(losses[:8])


@pytest.mark.parametrize("net, scales", [("fmen", (4,)), ("vdsr", (2, 3, 4))])
def test_interrupted_equals_uninterrupted(net, scales, tmp_path):
    r = dataclasses.replace(TINY, net=net, scales=scales, crop=24)
    whole = run(r, tmp_path / "whole")
    # saved after every step; killed at step 5, so that the optimizer, the order and the averages all matter
    run(r, tmp_path / "broken", stop_at=5, save_seconds=0)
    resumed = run(r, tmp_path / "broken")
    assert resumed.step == whole.step == r.steps
    for a, b in ((whole.net, resumed.net), (whole.ema, resumed.ema)):
        for (name, p), q in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
            assert torch.equal(p, q), name


def test_checkpoint_is_whole_or_absent(tmp_path):
    training = run(TINY, tmp_path, stop_at=2, save_seconds=0)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    training.optimizer.state_dict = None  # saving breaks half-way
    with pytest.raises(TypeError):
        training.save(tmp_path / "checkpoint.pt")
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_clock_bounds_the_run(tmp_path):
    import time

    training = run(dataclasses.replace(TINY, steps=10**9), tmp_path, deadline=time.time() + 2)
    assert training.progress == 1
    assert 1 < training.step < 10**4


def test_batches_hold_matching_crops():
    r = dataclasses.replace(TINY, scales=(2, 3, 4), batch=8, crop=24)
    stream = crops(r)
    for _ in range(4):
        lr, hr, s = stream.next()
        assert lr.shape == (8, 3, 24 // s, 24 // s)
        assert hr.shape == (8, 3, 24, 24)
        means = hr.unflatten(2, (-1, s)).unflatten(4, (-1, s)).mean((3, 5))  # same orientation, same place
        assert (means - lr).abs().mean() < 0.05


def test_weights_survive_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "evaluate", lambda net, benchmark, scale: {"psnr": 30.0, "ssim": 0.9})
    training = Training(TINY, crops(TINY))
    training.run_step(0.1)
    net = training.result()
    assert torch.equal(net.head.weight, training.result().head.weight)  # measuring changes nothing
    export.save_inference(training, net, tmp_path / "x.pt")
    loaded = export.load_inference(tmp_path / "x.pt")
    x = torch.rand(1, 3, 6, 5)
    assert torch.equal(loaded(x), net(x))
    card = export.load_card(tmp_path / "x.pt")
    assert card["steps"] == 1
    assert card["scores"]["Set5 x4"]["psnr"] == 30.0


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipes_are_valid_and_train_on_no_benchmark(path):
    r = recipe.load(path)
    assert set(r.data) <= set(TRAINING_SETS)
    assert "BSD200_excluded" not in TRAINING_SETS
    assert r.data["div2k_crops"] <= 0.25 * sum(r.data.values())  # all grey


def test_recipe_errors_name_the_key(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('net = "fmen"\nspeed = 3\n')
    with pytest.raises(OptionError, match="speed"):
        recipe.load(path)
    path.write_text('net = "fmen"\n')
    with pytest.raises(OptionError):
        recipe.load(path)
    with pytest.raises(OptionError, match="edsr"):
        dataclasses.replace(TINY, net="edsr")
    with pytest.raises(OptionError, match="crop"):
        dataclasses.replace(TINY, crop=30)
