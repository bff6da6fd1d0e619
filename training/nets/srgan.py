"""SRGAN x4 (Ledig et al. 2017, arXiv 1609.04802): generator of 5 residual blocks, and discriminator."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from training.nets.reparam import ConvBN, transfer


def conv(C: int, K: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(C, K, size, stride, size // 2)


class _Block(nn.Module):
    """x + conv2(act(conv1(x))), 64 channels."""

    def __init__(self, layer: type[nn.Module]) -> None:
        super().__init__()
        self.conv1 = layer(64, 64)
        self.act = nn.PReLU()
        self.conv2 = layer(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv2(self.act(self.conv1(x)))
        return y


class _Up(nn.Module):
    """Double H and W: conv 64 -> 256, pixel shuffle 2, PReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(64, 256)
        self.act = nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(F.pixel_shuffle(self.conv(x), 2))
        return y


class _Generator(nn.Module):
    """The skeleton of both forms. x (N, 3, H, W) in 0..1 -> (N, 3, 4*H, 4*W), not clamped.

    The output is linear, as in SRResNet: a tanh has no slope left at black and white, where the pixel
    loss would then leave a bias.
    """

    scale = 4

    def __init__(self, layer: type[nn.Module]) -> None:
        super().__init__()
        self.head = conv(3, 64, 9)
        self.head_act = nn.PReLU()
        self.blocks = nn.ModuleList(_Block(layer) for _ in range(5))
        self.body_end = layer(64, 64)
        self.ups = nn.ModuleList(_Up() for _ in range(2))
        self.tail = conv(64, 3, 9)

    def forward(self, x: Tensor) -> Tensor:
        head = self.head_act(self.head(x))
        y = head
        for block in self.blocks:
            y = block(y)
        y = head + self.body_end(y)
        for up in self.ups:
            y = up(y)
        result: Tensor = self.tail(y)
        return result


class _Conv3x3(nn.Conv2d):
    def __init__(self, C: int, K: int, size: int = 3, stride: int = 1) -> None:
        super().__init__(C, K, size, stride, size // 2)


class SRGANGeneratorInference(_Generator):
    """Generator of plain convolutions and PReLUs."""

    def __init__(self) -> None:
        super().__init__(_Conv3x3)


class SRGANGenerator(_Generator):
    """Generator in training form, with batch norms: 734,219 parameters."""

    def __init__(self) -> None:
        super().__init__(ConvBN)

    def to_inference(self) -> SRGANGeneratorInference:
        net = SRGANGeneratorInference()
        transfer(self, net)
        return net.train(self.training)


class _Discriminator(nn.Module):
    """x (N, 3, H, W) in 0..1 -> (N, 1) logits; positive means 'a real photo'."""

    def __init__(self, layer: type[nn.Module]) -> None:
        super().__init__()
        self.head = conv(3, 64)
        shapes = [(64, 64, 2), (64, 128, 1), (128, 128, 2), (128, 256, 1), (256, 256, 2), (256, 512, 1)]
        self.body = nn.ModuleList(layer(C, K, stride=s) for C, K, s in [*shapes, (512, 512, 2)])
        self.fc1 = conv(512, 1024, 1)
        self.fc2 = conv(1024, 1, 1)
        self.act = nn.LeakyReLU(0.2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.head(x))
        for layer in self.body:
            y = self.act(layer(y))
        y = F.adaptive_avg_pool2d(y, 1)
        logits: Tensor = self.fc2(self.act(self.fc1(y)))
        return logits.flatten(1)


class SRGANDiscriminatorInference(_Discriminator):
    """Discriminator of plain convolutions."""

    def __init__(self) -> None:
        super().__init__(_Conv3x3)


class SRGANDiscriminator(_Discriminator):
    """Discriminator in training form, with batch norms: 5,215,425 parameters."""

    def __init__(self) -> None:
        super().__init__(ConvBN)

    def to_inference(self) -> SRGANDiscriminatorInference:
        net = SRGANDiscriminatorInference()
        transfer(self, net)
        return net.train(self.training)
