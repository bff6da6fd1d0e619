"""Training lowers the loss, and an interrupted run ends with the very same weights."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fastsr  # noqa: E402
from fastsr.errors import OptionError  # noqa: E402
from training import export, loop, recipe, validate  # noqa: E402
from training.crops import Crops  # noqa: E402
from training.data import PHOTO_SETS, make_pairs  # noqa: E402
from training.loop import Training, train  # noqa: E402
from training.losses import pixel_loss  # noqa: E402
from training.nets import FMENInference, upscale  # noqa: E402
from training.recipe import Recipe  # noqa: E402

RECIPES = sorted((recipe.Path(recipe.__file__).parent / "recipes").glob("*.toml"))
TINY = Recipe("tiny", "fmen", (4,), steps=12, batch=2, crop=32, lr=1e-3, data={}, warmup=2, ema=0.5)


def pictures(count=4, h=56, w=72):
    """Random coloured 8x8 blocks, which a network soon learns to sharpen: (h, w, 3) uint8."""
    rng = np.random.default_rng(5)
    blocks = rng.integers(0, 2, (count, h // 8, w // 8, 3)).repeat(8, 1).repeat(8, 2)
    return list((blocks * 200 + 20).astype(np.uint8))


def crops(r):
    return Crops([make_pairs(pictures(), r.scales)], r.batch, r.crop, r.seed, r.margin)


def run(r, out, stop_at=None, **options):
    """Train; with `stop_at`, break off after so many steps, as a killed process would."""
    training = Training(r, crops(r))

    class KilledError(Exception):
        pass

    step = training.run_step

    def run_step(advance):
        if training.step == stop_at:
            raise KilledError
        return step(advance)

    training.run_step = run_step
    if stop_at is None:
        train(training, out, say=lambda line: None, **options)
    else:
        with pytest.raises(KilledError):
            train(training, out, say=lambda line: None, **options)
    return training


@pytest.mark.parametrize(("net", "optimizer"), [*((net, "adam") for net in recipe.NETS), ("fmen", "muon")])
def test_loss_falls(net, optimizer):
    r = dataclasses.replace(TINY, net=net, optimizer=optimizer, batch=4, crop=24, steps=60, warmup=5, bf16=0.5)
    if net == "vdsr":
        r = dataclasses.replace(r, margin=1, lr=3e-4)
    if optimizer == "muon":
        r = dataclasses.replace(r, lr=5e-3)
    training = Training(r, crops(r))
    x, target, s = crops(dataclasses.replace(r, batch=16, seed=9)).next()

    def held_out():  # in batch-norm training mode, since 60 steps leave the running statistics behind
        with torch.no_grad():
            return pixel_loss(r.loss, upscale(training.net, x, s, r.margin), target).item()

    before = held_out()
    losses = [training.run_step(1 / r.steps) for _ in range(r.steps)]
    assert np.isfinite(losses).all()
    # VDSR starts from the bicubic image, so there is less to gain than from nothing.
    assert held_out() < before * (0.95 if net == "vdsr" else 0.5)


def test_pixel_losses_are_what_they_are_called():
    rng = np.random.default_rng(3)
    y, target = rng.random((2, 3, 5, 7)), rng.random((2, 3, 5, 7))
    expected = {
        "l1": np.abs(y - target).mean(),
        "l2": np.square(y - target).mean(),
        "charbonnier": np.sqrt(np.square(y - target) + 1e-6).mean(),
    }
    assert set(expected) == set(recipe.LOSSES)
    for name, value in expected.items():
        loss = pixel_loss(name, torch.tensor(y).float(), torch.tensor(target).float())
        np.testing.assert_allclose(loss.item(), value, rtol=1e-5)


@pytest.mark.parametrize("net", ["fmen", "srgan_generator"])
def test_frozen_norms_learn_in_the_form_that_is_shipped(net):
    """Their statistics stay, their weights learn, and each step's network is the inference form of its weights."""
    r = dataclasses.replace(TINY, net=net, crop=24, norms="frozen", lr=1e-4)
    training = Training(r, crops(r))
    norms = {name: m for name, m in training.net.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    for norm in norms.values():  # as a run before has left them
        torch.nn.init.uniform_(norm.running_mean, -0.5, 0.5)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    before = {name: (m.running_mean.clone(), m.running_var.clone(), m.weight.clone()) for name, m in norms.items()}
    training.ema.load_state_dict(training.net.state_dict())
    for _ in range(3):
        training.run_step(1 / r.steps)
    for name, (mean, var, weight) in before.items():
        assert torch.equal(norms[name].running_mean, mean)
        assert torch.equal(norms[name].running_var, var)
        assert not torch.equal(norms[name].weight, weight)
    training.ema.load_state_dict(training.net.state_dict())
    x = training.crops.next()[0]
    with torch.no_grad():
        torch.testing.assert_close(training.result()(x), training.net(x), atol=1e-4, rtol=1e-4)
        assert (training.net.train()(x) - training.net.eval()(x)).abs().max() > 1e-3  # batch norms would differ


@pytest.mark.parametrize(("net", "scales", "optimizer"), [("fmen", (4,), "muon"), ("vdsr", (2, 3, 4), "adam")])
def test_interrupted_equals_uninterrupted(net, scales, optimizer, tmp_path):
    r = dataclasses.replace(TINY, net=net, scales=scales, crop=24, optimizer=optimizer)
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


@pytest.mark.parametrize("margin", [0, 1])
def test_batches_hold_matching_crops(margin):
    r = dataclasses.replace(TINY, net="vdsr", scales=(2, 3, 4), batch=8, crop=24, margin=margin)
    stream = crops(r)
    for _ in range(4):
        lr, hr, s = stream.next()
        h = 24 // s
        assert lr.shape == (8, 3, h + 2 * margin, h + 2 * margin)
        assert hr.shape == (8, 3, 24, 24)
        means = hr.unflatten(2, (-1, s)).unflatten(4, (-1, s)).mean((3, 5))  # same orientation, same place
        inside = slice(margin, margin + h)
        assert (means - lr[:, :, inside, inside]).abs().mean() < 0.1  # 0.4 for any other place


def test_weights_survive_the_file(tmp_path):
    training = Training(TINY, crops(TINY))
    training.run_step(0.1)
    net = training.result()
    assert torch.equal(net.head.weight, training.result().head.weight)  # measuring changes nothing
    export.save_inference(training, net, tmp_path / "x.pt", 29.0)
    loaded = export.load_inference(tmp_path / "x.pt")
    x = torch.rand(1, 3, 6, 5)
    torch.testing.assert_close(loaded(x), net(x))
    for a, b in zip(net.state_dict().values(), loaded.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    card = export.load_card(tmp_path / "x.pt")
    assert card["steps"] == 1
    assert card["validation_psnr"] == 29.0
    assert card["recipe"]["lr"] == TINY.lr


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_recipes_are_valid_and_train_on_no_benchmark(path):
    r = recipe.load(path)
    assert set(r.data) <= {*PHOTO_SETS, recipe.MEDICAL}
    assert "BSD200_excluded" not in PHOTO_SETS
    assert r.colours == 1 or r.data["div2k_crops"] <= 0.25 * sum(r.data.values())  # all grey


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
    with pytest.raises(OptionError, match="margin"):
        dataclasses.replace(TINY, margin=2)


def test_export_writes_a_compiled_model(tmp_path):
    from fastsr.graph import CompiledModel

    training = Training(TINY, crops(TINY))
    export.save_inference(training, training.result(), tmp_path / "x.pt", 29.0)
    export.export(tmp_path / "x.pt", tmp_path / "x.fsr", measured=False)
    model = CompiledModel.load(tmp_path / "x.fsr")
    assert model.name == "fmen"
    assert model.card["degradation"].startswith("MATLAB imresize")


def test_finished_run_makes_its_result_again(tmp_path, monkeypatch):
    """Started again when all steps are done, a run hands out the same network: for a newer card or file format."""
    monkeypatch.setattr(loop, "validate", lambda net, r: 31.0)
    results = []

    def keep(net, db, done):
        results.append((net.state_dict(), db, done))

    run(TINY, tmp_path, on_result=keep, validate_seconds=1e9)
    run(TINY, tmp_path, on_result=keep, validate_seconds=1e9)
    assert [r[1:] for r in results] == [(31.0, True)] * 2
    for a, b in zip(results[0][0].values(), results[1][0].values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("net", recipe.NETS)
def test_torch_compile_sees_the_whole_network(net):
    """What a GPU compiles is traced here without a break, and computes the same step."""
    r = dataclasses.replace(TINY, net=net, bf16=1.0, margin=1 if net == "vdsr" else 0)
    plain, traced = Training(r, crops(r)), Training(r, crops(r))
    traced.net.compile(backend="eager", fullgraph=True)
    assert plain.run_step(0.1) == traced.run_step(0.1)
    for (name, a), b in zip(plain.net.named_parameters(), traced.net.parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("shape", [(9, 13), (9, 13, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_validation_sees_the_pictures_of_the_engine(shape, dtype, random_image):
    torch.manual_seed(5)
    net = FMENInference(2).eval()
    net.tail.bias.data += 0.5
    x = random_image(*shape, *([0] if len(shape) == 2 else []), dtype=dtype)
    wanted = fastsr.load(fastsr.compile(net), scale=2).upscale(x)
    got = validate.run(net, x, 2)
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    difference = np.abs(got.astype(float) - wanted)
    assert difference.max() <= (1 if dtype == "uint8" else 1e-5)  # rounding may fall either way
    assert np.mean(difference > 1e-5) < 0.01
