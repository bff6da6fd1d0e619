"""What a run tells while it goes: a line, a row of log.csv, and a picture of both curves."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fastsr.errors import OutputError, TrainingError
from fastsr.io import atomic_output
from training.curve import draw_curves
from training.recipe import Recipe

LEAST_STEPS, LEAST_SECONDS = 50, 5.0  # between two lines
COLUMNS = ("step", "progress", "seconds", "loss", "lr", "val_db", "images_per_second")


class Log:
    """The losses since the last line, and the lines so far, in out/log.csv and out/curve.png.

    step: where the run stands; rows beyond it were written by a process that was stopped before it saved them.
    """

    def __init__(self, out: Path, recipe: Recipe, step: int, say: Callable[[str], None]) -> None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{out} cannot be made: {error.strerror}") from error
        self.out, self.recipe, self.say = out, recipe, say
        self.rows = [row for row in read_log(out / "log.csv") if int(row["step"]) <= step]
        self.pending: list[Tensor] = []
        self.db = float(self.rows[-1]["val_db"]) if self.rows else math.nan
        self._since = time.monotonic()

    def add(self, loss: Tensor) -> None:
        self.pending.append(loss)

    def due(self) -> bool:
        return len(self.pending) >= LEAST_STEPS and time.monotonic() - self._since > LEAST_SECONDS

    def check(self) -> None:
        """Raise TrainingError if one of the losses since the last line is no number."""
        losses = torch.stack(self.pending).tolist()
        wrong = [i for i, loss in enumerate(losses) if not math.isfinite(loss)]
        if wrong:
            raise TrainingError(
                f"the loss became {losses[wrong[0]]} {len(losses) - wrong[0]} steps ago, so the run stopped; "
                f"{self.out / 'checkpoint.pt'} is the last good one. A smaller lr (now {self.recipe.lr:g}), "
                f"clip or bf16 share (now {self.recipe.bf16:g}) would help"
            )

    def report(self, step: int, progress: float, seconds: float, lr: float) -> None:
        """Say one line, write it down, and draw the curves."""
        now = time.monotonic()
        rate = len(self.pending) * self.recipe.batch / max(now - self._since, 1e-9)
        loss = float(torch.stack(self.pending).mean())
        self.pending, self._since = [], now
        db = "val -" if math.isnan(self.db) else f"val {self.db:.2f} dB"
        left = seconds * (1 - progress) / max(progress, 1e-9)
        self.say(
            f"{self.recipe.name} step {step} ({progress:6.1%})  loss {loss:.5f}  lr {lr:.2e}  {db}  "
            f"{rate:.1f} images/s  {duration(left)} left"
        )
        values = (
            step,
            f"{progress:.5f}",
            f"{seconds:.1f}",
            f"{loss:.6f}",
            f"{lr:.3e}",
            f"{self.db:.3f}",
            f"{rate:.2f}",
        )
        self.rows.append(dict(zip(COLUMNS, map(str, values), strict=True)))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(self.rows)
        with atomic_output(self.out / "log.csv", overwrite=True) as file:
            file.write(text.getvalue().encode())
        draw_curves(self.rows, self.recipe.name, self.out / "curve.png")


def read_log(path: Path) -> list[dict[str, str]]:
    """Read the rows of a log.csv; none if there is no such file, or it is of another kind."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    return rows if tuple(reader.fieldnames or ()) == COLUMNS else []


def duration(seconds: float) -> str:
    """Say a time to go: 45 s, 12 min, 3 h 05 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02} min"
