"""The arithmetic of consistency, against twins that are slow and obviously right."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from fastsr.compare import enlarge_bicubic
from fastsr.consistency import resample
from fastsr.consistency.blend import blend
from fastsr.consistency.block_mean import Bounds, block_excess, project, ranks, shift, water_fill
from fastsr.consistency.finish import Piece, finish_memory, make_finish
from fastsr.consistency.rows import RowPairs, Windows
from fastsr.consistency.tally import Tally
from fastsr.imresize import downscale

SHAPES = [(1, 1), (1, 7), (7, 1), (7, 13), (11, 5)]


def bounds(channels, low, high):
    return Bounds(np.full(channels, low, np.int64), np.full(channels, high, np.int64))


def projected(lr, sr, scale, low, high):
    result = sr.copy()
    project(result, block_excess(lr, sr, scale), lr, scale, bounds(lr.shape[2], low, high))
    return result


def block_sums(sr, s):
    """Return the sums of s x s blocks, one after another, as Python integers."""
    H, W, C = sr.shape
    return [
        [[sum(int(v) for v in sr[y : y + s, x : x + s, c].ravel()) for c in range(C)] for x in range(0, W, s)]
        for y in range(0, H, s)
    ]


# --- block means: integers ---------------------------------------------------------------------------------------


def test_every_small_block_is_nearest():
    """All 2 x 2 blocks of 0..3 and all LR pixels: none of the blocks with the right sum is nearer."""
    values = np.array(list(itertools.product(range(4), repeat=4)))
    for level in range(4):
        feasible = values[values.sum(axis=1) == 4 * level]
        least = ((values[:, None] - feasible[None]) ** 2).sum(axis=2).min(axis=1)
        sr = values.reshape(-1, 2, 2, 1).astype(np.uint8)
        for block, best in zip(sr, least, strict=True):
            result = projected(np.full((1, 1, 1), level, np.uint8), block, 2, 0, 3)
            assert result.sum() == 4 * level
            assert result.max() <= 3
            assert ((result.astype(int) - block) ** 2).sum() == best


@pytest.mark.parametrize("seed", range(3))
def test_blocks_of_three_are_nearest(seed):
    rng = np.random.default_rng(seed)
    everything = np.array(list(itertools.product(range(3), repeat=9)))
    for _ in range(40):
        block, level = rng.integers(0, 3, 9), int(rng.integers(0, 3))
        feasible = everything[everything.sum(axis=1) == 9 * level]
        result = projected(np.full((1, 1, 1), level, np.uint16), block.reshape(3, 3, 1).astype(np.uint16), 3, 0, 2)
        assert ((result.ravel().astype(int) - block) ** 2).sum() == ((feasible - block) ** 2).sum(axis=1).min()


def slowly_projected(block, level, low, high):
    """Move the sum by one, again and again: the pixel that has moved least, and among equals the first in order
    on the way up and the last on the way down."""
    low, high, s = min(low, level), max(high, level), len(block)
    rank, values = ranks(s).ravel(), block.ravel().astype(int)
    moved = np.zeros_like(values)
    while (missing := s * s * level - values.sum()) != 0:
        up = missing > 0
        free = np.nonzero(values < high if up else values > low)[0]
        chosen = min(free, key=lambda i: (moved[i], rank[i] if up else -rank[i]))
        values[chosen] += 1 if up else -1
        moved[chosen] += 1
    return values.reshape(s, s)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", ">u2"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["random", "saturated", "checkerboard", "range"])
def test_projection_equals_moving_one_by_one(dtype, scale, kind):
    rng = np.random.default_rng([scale, len(kind)])
    limits = np.iinfo(dtype)
    low, high = max(limits.min, -40), min(limits.max, 60)  # near values keep the slow twin bearable
    h, w, C = 3, 5, 3
    shape = scale * h, scale * w, C
    lr = rng.integers(low, high, (h, w, C), dtype=np.int64, endpoint=True)
    sr = rng.integers(low, high, shape, dtype=np.int64, endpoint=True)
    if kind == "saturated":
        sr = np.where(rng.random(shape) < 0.7, np.where(rng.random(shape) < 0.5, low, high), sr)
        lr = np.where(rng.random(lr.shape) < 0.5, np.where(rng.random(lr.shape) < 0.5, low, high), lr)
    elif kind == "checkerboard":
        sr[:] = np.where(np.indices(shape).sum(axis=0) % 2, low, high)
    elif kind == "range":  # LR pixels beyond the range that results are clamped to
        low, high = low + 7, high - 9
        sr = np.clip(sr, low, high)
    lr, sr = lr.astype(dtype), sr.astype(dtype)
    result = projected(lr, sr, scale, low, high)
    assert result.dtype == sr.dtype
    for y, x, c in np.ndindex(h, w, C):
        block = slice(scale * y, scale * (y + 1)), slice(scale * x, scale * (x + 1)), c
        assert np.array_equal(result[block], slowly_projected(sr[block], int(lr[y, x, c]), low, high))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "uint32", "int32"])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_sums_are_exact_over_the_whole_range(dtype, scale, shape, random_image):
    """The extremes of the type, anywhere, in both images."""
    limits = np.iinfo(dtype)
    for kind in range(4):
        lr = random_image(*shape, 3, dtype, seed=kind)
        sr = random_image(shape[0] * scale, shape[1] * scale, 3, dtype, seed=9)
        if kind == 1:
            sr[:] = limits.min
        elif kind == 2:
            lr[:], sr[::2] = limits.max, limits.min
        elif kind == 3:
            sr[:] = np.where(sr % 2, limits.min, limits.max)
            lr[::2] = limits.min
        result = projected(lr, sr, scale, limits.min, limits.max)
        assert block_sums(result, scale) == [[[scale**2 * int(v) for v in p] for p in row] for row in lr]
        assert np.array_equal(projected(lr, result, scale, limits.min, limits.max), result)  # nothing left to do


def test_projection_in_a_strided_view(random_image):
    lr, big = random_image(5, 6, 3), random_image(40, 50, 3)
    wanted = projected(lr, big[3:23, 7:31].copy(), 4, 0, 255)
    outside = big.copy()
    view = big[3:23, 7:31]
    project(view, block_excess(lr, view, 4), lr, 4, bounds(3, 0, 255))
    assert np.array_equal(big[3:23, 7:31], wanted)
    big[3:23, 7:31] = outside[3:23, 7:31]
    assert np.array_equal(big, outside)


def test_water_fill_stays_within_the_room():
    rng = np.random.default_rng(0)
    room = rng.integers(0, 9, (500, 16))
    amount = (room.sum(axis=1) * rng.random(500)).astype(np.int64)
    amount[::50] = room[::50].sum(axis=1)
    move = water_fill(room, amount)
    assert (move.sum(axis=1) == amount).all()
    assert (move >= 0).all()
    assert (move <= room).all()
    for m, r in zip(move, room, strict=True):  # nobody has two less than another and room for more
        assert m[m < r].min(initial=99) >= m.max() - 1


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5, 8])
def test_ranks_are_an_order_and_scattered(scale):
    order = ranks(scale)
    assert sorted(order.ravel()) == list(range(scale**2))
    if scale >= 3:  # the first half lies in no half of the block
        y, x = np.nonzero(order < scale**2 // 2)
        assert abs(y.mean() - (scale - 1) / 2) < 0.5
        assert abs(x.mean() - (scale - 1) / 2) < 0.5


# --- block means: floats -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "ulp"), [("float16", 2**-11), ("float32", 2**-24), ("float64", 2**-53)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_float_means(dtype, ulp, scale, random_image):
    lr = random_image(7, 13, 3, dtype)
    sr = random_image(7 * scale, 13 * scale, 3, dtype)
    result = sr.copy()
    shift(result, block_excess(lr, sr, scale), scale)
    blocks = result.astype(np.longdouble).reshape(7, scale, 13, scale, 3)
    assert np.abs(blocks.mean(axis=(1, 3)) - lr).max() <= 2.1 * ulp  # half an ulp of the largest pixel, below 2
    moved = (result.astype(np.float64) - sr).reshape(7, scale, 13, scale, 3)
    assert np.ptp(moved, axis=(1, 3)).max() <= 4.1 * ulp  # the same for the whole block


# --- resampling --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_shrinking_and_enlarging(scale, shape, random_image):
    x = random_image(shape[0] * scale, shape[1] * scale, 0, "float64")
    z = random_image(*shape, 0, "float64")
    assert np.array_equal(resample.shrink(x, scale), downscale(x, scale))
    assert np.abs(resample.enlarge(z, scale) - enlarge_bicubic(z, scale)).max() < 1e-14
    small = resample.shrink(x.astype(np.float32), scale)
    assert small.dtype == np.float32
    assert np.abs(small - downscale(x, scale)).max() < 1e-6


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_sharpening_nearly_undoes_the_blur(scale, shape):
    """An iteration leaves at most 0.15 of any residual, whatever the image's size."""
    h, w = shape
    operator = np.empty((h * w, h * w))
    for i, z in enumerate(np.eye(h * w)):
        plane = z.reshape(h, w)
        operator[:, i] = resample.shrink(resample.enlarge(resample.sharpen(plane, scale), scale), scale).ravel()
    left = np.eye(h * w) - operator
    assert np.abs(np.linalg.eigvals(left)).max() < 0.15
    assert np.linalg.norm(left, 2) < 0.15


