"""Consistency, strength and reports as a user meets them: in arrays, regions, tiles, streams and within budgets."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading

import numpy as np
import pytest
from test_api import ArraySink, ArraySource
from test_memory import SLACK

import fastsr
from fastsr.imresize import downscale

CONSISTENCIES = [None, "block-mean", "back-projection"]
DTYPES = ["uint8", "uint16", "int16", ">u2", "float16", "float32", "float64"]
pytestmark = pytest.mark.filterwarnings("ignore::fastsr.ValueRangeWarning")


def image(random_image, h, w, channels, dtype):
    """A random image; RGBA with a hole of which the colours differ from what is around."""
    kind = np.dtype(dtype)
    x = random_image(h, w, channels, kind.newbyteorder("=").name).astype(kind)
    if channels == 4:
        x[h // 4 : h // 2, w // 4 : w // 2, 3] = 0
    return x


def visible(x):
    """Return (h, w, C), False for colours of transparent pixels."""
    seen = np.ones(x.shape if x.ndim == 3 else (*x.shape, 1), bool)
    if seen.shape[2] == 4:
        seen[:, :, :3] = (x[:, :, 3] != 0)[:, :, None]
    return seen


def means(y, s):
    """Return the means of s x s blocks (h, w, C), exact for integers."""
    y = y.astype(np.longdouble) if y.dtype.kind == "f" else y.astype(np.int64)
    H, W = y.shape[:2]
    return y.reshape(H // s, s, W // s, s, -1).sum(axis=(1, 3)) / (1 if y.dtype.kind == "i" else s * s)


# --- what consistency promises -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [0, 3, 4])
@pytest.mark.parametrize(("model", "scale"), [("vdsr", 2), ("bicubic", 3), ("srresnet", 4)])
def test_block_means_are_the_lr_pixels(dtype, channels, model, scale, random_image):
    x = image(random_image, 7, 13, channels, dtype)
    sr = fastsr.load(model, scale=scale, consistency="block-mean", strength=0.7)
    y = sr.upscale(x)
    lr, seen, after = x.reshape(7, 13, -1), visible(x), sr.last_report.block_mean_after
    if x.dtype.kind == "f":
        ulp = np.finfo(x.dtype).eps
        difference = np.where(seen, np.abs(means(y, scale) - lr), 0)
        assert difference.max() <= 2 * ulp
        # Both are sums of float64 near 1, added up in different orders.
        assert after.max_abs == pytest.approx(float(difference.max()), rel=1e-6, abs=2 * np.finfo(np.float64).eps)
    else:
        assert np.array_equal(means(y, scale)[seen], scale**2 * lr.astype(np.int64)[seen])
        assert (after.mean_abs, after.rms, after.max_abs) == (0, 0, 0)
    assert after.samples == np.count_nonzero(seen)
    assert sr.last_report.block_mean_before.mean_abs > 0


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_block_means_at_the_ends_of_the_range(dtype, scale):
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    y, x = np.mgrid[:11, :17]
    images = [np.full((11, 17), low), np.full((11, 17), high), np.where((x + y) % 2, low, high)]
    images.append(np.where((x // 4 + y // 3) % 2, low, high))
    for model in ("vdsr", "bicubic"):
        for consistency in ("block-mean", "back-projection"):
            sr = fastsr.load(model, scale=scale, consistency=consistency)
            for lr in images:
                lr = lr.astype(dtype)
                result = sr.upscale(lr)
                if consistency == "block-mean":
                    assert np.array_equal(means(result, scale)[:, :, 0], scale**2 * lr.astype(np.int64))
                    assert sr.last_report.block_mean_after.max_abs == 0
                else:  # a checkerboard of black and white is no bicubic downscaling of anything
                    assert sr.last_report.bicubic_after.rms <= sr.last_report.bicubic_before.rms


def test_values_beyond_the_value_range(random_image):
    """An LR pixel outside of value_range is met all the same: only its own block goes outside, and no further."""
    x = random_image(9, 11, 0, "uint16") % 3000 + 500
    x[4, 5], x[0, 0] = 9000, 60
    wanted = np.ones((9, 11), bool)
    wanted[4, 5] = wanted[0, 0] = False
    for consistency in ("block-mean", "back-projection"):
        y = fastsr.upscale(x, "vdsr", scale=2, value_range=(500, 3500), consistency=consistency)
        blocks = y.reshape(9, 2, 11, 2).swapaxes(1, 2)
        assert blocks[wanted].min() >= 500
        assert blocks[wanted].max() <= 3500
        assert blocks[4, 5].max() <= 9000
        assert blocks[0, 0].min() >= 60
        if consistency == "block-mean":
            assert np.array_equal(means(y, 2)[:, :, 0], 4 * x.astype(np.int64))
            assert (blocks[4, 5] == 9000).all()
        else:
            assert blocks[4, 5].max() > 3500


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("channels", [0, 3])
def test_back_projection_meets_the_bicubic_downscaling(dtype, channels, random_image):
    """Of an image that has an HR image, the residual all but goes away."""
    limits = (0.0, 1.0) if np.dtype(dtype).kind == "f" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    smooth = fastsr.upscale(random_image(9, 12, channels, "float64"), "bicubic", scale=4) * 0.5 + 0.2
    noisy = smooth + 0.15 * random_image(36, 48, channels, "float64", seed=1)
    lr = downscale(noisy, 4) * (float(limits[1]) - float(limits[0])) + float(limits[0])
    lr = (lr if np.dtype(dtype).kind == "f" else np.rint(lr)).astype(dtype)
    sr = fastsr.load("fmen", consistency="back-projection")
    y = sr.upscale(lr)
    before, after = sr.last_report.bicubic_before, sr.last_report.bicubic_after
    unit = 1e-3 if np.dtype(dtype).kind == "f" else 1
    assert before.max_abs >= 3 * unit
    assert after.max_abs <= unit
    assert after.rms < max(0.1 * before.rms, 0.15 * unit)  # of 8 bits, one sample in fifty may be a level off
    if dtype != "int16":
        difference = np.abs(downscale(y, 4).astype(np.float64) - lr)
        assert after.mean_abs == pytest.approx(difference.mean(), rel=1e-9, abs=1e-15)
        assert after.max_abs == pytest.approx(difference.max(), rel=1e-9, abs=1e-15)


def test_int16_is_projected_as_uint16(random_image):
    x = random_image(9, 8, 0, "uint16")
    shifted = (x.astype(np.int32) - 32768).astype(np.int16)
    for consistency in ("block-mean", "back-projection"):
        unsigned = fastsr.load("nearest", scale=3, consistency=consistency)
        signed = fastsr.load("nearest", scale=3, consistency=consistency)
        a, b = unsigned.upscale(x).astype(np.int32) - 32768, signed.upscale(shifted).astype(np.int32)
        assert np.abs(a - b).max() <= (0 if consistency == "block-mean" else 1)  # float32 rounds elsewhere
    for field in ("mean_abs", "rms"):
        assert getattr(signed.last_report.bicubic_before, field) == pytest.approx(
            getattr(unsigned.last_report.bicubic_before, field), rel=1e-4
        )


# --- strength ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [0, 3, 4])
def test_strength_is_exact_at_both_ends(dtype, channels, random_image):
    x = image(random_image, 9, 11, channels, dtype)
    network, bicubic = fastsr.upscale(x, "vdsr", scale=3), fastsr.upscale(x, "bicubic", scale=3)
    assert np.array_equal(fastsr.upscale(x, "vdsr", scale=3, strength=1), network)
    assert np.array_equal(fastsr.upscale(x, "vdsr", scale=3, strength=0), bicubic)
    assert not np.array_equal(network, bicubic)
    mixed = fastsr.upscale(x, "vdsr", scale=3, strength=0.25)
    assert mixed.dtype == x.dtype
    exact = 0.25 * network.astype(np.float64) + 0.75 * bicubic
    assert np.abs(mixed - exact).max() <= (np.finfo(x.dtype).eps if x.dtype.kind == "f" else 0.5)


def test_report_of_strength(random_image):
    x = random_image(9, 11)
    for strength in (0, 0.5, 1):
        sr = fastsr.load("vdsr", scale=2, strength=strength)
        y = sr.upscale(x)
        report = sr.last_report
        assert (report.model, report.strength) == ("vdsr", strength)
        difference = np.abs(means(y, 2) / 4 - x)
        assert report.block_mean_before.mean_abs == pytest.approx(difference.mean(), rel=1e-12)


# --- the same bits by every road ---------------------------------------------------------------------------------

ROADS = [(c, s) for c in CONSISTENCIES for s in (1, 0.3) if (c, s) != (None, 1)]


@pytest.mark.parametrize(("consistency", "strength"), ROADS)
@pytest.mark.parametrize("channels", [0, 3, 4])
@pytest.mark.parametrize(("model", "dtype"), [("bicubic", "uint8"), ("nearest", "float64"), ("bilinear", ">u2")])
def test_regions_and_tiles(consistency, strength, channels, model, dtype, random_image):
    sr = fastsr.load(model, scale=2, consistency=consistency, strength=strength)
    x = image(random_image, 83, 95, channels, dtype)
    whole = sr.upscale(x)
    for left, top, right, bottom in [(0, 0, 95, 83), (94, 82, 95, 83), (40, 41, 47, 43), (3, 0, 50, 1)]:
        part = sr.region(x, (left, top, right, bottom))
        assert np.array_equal(part, whole[2 * top : 2 * bottom, 2 * left : 2 * right])
        assert sr.last_report.block_mean_after.samples == np.count_nonzero(visible(x)[top:bottom, left:right])
    result = np.zeros_like(whole)
    for tile in sr.tiles(x.shape, (31, 60)):
        left, top, right, bottom = tile.read
        pixels = x[top:bottom, left:right].copy()
        result[tile.sr[1] : tile.sr[3], tile.sr[0] : tile.sr[2]] = sr.upscale_tile(pixels, tile)
    assert np.array_equal(result, whole)


@pytest.mark.parametrize(("consistency", "strength"), ROADS)
def test_regions_of_a_network(consistency, strength, random_image):
    sr = fastsr.load("vdsr", scale=3, consistency=consistency, strength=strength)
    x = image(random_image, 46, 62, 4, "uint8")
    part = sr.region(x, (50, 3, 57, 20))
    assert np.array_equal(part, sr.upscale(x)[9:60, 150:171])


def test_tiles_need_no_more_than_they_read(random_image):
    """Pixels beyond a tile's read box change nothing; those inside do."""
    sr = fastsr.load("nearest", scale=2, consistency="back-projection", strength=0.5)
    x = random_image(120, 110, 0)
    tile = list(sr.tiles(x.shape, 40))[4]
    other = 255 - x
    left, top, right, bottom = tile.read
    assert (left, top, right, bottom) == (40 - 36, 40 - 36, 80 + 30, 80 + 36)
    other[top:bottom, left:right] = x[top:bottom, left:right]
    box = tile.sr[1], tile.sr[3]
    columns = slice(tile.sr[0], tile.sr[2])
    assert np.array_equal(sr.upscale(x)[box[0] : box[1], columns], sr.upscale(other)[box[0] : box[1], columns])


