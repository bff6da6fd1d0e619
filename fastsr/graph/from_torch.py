"""FastSR's own networks, from PyTorch modules to graphs. Somebody else's networks come in through ONNX.

A module is known by the name of its class and read by the names of its layers, so nothing of the training code is
imported. A module in training form (with `to_inference()`) is re-parameterized first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastsr.errors import OptionError
from fastsr.graph.builder import GraphBuilder, Tensors
from fastsr.graph.ir import INPUT, Graph

Built = list[tuple[Graph, Tensors]]
VDSR_SCALES = (2, 3, 4)  # one set of weights serves them all
MATLAB_CUBIC_A = -0.5


def from_torch(module: Any) -> tuple[str, Built]:
    """Return (name, graphs with their tensors) of FMEN, VDSR or the SRGAN generator, in either form.

    Raises OptionError for any other module.
    """
    if hasattr(module, "to_inference"):
        module = module.to_inference()
    for kind in type(module).__mro__:
        if kind.__name__ in READERS:
            name, reader = READERS[kind.__name__]
            return name, reader(module)
    raise OptionError(
        f"{type(module).__name__} is no network that FastSR reads from PyTorch ({', '.join(READERS)} are); "
        'torch.onnx.export(module, (image,), "x.onnx"), then compile("x.onnx") takes any other'
    )


def _fmen(net: Any) -> Built:
    b = GraphBuilder(net.head.weight.shape[1])
    slope = float(net.warmup_hfab.act.negative_slope)

    def erb(x: str, block: Any, name: str) -> str:
        x = _conv(b, x, block.conv1, f"{name}.conv1")
        x = b.step(x, "leaky_relu", slope, name=f"{name}.act")
        return _conv(b, x, block.conv2, f"{name}.conv2")

    def hfab(x: str, block: Any, name: str) -> str:
        y = _conv(b, x, block.squeeze, f"{name}.squeeze")
        y = b.step(y, "leaky_relu", slope, name=f"{name}.act")
        for i, inner in enumerate(block.erbs):
            y = erb(y, inner, f"{name}.erbs.{i}")
        y = b.step(y, "leaky_relu", slope, name=f"{name}.act2")
        y = _conv(b, y, block.excite, f"{name}.excite")
        return b.mul(b.step(y, "sigmoid", name=f"{name}.sigmoid"), x, name=f"{name}.mul")

    head = _conv(b, INPUT, net.head, "head")
    y = hfab(_conv(b, head, net.warmup, "warmup"), net.warmup_hfab, "warmup_hfab")
    for i, (wide, attention) in enumerate(zip(net.erbs, net.hfabs, strict=True)):
        y = hfab(erb(y, wide, f"erbs.{i}"), attention, f"hfabs.{i}")
    y = b.add(_conv(b, y, net.body_end, "body_end"), head, name="skip")
    return [b.finish(b.pixel_shuffle(_conv(b, y, net.tail, "tail"), net.scale, name="shuffle"))]


def _vdsr(net: Any) -> Built:
    built = []
    for scale in VDSR_SCALES:
        b = GraphBuilder(net.head.weight.shape[1])
        bicubic = b.resize(INPUT, scale, "bicubic", MATLAB_CUBIC_A, name="bicubic")
        y = b.step(_conv(b, bicubic, net.head, "head"), "relu", name="head.act")
        for i, layer in enumerate(net.body):
            y = b.step(_conv(b, y, layer, f"body.{i}"), "relu", name=f"body.{i}.act")
        built.append(b.finish(b.add(_conv(b, y, net.tail, "tail"), bicubic, name="skip")))
    return built


def _srgan(net: Any) -> Built:
    b = GraphBuilder(net.head.weight.shape[1])
    head = b.prelu(_conv(b, INPUT, net.head, "head"), _array(net.head_act.weight), name="head_act")
    y = head
    for i, block in enumerate(net.blocks):
        name = f"blocks.{i}"
        z = b.prelu(_conv(b, y, block.conv1, f"{name}.conv1"), _array(block.act.weight), name=f"{name}.act")
        y = b.add(_conv(b, z, block.conv2, f"{name}.conv2"), y, name=f"{name}.skip")
    y = b.add(_conv(b, y, net.body_end, "body_end"), head, name="skip")
    for i, up in enumerate(net.ups):
        y = b.pixel_shuffle(_conv(b, y, up.conv, f"ups.{i}.conv"), 2, name=f"ups.{i}.shuffle")
        y = b.prelu(y, _array(up.act.weight), name=f"ups.{i}.act")
    return [b.finish(_conv(b, y, net.tail, "tail"))]


READERS: dict[str, tuple[str, Callable[[Any], Built]]] = {
    "FMENInference": ("fmen", _fmen),
    "VDSRInference": ("vdsr", _vdsr),
    "SRGANGeneratorInference": ("srgan", _srgan),
}


def _conv(b: GraphBuilder, x: str, layer: Any, name: str) -> str:
    bias = None if layer.bias is None else _array(layer.bias)
    return b.conv(x, _array(layer.weight), bias, groups=layer.groups, name=name)


def _array(parameter: Any) -> Any:
    return parameter.detach().float().cpu().numpy()
