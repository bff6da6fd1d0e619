"""Turn training-time branches and batch norms into single zero-padded convolutions, exactly.

Every function maps weights to weights and is differentiable, so that training runs the collapsed
form too: one small contraction a step instead of a wide convolution a pixel.
A kernel w is (K, C, 3, 3) or any other odd size; a bias b is (K,).
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def full_precision(like: Tensor) -> torch.autocast:
    """Return a context that switches autocast off: weights are contracted in their own precision."""
    return torch.autocast(like.device.type, enabled=False)


def identity_kernel(channels: int, like: Tensor) -> Tensor:
    """Return the (C, C, 3, 3) kernel whose convolution returns its input."""
    return F.pad(torch.eye(channels, dtype=like.dtype, device=like.device)[:, :, None, None], (1, 1, 1, 1))


def collapse_rrrb(
    expand_w: Tensor, expand_b: Tensor, w: Tensor, b: Tensor, reduce_w: Tensor, reduce_b: Tensor
) -> tuple[Tensor, Tensor]:
    """Collapse x + reduce(conv(e) + e), e = expand(x), into one 3x3 kernel and bias.

    expand_w (M, C), w (M, M, 3, 3), reduce_w (C, M) with M > C. Exact at the border where x is padded
    with zeros before `expand`, so that `conv` meets expand_b outside the image. Du et al. 2022, section 3.3.
    """
    w = w + identity_kernel(w.shape[0], w)
    outer = (reduce_w @ w.flatten(1)).reshape(-1, *w.shape[1:])  # (C, M, 3, 3)
    kernel = torch.einsum("kmyx,mc->kcyx", outer, expand_w) + identity_kernel(expand_w.shape[1], w)
    return kernel, outer.sum((2, 3)) @ expand_b + reduce_w @ b + reduce_b


def expand_rrrb(
    kernel: Tensor, bias: Tensor, expand_w: Tensor, expand_b: Tensor, w: Tensor, b: Tensor, reduce_w: Tensor
) -> tuple[Tensor, Tensor]:
    """Return (w, reduce_b) with which an RRRB collapses into `kernel` and `bias`: the inverse of `collapse_rrrb`.

    Of all such w the one nearest to the w given: reduce_w @ dw @ expand_w = what is missing at each tap, solved by
    the pseudo-inverses. expand_w and reduce_w keep their full rank, so every weight goes on learning.
    """
    given = (expand_w, expand_b, w, b, reduce_w)
    expand_w, expand_b, w, b, reduce_w = (x.double() for x in given)
    none = torch.zeros_like(bias, dtype=torch.float64)
    missing = kernel.double() - collapse_rrrb(expand_w, expand_b, w, b, reduce_w, none)[0]
    w = w + torch.einsum("mk,kcyx,cn->mnyx", torch.linalg.pinv(reduce_w), missing, torch.linalg.pinv(expand_w))
    reduce_b = bias.double() - collapse_rrrb(expand_w, expand_b, w, b, reduce_w, none)[1]
    return w.to(kernel.dtype), reduce_b.to(kernel.dtype)


def fold_affine_before(w: Tensor, b: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Fold conv(scale * x + shift) into one convolution of x. scale and shift are (C,).

    Exact at the border where the affine map is applied to the zero-padded x: then the shift is there
    outside the image as well. conv(pad(scale * x + shift)) is no single zero-padded convolution of x.
    """
    return w * scale[:, None, None], b + w.sum((2, 3)) @ shift


