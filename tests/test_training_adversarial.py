"""The adversarial phase: both nets learn, both are in the checkpoint, and the losses are what they say."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from test_training import crops, run  # noqa: E402

from fastsr.errors import ModelFileError, OptionError  # noqa: E402
from training.adversarial import Adversarial, make_training  # noqa: E402
from training.loop import train  # noqa: E402
from training.losses import VGG19Features, detail_loss, feature_loss, relativistic_loss  # noqa: E402
from training.recipe import Recipe  # noqa: E402

GAN = Recipe(
    "gan", "srgan_generator", (4,), steps=5, batch=2, crop=32, lr=1e-4, data={}, warmup=1, ema=0.5,
    adversarial=0.1, perceptual=0.3, pixel=0.5, bf16=0.4,
)  # fmt: skip


def nets(training):
    return {"net": training.net, "ema": training.ema, "discriminator": training.discriminator}


def test_both_networks_learn():
    training = make_training(GAN, crops(GAN))
    before = {name: [p.clone() for p in net.parameters()] for name, net in nets(training).items()}
    assert training.run_step(0.1).isfinite()
    for name, net in nets(training).items():
        still = {k for (k, p), q in zip(net.named_parameters(), before[name], strict=True) if torch.equal(p, q)}
        assert still <= {"fc2.bias"}, name  # what counts are differences of logits, which share this bias


def test_discriminator_learns_to_tell():
    """On one batch, against a generator that stands still."""
    training = make_training(dataclasses.replace(GAN, bf16=0.0, lr=1e-3), crops(GAN))
    x, target, scale = training.crops.next()
    training.optimizer.param_groups[0]["lr"] = 0.0

    def loss():
        with torch.no_grad():
            return relativistic_loss(training.judge(target), training.judge(training.net(x))).item()

    before = loss()
    for _ in range(10):
        training.update(x, target, scale)
    assert loss() < 0.7 * before


def test_interrupted_equals_uninterrupted(tmp_path, monkeypatch):
    monkeypatch.setattr("test_training.Training", Adversarial)
    whole = run(GAN, tmp_path / "whole")
    run(GAN, tmp_path / "broken", stop_at=3, save_seconds=0)
    resumed = run(GAN, tmp_path / "broken")
    assert resumed.step == whole.step == GAN.steps
    for name, net in nets(whole).items():
        for (key, p), q in zip(net.state_dict().items(), nets(resumed)[name].state_dict().values(), strict=True):
            assert torch.equal(p, q), (name, key)


def test_pixel_checkpoint_is_no_adversarial_one(tmp_path):
    run(dataclasses.replace(GAN, adversarial=0.0, perceptual=0.0, steps=1), tmp_path)
    with pytest.raises(ModelFileError, match="another recipe"):
        train(make_training(GAN, crops(GAN)), tmp_path, say=lambda line: None)


def test_relativistic_loss():
    far, near = torch.full((4, 1), 9.0), torch.full((4, 1), -9.0)
    assert relativistic_loss(far, near) < 1e-6
    assert abs(relativistic_loss(near, far) - 18) < 1e-4
    assert abs(relativistic_loss(far, far) - np.log(2)) < 1e-6


def test_feature_loss_is_relative_to_the_photo():
    torch.manual_seed(1)
    real = torch.rand(2, 5, 4, 4) * 100
    assert abs(feature_loss(real * 1.1, real) - 0.1) < 1e-5
    assert feature_loss(real, real) == 0


def test_detail_loss_wants_as_much_detail_as_there_is():
    torch.manual_seed(3)
    real = torch.rand(2, 3, 40, 48)
    blurred = torch.nn.functional.avg_pool2d(real, 3, 1, 1)
    assert detail_loss(real, real) == 0
    assert abs(detail_loss(real * 0.9, real) - 0.1) < 0.01
    assert detail_loss(blurred, real) > 0.4
    assert detail_loss(real.flip(3), real) < 0.25  # other detail, as strong
    y, x = torch.meshgrid(torch.arange(40), torch.arange(48), indexing="ij")
    for pattern in ((x + y) % 2, x % 2, (x % 4 == 0) * (y % 4 == 0)):  # what pixel shuffles leave: no substitute
        best = min(detail_loss(blurred + k * pattern, real) for k in (0.1, 0.2, 0.4, 0.8))
        assert best > detail_loss(real.flip(3), real) + 0.1


@pytest.fixture(scope="module")
def vgg19(tmp_path_factory):
    """A file with the names and shapes of torchvision's VGG19, values at random."""
    torch.manual_seed(2)
    state = {k: v for k, v in VGG19Features().state_dict().items() if k.startswith("features.")}
    state |= {"classifier.0.weight": torch.rand(2, 2)}
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return path


def test_perceptual_loss_from_vgg19(vgg19, tmp_path):
    net = VGG19Features.load(vgg19)
    given = torch.load(vgg19)
    assert torch.equal(net.features[34].weight, given["features.34.weight"])  # conv5_4
    assert net(torch.rand(1, 3, 32, 48)).shape == (1, 512, 2, 3)
    training = make_training(GAN, crops(GAN), vgg19=vgg19)
    assert training.run_step(0.1).isfinite()
    assert torch.equal(training.vgg19.features[0].weight, given["features.0.weight"])  # it does not learn
    del given["features.34.weight"]
    torch.save(given, tmp_path / "short.pth")
    with pytest.raises(ModelFileError, match=r"features\.34\.weight"):
        VGG19Features.load(tmp_path / "short.pth")
    with pytest.raises(ModelFileError, match=r"nowhere\.pth"):
        VGG19Features.load(tmp_path / "nowhere.pth")


def test_recipe_errors():
    with pytest.raises(OptionError, match="adversarial"):
        dataclasses.replace(GAN, net="fmen")
    with pytest.raises(OptionError, match="perceptual"):
        dataclasses.replace(GAN, adversarial=0.0)
    assert GAN.model_name == "srgan"
