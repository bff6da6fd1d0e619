"""The network as files that every engine can read, and the pictures to calibrate on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastsr.errors import OptionError
from fastsr.graph.ir import Conv, Graph, Resize, check
from fastsr.graph.model import CompiledModel
from fastsr.graph.resize import resize_weights
from fastsr.graph.to_onnx import to_onnx

INSTALL = "pip install 'fastsr[bench]'"


@dataclass(frozen=True)
class Network:
    """One network for RGB images in a folder of its own.

    The folder holds model.fsr and pictures.npy (N, h, w, 3) uint8; the ONNX files are made when somebody asks.
    """

    folder: Path
    scale: int

    @classmethod
    def create(cls, folder: Path, model: CompiledModel, scale: int, pictures: npt.NDArray[np.uint8]) -> Network:
        """Fill the folder. pictures: (N, h, w, 3), LR pixels as the network will see them."""
        folder.mkdir()
        model.save(folder / "model.fsr")
        np.save(folder / "pictures.npy", pictures)
        return cls(folder, scale)

    @cached_property
    def model(self) -> CompiledModel:
        return CompiledModel.load(self.folder / "model.fsr")

    @property
    def graph(self) -> Graph:
        return self.model.graph(self.scale, 3)

    def pictures(self) -> list[npt.NDArray[np.float32]]:
        """Return what to calibrate on, each (1, 3, h, w), 0..1."""
        return [planes(picture)[None] for picture in np.load(self.folder / "pictures.npy")]

    def onnx(self) -> Path:
        """Return the fp32 network as an ONNX file, any height and width."""
        path = self.folder / "network.onnx"
        if not path.exists():
            path.write_bytes(to_onnx(self.graph, self.model.tensors).SerializeToString())
        return path

    def portable_onnx(self) -> Path:
        """Return the same, with bicubic interpolation spelled out, for engines whose own has another kernel."""
        path = self.folder / "portable.onnx"
        if not path.exists():
            path.write_bytes(_spell_out(to_onnx(self.graph, self.model.tensors), self).SerializeToString())
        return path

    def qdq_onnx(self) -> Path:
        """Return the int8 network as ONNX with QuantizeLinear and DequantizeLinear: the one given, or made here.

        Made by ONNX Runtime: weights per output channel, activations per tensor, the range seen on the pictures.
        """
        path = self.folder / "qdq.onnx"
        if not path.exists():
            _quantize(self.onnx(), path, self.pictures())
        return path

    def give_qdq(self, path: Path) -> None:
        """Use somebody's QDQ file as the int8 network."""
        shutil.copyfile(path, self.folder / "qdq.onnx")


def planes(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return (H, W, 3) uint8 as (3, H, W) values 0..1."""
    result: npt.NDArray[np.float32] = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / np.float32(255)
    return result


def multiply_adds(network: Network) -> float:
    """Return multiply-adds per LR pixel, counted as direct convolution."""
    tensors = network.model.tensors
    shapes = check(network.graph, tensors)
    convs = [node for node in network.graph.nodes if isinstance(node, Conv)]
    return sum(float(tensors[node.weight].size * shapes[node.name][1] ** 2) for node in convs)


def _spell_out(proto: Any, network: Network) -> Any:
    """Replace each Resize: edge padding, one convolution a phase, depth to space."""
    import onnx

    graph = network.graph
    channels = check(graph, network.model.tensors)
    resizes = {f"v.{node.name}": node for node in graph.nodes if isinstance(node, Resize)}
    nodes = []
    for entry in proto.graph.node:
        node = resizes.get(entry.output[0])
        if node is None:
            nodes.append(entry)
            continue
        C, f = channels[node.name][0], node.factor
        phases = resize_weights(node)
        T = phases.shape[1]
        w = np.einsum("yt,xu->yxtu", phases, phases).reshape(f * f, 1, T, T)
        names = [f"{node.name}:{part}" for part in ("pads", "weight", "padded", "phases")]
        proto.graph.initializer.extend(
            [
                onnx.numpy_helper.from_array(np.array([0, 0, T // 2, T // 2] * 2), names[0]),
                onnx.numpy_helper.from_array(np.tile(w, (C, 1, 1, 1)).astype(np.float32), names[1]),
            ]
        )
        make = onnx.helper.make_node
        nodes += [
            make("Pad", [entry.input[0], names[0]], [names[2]], mode="edge"),
            make("Conv", names[2:0:-1], [names[3]], group=C, kernel_shape=[T, T]),
            make("DepthToSpace", [names[3]], [entry.output[0]], blocksize=f, mode="CRD"),
        ]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _quantize(source: Path, target: Path, pictures: list[npt.NDArray[np.float32]]) -> None:
    try:
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise OptionError(f"quantizing needs the packages onnx and onnxruntime: {INSTALL}") from error
    feeds = iter([{"input": picture} for picture in pictures])

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            return next(feeds, None)

    optimized = target.with_suffix(".fp32.onnx")
    quant_pre_process(source, optimized, skip_symbolic_shape=True)
    quantization.quantize_static(
        optimized,
        target,
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )
    optimized.unlink()
