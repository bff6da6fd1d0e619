"""Training forms and inference forms are the same function, image border included."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from training.nets import (  # noqa: E402
    FMEN,
    VDSR,
    SRGANDiscriminator,
    SRGANGenerator,
    bicubic_upscale,
)
from training.nets.fmen import RRRB, BNConv, BNConvBN  # noqa: E402

NETS = {
    "fmen_x2": lambda: FMEN(2),
    "fmen_x3": lambda: FMEN(3),
    "fmen_x4": lambda: FMEN(4),
    "vdsr": VDSR,
    "generator": SRGANGenerator,
    "discriminator": SRGANDiscriminator,
}
SIZES = [(1, 1), (7, 13), (40, 33)]


def randomize(net):
    """Give biases, batch-norm statistics and affine maps values that an unexact fold would not survive."""
    torch.manual_seed(7)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.2)
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)  # VDSR's last layer starts at zero
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.5)
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, -0.5, 0.5)
    return net.eval()


def relative_error(a, b):
    return ((a - b).abs().max() / a.abs().max()).item()


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_parameter_counts():
    assert parameters(FMEN(4).to_inference()) == 341_066
    assert parameters(VDSR()) == parameters(VDSR().to_inference()) == 667_008
    assert parameters(SRGANGenerator()) == 734_219
    assert parameters(SRGANDiscriminator()) == 5_215_425


@pytest.mark.parametrize(("h", "w"), SIZES)
@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_inference_form_equals_training_form(name, h, w):
    net = randomize(NETS[name]().double())
    inference = net.to_inference()
    assert not any(isinstance(m, nn.BatchNorm2d | RRRB | BNConv) for m in inference.modules())
    x = torch.rand(2, 3, h, w, dtype=torch.float64)
    assert relative_error(net(x), inference(x)) < 1e-10
    # Each form rounds in its own order, hence they differ in float32; 1e-5 is 1/400 of an 8-bit level.
    y = net(x)
    errors = [relative_error(y, form.float()(x.float()).double()) for form in (net, inference)]
    print(f"{name} {h}x{w}, float32 against float64: training form {errors[0]:.1e}, inference form {errors[1]:.1e}")
    assert max(errors) < 1e-5


@pytest.mark.parametrize(("h", "w"), SIZES)
@torch.no_grad()
def test_fmen_collapsed_equals_wide(h, w):
    net = randomize(FMEN(4).double())
    x = torch.rand(1, 3, h, w, dtype=torch.float64)
    collapsed = net(x)
    net.set_wide(True)
    assert relative_error(net(x), collapsed) < 1e-10


@pytest.mark.parametrize("block", [lambda: RRRB(6), lambda: BNConv(6, 4), lambda: BNConvBN(6, 4)])
def test_collapsed_block_trains_as_the_wide_one(block):
    """Equal outputs, equal gradients and equal running statistics in training mode."""
    narrow = randomize(block().double()).train()
    wide = block().double()
    wide.load_state_dict(narrow.state_dict())
    wide.wide = True
    outputs, gradients = [], []
    for module in (narrow, wide):
        x = torch.rand(2, 6, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        y = module(x.requires_grad_())
        outputs.append(y)
        gradients.append(torch.autograd.grad(y.square().sum(), [x, *module.parameters()]))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-10, atol=1e-10)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    for a, b in zip(narrow.buffers(), wide.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_bn_conv_measures_as_batch_norm_does():
    block = randomize(BNConv(6, 4).double()).train()
    bn = nn.BatchNorm2d(6).double()
    bn.load_state_dict(block.bn.state_dict())
    x = torch.randn(3, 6, 9, 8, dtype=torch.float64)
    inner = F.conv2d(bn(x), block.conv.weight, block.conv.bias)  # no padding: away from the border
    torch.testing.assert_close(block(x)[:, :, 1:-1, 1:-1], inner, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(block.bn.running_mean, bn.running_mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(block.bn.running_var, bn.running_var, rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_upscale(scale):
    x = torch.rand(1, 2, 6, 5, dtype=torch.float64)
    y = bicubic_upscale(x, scale)
    assert y.shape == (1, 2, 6 * scale, 5 * scale)
    # a = -0.5 repeats quadratics away from the border, and constants everywhere (a = -0.75 does not)
    t = torch.arange(12, dtype=torch.float64)
    curve = bicubic_upscale((t * t)[None, None, :, None].expand(1, 1, 12, 3), scale)[0, 0, :, 0]
    u = (torch.arange(12 * scale, dtype=torch.float64) + 0.5) / scale - 0.5
    inside = slice(2 * scale, -2 * scale)
    torch.testing.assert_close(curve[inside], (u * u)[inside], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(bicubic_upscale(torch.ones(1, 1, 1, 1), scale), torch.ones(1, 1, scale, scale))
    if scale == 3:  # odd scales keep the sample centres
        torch.testing.assert_close(y[:, :, 1::3, 1::3], x, rtol=1e-12, atol=1e-12)


def test_shapes_and_structure_for_the_compiler():
    x = torch.rand(1, 3, 5, 6)
    net = FMEN(3).to_inference()
    assert net(x).shape == (1, 3, 15, 18)
    assert net.scale == 3
    assert len(net.erbs) == len(net.hfabs) == 4
    assert len(net.warmup_hfab.erbs) == 2
    assert all(isinstance(erb.conv1, nn.Conv2d) and isinstance(erb.conv2, nn.Conv2d) for erb in net.erbs)
    assert len(VDSR().to_inference().body) == 18
    assert VDSR().upscale(x, 2).shape == (1, 3, 10, 12)
    assert SRGANGenerator()(x).shape == (1, 3, 20, 24)
    assert SRGANDiscriminator()(torch.rand(2, 3, 32, 48)).shape == (2, 1)
