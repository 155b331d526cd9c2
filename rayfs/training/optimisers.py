"""Optimisers as the loop wants them, and what they remember, by the names of the parameters."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rayfs.training.config import TrainingConfig
from rayfs.training.objective import Networks

MOMENTUM = "momentum_buffer"
"""What SGD remembers of a parameter."""


def sgd(networks: Networks, config: TrainingConfig) -> torch.optim.Optimizer:
    """Return SGD with momentum over all parameters, the heads at a rate of their own where `head_lr` says so."""
    assert config.momentum is not None, "an objective of SGD has a momentum"
    return torch.optim.SGD(
        parameter_groups(networks, config), lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay,
        fused=True,
    )  # fmt: skip


def parameter_groups(networks: Networks, config: TrainingConfig) -> list[dict[str, Any]]:
    """Return the optimiser's groups: all parameters, or with `head_lr` the backbone's and those of the heads.

    `lr_factor` is what the learning rate of the schedule is multiplied with.
    """
    if config.head_lr is None:
        return [{"params": list(networks.parameters()), "lr_factor": 1.0}]
    return [
        {"params": list(networks.backbone.parameters()), "lr_factor": 1.0},
        {"params": list(networks.heads.parameters()), "lr_factor": config.head_lr / config.lr},
    ]


def optimiser_state(optimiser: torch.optim.Optimizer, networks: Networks) -> dict[str, Tensor]:
    """Return what `optimiser` remembers: `momentum/PARAMETER` of SGD, `optimiser/KIND/PARAMETER` of others."""
    state = {}
    for name, parameter in networks.named_parameters():
        for kind, value in optimiser.state[parameter].items():
            if isinstance(value, Tensor):
                state[f"momentum/{name}" if kind == MOMENTUM else f"optimiser/{kind}/{name}"] = value
    return state


def load_optimiser_state(optimiser: torch.optim.Optimizer, networks: Networks, state: Mapping[str, Tensor]) -> None:
    """Take back what `optimiser_state` returned."""
    parameters = dict(networks.named_parameters())
    for full_name, value in state.items():
        part, _, rest = full_name.partition("/")
        kind, _, name = (MOMENTUM, "", rest) if part == "momentum" else rest.partition("/")
        optimiser.state[parameters[name]][kind] = _placed(kind, value, parameters[name], optimiser)


def _placed(kind: str, value: Tensor, parameter: Tensor, optimiser: torch.optim.Optimizer) -> Tensor:
    """Return `value` where the optimiser wants it."""
    if kind == "step":  # a count of steps: beside the parameter where the update is one kernel, else on the CPU
        beside = optimiser.defaults.get("fused") or optimiser.defaults.get("capturable")
        return value.to(parameter.device if beside else "cpu")
    # The layout of the parameter: another one would be summed in another order.
    return torch.empty_like(parameter).copy_(value)
