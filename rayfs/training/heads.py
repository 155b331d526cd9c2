"""Heads of trained networks: the projection of IER, and a head made again from its tensors. M rows, D features."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rayfs.backbones.heads import CosineHead, linear
from rayfs.randomness import torch_generator


def mlp(n_inputs: int, n_outputs: int, generator: torch.Generator) -> nn.Sequential:
    """Return Linear, BN, ReLU, Linear, BN, ReLU, Linear, as wide as the input but for the last."""
    hidden = [
        layer
        for _ in range(2)
        for layer in (linear(n_inputs, n_inputs, generator), nn.BatchNorm1d(n_inputs), nn.ReLU(inplace=True))
    ]
    return nn.Sequential(*hidden, linear(n_inputs, n_outputs, generator))


def head_from_tensors(tensors: Mapping[str, Tensor]) -> nn.Module | None:
    """Return the head whose state dict `tensors` is, with these values; None where it is no head of this project.

    Known are a linear layer (weight, bias), a cosine classifier (weight, scale) and the projection `mlp`.
    """
    generator = torch_generator(0, "head from tensors")
    for weight, make in (("weight", linear), ("weight", _cosine), ("6.weight", mlp)):
        last = tensors.get(weight)
        if last is None or last.ndim != 2:
            continue
        head = make(last.shape[1], last.shape[0], generator)
        expected = head.state_dict()
        if {name: value.shape for name, value in tensors.items()} == {name: v.shape for name, v in expected.items()}:
            head.load_state_dict(dict(tensors))
            return head
    return None


def head_shape(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return (inputs, outputs) of a head that `head_from_tensors` knows."""
    last = tensors["weight"] if "weight" in tensors else tensors["6.weight"]
    return last.shape[1], last.shape[0]


def _cosine(n_inputs: int, n_outputs: int, generator: torch.Generator) -> CosineHead:
    return CosineHead(n_inputs, n_outputs, 1.0, generator=generator)
