"""Crops that are gathered on the device equal crops that are cut and turned one by one."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import fastsr  # noqa: E402
from training.crops import Bank, Crops  # noqa: E402
from training.data import make_pairs, teach  # noqa: E402
from training.nets import bicubic_upscale  # noqa: E402
from training.recipe import Recipe  # noqa: E402


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_gather_equals_cut_and_turn(dtype):
    rng = np.random.default_rng(2)
    shapes = [(7, 13), (11, 5), (5, 5), (31, 6)]
    images = [(rng.random((h, w, 3)) * 255).astype(dtype) for h, w in shapes]
    bank = Bank(images, torch.device("cpu"))
    for size in (1, 4, 5):
        which = rng.integers(len(images), size=40)
        top = rng.integers(bank.heights[which] - size + 1)
        left = rng.integers(bank.widths[which] - size + 1)
        turn = rng.integers(8, size=40)
        crops = bank.cut(which, top, left, size, turn).permute(0, 2, 3, 1).numpy()
        for i, crop in enumerate(crops):
            wanted = images[which[i]][top[i] : top[i] + size, left[i] : left[i] + size]
            wanted = wanted[::-1] if turn[i] & 2 and not turn[i] & 1 else wanted
            wanted = wanted[:, ::-1] if turn[i] & 4 and not turn[i] & 1 else wanted
            if turn[i] & 1:  # rows and columns are swapped first, so a flip of rows turns the columns round
                wanted = wanted[:, ::-1] if turn[i] & 4 else wanted
                wanted = wanted[::-1] if turn[i] & 2 else wanted
                wanted = wanted.transpose(1, 0, 2)
            wanted = wanted / np.float32(255) if dtype == np.uint8 else wanted
            np.testing.assert_allclose(crop, wanted, atol=1e-7)


def test_all_orientations_occur_and_differ():
    image = np.arange(9, dtype=np.float32).reshape(3, 3, 1)
    bank = Bank([image], torch.device("cpu"))
    nothing = np.zeros(8, np.int64)
    crops = bank.cut(nothing, nothing, nothing, 3, np.arange(8))
    assert len({tuple(c.flatten().tolist()) for c in crops}) == 8


@pytest.mark.parametrize(("crop", "scales"), [(41, (4,)), (24, (2, 3, 4))])
def test_vdsr_crops_lie_over_their_enlarged_input(crop, scales):
    """A ramp: what bicubic makes of the LR crop is the HR crop, whatever the orientation, also for 41 pixels."""
    y, x = np.mgrid[:96, :96].astype(np.float32) / 96
    ramp = np.stack([y, x, y + x], 2)
    stream = Crops([make_pairs([ramp], scales)], batch=16, crop=crop, seed=1, margin=3)
    for _ in range(3):
        lr, hr, s = stream.next()
        assert hr.shape == (16, 3, crop, crop)
        enlarged = bicubic_upscale(lr, s)[:, :, 3 * s : 3 * s + crop, 3 * s : 3 * s + crop]
        near = (enlarged - hr).abs()
        assert near.median() < 1e-5  # one pixel off would be 0.01
        assert near.max() < 0.02  # at the image's border, where edge pixels are repeated


def test_sets_have_their_share_and_streams_repeat():
    images = [np.full((16, 16, 1), value, np.float32) for value in (0.1, 0.2, 0.9)]
    sets = [make_pairs(images[:2], (2,), 0.25), make_pairs(images[2:], (2,), 0.75)]
    first, second = (Crops(sets, batch=500, crop=8, seed=4) for _ in range(2))
    hr = first.next()[1]
    assert torch.equal(hr, second.next()[1])
    assert not torch.equal(hr, first.next()[1])
    assert torch.equal(first.again(4).next()[1], hr)
    assert abs((hr[:, 0, 0, 0] > 0.5).float().mean() - 0.75) < 0.06
    state = first.state_dict()
    wanted = first.next()[1]
    second.load_state_dict(state)
    assert torch.equal(second.next()[1], wanted)


def test_least_side_is_what_crops_need():
    r = Recipe("r", "vdsr", (2, 3, 4), steps=1, batch=4, crop=24, lr=1e-4, data={}, margin=2)
    side = r.least_side
    assert side == 40
    image = np.random.default_rng(1).integers(0, 255, (side, side, 3), np.uint8)
    stream = Crops([make_pairs([image], r.scales)], r.batch, r.crop, 1, r.margin)
    for _ in range(9):
        stream.next()
    small = Crops([make_pairs([image[:-4, :-4]], (4,))], r.batch, r.crop, 1, r.margin)
    with pytest.raises(ValueError, match="high <= 0"):
        small.next()
    assert dataclasses.replace(r, scales=(4,), crop=41).least_side == 60


def test_a_teacher_moves_the_targets_only():
    """Half bicubic interpolation, half HR; 37 rows are cut to what a scale divides; crops lie where HR's lay."""
    rng = np.random.default_rng(6)
    images = [rng.integers(0, 256, (37, 46, 3), np.uint8), rng.integers(0, 256, (40, 41, 3), np.uint8)]
    plain = make_pairs(images, (2, 3))
    taught = teach(plain, "bicubic", 0.5)
    assert taught.taught is not None
    for s in (2, 3):
        for hr, lr, target in zip(plain.hr, plain.lr[s], taught.taught[s], strict=True):
            wanted = (hr[: lr.shape[0] * s, : lr.shape[1] * s].astype(int) + fastsr.upscale(lr, "bicubic", scale=s)) / 2
            np.testing.assert_array_equal(target, np.rint(wanted))
    first, second = (Crops([p], batch=8, crop=12, seed=4) for p in (plain, taught))
    for _ in range(4):
        (lr, hr, s), (same, target, _) = first.next(), second.next()
        assert torch.equal(lr, same)
        sr = np.stack([fastsr.upscale(x, "bicubic", scale=s) for x in lr.permute(0, 2, 3, 1).numpy()])
        inside = (slice(None), slice(4, -4), slice(4, -4))  # crops end, where the images went on
        found = target.permute(0, 2, 3, 1).numpy()[inside]
        np.testing.assert_allclose(found, (hr.permute(0, 2, 3, 1).numpy() + sr)[inside] / 2, atol=1.2 / 255)


def test_scans_are_taught_in_floats():
    scan = np.random.default_rng(7).normal(0.5, 0.4, (24, 30, 1)).astype(np.float32)
    pairs = teach(make_pairs([scan], (2,)), "bicubic", 1.0)
    assert pairs.taught is not None
    target = pairs.taught[2][0]
    assert target.dtype == np.float32
    np.testing.assert_array_equal(target, fastsr.upscale(pairs.lr[2][0], "bicubic", scale=2))
