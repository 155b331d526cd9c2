"""Layers whose weights somebody else draws: the global generator stays untouched."""

from typing import Any, TypeVar

import torch
from torch import nn

LayerT = TypeVar("LayerT", bound=nn.Module)


def uninitialised(layer_class: type[LayerT], *args: Any, **settings: Any) -> LayerT:
    """Return a layer of parameters (and no buffers) on the CPU, with whatever their memory holds.

    As `torch.nn.utils.skip_init`, which imports SymPy: 0.4 s of a process that trains nothing.
    """
    layer = layer_class(*args, **settings, device="meta")
    for name, parameter in layer.named_parameters(recurse=False):
        setattr(layer, name, nn.Parameter(torch.empty(parameter.shape)))
    return layer
