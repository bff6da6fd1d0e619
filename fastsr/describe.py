"""What a file or a model is, as lines of (key, value)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastsr.errors import OptionError
from fastsr.io import open_image
from fastsr.medical import medical_format_of
from fastsr.models import models, open_model


def describe(what: str) -> list[tuple[str, str]]:
    """Say what an image, a medical file, a .fsr file or a model by its name is.

    Raises OptionError for what is neither, ImageFileError, ModelFileError.
    """
    path = Path(what)
    if path.suffix == ".fsr":
        return _model_lines(what)
    if path.exists() or path.suffix:
        return _image_lines(path)
    names = sorted(model.name for model in models())
    if what not in names:
        raise OptionError(f"{what!r} is neither a file nor a model; models are {', '.join(names)}")
    return _model_lines(what)


def _image_lines(path: Path) -> list[tuple[str, str]]:
    if (medical := medical_format_of(path)) is not None:
        return medical.describe(path)
    with open_image(path) as reader:
        page = reader.pages[0]
        about = page.info
        H, W, C = page.shape
        kind = {1: "grey", 2: "grey + alpha", 3: "RGB", 4: "RGB + alpha"}[C]
        lines = [
            ("file", str(path)),
            ("format", about.format + (f", {about.stored}" if about.stored else "")),
            ("size", f"{W} x {H}"),
            ("pixels", f"{page.dtype} {kind}"),
        ]
        if about.pages > 1:
            sizes = {p.shape[:2] for p in reader.pages}
            lines.append(("pages", str(about.pages) + ("" if len(sizes) == 1 else ", of different sizes")))
        if about.dpi:
            lines.append(("resolution", f"{about.dpi[0]:g} x {about.dpi[1]:g} dpi"))
        lines.append(("ICC profile", f"{len(about.icc)} bytes" if about.icc else "none"))
        lines.append(("EXIF", f"{len(about.exif)} bytes, orientation {about.orientation}" if about.exif else "none"))
    return lines


def _model_lines(what: str) -> list[tuple[str, str]]:
    first = open_model(what)
    scales = first.scales
    lines = [("model", first.name)]
    for entry in models():
        if entry.name == what:
            scales = entry.scales
            lines.append(("about", entry.description))
    files: dict[str, tuple[int, Any]] = {}
    for scale in scales:
        model = open_model(what, scale)
        files.setdefault(model.sha256, (scale, model))
        for graph in model.graphs:
            if graph.scale == scale:
                kind = {1: "grey", 3: "RGB"}.get(graph.channels, f"{graph.channels} channels")
                lines.append((f"x{scale} {kind}", f"{model.parameters(scale, graph.channels):,} parameters"))
    lines.append(("sha256", ", ".join(files)))
    return lines + _card_lines([(f"x{scale} ", model.card) for scale, model in files.values()], first.name)


def _card_lines(cards: list[tuple[str, Mapping[str, Any]]], name: str) -> list[tuple[str, str]]:
    """Tell cards, what they share only once; the name before a card says which file's a line is."""
    lines = []
    for key in dict.fromkeys(key for _, card in cards for key in card):
        values = [(who, card.get(key)) for who, card in cards]
        if all(value == values[0][1] for _, value in values):
            values = [("", values[0][1])]
        lines += [(who + key, _plain(value)) for who, value in values if value not in (None, "", name)]
    return lines


def _plain(value: Any) -> str:
    """Say a card's value without JSON's brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plain, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
