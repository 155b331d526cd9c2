"""The first update against finite differences of the equations: no autograd on this side."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from oracle_arithmetic import naive_cross_entropy, naive_distillation
from torch import Tensor

from rayfs.backbones.conv4 import Conv4
from rayfs.engine.distillation import distillation_loss
from rayfs.methods.finetuning.loop import Batch, make_network, make_optimizer, step
from rayfs.methods.label_halluc import LabelHallucSettings
from rayfs.methods.label_halluc.solve import base_head_logits
from rayfs.randomness import EpisodeRandomness, torch_generator

RANDOMNESS = EpisodeRandomness(seed=5, index=2)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    ("batch_norm", "base_gradient"), [("joint", "both"), ("split", "both"), ("joint", "head"), ("joint", "backbone")]
)
def test_first_update_follows_the_finite_differences_of_the_equations(
    batch_norm, base_gradient, characters, make_world, make_task
):
    """After one step from rest the momentum buffer is the gradient plus weight decay."""
    config = make_config(batch_norm=batch_norm, base_gradient=base_gradient)
    world = make_world(characters, Conv4(1, width=6, generator=torch_generator(0, "weights")))
    draw = torch_generator(1, "inputs")
    base_x, support_x = torch.randn(5, 1, 16, 16, generator=draw), torch.randn(6, 1, 16, 16, generator=draw)
    pseudo_logits = 4 * torch.randn(5, 3, generator=draw)
    task = make_task(characters, [0, 3, 5], n_shot=2, n_query=2)
    network = make_network(task, world, RANDOMNESS, config, None)
    before, optimizer = copy.deepcopy(network).double(), make_optimizer(network, config)

    def base_loss(batch: Batch, features: Tensor, head: Any) -> Tensor:
        return distillation_loss(base_head_logits(features, head, base_gradient), pseudo_logits, config.temperature)

    batch = Batch(support_x=support_x, support_labels=LABELS, base_rows=torch.arange(5), base_x=base_x)
    step(network, optimizer, batch, config, base_loss, config.lambda_kl)

    def objective(lambda_kl: float) -> float:
        inputs = [base_x.double(), support_x.double()]
        with torch.no_grad():
            base, support = before(torch.cat(inputs)).split([5, 6]) if batch_norm == "joint" else map(before, inputs)
        kl = naive_distillation(base, pseudo_logits.double(), config.temperature)
        return float(lambda_kl * kl + config.lambda_ce * naive_cross_entropy(support, LABELS.tolist()))

    for name, parameter in before.named_parameters():
        moved, part = network.get_parameter(name), "head" if name.startswith("1.") else "backbone"
        lambda_kl = config.lambda_kl if base_gradient in (part, "both") else 0.0
        for coordinate in (0, parameter.numel() // 2):
            flat = parameter.data.view(-1)
            slope = central_difference(lambda lambda_kl=lambda_kl: objective(lambda_kl), flat, coordinate)
            expected = slope + 0.02 * flat[coordinate].item()
            buffer = optimizer.state[moved]["momentum_buffer"].reshape(-1)[coordinate].item()
            assert buffer == pytest.approx(expected, rel=2e-3, abs=2e-6), name
            rate = config.head_lr if part == "head" else config.lr
            taken = flat[coordinate].item() - moved.detach().reshape(-1)[coordinate].item()
            assert taken == pytest.approx(rate * expected, rel=5e-3, abs=2e-7), name


def make_config(**changes: Any) -> LabelHallucSettings:
    settings = {"steps": 1, "support_views": 1, "step_views": 1, "base_batch": 5, "first_conv": "trained"}
    return LabelHallucSettings(**{**settings, "weight_decay": 0.02, **changes})


def central_difference(objective: Callable[[], float], flat: Tensor, coordinate: int, width: float = 1e-6) -> float:
    kept = flat[coordinate].item()
    flat[coordinate] = kept + width
    above = objective()
    flat[coordinate] = kept - width
    below = objective()
    flat[coordinate] = kept
    return (above - below) / (2 * width)
