"""FastSR's own networks: the compiled graph is the PyTorch module, and its grey form is the luma of it."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs PyTorch")

from fastsr.errors import OptionError  # noqa: E402
from fastsr.graph import CompiledModel, reference  # noqa: E402
from fastsr.graph.compiler import compile_model  # noqa: E402
from fastsr.graph.grey import LUMA  # noqa: E402
from training.nets import FMEN, VDSR, SRGANDiscriminator, SRGANGenerator  # noqa: E402

NETS = {
    "fmen_x2": (lambda: FMEN(2), 2),
    "fmen_x3": (lambda: FMEN(3), 3),
    "fmen_x4": (lambda: FMEN(4), 4),
    "vdsr_x2": (VDSR, 2),
    "vdsr_x3": (VDSR, 3),
    "vdsr_x4": (VDSR, 4),
    "srgan_x4": (SRGANGenerator, 4),
}


def trained(name):
    """Return a network whose batch norms and slopes are not at their start."""
    torch.manual_seed(3)
    net = NETS[name][0]().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 2.0)
    return net


@pytest.mark.parametrize("form", ["training", "inference"])
@pytest.mark.parametrize("name", NETS)
def test_compiled_equals_the_module(name, form):
    net, scale = trained(name), NETS[name][1]
    model = compile_model(net if form == "training" else net.to_inference())
    net = net.double()
    for H, W in [(1, 1), (5, 7)]:
        x = np.random.default_rng(0).random((3, H, W))
        with torch.no_grad():
            image = torch.from_numpy(x)[None]
            expected = (net.upscale(image, scale) if hasattr(net, "upscale") else net(image))[0].numpy()
        y = reference.run(model.graph(scale, 3), model.tensors, x)
        assert np.abs(y - expected).max() <= 2e-5 * max(np.abs(expected).max(), 1)


@pytest.mark.parametrize("name", NETS)
def test_grey_form_is_the_luma(name):
    model, scale = compile_model(trained(name)), NETS[name][1]
    g = np.random.default_rng(1).random((1, 6, 9))
    expected = np.tensordot(LUMA, reference.run(model.graph(scale, 3), model.tensors, np.repeat(g, 3, 0)), 1)
    y = reference.run(model.graph(scale, 1), model.tensors, g)[0]
    assert np.abs(y - expected).max() <= 1e-6 * max(np.abs(expected).max(), 1)


@pytest.mark.parametrize("channels", [3, 1])
def test_fmen_is_one_node_a_convolution(channels):
    model = compile_model(FMEN(4))
    nodes = model.graph(4, channels).nodes
    assert [node.op for node in nodes] == ["conv"] * 34 + ["pixel_shuffle"]
    assert model.scales == (4,)
    assert model.parameters(4, 3) == 341_066  # Table 2 of the paper
    assert model.parameters(4, channels) <= 341_066
    gates = [node for node in nodes if node.name.endswith("excite")]
    assert [[step.op for step in node.steps] for node in gates] == [["sigmoid", "mul"]] * 5


@pytest.mark.parametrize("channels", [3, 1])
def test_srgan_is_one_node_a_convolution(channels):
    nodes = compile_model(SRGANGenerator()).graph(4, channels).nodes
    assert [node.op for node in nodes] == ["conv"] * 13 + ["pixel_shuffle", "conv", "pixel_shuffle", "conv"]
    assert sum(step.op == "add" for node in nodes if node.op == "conv" for step in node.steps) == 6


def test_vdsr_serves_three_scales_with_one_set_of_weights():
    model = compile_model(VDSR())
    assert model.scales == (2, 3, 4)
    assert [model.parameters(scale, 3) for scale in model.scales] == [667_008] * 3
    assert sum(tensor.size for tensor in model.tensors.values()) == 667_008 + 2 * 64 * 9
    assert [node.op for node in model.graph(2, 1).nodes] == ["resize"] + ["conv"] * 20


def test_compiling_is_repeatable_and_saved_whole(tmp_path):
    net = trained("fmen_x4")
    model = compile_model(net, name="fmen-x4", card={"trained": "never"})
    assert model.to_bytes() == compile_model(net, name="fmen-x4", card={"trained": "never"}).to_bytes()
    model.save(tmp_path / "fmen.fsr")
    again = CompiledModel.load(tmp_path / "fmen.fsr")
    assert (again.name, again.card, again.sha256) == ("fmen-x4", {"trained": "never"}, model.sha256)


@pytest.mark.parametrize("make", [SRGANDiscriminator, lambda: torch.nn.Conv2d(3, 3, 3)])
def test_other_modules_are_sent_through_onnx(make):
    with pytest.raises(OptionError, match=r"torch\.onnx\.export"):
        compile_model(make())
