"""FMEN: fast and memory-efficient network (Du et al. 2022, arXiv 2204.08397).

One skeleton, two sets of blocks. Training blocks are wide and have batch norms; each of them knows the
plain convolution it collapses into, and runs that convolution while training too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from training.nets.reparam import (
    ConvBN,
    as_conv,
    batch_affine,
    collapse_rrrb,
    expand_rrrb,
    fold_affine_before,
    full_precision,
    running_affine,
    transfer,
)

SLOPE = 0.1  # of every leaky ReLU


def conv3x3(C: int, K: int) -> nn.Conv2d:
    return nn.Conv2d(C, K, 3, padding=1)


class RRRB(nn.Module):
    """3x3 convolution in training form: x + reduce(conv(e) + e), e = expand(x), expand being twice as wide.

    x is padded with zeros before `expand`. `wide` = True runs this literally; the default runs the
    collapsed kernel, which is equal, in a tenth of the arithmetic.
    """

    def __init__(self, channels: int, ratio: int = 2) -> None:
        super().__init__()
        wide = channels * ratio
        self.expand = nn.Conv2d(channels, wide, 1)
        self.conv = nn.Conv2d(wide, wide, 3)
        self.reduce = nn.Conv2d(wide, channels, 1)
        self.wide = False

    def kernel(self) -> tuple[Tensor, Tensor]:
        assert self.expand.bias is not None
        assert self.conv.bias is not None
        assert self.reduce.bias is not None
        with full_precision(self.conv.weight):
            return collapse_rrrb(
                self.expand.weight[:, :, 0, 0],
                self.expand.bias,
                self.conv.weight,
                self.conv.bias,
                self.reduce.weight[:, :, 0, 0],
                self.reduce.bias,
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.wide:
            e = self.expand(F.pad(x, (1, 1, 1, 1)))
            y: Tensor = x + self.reduce(self.conv(e) + e[:, :, 1:-1, 1:-1])
            return y
        return F.conv2d(x, *self.kernel(), padding=1)

    @torch.no_grad()
    def take(self, conv: nn.Conv2d) -> None:
        """Become equal to `conv`, a 3x3 convolution with bias, and stay as trainable as before."""
        assert conv.bias is not None
        assert self.expand.bias is not None
        assert self.conv.bias is not None
        assert self.reduce.bias is not None
        w, reduce_b = expand_rrrb(
            conv.weight,
            conv.bias,
            self.expand.weight[:, :, 0, 0],
            self.expand.bias,
            self.conv.weight,
            self.conv.bias,
            self.reduce.weight[:, :, 0, 0],
        )
        self.conv.weight.copy_(w)
        self.reduce.bias.copy_(reduce_b)

    @torch.no_grad()
    def to_inference(self) -> nn.Conv2d:
        K = self.reduce.out_channels
        return as_conv(*self.kernel(), like=conv3x3(K, K))


class BNConv(nn.Module):
    """conv3x3(batch_norm(pad0(x))): statistics from x, affine map on the padded x, hence foldable exactly.

    `wide` = True runs this literally; the default folds the affine map into the kernel first.
    """

    def __init__(self, C: int, K: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(C)
        self.conv = conv3x3(C, K)
        self.wide = False

    def kernel(self, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        assert self.conv.bias is not None
        with full_precision(scale):
            return fold_affine_before(self.conv.weight, self.conv.bias, scale, shift)

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = batch_affine(self.bn, x) if self.training else running_affine(self.bn)
        if self.wide:
            padded = F.pad(x, (1, 1, 1, 1)) * scale[:, None, None] + shift[:, None, None]
            return F.conv2d(padded, self.conv.weight, self.conv.bias)
        return F.conv2d(x, *self.kernel(scale, shift), padding=1)

    def take(self, conv: nn.Conv2d) -> None:
        self.conv.load_state_dict(conv.state_dict())

    @torch.no_grad()
    def to_inference(self) -> nn.Conv2d:
        return as_conv(*self.kernel(*running_affine(self.bn)), like=self.conv)


class BNConvBN(BNConv):
    """BNConv and a batch norm behind it, which is a plain fold."""

    def __init__(self, C: int, K: int) -> None:
        super().__init__(C, K)
        self.bn_after = nn.BatchNorm2d(K)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn_after(super().forward(x))
        return y

    @torch.no_grad()
    def to_inference(self) -> nn.Conv2d:
        folded = ConvBN(self.conv.in_channels, self.conv.out_channels)
        folded.conv, folded.bn = super().to_inference(), self.bn_after
        return folded.to_inference()


class _ERB(nn.Module):
    """Enhanced residual block: conv1, leaky ReLU, conv2; its skips live inside the convolutions."""

    def __init__(self, conv1: nn.Module, conv2: nn.Module) -> None:
        super().__init__()
        self.conv1 = conv1
        self.act = nn.LeakyReLU(SLOPE)
        self.conv2 = conv2

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.act(self.conv1(x)))
        return y


class ERBInference(_ERB):
    def __init__(self, channels: int) -> None:
        super().__init__(conv3x3(channels, channels), conv3x3(channels, channels))


class ERB(_ERB):
    def __init__(self, channels: int) -> None:
        super().__init__(RRRB(channels), RRRB(channels))

    def to_inference(self) -> ERBInference:
        net = ERBInference(self.conv1.reduce.out_channels)  # type: ignore[arg-type,union-attr]
        transfer(self, net)
        return net


class _HFAB(nn.Module):
    """High-frequency attention: x * sigmoid(excite(act(erbs(act(squeeze(x))))))."""

    def __init__(self, squeeze: nn.Module, erbs: list[_ERB], excite: nn.Module) -> None:
        super().__init__()
        self.squeeze = squeeze
        self.act = nn.LeakyReLU(SLOPE)
        self.erbs = nn.ModuleList(erbs)
        self.excite = excite

    def forward(self, x: Tensor) -> Tensor:
        a = self.act(self.squeeze(x))
        for erb in self.erbs:
            a = erb(a)
        return x * torch.sigmoid(self.excite(self.act(a)))


class HFABInference(_HFAB):
    def __init__(self, channels: int, mid: int, erbs: int) -> None:
        super().__init__(conv3x3(channels, mid), [ERBInference(mid) for _ in range(erbs)], conv3x3(mid, channels))


class HFAB(_HFAB):
    def __init__(self, channels: int, mid: int, erbs: int) -> None:
        super().__init__(BNConv(channels, mid), [ERB(mid) for _ in range(erbs)], BNConvBN(mid, channels))
        self.shape = (channels, mid, erbs)

    def to_inference(self) -> HFABInference:
        net = HFABInference(*self.shape)
        transfer(self, net)
        return net


class _FMEN(nn.Module):
    """The skeleton of both forms. x (N, C, H, W) in 0..1 -> (N, C, s*H, s*W), not clamped; C is `colours`."""

    def __init__(
        self, scale: int, colours: int, erb: type[_ERB], hfab: type[_HFAB], channels: int = 50, blocks: int = 4
    ) -> None:
        super().__init__()
        self.scale, self.colours = scale, colours
        self.head = conv3x3(colours, channels)
        self.warmup = conv3x3(channels, channels)
        self.warmup_hfab = hfab(channels, 12, 2)  # type: ignore[arg-type]
        self.erbs = nn.ModuleList(erb(channels) for _ in range(blocks))  # type: ignore[call-arg,arg-type]
        self.hfabs = nn.ModuleList(hfab(channels, 16, 1) for _ in range(blocks))  # type: ignore[arg-type]
        self.body_end = conv3x3(channels, channels)
        self.tail = conv3x3(channels, colours * scale * scale)

    def forward(self, x: Tensor) -> Tensor:
        head = self.head(x)
        y = self.warmup_hfab(self.warmup(head))
        for erb, hfab in zip(self.erbs, self.hfabs, strict=True):
            y = hfab(erb(y))
        return F.pixel_shuffle(self.tail(self.body_end(y) + head), self.scale)


class FMENInference(_FMEN):
    """FMEN of plain convolutions: 341,066 parameters at x4."""

    def __init__(self, scale: int = 4, colours: int = 3) -> None:
        super().__init__(scale, colours, ERBInference, HFABInference)


class FMEN(_FMEN):
    """FMEN in training form; `to_inference` gives the equal FMENInference."""

    def __init__(self, scale: int = 4, colours: int = 3) -> None:
        super().__init__(scale, colours, ERB, HFAB)

    def set_wide(self, wide: bool) -> None:
        """Run the literal wide branches (the slow twin) or, by default, their collapsed kernels."""
        for module in self.modules():
            if isinstance(module, RRRB | BNConv):
                module.wide = wide

    def to_inference(self) -> FMENInference:
        net = FMENInference(self.scale, self.colours)
        transfer(self, net)
        return net.train(self.training)
