"""A `.fsr` file is a safetensors file, the same bytes each time, and no damage to it goes unseen."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest
from random_graphs import random_graph

from fastsr.errors import (
    GraphError,
    ModelFileError,
    ModelIntegrityError,
    ModelVersionError,
    OptionError,
    OutputError,
)
from fastsr.graph import CompiledModel, container
from fastsr.graph.builder import GraphBuilder
from fastsr.graph.compiler import assemble, compile_model
from fastsr.graph.ir import INPUT

CARD = {"data": "random", "ranges": {"modality": ["CT", "MR"], "größe": [1, 2.5]}, "note": 'a "quoted" \\ text'}


@pytest.fixture(scope="module")
def model():
    b = GraphBuilder(3)
    y = b.step(b.conv(INPUT, np.linspace(-1, 1, 4 * 27).reshape(4, 3, 3, 3), [1, 2, 3, 4]), "leaky_relu", 0.1)
    y = b.pixel_shuffle(b.conv(y, np.linspace(-1, 1, 12 * 36).reshape(12, 4, 3, 3)), 2)
    return assemble("tiny", [b.finish(b.add(y, b.resize(INPUT, 2, "bicubic")))], CARD)


def sealed(header, data):
    """Return a file of any header with a right hash, as a liar would write it."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text = re.sub(rb'("fastsr.sha256":)"[^"]*"', rb'\1"' + b"0" * 64 + b'"', text)
    blob = len(text).to_bytes(8, "little") + text + data
    place = blob.find(b'"fastsr.sha256":"') + 17
    return blob[:place] + hashlib.sha256(blob).hexdigest().encode() + blob[place + 64 :]


def opened(data):
    """Return (header, data) of a file's bytes."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def edited(model, edit):
    header, data = opened(model.to_bytes())
    return sealed(header, edit(header, data) or data)


def test_round_trip(model, tmp_path):
    path = tmp_path / "tiny.fsr"
    model.save(path)
    again = CompiledModel.load(path)
    assert (again.name, again.graphs, again.card) == (model.name, model.graphs, CARD)
    assert again.tensors.keys() == model.tensors.keys()
    assert all(np.array_equal(again.tensors[name], model.tensors[name]) for name in model.tensors)
    assert again.to_bytes() == model.to_bytes() == path.read_bytes()
    assert os.listdir(tmp_path) == ["tiny.fsr"]


@pytest.mark.parametrize("seed", range(20))
def test_random_models_round_trip(seed):
    model = assemble("random", [random_graph(seed)])
    again = CompiledModel.from_bytes(model.to_bytes())
    assert again.graphs == model.graphs
    assert again.to_bytes() == model.to_bytes()


def test_safetensors_reads_it(model, tmp_path):
    safetensors = pytest.importorskip("safetensors", reason="needs safetensors")
    numpy_face = pytest.importorskip("safetensors.numpy", reason="needs safetensors")
    path = tmp_path / "tiny.fsr"
    model.save(path)
    tensors = numpy_face.load_file(path)
    assert tensors.keys() == model.tensors.keys()
    assert all(np.array_equal(tensors[name], model.tensors[name]) for name in tensors)
    with safetensors.safe_open(path, "numpy") as file:
        assert set(file.metadata()) == {"fastsr.format", "fastsr.sha256", "fastsr.model", "fastsr.card"}


def test_layout(model):
    data = model.to_bytes()
    header, tensors = opened(data)
    assert (len(data) - len(tensors)) % 64 == 0
    assert data.isascii() or data[: len(data) - len(tensors)].isascii()
    names = [name for name in header if name != "__metadata__"]
    assert names == sorted(names)
    zeroed = data.replace(header["__metadata__"]["fastsr.sha256"].encode(), b"0" * 64)
    assert hashlib.sha256(zeroed).hexdigest() == header["__metadata__"]["fastsr.sha256"] == model.sha256


def test_order_of_tensors_does_not_matter(model):
    shuffled = CompiledModel(model.name, model.graphs, dict(reversed(list(model.tensors.items()))), model.card)
    assert shuffled.to_bytes() == model.to_bytes()


def test_compile_of_a_file_loads_it(model, tmp_path):
    model.save(tmp_path / "tiny.fsr")
    assert compile_model(tmp_path / "tiny.fsr").to_bytes() == model.to_bytes()
    renamed = compile_model(str(tmp_path / "tiny.fsr"), name="other", card={})
    assert (renamed.name, renamed.card, renamed.graphs) == ("other", {}, model.graphs)


def test_questions(model):
    assert model.scales == (2,)
    assert model.graph(2, 1).channels == 1
    assert model.parameters(2, 3) == 4 * 27 + 4 + 12 * 36
    assert model.parameters(2, 1) == 4 * 9 + 4 + 4 * 36
    with pytest.raises(OptionError, match=r"scale 4 and 3 channels; it has x2 for 3 channels, x2 for 1 channels"):
        model.graph(4, 3)


def test_every_truncation_is_found(model):
    data = model.to_bytes()
    lengths = {*range(80), *range(len(data) - 80, len(data)), *range(0, len(data), 37)}
    for length in lengths:
        with pytest.raises(ModelFileError):
            CompiledModel.from_bytes(data[:length])
    with pytest.raises(ModelIntegrityError, match="truncated"):
        CompiledModel.from_bytes(data[:-1])


@pytest.mark.parametrize("extra", [b"\0", b" ", b"x" * 64])
def test_appended_bytes_are_found(model, extra):
    with pytest.raises(ModelIntegrityError, match="truncated or damaged"):
        CompiledModel.from_bytes(model.to_bytes() + extra)


def test_every_flipped_bit_is_found(model):
    data = model.to_bytes()
    rng = np.random.default_rng(5)
    places = rng.integers(len(data), size=300).tolist() + list(range(40))
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(ModelFileError):
            CompiledModel.from_bytes(bytes(damaged))
    weights = bytearray(data)
    weights[-2] ^= 1
    with pytest.raises(ModelIntegrityError, match="SHA-256"):
        CompiledModel.from_bytes(bytes(weights))


def test_every_byte_of_the_header_counts(model):
    data = model.to_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    for place in range(8, end):
        for byte in (b" ", b"0", b"a", b'"'):
            if data[place : place + 1] != byte:
                with pytest.raises(ModelFileError):
                    CompiledModel.from_bytes(data[:place] + byte + data[place + 1 :])


@pytest.mark.parametrize("data", [b"", b"{}", b"\x93NUMPY" * 30, b"PK\x03\x04" * 40, bytes(200), b"\xff" * 200])
def test_other_files_are_no_models(data):
    with pytest.raises(ModelFileError, match=r"no \.fsr file"):
        CompiledModel.from_bytes(data)


@pytest.mark.parametrize("length", [container.MAX_HEADER + 1, 2**40, 2**64 - 1])
def test_huge_header_length(length):
    with pytest.raises(ModelFileError, match=f"{container.MAX_HEADER} are possible"):
        CompiledModel.from_bytes(length.to_bytes(8, "little") + b"{" + b" " * 100)


def test_plain_safetensors_file_is_no_model():
    text = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    with pytest.raises(ModelFileError, match=r"no \.fsr file"):
        CompiledModel.from_bytes(len(text).to_bytes(8, "little") + text + bytes(4))


@pytest.mark.parametrize("version", ["2", "10", "999999999999"])
def test_newer_format_says_which_is_read(model, version):
    data = edited(model, lambda h, d: h["__metadata__"].update({"fastsr.format": version}))
    with pytest.raises(ModelVersionError, match="reads format 1"):
        CompiledModel.from_bytes(data)


@pytest.mark.parametrize("version", ["", "0", "01", "-1", "one", "1.0", 1, None])
def test_format_that_never_was(model, version):
    data = edited(model, lambda h, d: h["__metadata__"].update({"fastsr.format": version}))
    with pytest.raises(ModelFileError, match="reads format 1"):
        CompiledModel.from_bytes(data)


def first(header):
    return next(entry for name, entry in header.items() if name != "__metadata__")


@pytest.mark.parametrize(
    "edit",
    [
        lambda h, d: first(h).update(dtype="F16"),
        lambda h, d: first(h).update(shape=[1]),
        lambda h, d: first(h).update(shape=[-4]),
        lambda h, d: first(h).update(shape=[True]),
        lambda h, d: first(h).update(shape="4"),
        lambda h, d: first(h).update(shape=[2**31, 2**31]),
        lambda h, d: first(h).update(shape=[1] * 40),
        lambda h, d: first(h).update(data_offsets=[4, 20]),
        lambda h, d: first(h).update(data_offsets=[16, 0]),
        lambda h, d: first(h).update(data_offsets=[0.0, 16.0]),
        lambda h, d: first(h).update(data_offsets=[0]),
        lambda h, d: first(h).update(more=1),
        lambda h, d: h.update(w=first(h)),  # two tensors in the same bytes
        lambda h, d: h.update(w={"dtype": "F32", "shape": [1], "data_offsets": [len(d) + 4, len(d) + 8]}),  # a hole
        lambda h, d: h.update(w=[]),
        lambda h, d: h.pop(next(name for name in h if name != "__metadata__")) and None,
        lambda h, d: h["__metadata__"].pop("fastsr.card") and None,
        lambda h, d: h["__metadata__"].update(other="x"),
        lambda h, d: h["__metadata__"].update({"fastsr.card": 3}),
        lambda h, d: h["__metadata__"].update({"fastsr.card": "3"}),
        lambda h, d: h["__metadata__"].update({"fastsr.card": "{"}),
        lambda h, d: h["__metadata__"].update({"fastsr.card": '{"a":1,"a":2}'}),
        lambda h, d: h["__metadata__"].update({"fastsr.card": '{"a":NaN}'}),
        lambda h, d: h["__metadata__"].update({"fastsr.model": "[]"}),
        lambda h, d: h["__metadata__"].update({"fastsr.model": '{"name":"x","graphs":[]}'}),
        lambda h, d: h["__metadata__"].update({"fastsr.model": '{"name":"x","graphs":[3]}'}),
        lambda h, d: h["__metadata__"].update({"fastsr.model": '{"name":1,"graphs":[]}'}),
        lambda h, d: h["__metadata__"].update({"fastsr.model": "[" * 100_000}),
        lambda h, d: h["__metadata__"].update(
            {"fastsr.model": h["__metadata__"]["fastsr.model"].replace('"scale":2', '"scale":3')}
        ),
        lambda h, d: np.full(len(d) // 4, np.nan, np.float32).tobytes(),
        lambda h, d: np.full(len(d) // 4, -np.inf, np.float32).tobytes(),
        lambda h, d: d[:-4],
        lambda h, d: d + bytes(4),
    ],
)
def test_lies_with_a_right_hash_are_refused(model, edit):
    with pytest.raises(ModelFileError) as error:
        CompiledModel.from_bytes(edited(model, edit), where="liar.fsr")
    assert "liar.fsr" in str(error.value)


def test_duplicate_keys_are_refused(model):
    data = model.to_bytes()
    header, tensors = opened(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    with pytest.raises(ModelFileError, match="twice"):
        CompiledModel.from_bytes(sealed(text[:-1] + b',"__metadata__":{}}', tensors))


def test_hash_hidden_in_the_card_is_not_taken_for_the_hash(model):
    tricky = CompiledModel(model.name, model.graphs, model.tensors, {"fastsr.sha256": "0" * 64})
    assert CompiledModel.from_bytes(tricky.to_bytes()).card == tricky.card


def test_missing_file_and_folder(tmp_path, model):
    with pytest.raises(ModelFileError, match="cannot be read"):
        CompiledModel.load(tmp_path / "none.fsr")
    with pytest.raises(ModelFileError, match="cannot be read"):
        CompiledModel.load(tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        model.save(tmp_path / "none" / "x.fsr")


def test_failed_save_leaves_the_old_file(tmp_path, model, monkeypatch):
    path = tmp_path / "tiny.fsr"
    path.write_bytes(b"old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="No space left"):
        model.save(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["tiny.fsr"]


def test_models_that_contradict_themselves(model):
    with pytest.raises(GraphError, match="at least one graph"):
        CompiledModel("x", (), model.tensors)
    with pytest.raises(GraphError, match="same scale and channels"):
        CompiledModel("x", model.graphs[:1] * 2, model.tensors)
    with pytest.raises(GraphError, match="does not exist"):
        CompiledModel("x", model.graphs, {})
    name = next(iter(model.tensors))
    for bad in (model.tensors[name].astype(np.float64), np.full_like(model.tensors[name], np.nan)):
        with pytest.raises(GraphError, match="finite float32"):
            CompiledModel("x", model.graphs, {**model.tensors, name: bad})
    with pytest.raises(OptionError, match="plain JSON"):
        replace(model, card={"when": object()}).to_bytes()
    with pytest.raises(OptionError, match="plain JSON"):
        replace(model, card={"loss": float("nan")}).to_bytes()
