"""Small random networks, the same for the same seed: what the compiler's tests run on."""

from __future__ import annotations

import numpy as np

from fastsr.graph.builder import GraphBuilder, Tensors
from fastsr.graph.ir import INPUT, Graph


def random_graph(seed: int, channels: int = 3, steps: int = 14) -> tuple[Graph, Tensors]:
    """Return a network of `steps` random nodes and an output of `channels` channels."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(channels)
    values = [INPUT]

    def weights(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape) / max(np.sqrt(np.prod(shape[1:])), 1)

    def conv(x: str, K: int) -> str:
        C, kh, kw = b.channels[x], rng.choice([1, 3, 5]), rng.choice([1, 3])
        groups = C if C == K and rng.random() < 0.3 else 1
        return b.conv(x, weights(K, C // groups, kh, kw), weights(K) if rng.random() < 0.6 else None, groups=groups)

    def partner(x: str) -> str:
        """Return a value of the same shape as x, made if there is none."""
        equal = [v for v in values if b.channels[v] == b.channels[x] and b.scales[v] == b.scales[x] and v != x]
        return str(rng.choice(equal)) if equal and rng.random() < 0.8 else conv(x, b.channels[x])

    for _ in range(steps):
        x = values[-1] if rng.random() < 0.75 else str(rng.choice(values))
        C = b.channels[x]
        kind = rng.choice(["conv", "conv", "conv", "act", "act", "affine", "add", "mul", "join", "cut", "up", "idle"])
        if kind == "conv":
            y = conv(x, int(rng.choice([2, 3, 4, 8, 12])))
        elif kind == "act":
            y = [
                lambda x: b.step(x, "relu"),
                lambda x: b.step(x, "leaky_relu", 0.1),
                lambda x: b.step(x, "sigmoid"),
                lambda x: b.step(x, "tanh"),
                lambda x: b.step(x, "clip", -0.5, 0.7),
                lambda x: b.prelu(x, weights(b.channels[x])),
            ][rng.integers(6)](x)
        elif kind == "affine":
            y = b.affine(x, weights(C) + 1, weights(C))
        elif kind == "add":
            y = b.add(x, partner(x))
        elif kind == "mul":
            y = b.mul(x, partner(x))
        elif kind == "join":
            y = b.concat(x, partner(x))
        elif kind == "cut":
            begin = int(rng.integers(C))
            y = b.slice(x, begin, int(rng.integers(begin, C)) + 1)
        elif kind == "up" and b.scales[x] == 1:
            if C % 4 == 0 and rng.random() < 0.7:
                y = b.pixel_shuffle(x, 2)
            else:
                y = b.resize(x, 2, str(rng.choice(["nearest", "bilinear", "bicubic"])), -0.75)
        else:
            y = [
                b.affine,
                lambda x: b.slice(x, 0, b.channels[x]),
                b.concat,
                lambda x: b.pixel_shuffle(x, 1),
                lambda x: b.step(x, "leaky_relu", 1.0),
            ][rng.integers(5)](x)
        values.append(y)
    return b.finish(conv(values[-1], channels) if b.channels[values[-1]] != channels else values[-1])
