"""What training minimizes: pixel losses, and for the adversarial phase losses of details and of a discriminator."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastsr.errors import ModelFileError

# VGG19's convolutions up to conv5_4, the last one before the last pooling; None is a pooling.
VGG19 = (64, 64, None, 128, 128, None, 256, 256, 256, 256, None, 512, 512, 512, 512, None, 512, 512, 512, 512)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pixel_loss(name: str, y: Tensor, target: Tensor) -> Tensor:
    """Mean L1, mean square, or Charbonnier with eps 1e-3, in float32."""
    difference = y.float() - target
    if name == "l1":
        return difference.abs().mean()
    square = difference.square()
    return square.mean() if name == "l2" else (square + 1e-6).sqrt().mean()


def relativistic_loss(better: Tensor, worse: Tensor) -> Tensor:
    """Ask that each logit of `better` (N, 1) lies above the mean of `worse`, and the reverse.

    The discriminator calls it with real photos as the better ones, the generator with its own pictures.
    Source: relativistic average GAN (Jolicoeur-Martineau 2018, arXiv 1807.00734).
    """
    better, worse = better.float(), worse.float()
    return (F.softplus(worse.mean() - better).mean() + F.softplus(worse - better.mean()).mean()) / 2


def feature_loss(fake: Tensor, real: Tensor) -> Tensor:
    """|fake - real| relative to |real|, of features (N, C, H, W)."""
    fake, real = fake.float(), real.float()
    return (fake - real).abs().mean() / real.abs().mean().clamp_min(1e-6)


def detail_loss(fake: Tensor, real: Tensor) -> Tensor:
    """Mean over bands of how far the strength of fake's details is from real's, relative to that; x (N, C, H, W).

    A network that minimizes pixels' errors leaves out what it cannot know. This asks for as much detail as a photo has
    in each orientation and frequency of each neighbourhood, wherever its edges lie; a pattern that fills one band with
    what another lacks does not pay. Source: local energies of band-passed images as a description of texture, as in
    Portilla and Simoncelli 2000 (International Journal of Computer Vision 40, 49-70).
    """
    parts = []
    for f, r in zip(_strengths(fake.float()), _strengths(real), strict=True):
        parts.append((f - r).abs().mean() / r.mean())
    return torch.stack(parts).mean()


def _strengths(x: Tensor) -> list[Tensor]:
    """Return the root mean squares of first and second differences of x, and of x at half its size, over 8x8 pixels."""
    found = []
    for _ in range(2):
        dx, dy = x.diff(dim=3), x.diff(dim=2)
        for band in (dx, dy, dx.diff(dim=3), dx.diff(dim=2), dy.diff(dim=2)):
            found.append((F.avg_pool2d(band.square(), 8, 4, ceil_mode=True) + 1e-6).sqrt())
        x = F.avg_pool2d(x, 2)
    return found


class VGG19Features(nn.Module):
    """Layer conv5_4 of VGG19, before its ReLU; x (N, 3, H, W) in 0..1 -> (N, 512, H/16, W/16).

    Source: Ledig et al. 2017, section 2.2.1; before the ReLU as in ESRGAN (Wang et al. 2018).
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        C = 3
        for K in VGG19:
            if K is None:
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(C, K, 3, padding=1), nn.ReLU(inplace=True)]
                C = K
        self.features = nn.Sequential(*layers[:-1])
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None])
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.features((x - self.get_buffer("mean")) / self.get_buffer("std"))
        return features

    @classmethod
    def load(cls, path: Path) -> VGG19Features:
        """Read a state dict as torchvision saves that of vgg19 ("features.0.weight", ...); further layers are ignored.

        Raises ModelFileError.
        """
        net = cls()
        own = net.state_dict()
        try:
            given = torch.load(path, weights_only=True, map_location="cpu")
            net.load_state_dict({k: own[k] if k in ("mean", "std") else given[k] for k in own})
        except OSError as error:
            raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
        except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise ModelFileError(f"{path} is no state dict of VGG19 as torchvision saves it: {error!r:.200}") from error
        return net