def test_windows_give_the_bits_of_the_whole(random_image):
    lr, sr = random_image(41, 23, 0, "float32"), random_image(123, 69, 0, "float32")
    for function, x, grow, shrunk, halo in [
        (resample.shrink, sr, 3, 1, resample.SHRINK_HALO),
        (resample.enlarge, lr, 1, 3, resample.ENLARGE_HALO),
        (resample.sharpen, lr, 1, 1, resample.SHARPEN_HALO),
    ]:
        whole = function(x, 3)
        part = function(x[grow * 9 : grow * 33, grow * 5 : grow * 20], 3)
        inner = part[shrunk * halo : -shrunk * halo, shrunk * halo : -shrunk * halo]
        top, left = shrunk * (9 + halo), shrunk * (5 + halo)
        assert np.array_equal(inner, whole[top : top + inner.shape[0], left : left + inner.shape[1]])


# --- back-projection ---------------------------------------------------------------------------------------------


def matrices(n, s):
    """Return D (n, s n), U (s n, n) and K (n, n) along one axis, by what they do to each pixel."""
    wide = [resample.shrink(np.tile(e[:, None], (1, s)), s)[:, 0] for e in np.eye(n * s)]
    up = [resample.enlarge(e[:, None], s)[:, 0] for e in np.eye(n)]
    sharp = [resample.sharpen(e[:, None], s)[:, 0] for e in np.eye(n)]
    return np.array(wide).T, np.array(up).T, np.array(sharp).T


