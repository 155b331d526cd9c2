"""Solves with the code under test, and notes what every step was given and did."""

import sys
from functools import partial
from typing import Any

import pytest
import torch
from oracle_finetuning import Trace
from torch import Tensor, nn

from rayfs.methods.assoalign.solve import ArcHead
from rayfs.methods.finetuning.loop import Batch, Step, finetune
from rayfs.methods.finetuning.settings import FinetuneSettings
from rayfs.methods.method import Solution, Task, World
from rayfs.methods.registry import create_method
from rayfs.randomness import EpisodeRandomness


def run_and_trace(
    task: Task, world: World, config: FinetuneSettings, randomness: EpisodeRandomness, monkeypatch: pytest.MonkeyPatch
) -> tuple[Trace, Solution, nn.Sequential]:
    """Return the trace, the solution, and the network as it is after the last step, in eval mode."""
    method, trace, last = create_method(config), Trace(), {}
    module = sys.modules[type(method).__module__]

    def noting(take_step: Step, network: nn.Sequential, optimizer: torch.optim.SGD, batch: Batch) -> Tensor:
        losses = take_step(network, optimizer, batch)
        trace.base_rows.append(batch.base_rows.tolist())
        trace.losses.append(losses.tolist())
        last["optimizer"] = optimizer
        return losses

    def noted_finetune(*arguments: Any) -> Solution:
        last["network"] = arguments[4]  # all of it, also where a step sees only what is not frozen
        return finetune(*arguments[:-1], partial(noting, arguments[-1]))

    monkeypatch.setattr(module, "finetune", noted_finetune)
    if hasattr(module, "hallucinated_logits"):
        trace.pseudo_logits = spy_on_pseudo_logits(module, monkeypatch)
    solution = method.solve(task, world, randomness)
    backbone, head = last["network"]
    named = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict(keep_vars=True).items()}
    linear = head if isinstance(head, ArcHead) else head.linear
    named |= {f"head.{name}": tensor for name, tensor in linear.named_parameters()}
    for name, tensor in named.items():
        trace.state[name] = tensor.detach().clone()
        buffer = last["optimizer"].state.get(tensor, {}).get("momentum_buffer")
        if buffer is not None:
            trace.momentum[name] = buffer.clone()
    return trace, solution, last["network"]


def spy_on_pseudo_logits(module: Any, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return a list that every step's pseudo-logits will be added to."""
    seen: list[Tensor] = []
    real = module.hallucinated_logits

    def spy(*arguments: Any) -> Tensor:
        seen.append(real(*arguments).clone())
        return seen[-1]

    monkeypatch.setattr(module, "hallucinated_logits", spy)
    return seen
