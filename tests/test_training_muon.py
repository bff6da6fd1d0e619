"""Muon: orthogonal steps for kernels, Adam's for the rest."""

import pytest

torch = pytest.importorskip("torch")

from training.muon import Muon, orthogonalize  # noqa: E402

BETAS = (0.9, 0.99)


@pytest.mark.parametrize("shape", [(64, 576), (100, 50), (7, 13), (1, 576), (5, 1)])
@pytest.mark.parametrize("size", [1e-9, 1.0])
def test_orthogonalize_keeps_directions_and_levels_their_lengths(shape, size):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * size
    u, s, v = torch.linalg.svd(x, full_matrices=False)
    levelled = u.T @ orthogonalize(x).float() @ v.T
    lengths = levelled.diagonal()[s > s.max() / 100]
    assert len(lengths) > 0
    assert lengths.min() > 0.6
    assert lengths.max() < 1.3
    assert (levelled - torch.diag(levelled.diagonal())).abs().max() < 0.1  # bfloat16


def test_a_kernel_moves_as_far_as_with_adam_and_the_rest_just_as_with_adam():
    generator = torch.Generator().manual_seed(4)
    start = [torch.randn(shape, generator=generator) for shape in ((8, 5, 3, 3), (8,))]
    gradients = [torch.randn(p.shape, generator=generator) * 1e-3 for p in start]
    moved = {}
    for kind in (Muon, torch.optim.Adam):
        params = [torch.nn.Parameter(p.clone()) for p in start]
        optimizer = kind(params, lr=0.01, betas=BETAS)
        for p, g in zip(params, gradients, strict=True):
            p.grad = g.clone()
        optimizer.step()
        moved[kind] = [(p.detach() - p0) for p, p0 in zip(params, start, strict=True)]
    assert torch.equal(moved[Muon][1], moved[torch.optim.Adam][1])
    rms = moved[Muon][0].square().mean().sqrt().item()
    assert 0.7 * 0.2 < rms / 0.01 < 1.2 * 0.2
    assert (moved[Muon][0] * gradients[0]).sum() < 0  # downhill
