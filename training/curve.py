"""Loss and PSNR over the steps of a run, as a small picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fastsr.io import atomic_output

WIDTH, HEIGHT = 900, 300  # of one panel
LEFT, RIGHT, TOP, BOTTOM = 80, 20, 36, 36  # margins inside it
BACKGROUND, GRID, TEXT, LINE = "white", "#dddddd", "#333333", "#1f6fb4"
Points = list[tuple[float, float]]


def draw_curves(rows: Sequence[dict[str, str]], title: str, path: Path) -> None:
    """Write a PNG with a panel for the loss (logarithmic) and, where it was measured, one for the PSNR."""
    panels = []
    for name, column, logarithmic in (("loss", "loss", True), ("PSNR on validation, dB", "val_db", False)):
        points = [(float(row["step"]), float(row[column])) for row in rows]
        points = [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not logarithmic)]
        if points:
            panels.append((f"{title}: {name}", points, logarithmic))
    picture = Image.new("RGB", (WIDTH, HEIGHT * max(1, len(panels))), BACKGROUND)
    for i, (name, points, logarithmic) in enumerate(panels):
        panel = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
        _draw_panel(ImageDraw.Draw(panel), name, points, logarithmic)
        picture.paste(panel, (0, i * HEIGHT))
    with atomic_output(path, overwrite=True) as file:
        picture.save(file, "PNG")


def _draw_panel(pen: ImageDraw.ImageDraw, name: str, points: Points, logarithmic: bool) -> None:
    font = ImageFont.load_default(size=14)
    ys = [math.log10(y) if logarithmic else y for _, y in points]
    low, high = min(ys), max(ys)
    pad = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    low, high = low - pad, high + pad
    last = max(x for x, _ in points)
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + width * x / last, TOP + height * (high - y) / (high - low)

    pen.text((LEFT, 10), name, fill=TEXT, font=font)
    for i in range(5):
        y = low + (high - low) * i / 4
        x = last * i / 4
        value = 10**y if logarithmic else y
        pen.line([place(0, y), place(last, y)], fill=GRID)
        pen.text((8, place(0, y)[1] - 8), f"{value:.4g}", fill=TEXT, font=font)
        pen.text((place(x, low)[0] - 18, HEIGHT - BOTTOM + 8), f"{x:.0f}", fill=TEXT, font=font)
    at = [place(x, y) for (x, _), y in zip(points, ys, strict=True)]
    if len(at) > 1:
        pen.line(at, fill=LINE, width=2)
    x, y = at[-1]
    pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=LINE)
