"""The native engine on networks that are not ours: random graphs, and networks exported by others."""

from __future__ import annotations

import numpy as np
import pytest
from random_graphs import random_graph

from fastsr import _native
from fastsr.graph import reference
from fastsr.graph.compiler import assemble
from fastsr.upscaler import Upscaler

UNIT = (1.0, 0.0, 1.0, 0.0, 0.0, 0.0)
LEVELS = [n for n, level in _native.isa_levels().items() if level["usable"] and "_" not in n]


def run(network, x, box=None, **options):
    h, w = x.shape[:2]
    box = box or (0, 0, w, h)
    shape = (box[3] - box[1]) * network.scale, (box[2] - box[0]) * network.scale, network.out_channels
    out = np.full(shape, 77, np.float32)
    network.run(x, out, h, w, (0, 0), box, UNIT, _native.Options(**options))
    return out


@pytest.mark.parametrize("seed", range(80))
def test_random_graphs(seed):
    graph, tensors = random_graph(seed, channels=1 + seed % 4, steps=8 + seed % 13)
    model = assemble("random", [(graph, {k: np.asarray(v, np.float32) for k, v in tensors.items()})])
    native = _native.Model(model.to_bytes())
    rng = np.random.default_rng([seed, 1])
    compiled = model.graph(graph.scale, graph.channels)
    for h, w in [(1, 1), (1, 23), (7, 13), (19, 50)]:
        x = rng.standard_normal((h, w, graph.channels), dtype=np.float32)
        wanted = reference.run(compiled, model.tensors, x.transpose(2, 0, 1)).transpose(1, 2, 0)
        whole = run(native.network(graph.scale, graph.channels, LEVELS[-1]), x)
        assert np.abs(whole - wanted).max() <= 2e-5 * (1 + np.abs(wanted).max())
        for level in LEVELS:
            network = native.network(graph.scale, graph.channels, level)
            for threads, strip in [(1, 1), (2, 3)]:
                assert run(network, x, threads=threads, strip=strip).tobytes() == whole.tobytes()
            left, top = int(rng.integers(w)), int(rng.integers(h))
            right, bottom = int(rng.integers(left, w)) + 1, int(rng.integers(top, h)) + 1
            s = graph.scale
            crop = whole[s * top : s * bottom, s * left : s * right]
            assert run(network, x, (left, top, right, bottom), strip=2).tobytes() == crop.tobytes()


@pytest.mark.parametrize("name", ["espcn", "fsrcnn", "edsr", "imdn", "srvgg"])
def test_foreign_networks(name, tmp_path, random_image):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("onnx", reason="onnx is not installed")
    import foreign_nets

    import fastsr

    torch.manual_seed(0)
    net = foreign_nets.foreign(name).eval()
    path = tmp_path / "net.onnx"
    channels = next(m for m in net.modules() if isinstance(m, torch.nn.Conv2d)).in_channels
    torch.onnx.export(
        net,
        (torch.rand(1, channels, 16, 17),),
        path,
        dynamo=False,
        opset_version=17,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {2: "h", 3: "w"}, "y": {2: "H", 3: "W"}},
    )
    model = fastsr.compile(path)
    scale = model.scales[0]
    model.save(tmp_path / "net.fsr")
    for h, w in [(1, 1), (7, 13), (31, 29)]:
        x = random_image(h, w, channels, "float32")
        with torch.inference_mode():
            wanted = net(torch.from_numpy(x.transpose(2, 0, 1).copy())[None])[0].numpy().transpose(1, 2, 0)
        for backend in ("native", "torch", "onnx"):
            got = Upscaler(model, scale, backend=backend).upscale(x)
            assert np.abs(got - wanted).max() <= 1e-4, backend
        assert np.array_equal(fastsr.upscale(x, tmp_path / "net.fsr", scale=scale), Upscaler(model, scale).upscale(x))
