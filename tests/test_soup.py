"""docs/soup.md tells the truth: the tests that it names exist, and its list of parts is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs/soup.md").read_text()
NAMED = sorted(set(re.findall(r"`([\w/]+\.(?:py|cpp))::(\w+)`", TEXT)))


@pytest.mark.parametrize(("path", "name"), NAMED, ids=str)
def test_named_tests_exist(path, name):
    define = r"^def" if path.endswith(".py") else r"^(?:void|int|Picture)"
    assert re.search(rf"{define} {name}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_every_requirement_names_a_test():
    requirements = re.findall(r"^\| ([FP]\d+) \| .* \| (.*) \|$", TEXT, re.MULTILINE)
    numbers = [f"F{i}" for i in range(1, 18)] + [f"P{i}" for i in range(1, 5)]
    assert [number for number, _ in requirements] == numbers
    assert all("::" in tests for _, tests in requirements)


def test_every_dependency_is_listed():
    project = (ROOT / "pyproject.toml").read_text()
    (listed,) = re.findall(r"^dependencies = \[(.*)\]$", project, re.MULTILINE)
    names = re.findall(r'"([a-z0-9]+)', listed)
    assert len(names) >= 5
    assert all(name in TEXT.partition("## SBOM")[2] for name in names)