def slow_back_projection(lr, sr, s, low, high):
    """Four iterations over the whole image, with dense matrices; lr (h, w), sr (s h, s w)."""
    (Dv, Uv, Kv), (Dh, Uh, Kh) = matrices(lr.shape[0], s), matrices(lr.shape[1], s)
    x = sr.astype(np.float64)
    for _ in range(4):
        missing = lr - Dv @ x @ Dh.T
        x = x + Uv @ Kv @ missing @ Kh.T @ Uh.T
        if low is not None:
            wide = lr.repeat(s, 0).repeat(s, 1)
            x = np.minimum(np.maximum(x, np.minimum(low, wide)), np.maximum(high, wide))
    return x


def finished(consistency, lr, sr, scale, limits, step):
    """Finish a whole image; return (result, finish)."""
    h, w, C = lr.shape
    piece = Piece(scale, h, w, C, sr.dtype, limits, (0, 0, w, h))
    finish = make_finish(consistency, piece, step)
    rows = []
    for y in range(0, h, step):
        rows += list(finish.push(lr[y : y + step], sr[scale * y : scale * (y + step)].copy()))
    return np.concatenate(rows), finish


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float64", "float32"])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (13, 7), (23, 11)])
def test_back_projection_equals_the_slow_twin(dtype, scale, shape, random_image):
    h, w = shape
    lr = random_image(h, w, 2 if dtype == "float64" else 3, dtype)
    sr = random_image(h * scale, w * scale, lr.shape[2], dtype, seed=1)
    if lr.shape[2] == 2:
        lr[:, :, 1] = 1  # alpha: all is visible
    integer = sr.dtype.kind != "f"
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if integer else (None, None)
    result, _ = finished("back-projection", lr, sr, scale, bounds(3, low, high) if integer else None, 4)
    assert result.dtype == sr.dtype
    for c in range(lr.shape[2]):
        wanted = slow_back_projection(lr[:, :, c].astype(float), sr[:, :, c].astype(float), scale, low, high)
        span = float(high) - low if integer else 1.0
        tolerance = 1e-12 if dtype == "float64" else span * 3e-6
        assert np.abs(result[:, :, c] - wanted).max() <= tolerance + (0.5 if integer else 0)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_bands_do_not_change_back_projection(dtype, random_image):
    """Not a bit of the pixels nor of the residual, whatever the bands."""
    lr, sr = random_image(61, 9, 3, dtype), random_image(183, 27, 3, dtype, seed=1)
    limits = bounds(3, 0, 255) if dtype == "uint8" else None
    whole, finish = finished("back-projection", lr, sr, 3, limits, 61)
    for step in (1, 2, 5, 17, 60):
        result, other = finished("back-projection", lr, sr, 3, limits, step)
        assert np.array_equal(result, whole)
        for name in ("blocks_before", "blocks_after", "bicubic_before", "bicubic_after"):
            assert getattr(other, name).residual() == getattr(finish, name).residual()


