"""Five small super-resolution networks in the styles in which other people write them, with random weights.

Each takes (N, 3, H, W) and enlarges it; between them they use most of what the ONNX importer knows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(C: int, K: int, size: int = 3) -> nn.Conv2d:
    return nn.Conv2d(C, K, size, padding=size // 2)


class ESPCN(nn.Module):
    """Tanh and ReLU convolutions, then a sub-pixel convolution (Shi et al. 2016)."""

    scale = 3

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 16, 5), nn.Tanh(), conv(16, 8), nn.ReLU(), conv(8, 3 * 9))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.body(x), 3)


class FSRCNN(nn.Module):
    """Shrink, map and expand with PReLU, then a 9x9 transposed convolution (Dong et al. 2016)."""

    scale = 4

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(3, 14, 5),
            nn.PReLU(14),
            conv(14, 6, 1),
            nn.PReLU(6),
            conv(6, 6),
            nn.PReLU(6),
            conv(6, 14, 1),
            nn.PReLU(14),
        )
        self.tail = nn.ConvTranspose2d(14, 3, 9, stride=4, padding=4, output_padding=3)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.body(x))


class EDSR(nn.Module):
    """Mean shift, scaled residual blocks, two pixel shuffles, clamp (Lim et al. 2017); with batch norm as SRResNet."""

    scale = 4

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4488, 0.4371, 0.4040]).view(1, 3, 1, 1))
        self.head = conv(3, 12)
        self.blocks = nn.ModuleList(nn.Sequential(conv(12, 12), nn.ReLU(), conv(12, 12)) for _ in range(2))
        self.norm = nn.BatchNorm2d(12)
        self.end = conv(12, 12)
        self.up1, self.up2, self.tail = conv(12, 48), conv(12, 48), conv(12, 3)
        with torch.no_grad():
            self.norm.running_mean.uniform_(-0.5, 0.5)
            self.norm.running_var.uniform_(0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        head = self.head((x - self.mean) / 0.25)
        y = head
        for block in self.blocks:
            y = y + block(y) * 0.1
        y = self.end(self.norm(y)) + head
        y = F.pixel_shuffle(self.up1(y), 2)
        y = F.pixel_shuffle(self.up2(y), 2)
        return (self.tail(y) * 0.25 + self.mean).clamp(0, 1)


class IMDN(nn.Module):
    """Channel splits, joins and 1x1 convolutions, SiLU gates, a bilinear skip (after Hui et al. 2019)."""

    scale = 2

    def __init__(self) -> None:
        super().__init__()
        self.head = conv(3, 16)
        self.c1, self.c2, self.c3 = conv(16, 16), conv(12, 16), conv(12, 4)
        self.join = conv(12, 16, 1)
        self.gate = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.tail = conv(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        head = self.head(x)
        a, rest = torch.split(F.leaky_relu(self.c1(head), 0.05), (4, 12), 1)
        y = F.leaky_relu(self.c2(rest), 0.05)
        b, rest = y[:, :4], y[:, 4:]
        y = self.join(torch.cat([a, b, self.c3(rest)], 1)) + head
        y = F.silu(self.gate(y))
        return F.pixel_shuffle(self.tail(y), 2) + F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class SRVGG(nn.Module):
    """Plain PReLU convolutions over a nearest skip, as the compact nets of Real-ESRGAN."""

    scale = 4

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 12), nn.PReLU(12), conv(12, 12), nn.PReLU(12), conv(12, 48))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.body(x), 4) + F.interpolate(x, scale_factor=4, mode="nearest")


FOREIGN: dict[str, Callable[[], nn.Module]] = {
    "espcn": ESPCN,
    "fsrcnn": FSRCNN,
    "edsr": EDSR,
    "imdn": IMDN,
    "srvgg": SRVGG,
}


def foreign(name: str) -> nn.Module:
    """Return the network with weights that are the same each time, and PReLU slopes that differ."""
    torch.manual_seed(sum(map(ord, name)))
    net = FOREIGN[name]().eval()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.PReLU):
                module.weight.uniform_(-0.2, 1.2)
    return net