@pytest.mark.parametrize(("consistency", "strength"), [(None, 1), *ROADS])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize(("model", "dtype"), [("vdsr", "uint8"), ("nearest", "int16"), ("nearest", "float64")])
def test_stream(consistency, strength, channels, model, dtype, random_image):
    sr = fastsr.load(model, scale=2, consistency=consistency, strength=strength, threads=1)
    x = random_image(270, 7, channels, dtype)
    sink = ArraySink((540, 14, channels), x.dtype)
    sr.stream(ArraySource(x), sink)
    assert sink.next == 540
    streamed = sr.last_report
    if channels != 2:
        assert np.array_equal(sink.pixels, sr.upscale(x))
        assert sr.last_report == streamed  # residuals to the last bit, too
    else:
        with_colour = sr.upscale(np.dstack([x[:, :, :1], x[:, :, :1], x]))
        if model == "nearest":
            assert np.array_equal(with_colour[:, :, 2:], sink.pixels)


def test_stream_in_rows_that_are_no_whole_blocks(random_image):
    """SRGAN's generator enlarges in two steps: its rows do not come in fours."""
    x = random_image(40, 9, 3)
    for consistency in CONSISTENCIES:
        sr = fastsr.load("srresnet", consistency=consistency, strength=0.5)
        sink = ArraySink((160, 36, 3), x.dtype)
        sr.stream(ArraySource(x), sink)
        assert np.array_equal(sink.pixels, sr.upscale(x))