def test_back_projection_reaches_what_can_be_reached(random_image):
    """A smooth enough image in the middle of the range: the residual goes, but for rounding."""
    hr = np.rint(resample.enlarge(random_image(20, 30, 0, "float64") * 100 + 70, 2)).astype(np.uint8)
    lr = downscale(hr, 2)[:, :, None]
    sr = np.rint(resample.enlarge(lr[:, :, 0].astype(np.float64), 2)).astype(np.uint8)[:, :, None]
    result, finish = finished("back-projection", lr, sr, 2, bounds(1, 0, 255), 8)
    assert finish.bicubic_before.residual().max_abs >= 5
    assert finish.bicubic_after.residual().max_abs <= 1
    assert finish.bicubic_after.residual().mean_abs < 0.05
    difference = downscale(result[:, :, 0], 2).astype(int) - lr[:, :, 0]
    assert np.abs(difference).mean() == finish.bicubic_after.residual().mean_abs


def test_transparent_pixels_count_as_met(random_image):
    """Colours where alpha is 0 change nothing and count for nothing."""
    lr, sr = random_image(9, 8, 4), random_image(36, 32, 4, seed=1)
    lr[:, :, 3] |= 1
    lr[2:6, 1:5, 3] = 0
    other = lr.copy()
    other[2:6, 1:5, :3] = random_image(4, 4, 3, seed=7)
    for consistency in (None, "block-mean", "back-projection"):
        a, first = finished(consistency, lr, sr, 4, bounds(4, 0, 255), 3)
        b, second = finished(consistency, other, sr, 4, bounds(4, 0, 255), 3)
        assert np.array_equal(a, b)
        assert first.blocks_before.residual() == second.blocks_before.residual()
        assert first.blocks_before.residual().samples == 9 * 8 * 4 - 16 * 3
        if consistency == "block-mean":
            assert first.blocks_after.residual().max_abs == 0
            hidden = np.zeros((36, 32), bool)
            hidden[8:24, 4:20] = True
            assert np.array_equal(a[:, :, :3][hidden], sr[:, :, :3][hidden])
            assert not np.array_equal(a[:, :, 3][hidden], sr[:, :, 3][hidden])  # alpha itself is made consistent
        if consistency == "back-projection":
            assert first.bicubic_before.residual().samples == 9 * 8 * 4 - 16 * 3


# --- the residual ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_block_residual(dtype, random_image):
    lr, sr = random_image(7, 5, 3, dtype), random_image(21, 15, 3, dtype, seed=1)
    _, finish = finished(None, lr, sr, 3, None, 2)
    exact = np.longdouble(0) + sr.reshape(7, 3, 5, 3, 3)
    difference = np.abs(exact.mean(axis=(1, 3)) - lr)
    residual = finish.blocks_before.residual()
    assert residual.samples == 105
    assert residual.mean_abs == pytest.approx(float(difference.mean()), rel=1e-12)
    assert residual.rms == pytest.approx(float(np.sqrt((difference**2).mean())), rel=1e-12)
    assert residual.max_abs == pytest.approx(float(difference.max()), rel=1e-12)
    assert finish.blocks_after.residual() == residual


def test_tally_does_not_overflow():
    tally = Tally(256)
    worst = np.full((64, 1000), 256 * 65535, np.int32)
    for _ in range(20):
        tally.add(worst, worst.size)
    residual = tally.residual()
    assert (residual.samples, residual.max_abs) == (1_280_000, 65535)
    assert residual.mean_abs == residual.rms == 65535


def test_tally_of_wide_pixels_is_exact():
    """Sums of 16 x 16 pixels of 32 bits: their squares do not fit into 64 bits."""
    values = np.random.default_rng(0).integers(0, 256 * (2**32 - 1), (7, 13), np.int64, endpoint=True)
    values[0, 0] = 256 * (2**32 - 1)
    tally = Tally()
    tally.add(values, values.size)
    residual = tally.residual()
    assert residual.rms == (sum(int(v) ** 2 for v in values.ravel()) / values.size) ** 0.5
    assert residual.max_abs == values[0, 0]


# --- rows --------------------------------------------------------------------------------------------------------


