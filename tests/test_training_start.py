"""A run can start from what is shipped: inference forms are taken apart without changing a picture."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from conftest import ROOT  # noqa: E402

import fastsr  # noqa: E402
from fastsr.errors import ModelFileError, OptionError  # noqa: E402
from fastsr.graph import CompiledModel  # noqa: E402
from training.crops import Crops  # noqa: E402
from training.data import make_pairs  # noqa: E402
from training.loop import Training  # noqa: E402
from training.nets import FMEN, upscale  # noqa: E402
from training.nets.fmen import RRRB, conv3x3  # noqa: E402
from training.recipe import Recipe  # noqa: E402
from training.start import origin, start_from  # noqa: E402

WEIGHTS = ROOT / "fastsr" / "weights"


def fresh(net, scales, colours=3):
    r = Recipe("r", net, scales, steps=10, batch=2, crop=24, lr=1e-4, data={}, colours=colours)
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 255, (6, 7, colours), np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(3)]
    images = images if colours == 3 else [(x / 255).astype(np.float32) for x in images]
    return Training(r, Crops([make_pairs(images, scales)], 2, 24, 1))


@pytest.mark.parametrize("channels", [12, 50])
def test_branches_collapse_into_the_kernel_that_they_took(channels):
    torch.manual_seed(channels)
    wanted, branches = conv3x3(channels, channels), RRRB(channels)
    branches.take(wanted)
    w, b = branches.kernel()
    torch.testing.assert_close(w, wanted.weight, atol=1e-6, rtol=0)
    torch.testing.assert_close(b, wanted.bias, atol=1e-6, rtol=0)
    x = torch.rand(2, channels, 1, 9) - 0.5
    branches.wide = True
    torch.testing.assert_close(branches(x), wanted(x), atol=1e-5, rtol=0)
    branches(x).square().mean().backward()
    for name, p in branches.named_parameters():
        assert p.grad.abs().max() > 1e-7, name  # every branch goes on learning


@pytest.mark.parametrize(
    ("net", "file", "scales"),
    [("fmen", "fmen_x4.fsr", (4,)), ("srgan_generator", "srresnet_x4.fsr", (4,)), ("vdsr", "vdsr.fsr", (2, 3, 4))],
)
def test_shipped_file_gives_the_same_pictures(net, file, scales):
    training = fresh(net, scales)
    start_from(training, WEIGHTS / file)
    x = np.random.default_rng(1).random((13, 17, 3)).astype(np.float32)
    wanted = fastsr.upscale(x, str(WEIGHTS / file))
    with torch.no_grad():
        for form in (training.net.eval(), training.ema.eval(), training.net.to_inference()):
            y = upscale(form, torch.from_numpy(x).permute(2, 0, 1)[None], 4)[0].permute(1, 2, 0).numpy()
            np.testing.assert_allclose(y, wanted, atol=1e-5)


def test_grey_network_starts_from_a_shipped_file():
    training = fresh("fmen", (4,), colours=1)
    start_from(training, WEIGHTS / "fmen_x4.fsr")
    x = np.random.default_rng(1).random((13, 17)).astype(np.float32)
    with torch.no_grad():
        y = training.net.eval()(torch.from_numpy(x)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(y, fastsr.upscale(x), atol=1e-5)


def test_batch_statistics_change_little_and_everything_learns():
    """In training mode a batch of the same kind gives nearly the same picture, and each weight has a gradient."""
    training = fresh("fmen", (4,))
    start_from(training, WEIGHTS / "fmen_x4.fsr")
    x, target, _ = training.crops.again(seed=7).next()
    with torch.no_grad():
        exact = training.net.eval()(x)
    near = training.net.train()(x)
    assert (near - exact).abs().mean() < 0.2 * (exact - exact.mean()).abs().mean()
    (near - target).abs().mean().backward()
    assert not [name for name, p in training.net.named_parameters() if not p.grad.abs().max() > 0]


def test_inference_file_equals_its_checkpoint(tmp_path):
    torch.manual_seed(8)
    net = FMEN(4).eval()
    torch.save({"net": "fmen", "scale": 4, "state_dict": net.to_inference().state_dict()}, tmp_path / "x_inference.pt")
    training = fresh("fmen", (4,))
    assert start_from(training, tmp_path / "x_inference.pt") == len(net.to_inference().state_dict())
    x = torch.rand(1, 3, 9, 11)
    with torch.no_grad():
        torch.testing.assert_close(training.net.eval()(x), net(x), atol=1e-5, rtol=0)


def test_another_scale_keeps_its_own_tail():
    training = fresh("fmen", (2,))
    tail = training.net.tail.weight.clone()
    start_from(training, WEIGHTS / "fmen_x4.fsr")
    assert torch.equal(training.net.tail.weight, tail)
    head = fastsr.load("fmen").model.tensors["head.weight"]
    assert np.array_equal(training.net.head.weight.detach().numpy(), head)


def test_origin_tells_a_files_own_past(tmp_path):
    shipped = CompiledModel.load(WEIGHTS / "fmen_x2.fsr")
    said = origin(WEIGHTS / "fmen_x2.fsr")
    assert said.startswith(f"fmen_x2.fsr, sha256 {shipped.sha256[:12]} (")
    assert f"({shipped.card['steps']} steps from {shipped.card['started_from']})" in said
    assert origin(tmp_path / "checkpoint.pt") == "checkpoint.pt"


def test_wrong_files_are_refused(tmp_path):
    training = fresh("fmen", (4,))
    with pytest.raises(ModelFileError, match=r"nowhere\.pt"):
        start_from(training, tmp_path / "nowhere.pt")
    (tmp_path / "text.pt").write_text("no weights")
    with pytest.raises(ModelFileError, match=r"text\.pt"):
        start_from(training, tmp_path / "text.pt")
    torch.save({"state_dict": {"head.weight": torch.rand(1, 3, 3, 3)}}, tmp_path / "other.pt")
    with pytest.raises(OptionError, match="no tensor"):
        start_from(training, tmp_path / "other.pt")
    with pytest.raises(OptionError, match="colours"):
        dataclasses.replace(training.recipe, colours=2)