def test_source_that_reuses_its_buffer(random_image):
    x = random_image(90, 8, 3)

    class Source(ArraySource):
        buffer = np.empty((300, 8, 3), np.uint8)

        def read(self, y0, y1):
            self.buffer[: y1 - y0] = super().read(y0, y1)
            return self.buffer[: y1 - y0]

    for consistency in CONSISTENCIES:
        sr = fastsr.load("vdsr", scale=2, consistency=consistency)
        sink = ArraySink((180, 16, 3), x.dtype)
        sr.stream(Source(x), sink)
        assert np.array_equal(sink.pixels, sr.upscale(x))


@pytest.mark.parametrize("consistency", CONSISTENCIES)
def test_threads_and_pil(consistency, random_image):
    from PIL import Image

    x = random_image(21, 17, 4)
    y = fastsr.upscale(x, "vdsr", scale=2, consistency=consistency, threads=1)
    assert np.array_equal(fastsr.upscale(x, "vdsr", scale=2, consistency=consistency, threads=3), y)
    assert np.array_equal(np.asarray(fastsr.upscale(Image.fromarray(x), "vdsr", scale=2, consistency=consistency)), y)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_other_back_ends(backend, random_image):
    if reason := fastsr.backends()[backend]:
        pytest.skip(reason)
    x = random_image(9, 12, 4)
    for consistency in CONSISTENCIES:
        for strength in (0, 0.5) if consistency is None else (0.5,):
            sr = fastsr.load("vdsr", scale=2, backend=backend, consistency=consistency, strength=strength)
            native = fastsr.upscale(x, "vdsr", scale=2, consistency=consistency, strength=strength)
            y = sr.upscale(x)
            assert np.abs(y.astype(int) - native).max() <= 2
            assert sr.last_report.backend == backend
            assert np.array_equal(sr.region(x, (2, 3, 7, 8)), y[6:16, 4:14])