def test_windows_apply_where_all_is_known():
    rng = np.random.default_rng(0)
    lr, sr = rng.random((2, 37, 3)), rng.random((2, 74, 6))

    def apply(y, x, first, last, top):
        """Add the rows up to 3 LR rows away, each times a weight of its own, as far as the image goes."""
        out = np.zeros((2, 2 * (last - first), 6))
        for i in range(first, last):
            assert np.array_equal(y[:, i], lr[:, top + i])
            for d in range(-3, 4):
                if 0 <= top + i + d < 37:
                    assert 0 <= i + d < y.shape[1]
                    out[:, 2 * (i - first) : 2 * (i - first) + 2] += (d + 5) * x[:, 2 * (i + d) : 2 * (i + d) + 2]
        return out

    def run(step, piece):
        windows, parts, seen = Windows(37, 2, 3, step, apply), [], 0
        for y in range(0, 37, piece):
            for part_lr, part in windows.push(lr[:, y : y + piece], sr[:, 2 * y : 2 * (y + piece)]):
                assert np.array_equal(part_lr, lr[:, seen : seen + part_lr.shape[1]])
                seen += part_lr.shape[1]
                parts.append(part)
        return np.concatenate(parts, axis=1)

    whole = run(37, 37)
    assert whole.shape == sr.shape
    for step, piece in [(1, 1), (4, 1), (4, 9), (9, 4), (37, 5), (1, 36)]:
        assert np.array_equal(run(step, piece), whole)


@pytest.mark.parametrize("around", [0, 2, 9])
@pytest.mark.parametrize("pieces", [1, 3, 4, 7, 50])
def test_row_pairs_bring_rows_together(around, pieces):
    rng = np.random.default_rng([around, pieces])
    lr, sr = rng.random((19, 2, 1)), rng.random((57, 6, 1))
    pairs, read, done = RowPairs(19, 3, around), 0, 0
    for y in range(0, 57, pieces):
        while read < 19 and 3 * (read - 4) < y + pieces:  # the network reads ahead
            pairs.read(lr[read : read + 2])
            read += 2
        ready = pairs.write(sr[y : y + pieces])
        if ready is None:
            continue
        row, rows, top, known = ready
        n = len(rows) // 3
        assert row == done
        assert np.array_equal(rows, sr[3 * row : 3 * (row + n)])
        assert top <= max(row - around, 0)
        assert top + len(known) >= min(row + n + around, 19)
        assert np.array_equal(known, lr[top : top + len(known)])
        assert len(known) <= n + 2 * around + 7 + pieces  # and no more than is needed
        done = row + n
    assert done == 19


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
def test_blend_is_the_rounded_mean(dtype, random_image):
    sr, other = random_image(6, 7, 3, dtype), random_image(6, 7, 3, dtype, seed=1)
    for strength in (0.25, 0.5, 0.9):
        result = sr.copy()
        blend(result, other, strength)
        exact = strength * sr.astype(np.longdouble) + (1 - np.longdouble(strength)) * other
        assert np.abs(result - exact).max() <= 0.5 + 1e-9
    for strength, wanted in ((0.0, other), (1.0, sr)):
        result = sr.copy()
        blend(result, other, strength)
        assert np.array_equal(result, wanted)


# --- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("consistency", [None, "block-mean", "back-projection"])
@pytest.mark.parametrize(("dtype", "channels"), [("uint8", 3), ("uint8", 1), ("uint16", 1), ("float64", 4)])
@pytest.mark.parametrize(("scale", "width", "step"), [(4, 200, 16), (2, 500, 4), (3, 1500, 64)])
def test_finishing_takes_the_memory_that_it_says(consistency, dtype, channels, scale, width, step, random_image):
    import tracemalloc

    height = 150
    lr = random_image(height, width, channels, dtype)
    row = random_image(scale, scale * width, channels, dtype)
    limits = None if dtype == "float64" else bounds(channels, 0, np.iinfo(dtype).max)
    piece = Piece(scale, height, width, channels, np.dtype(dtype), limits, (0, 0, width, height))
    if dtype != "float64":
        row[:, ::2] = 0  # so that every block meets a bound
    sr = np.tile(row, (step, 1, 1))
    finish = make_finish(consistency, piece, step)
    tracemalloc.start()
    try:
        for y in range(0, height, step):
            part = sr[: scale * len(lr[y : y + step])]
            for rows in finish.push(lr[y : y + step], part):
                del rows
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    said = finish_memory(consistency, piece, step)
    assert peak <= said
    if step >= 16:
        assert said <= 6 * peak + (64 << 10)
