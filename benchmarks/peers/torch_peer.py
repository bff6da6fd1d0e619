"""PyTorch on the CPU (oneDNN), in inference mode."""

import torch

from benchmarks.peers import Image, Run, to_image, to_planes
from fastsr.backends.torch_ref import TorchRunner
from fastsr.graph.model import CompiledModel


def make(model: CompiledModel, scale: int, threads: int) -> Run:
    torch.set_num_threads(threads)
    runner = TorchRunner(model.graph(scale, 3), model.tensors, threads)

    def run(image: Image) -> Image:
        return to_image(runner.run(to_planes(image)))

    return run