# --- budgets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("consistency", "strength"), [(None, 1), *ROADS])
@pytest.mark.parametrize(("channels", "dtype"), [(3, "uint8"), (4, "uint8"), (3, "float64"), (1, ">u2")])
def test_the_least_that_would_do_does(consistency, strength, channels, dtype, random_image):
    x = image(random_image, 50, 40, channels, dtype)
    options = {"model": "bilinear", "scale": 2, "consistency": consistency, "strength": strength}
    wanted = fastsr.upscale(x, **options)
    with pytest.raises(fastsr.MemoryBudgetError, match=r"max_memory is 1000 bytes.*at least") as refused:
        fastsr.upscale(x, max_memory=1000, **options)
    least = refused.value.least
    assert np.array_equal(fastsr.upscale(x, max_memory=least, **options), wanted)
    with pytest.raises(fastsr.MemoryBudgetError) as refused:
        fastsr.upscale(x, max_memory=least - 1, **options)
    assert refused.value.least == least
    sr = fastsr.load(max_memory=1000, **options)
    sink = ArraySink((100, 80, channels), x.dtype)
    source = ArraySource(x)
    with pytest.raises(fastsr.MemoryBudgetError) as refused:
        sr.stream(source, sink)
    assert source.seen == 0
    fastsr.load(max_memory=refused.value.least, **options).stream(source, sink)
    assert np.array_equal(sink.pixels, wanted)


