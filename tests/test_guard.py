"""The guard: one clear warning where an image is not what the model was trained on; strict refuses."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

import fastsr
from fastsr.errors import ModelFileError, TrainedRangeError, TrainedRangeWarning
from fastsr.graph.model import CompiledModel
from fastsr.medical import Guard, Intensity
from fastsr.models import open_model

MR = {"modalities": ["MR", "XR"], "spacing_mm": [0.4, 1.2]}
CT = {"modalities": ["CT"], "range": {"CT": [-1024, 3071]}}


def model(card, name="net"):
    base = open_model("vdsr", 2)
    return CompiledModel(name, base.graphs, base.tensors, card)


def complaints(guard, **about):
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        guard.check("a.nii", **about)
    assert all(w.category is TrainedRangeWarning for w in given)
    return [str(w.message) for w in given]


@pytest.mark.parametrize(
    ("trained_on", "about"),
    [
        (MR, {"modality": "MR", "spacing_mm": (0.4, 1.2)}),
        (MR, {"modality": "DX", "spacing_mm": (0.397, 1.21)}),  # plain X-ray; files round
        (MR, {}),  # nothing is known, nothing is judged
        (MR, {"intensity": Intensity(-1e6, 1e6, "given")}),
        (CT, {"modality": "CT", "intensity": Intensity(-1050, 3100, "given"), "spacing_mm": (9, 9)}),
        (CT, {"intensity": Intensity(-9999, 9999, "given")}),  # of no known modality
        ({"modalities": ["CT"], "range": [-1000, 1000]}, {"intensity": Intensity(-900, 900, "given")}),
    ],
)
def test_what_was_trained_on_passes(trained_on, about):
    assert complaints(Guard(model({"trained_on": trained_on})), **about) == []
    Guard(model({"trained_on": trained_on}), strict=True).check("a.nii", **about)


@pytest.mark.parametrize(
    ("trained_on", "about", "words"),
    [
        (MR, {"modality": "CT"}, ["the modality is CT", "net was trained on MR, XR"]),
        (MR, {"modality": "MR", "spacing_mm": (0.5, 2)}, ["pixels are 0.5 x 2 mm", "trained on 0.4 to 1.2 mm"]),
        (MR, {"spacing_mm": (0.1, 0.5)}, ["pixels are 0.1 x 0.5 mm"]),
        (CT, {"modality": "CT", "intensity": Intensity(-1024, 9000, "given")}, ["-1024 to 9000", "-1024 to 3071"]),
        ({"modalities": ["CT"], "range": [0, 1]}, {"intensity": Intensity(-1, 1, "given")}, ["-1 to 1", "on 0 to 1"]),
        (MR, {"modality": "US", "spacing_mm": (3, 3)}, ["the modality is US", "pixels are 3 x 3 mm"]),
    ],
)
def test_what_was_not_gives_one_warning(trained_on, about, words):
    guard = Guard(model({"trained_on": trained_on}))
    (said,) = complaints(guard, **about)
    assert said.startswith("a.nii: ")
    for word in words:
        assert word in said
    assert complaints(guard, **about) == []  # said once
    with pytest.raises(TrainedRangeError, match="strict") as refused:
        Guard(model({"trained_on": trained_on}), strict=True).check("a.nii", **about)
    assert all(word in str(refused.value) for word in words)


def test_strict_refuses_every_time():
    guard = Guard(model({"trained_on": MR}), strict=True)
    for _ in range(2):
        with pytest.raises(TrainedRangeError):
            guard.check("a.nii", modality="CT")


def test_another_complaint_is_another_warning():
    guard = Guard(model({"trained_on": MR}))
    assert len(complaints(guard, modality="CT")) == 1
    assert complaints(guard, modality="CT", spacing_mm=(3, 3)) == [
        "a.nii: pixels are 3 x 3 mm, and net was trained on 0.4 to 1.2 mm"
    ]


@pytest.mark.parametrize("name", ["fmen", "vdsr", "srresnet"])
def test_models_of_photographs_say_so_once(name):
    guard = Guard(fastsr.load(name).model)
    (said,) = complaints(guard, modality="MR", spacing_mm=(1, 1))
    assert re.fullmatch(rf"a\.nii: {name} was trained on photo(graph)?s( reduced by .*)?, not on medical images", said)
    assert complaints(guard, modality="CT") == []
    with pytest.raises(TrainedRangeError, match="photo"):
        Guard(fastsr.load(name).model, strict=True).check("a.nii")


def test_cards_that_say_little():
    assert "its card does not say" in complaints(Guard(model({})))[0]
    assert "trained on photographs, not" in complaints(Guard(model({"trained_on": {"modalities": ["photo"]}})))[0]
    assert "its card does not say" in complaints(Guard(model({"trained_on": "all sorts"})))[0]
    assert "its card says: heads" in complaints(Guard(model({"trained_for": "heads; not yours"})))[0]


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic"])
def test_interpolation_has_learned_nothing(name):
    Guard(fastsr.load(name).model, strict=True).check("a.nii", modality="CT", spacing_mm=(9, 9))


@pytest.mark.parametrize(
    "trained_on",
    [
        {"modalities": "MR"},
        {"modalities": [1]},
        {"modalities": ["MR"], "spacing_mm": 3},
        {"modalities": ["MR"], "spacing_mm": [2, 1]},
        {"modalities": ["MR"], "spacing_mm": ["a", "b"]},
        {"modalities": ["MR"], "range": [0, np.inf]},
        {"modalities": ["MR"], "range": {"MR": [1]}},
    ],
)
def test_cards_that_cannot_be_understood(trained_on):
    with pytest.raises(ModelFileError, match="the card's"):
        Guard(model({"trained_on": trained_on})).check(
            "a.nii", modality="MR", spacing_mm=(1, 1), intensity=Intensity(0, 1, "given")
        )
