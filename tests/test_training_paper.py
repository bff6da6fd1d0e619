"""The paper's experiment runs by one command and writes its page."""

import re
import sys

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from training import paper  # noqa: E402
from training.paper_page import COLUMNS, figure  # noqa: E402
from training.recipe import NETS  # noqa: E402


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A data folder with two photos to train on, and a baby and a butterfly of sorts."""
    rng = np.random.default_rng(6)
    for name in ("train/BSD200/1", "train/BSD200/2", "benchmarks/Set5/baby", "benchmarks/Set5/butterfly"):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (17, 19, 3), np.uint8).repeat(8, 0).repeat(8, 1)).save(path)
    monkeypatch.setenv("FASTSR_DATA", str(tmp_path))
    return tmp_path


def test_one_command_writes_the_page(photos, monkeypatch, capsys):
    out = photos / "paper"
    monkeypatch.setattr(sys, "argv", ["paper", "--smoke", "--out", str(out), "--device", "cpu"])
    paper.main()
    text = (out / "page" / "README.md").read_text()
    for row in (
        "| FMEN | 32 x 32 x 3 | 128 x 128 x 3 |",
        "| VDSR | 41 x 41 x 3 | 41 x 41 x 3 |",
        "| SRGAN | 24 x 24 x 3 | 96 x 96 x 3 |",
        "| VDSR | 667,008 |",
        "| SRGAN | 5,949,644 |",
        "| FMEN | 341,066 |",
    ):
        assert row in text
    for network in ("bicubic", *paper.RUNS):
        assert re.search(rf"^\| {network} \|( \d+\.\d\d / 0\.\d{{4}} \|){{4}}$", text, re.MULTILINE), network
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert pictures[:2] == ["baby.png", "butterfly.png"]
    for name in pictures:
        with Image.open(out / "page" / name) as picture:
            picture.load()
    assert str(photos) not in text
    assert "of" in (said := capsys.readouterr().out)
    assert "srresnet/checkpoint.pt" in said  # SRGAN goes on from its generator
    paper.main()  # everything is there: only the page is made anew
    assert (out / "page" / "README.md").read_text() == text


def test_recipes_are_the_papers():
    recipes = {name: paper.paper_recipe(name, smoke=False) for name in paper.RUNS}
    assert {r.net for r in recipes.values()} == set(NETS)
    assert all(r.scales == (4,) and r.data == {"BSD200": 1.0} for r in recipes.values())
    assert recipes["srgan"].adversarial > 0
    assert sum(paper.RUNS.values()) == pytest.approx(1)


def test_figure_shows_every_panel_and_its_crop():
    panels = [np.full((64, 96, 3), 20 * i, np.uint8) for i in range(len(COLUMNS))]
    panels[2][8:24, 16:32] = 255
    drawn = figure(panels, (16, 8, 16))
    assert drawn[-1].reshape(-1, 3).max() == 255
    assert (drawn[-250:-1, 2 * 264 + 1 : 2 * 264 + 250] == 255).all()
    assert (drawn[-250:-1, 3 * 264 + 1 : 3 * 264 + 250] == 60).all()
    assert figure(panels, (90, 60, 99)).shape[1] == drawn.shape[1]  # a box that reaches out is moved in