MEASURE = """
import sys, numpy as np, fastsr
h, w, channels, dtype, consistency, strength, how = sys.argv[1:]
h, w, channels = int(h), int(w), int(channels)
x = np.random.default_rng(0).integers(0, 255, (h, w, channels), dtype=np.uint8).astype(dtype)
options = dict(scale=4, threads=2, consistency=consistency or None, strength=float(strength))

class Source:
    shape, dtype = x.shape, x.dtype
    def read(self, y0, y1):
        return x[y0:y1]

class Sink:
    def write(self, y0, rows):
        y[y0 : y0 + len(rows)] = rows

def status(key):
    for line in open("/proc/self/status"):
        if line.startswith(key):
            return int(line.split()[1]) * 1024

small = fastsr.load("fmen", **options)
small.upscale(x[:9, :9])
small = None

def run(sr):
    if how == "stream":
        sr.stream(Source(), Sink())
        return 0
    return sr.upscale(x).nbytes

try:
    run(fastsr.load("fmen", max_memory=1000, **options))
except fastsr.MemoryBudgetError as error:
    budget = error.least
sr = fastsr.load("fmen", max_memory=budget, **options)
y = np.ones((4 * h, 4 * w, channels), dtype)
np.empty(1 << 22, np.uint8).fill(1)
with open("/proc/self/clear_refs", "w") as f:
    f.write("5")
before = status("VmRSS")
extra = run(sr)
print(status("VmHWM") - before - extra, budget)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(
    ("consistency", "strength"), [("block-mean", 1), ("back-projection", 1), ("back-projection", 0.5)]
)
@pytest.mark.parametrize(
    ("channels", "dtype", "how"), [(1, "uint16", "stream"), (3, "uint8", "array"), (4, "uint8", "stream")]
)
def test_memory_stays_below_the_least_budget(consistency, strength, channels, dtype, how):
    arguments = [str(v) for v in (60, 120, channels, dtype, consistency, strength, how)]
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    peak, budget = map(int, result.stdout.split())
    assert peak <= budget + SLACK


def test_error_of_a_sink_is_not_taken_for_the_budget(random_image):
    class Sink:
        def write(self, y0, rows):
            raise fastsr.MemoryBudgetError("the sink's own", 5)

    sr = fastsr.load("nearest", scale=2, max_memory="64MB", consistency="back-projection")
    with pytest.raises(fastsr.MemoryBudgetError, match="the sink's own"):
        sr.stream(ArraySource(random_image(300, 9)), Sink())
    assert sr.last_report is None


# --- reports -----------------------------------------------------------------------------------------------------


def test_report_says_what_was_done(random_image):
    sr = fastsr.load("vdsr", scale=3, consistency="back-projection", strength=0.5)
    assert sr.last_report is None
    sr.upscale(random_image(9, 8))
    report = sr.last_report
    assert (report.model, report.version, report.sha256) == ("vdsr", fastsr.__version__, sr.model.sha256)
    assert (report.scale, report.precision, report.backend) == (3, "fp32", "native")
    assert (report.consistency, report.strength) == ("back-projection", 0.5) == (sr.consistency, sr.strength)
    assert report.bicubic_before.samples == report.block_mean_after.samples == 9 * 8 * 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.strength = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.bicubic_before.rms = 0
    text = report.residual_text()
    assert text.startswith("bicubic: mean ")
    assert " -> " in text
    assert f"max {report.bicubic_after.max_abs:.3g}" in text
    plain = fastsr.load("bicubic", scale=2)
    plain.upscale(random_image(9, 8))
    assert plain.last_report.bicubic_after is None
    assert plain.last_report.block_mean_after == plain.last_report.block_mean_before
    assert "->" not in plain.last_report.residual_text()


def test_failed_calls_leave_the_report(random_image):
    sr = fastsr.load("vdsr", scale=2, consistency="block-mean")
    sr.upscale(random_image(5, 5))
    report = sr.last_report
    bad = random_image(5, 5, 3, "float32")
    bad[2, 2] = np.nan
    for call in (lambda: sr.upscale(bad), lambda: sr.region(bad, (0, 0, 5, 5)), lambda: sr.upscale(None)):
        with pytest.raises(fastsr.FastSRError):
            call()
    assert sr.last_report is report


def test_each_thread_has_its_own_report(random_image):
    sr = fastsr.load("bicubic", scale=2)
    images = [random_image(6, 7, 0, seed=i) for i in range(4)]
    wanted = []
    for x in images:
        sr.upscale(x)
        wanted.append(sr.last_report)
    assert len({report.block_mean_before for report in wanted}) == 4
    seen = [[] for _ in images]
    gate = threading.Barrier(len(images))

    def work(i):
        seen[i].append(sr.last_report)  # nothing of its own yet: the latest of all
        gate.wait()
        for _ in range(50):
            sr.upscale(images[i])
            seen[i].append(sr.last_report)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, reports in enumerate(seen):
        assert reports[0] == wanted[-1]
        assert reports[1:] == [wanted[i]] * 50
    assert sr.last_report is wanted[-1]  # this thread's own


def test_joined_reports_are_those_of_all_pixels(random_image):
    x = random_image(31, 12, 3)
    sr = fastsr.load("nearest", scale=2, consistency="back-projection")
    sr.upscale(x)
    whole, parts = sr.last_report, []
    for top, bottom in ((0, 4), (4, 5), (5, 31)):
        sr.region(x, (0, top, 12, bottom))
        parts.append(sr.last_report)
    joined = fastsr.join_reports(parts)
    for name in ("block_mean_before", "block_mean_after", "bicubic_before", "bicubic_after"):
        a, b = getattr(joined, name), getattr(whole, name)
        assert (a.samples, a.max_abs) == (b.samples, b.max_abs)
        assert a.mean_abs == pytest.approx(b.mean_abs, rel=1e-12)
        assert a.rms == pytest.approx(b.rms, rel=1e-12)
    assert dataclasses.replace(joined, **{f.name: None for f in dataclasses.fields(joined) if "_" in f.name}) == (
        dataclasses.replace(whole, **{f.name: None for f in dataclasses.fields(whole) if "_" in f.name})
    )
    empty = fastsr.Residual()
    assert fastsr.join_reports([dataclasses.replace(whole, bicubic_before=empty)] * 2).bicubic_before == empty


def test_image_of_which_nothing_can_be_seen(random_image):
    x = random_image(6, 5, 4)
    x[:, :, 3] = 0
    for consistency in CONSISTENCIES:
        sr = fastsr.load("vdsr", scale=2, consistency=consistency)
        assert not sr.upscale(x)[:, :, 3].any()
        assert sr.last_report.block_mean_after == fastsr.Residual(30, 0.0, 0.0, 0.0)


# --- bad options -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"consistency": "mean"}, "consistency is 'mean'; None, 'block-mean' or 'back-projection'"),
        ({"consistency": True}, "consistency is True"),
        ({"consistency": ["block-mean"]}, "consistency is"),
        ({"strength": 1.01}, r"strength is '1\.01'; 0 \(bicubic\) to 1"),
        ({"strength": -0.1}, "strength"),
        ({"strength": float("nan")}, "strength is 'nan'"),
        ({"strength": "0.5"}, "strength is '0.5'"),
        ({"strength": True}, "strength is 'True'"),
        ({"strength": None}, "strength is 'None'"),
        ({"strength": [1]}, "strength"),
    ],
)
def test_options(options, names, random_image):
    with pytest.raises(fastsr.OptionError, match=names):
        fastsr.load("bicubic", **options)
    with pytest.raises(fastsr.OptionError, match=names):
        fastsr.upscale(random_image(4, 4), "bicubic", **options)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(("consistency", "strength"), [*ROADS, ("block-mean", 0)])
def test_not_finite(bad, consistency, strength, random_image):
    x = random_image(9, 9, 3, "float32")
    x[4, 5, 1] = bad
    sr = fastsr.load("bicubic", consistency=consistency, strength=strength)
    with pytest.raises(fastsr.PixelValueError, match="NaN or infinite"):
        sr.upscale(x)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("consistency", CONSISTENCIES)
def test_floats_near_the_end_of_their_range(consistency, random_image):
    """float16 overflows where a network overshoots; a consistent result is finite all the same."""
    x = np.where(random_image(9, 9, 0) % 2, np.float16(65504), np.float16(-65504))
    y = fastsr.upscale(x, "bicubic", scale=4, value_range=(-65504, 65504), consistency=consistency)
    if consistency is None:
        assert np.isinf(y).any()
    else:
        assert np.isfinite(y).all()