def fold_affine_after(w: Tensor, b: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Fold scale * conv(x) + shift into one convolution. scale and shift are (K,)."""
    return w * scale[:, None, None, None], b * scale + shift


def running_affine(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return (scale, shift), each (C,), which `bn` applies in eval mode."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    scale = bn.weight * torch.rsqrt(bn.running_var + bn.eps)
    return scale, bn.bias - bn.running_mean * scale


@torch.no_grad()
def undo_norm(bn: nn.BatchNorm2d, mean: Tensor, var: Tensor) -> None:
    """Let `bn` expect this mean and variance, each (C,), and give back in eval mode exactly what comes in."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    bn.running_mean.copy_(mean)
    bn.running_var.copy_(var)
    bn.weight.copy_(torch.sqrt(bn.running_var + bn.eps))
    bn.bias.copy_(bn.running_mean)


def batch_affine(bn: nn.BatchNorm2d, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return (scale, shift) from the statistics of x (N, C, H, W), and move the running ones towards them."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    x = x.to(bn.weight.dtype)
    var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
    with torch.no_grad():
        count = x.numel() // x.shape[1]
        momentum = bn.momentum
        if bn.num_batches_tracked is not None:
            bn.num_batches_tracked += 1
            if momentum is None:  # cumulative average, as nn.BatchNorm2d has it
                momentum = 1.0 / float(bn.num_batches_tracked)
        assert momentum is not None
        bn.running_mean.lerp_(mean, momentum)
        bn.running_var.lerp_(var * (count / max(count - 1, 1)), momentum)
    scale = bn.weight * torch.rsqrt(var + bn.eps)
    return scale, bn.bias - mean * scale


def as_conv(w: Tensor, b: Tensor, like: nn.Conv2d) -> nn.Conv2d:
    """Return a plain convolution with kernel w and bias b, and stride and padding of `like`."""
    K, C, kh, kw = w.shape
    assert not isinstance(like.padding, str)
    conv = nn.Conv2d(C, K, (kh, kw), like.stride, like.padding)  # type: ignore[arg-type]
    conv.weight = nn.Parameter(w.detach().clone())
    conv.bias = nn.Parameter(b.detach().clone())
    return conv


class ConvBN(nn.Module):
    """conv, then batch norm. Its inference form is one convolution."""

    def __init__(self, C: int, K: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(C, K, size, stride, size // 2)
        self.bn = nn.BatchNorm2d(K)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x))
        return y

    def take(self, conv: nn.Conv2d) -> None:
        self.conv.load_state_dict(conv.state_dict())

    @torch.no_grad()
    def to_inference(self) -> nn.Conv2d:
        assert self.conv.bias is not None
        return as_conv(*fold_affine_after(self.conv.weight, self.conv.bias, *running_affine(self.bn)), like=self.conv)


def transfer(source: nn.Module, target: nn.Module) -> None:
    """Fill `target` (inference form) from `source` (training form), child by child of the same name.

    A child that has an inference form gives it; a container is walked; any other child is copied.
    """
    for name, child in source.named_children():
        if (collapse := getattr(child, "to_inference", None)) is not None:
            setattr(target, name, collapse())
        elif len(list(child.children())) > 0:
            transfer(child, getattr(target, name))
        else:
            setattr(target, name, copy.deepcopy(child))


def adopt(target: nn.Module, source: nn.Module) -> None:
    """Fill `target` (training form) from `source` (inference form): what `transfer` does, backwards.

    A child that can take a convolution does so; batch norms are left to `settle_norms`.
    """
    for name, child in target.named_children():
        given = getattr(source, name)
        if (take := getattr(child, "take", None)) is not None:
            take(given)
        elif len(list(child.children())) > 0:
            adopt(child, given)
        else:
            child.load_state_dict(given.state_dict())


@torch.no_grad()
def settle_norms(net: nn.Module, run: Callable[[], object]) -> None:
    """Give every batch norm the statistics of what it meets while `run` runs `net`, and the map that undoes them.

    The network then computes the same with and without its batch norms, in eval mode exactly, in training mode as
    nearly as a batch resembles what `run` showed.
    """
    sums: dict[nn.BatchNorm2d, list[Tensor]] = {}

    def look(bn: nn.BatchNorm2d, x: Tensor) -> None:
        x = x.double()
        moments = torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))])
        sums.setdefault(bn, []).append(moments)

    hooks = []
    for module in net.modules():
        before = getattr(module, "bn", None) if hasattr(module, "wide") else module
        if isinstance(before, nn.BatchNorm2d):
            undo_norm(before, torch.zeros_like(before.weight), torch.ones_like(before.weight))
            hooks.append(module.register_forward_pre_hook(lambda _, x, bn=before: look(bn, x[0])))
    net.eval()
    run()
    for hook in hooks:
        hook.remove()
    for bn, seen in sums.items():
        mean, square = torch.stack(seen).mean(0)
        undo_norm(bn, mean, (square - mean.square()).clamp_min(0))
