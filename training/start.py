"""Start a run from weights that exist: another run's checkpoint, its inference form, or a shipped `.fsr` file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastsr.errors import ModelFileError, OptionError
from fastsr.graph import CompiledModel
from fastsr.graph.grey import LUMA
from fastsr.graph.ir import Conv
from training.loop import Training, inference_form
from training.nets import adopt, settle_norms, upscale

State = dict[str, Tensor]
SETTLING_BATCHES = 10


def start_from(training: Training, path: Path) -> int:
    """Take weights as far as names and shapes agree; return how many tensors did.

    path: a checkpoint.pt, whose averaged weights are taken in training form; or an inference form (*_inference.pt,
    .fsr), whose convolutions are taken apart into branches that collapse into them again. A network of one channel
    takes RGB weights in their equal grey form. Raises OptionError where nothing fits, ModelFileError.
    """
    state, collapsed = read_weights(path, max(training.recipe.scales))
    if training.recipe.colours == 1 and "head.weight" in state and state["head.weight"].shape[1] == 3:
        state = grey_form(state)
    form = inference_form(training.net) if collapsed else training.net
    own = form.state_dict()
    taken = {k: v for k, v in state.items() if k in own and v.shape == own[k].shape}
    if not taken:
        raise OptionError(f"{path} has no tensor that {training.recipe.net} could start from; its own kind is needed")
    form.load_state_dict({**own, **taken})
    if collapsed:
        adopt(training.net, form)
        settle_norms(training.net, lambda: _show_crops(training))
    training.ema.load_state_dict(training.net.state_dict())
    return len(taken)


def origin(path: Path) -> str:
    """Say where weights come from, for the card of what is made of them: of a .fsr file also its own past."""
    if path.suffix != ".fsr":
        return path.name
    model = CompiledModel.load(path)
    past = [f"{model.card['steps']} steps"] if "steps" in model.card else []
    if "started_from" in model.card:
        past.append(f"from {model.card['started_from']}")
    return f"{path.name}, sha256 {model.sha256[:12]}" + (f" ({' '.join(past)})" if past else "")


def read_weights(path: Path, scale: int) -> tuple[State, bool]:
    """Return the weights by name, and whether they are those of an inference form."""
    if path.suffix == ".fsr":
        return fsr_weights(CompiledModel.load(path), scale), True
    try:
        data: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        state: State = data["ema"] if "ema" in data else data["state_dict"]
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except (RuntimeError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise ModelFileError(f"{path} is no checkpoint.pt, *_inference.pt or .fsr file: {error!r:.200}") from error
    return state, "ema" not in data


def fsr_weights(model: CompiledModel, scale: int) -> State:
    """Return what a compiled model of ours holds under the names of its inference form; the RGB weights if it has any.

    Where the model has several scales, `scale` is preferred. PReLUs have become steps of convolutions.
    """
    graph = max(model.graphs, key=lambda g: (g.channels, g.scale == scale))
    state: State = {}
    for node in graph.nodes:
        if not isinstance(node, Conv):
            continue
        state[f"{node.name}.weight"] = torch.tensor(model.tensors[node.weight])
        if node.bias is not None:
            state[f"{node.name}.bias"] = torch.tensor(model.tensors[node.bias])
        for step in node.steps:
            if step.op == "leaky_relu":
                act = "head_act" if node.name == "head" else node.name.removesuffix("1").removesuffix("conv") + "act"
                state[f"{act}.weight"] = torch.tensor(step.params)
    if "head.weight" not in state:
        raise ModelFileError(f"{model.name} is no network that is trained here: it has no layer 'head'")
    return state


def grey_form(state: State) -> State:
    """Return RGB weights with `head` and `tail` as luma(net(g, g, g)) has them: see fastsr.graph.grey."""
    grey = dict(state)
    grey["head.weight"] = state["head.weight"].sum(1, keepdim=True)
    for name in ("tail.weight", "tail.bias"):
        mixed = state[name].reshape(3, -1, *state[name].shape[1:])
        grey[name] = torch.einsum("c,cp...->p...", torch.tensor(LUMA), mixed)
    return grey


def _show_crops(training: Training) -> None:
    crops = training.crops.again(seed=0)
    for _ in range(SETTLING_BATCHES):
        x, _, scale = crops.next()
        upscale(training.net, x, scale, training.recipe.margin)
