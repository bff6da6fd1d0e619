"""A picture that compares: LR, bicubic, super-resolved and HR side by side, with crops and scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastsr import metrics
from fastsr.errors import OptionError, ShapeError
from fastsr.imresize import crop_to_multiple, cubic, downscale

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[Any]
Upscale = Callable[[Pixels], Pixels]

PANEL_WIDTH = 480  # pixels; panels of a wide image lie one above the other and are STACKED_WIDTH wide
STACKED_WIDTH = 1440
TALLEST_PANEL = 1440
SMALLEST_PANEL = 240  # captions need this much
WIDE = 2.5  # width over height from which panels are stacked
CROPS_SIDE = (32, 160)  # pixels of HR that a crop shows, at least and at most
WINDOW_PERCENTILES = (0.5, 99.5)  # what is shown of more than 8 bits, as black to white
_GAP = 12
_FONT_SIZE = 15
_MARK = (255, 160, 0)


@dataclass(frozen=True)
class Score:
    """PSNR in dB and SSIM against HR."""

    psnr: float
    ssim: float | None

    def __str__(self) -> str:
        ssim = f" / {self.ssim:.4f}" if self.ssim is not None else ""
        return f"{self.psnr:.2f} dB{ssim}"


@dataclass(frozen=True)
class Comparison:
    """What was compared, in full depth, and how it scored.

    lr: (h, w[, C]); bicubic, sr, hr: `scale` times as large; hr is None where there is none.
    box: (y0, x0, y1, x1) in pixels of sr: the square with the most detail.
    peak: the data range that the scores are computed with.
    """

    lr: Pixels
    bicubic: Pixels
    sr: Pixels
    hr: Pixels | None
    scale: int
    name: str
    box: tuple[int, int, int, int]
    peak: float
    scores: dict[str, Score]


def compare(
    upscale: Upscale,
    scale: int,
    *,
    hr: Pixels | None = None,
    lr: Pixels | None = None,
    name: str = "model",
    data_range: float | None = None,
) -> Comparison:
    """Upscale `lr`, by default the downscaled `hr`, with bicubic interpolation and with `upscale`; score both.

    hr, lr: (H, W), or (H, W, C) with 2 to 4 channels, of which alpha is dropped; any pixel type of FastSR.
    hr is cropped, bottom and right, to a multiple of the scale. Scores are on luma, with `scale` pixels cut from
    each side. data_range: peak of the scores; by default 255 for uint8, else the spread of hr's values.
    Raises OptionError, ShapeError.
    """
    if hr is None and lr is None:
        raise OptionError("neither HR nor LR is given; one of them is needed")
    lr = None if lr is None else _opaque(lr)
    if hr is not None:
        hr = crop_to_multiple(_opaque(hr), scale)
        lr = _shrink(hr, scale) if lr is None else lr
    assert lr is not None
    if hr is not None and hr.shape[:2] != (lr.shape[0] * scale, lr.shape[1] * scale):
        raise ShapeError(
            f"HR is {hr.shape[1]}x{hr.shape[0]} and LR {lr.shape[1]}x{lr.shape[0]}; "
            f"at scale {scale} HR has to be {lr.shape[1] * scale}x{lr.shape[0] * scale}"
        )
    bicubic, sr = enlarge_bicubic(lr, scale), upscale(lr)
    best = sr if hr is None else hr
    spread = float(best.max()) - float(best.min()) or 1.0
    peak = data_range or (255.0 if best.dtype == np.uint8 else spread)
    scores = {}
    if hr is not None:
        scores = {"bicubic": _score(hr, bicubic, scale, peak), "sr": _score(hr, sr, scale, peak)}
    return Comparison(lr, bicubic, sr, hr, scale, name, _most_detailed(best, scale), peak, scores)


def draw(comparison: Comparison) -> Pixels:
    """Draw the comparison as an RGB picture (H, W, 3) uint8: panels with captions, and the box's crops below."""
    from PIL import Image, ImageDraw

    c = comparison
    window = _window(c.sr if c.hr is None else c.hr)
    enlarged = c.lr.repeat(c.scale, axis=0).repeat(c.scale, axis=1)
    panels = [("LR, nearest", enlarged, None), ("bicubic", c.bicubic, "bicubic"), (c.name, c.sr, "sr")]
    if c.hr is not None:
        panels.append(("HR", c.hr, None))
    H, W = c.sr.shape[:2]
    stacked = W > WIDE * H
    width = min(STACKED_WIDTH if stacked else PANEL_WIDTH, max(W, SMALLEST_PANEL))
    height = max(1, min(TALLEST_PANEL, round(H * width / W)))
    picture_width = max(1, min(width, round(W * height / H)))
    crop_width = (width - _GAP * (len(panels) - 1)) // len(panels) if stacked else width
    caption = _FONT_SIZE + 8
    pitch_x, pitch_y = (0, caption + height + _GAP) if stacked else (width + _GAP, 0)
    crops_y = _GAP + (len(panels) * pitch_y if stacked else caption + height + _GAP)
    total_width = 2 * _GAP + (width if stacked else len(panels) * pitch_x - _GAP)
    total_height = crops_y + crop_width + _GAP + caption
    canvas = Image.new("RGB", (total_width, total_height), (24, 24, 24))
    pen = ImageDraw.Draw(canvas)
    y0, x0, y1, x1 = c.box
    for i, (title, pixels, key) in enumerate(panels):
        left, top = _GAP + i * pitch_x, _GAP + i * pitch_y
        shown = _shown(pixels, window)
        score = f"   {c.scores[key]}" if key in c.scores else ""
        _write(pen, (left, top), title + score, width)
        canvas.paste(_fitted(shown, picture_width, height), (left, top + caption))
        fx, fy = picture_width / W, height / H
        frame = (left + x0 * fx, top + caption + y0 * fy, left + x1 * fx - 1, top + caption + y1 * fy - 1)
        pen.rectangle(frame, outline=_MARK)
        crop = Image.fromarray(shown[y0:y1, x0:x1]).resize((crop_width, crop_width), Image.Resampling.NEAREST)
        canvas.paste(crop, (_GAP + i * (crop_width + _GAP), crops_y))
    _write(pen, (_GAP, crops_y + crop_width + _GAP // 2), _footnote(c, window), total_width - 2 * _GAP)
    return np.asarray(canvas)


def enlarge_bicubic(image: Pixels, scale: int) -> Pixels:
    """Enlarge (H, W) or (H, W, C) by bicubic interpolation (a = -0.5, edge pixels repeated), as MATLAB's imresize.

    Integers are rounded half up and clamped after each pass, rows first; floats are neither.
    """
    rows = _enlarge_axis0(image, scale)
    return np.ascontiguousarray(_enlarge_axis0(rows.swapaxes(0, 1), scale).swapaxes(0, 1))


def _enlarge_axis0(x: Pixels, scale: int) -> Pixels:
    """Output i is centred at (i + 0.5) / scale - 0.5 and reads the four nearest inputs."""
    at = (np.arange(x.shape[0] * scale) + 0.5) / scale - 0.5
    first = np.floor(at).astype(int) - 1
    y = np.zeros((len(at), *x.shape[1:]), np.float64)
    for k in range(4):
        w = cubic(at - (first + k)).reshape(-1, *[1] * (x.ndim - 1))
        y += w * x[np.clip(first + k, 0, x.shape[0] - 1)]
    if x.dtype.kind == "f":
        return y.astype(x.dtype)
    limits = np.iinfo(x.dtype)
    return np.clip(np.floor(y + 0.5), limits.min, limits.max).astype(x.dtype)


def _opaque(image: Pixels) -> Pixels:
    """Drop alpha: (H, W), or (H, W, 3)."""
    if image.ndim == 3 and image.shape[2] in (1, 2):
        return image[:, :, 0]
    return image[:, :, :3] if image.ndim == 3 else image


def _shrink(hr: Pixels, scale: int) -> Pixels:
    if min(hr.shape[:2]) < scale:
        raise ShapeError(f"HR is smaller than {scale}x{scale}; at scale {scale} that leaves no LR")
    if hr.dtype != np.int16:
        return downscale(hr, scale)
    shifted = (hr.astype(np.int32) + 32768).astype(np.uint16)  # the same arithmetic, for signed values
    return (downscale(shifted, scale).astype(np.int32) - 32768).astype(np.int16)


def _score(hr: Pixels, image: Pixels, scale: int, peak: float) -> Score:
    luma = hr.ndim == 3
    border = scale if min(hr.shape[:2]) > 2 * scale else 0
    large_enough = min(hr.shape[:2]) - 2 * border >= 11
    psnr = metrics.psnr(hr, image, data_range=peak, border=border, luma=luma)
    ssim = metrics.ssim(hr, image, data_range=peak, border=border, luma=luma) if large_enough else None
    return Score(float(psnr), None if ssim is None else float(ssim))


def _most_detailed(image: Pixels, scale: int) -> tuple[int, int, int, int]:
    """Return the square, aligned to LR pixels, with the largest sum of gradients."""
    grey = image.astype(np.float64)
    grey = grey.mean(axis=2) if grey.ndim == 3 else grey
    H, W = grey.shape
    side = min(H, W, max(CROPS_SIDE[0], min(CROPS_SIDE[1], min(H, W) // 4)))
    side = max(scale, side - side % scale)
    detail = np.zeros((H + 1, W + 1))
    dy, dx = np.abs(np.diff(grey, axis=0)), np.abs(np.diff(grey, axis=1))
    detail[1:H, 1:] += dy
    detail[1:, 1:W] += dx
    total = detail.cumsum(axis=0).cumsum(axis=1)
    sums = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    sums = sums[::scale, ::scale]
    y, x = (int(v) * scale for v in np.unravel_index(sums.argmax(), sums.shape))
    return (y, x, y + side, x + side)


def _window(image: Pixels) -> tuple[float, float] | None:
    """Return the values shown as black and white, or None for 8 bits."""
    if image.dtype == np.uint8:
        return None
    low, high = (float(v) for v in np.percentile(image.astype(np.float64), WINDOW_PERCENTILES))
    return (low, high) if high > low else (low, low + 1)


def _shown(image: Pixels, window: tuple[float, float] | None) -> Pixels:
    """Return (H, W, 3) uint8."""
    if window is not None:
        low, high = window
        image = np.clip((image.astype(np.float64) - low) * (255 / (high - low)) + 0.5, 0, 255).astype(np.uint8)
    return image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)


def _fitted(image: Pixels, width: int, height: int) -> Image.Image:
    """Shrink by averaging; enlarge by repeating pixels, so that nothing is smoothed that was not."""
    from PIL import Image

    smaller = width < image.shape[1]
    how = Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
    return Image.fromarray(image).resize((width, height), how)


def _write(pen: Any, at: tuple[int, int], text: str, width: int) -> None:
    """Write a line, in smaller letters if it would be wider than `width`."""
    from PIL import ImageFont

    size = _FONT_SIZE
    while size > 8 and pen.textlength(text, font=ImageFont.load_default(size=size)) > width:
        size -= 1
    pen.text(at, text, fill=(235, 235, 235), font=ImageFont.load_default(size=size))


def _footnote(c: Comparison, window: tuple[float, float] | None) -> str:
    h, w = c.lr.shape[:2]
    parts = [f"{w}x{h} to {w * c.scale}x{h * c.scale}, {c.lr.dtype}"]
    if c.scores:
        luma = "luma" if c.lr.ndim == 3 else "grey"
        parts.append(f"PSNR / SSIM: {luma}, {c.scale} pixels cut at each side, peak {c.peak:g}")
    if window is not None:
        parts.append(f"shown: {window[0]:.4g} to {window[1]:.4g}")
    return ";  ".join(parts)
