"""Muon: steps along the nearest orthogonal matrix of a kernel's gradient; Adam for biases and norms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
ADAM_RMS = 0.2  # of Adam's usual step in units of lr, so that one lr suits both
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonalize(x: Tensor) -> Tensor:
    """Return x (K, M), in bfloat16, with all its singular values moved into about 0.7..1.2.

    Newton-Schulz iteration with the quintic of Jordan et al. 2024 (kellerjordan.github.io/posts/muon): it does not
    converge to 1, but fast, and the length of a step is not known better than that anyway.
    """
    a, b, c = QUINTIC
    y: Tensor = (x / (x.norm() + 1e-12)).bfloat16()
    y = y.T if x.shape[0] > x.shape[1] else y
    for _ in range(ITERATIONS):
        square = y @ y.T
        y = a * y + (b * square + c * (square @ square)) @ y
    return y.T if x.shape[0] > x.shape[1] else y


class Muon(torch.optim.Adam):
    """Takes kernels (K, C, h, w) as matrices (K, C*h*w) with momentum, everything else as Adam does.

    The same lr suits both: a kernel's step has the root mean square of Adam's. Source: Liu et al. 2025, arXiv
    2502.16982, section 2.2.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim == 4 and p.grad is not None:
                    self._step_kernel(p, p.grad, group["lr"])
                    p.grad = None  # Adam leaves it alone
        return super().step(closure)

    def _step_kernel(self, p: Tensor, grad: Tensor, lr: float) -> None:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros(())  # Adam looks for one when it is loaded
            state["momentum"] = torch.zeros_like(p)
        state["step"] += 1
        momentum = state["momentum"].lerp_(grad, 1 - MOMENTUM)
        ahead = grad.lerp(momentum, MOMENTUM).flatten(1)  # Nesterov's
        step = orthogonalize(ahead).to(p.dtype).reshape(p.shape)
        p.sub_(step, alpha=lr * ADAM_RMS * max(ahead.shape) ** 0.5)
