"""Label Hallucination against a slow second implementation, written from the equations in float64."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from label_halluc_oracle import Trace, naive_cross_entropy, naive_distillation, oracle
from torch import Tensor, nn

import rayfs.methods.label_halluc
from rayfs.backbones import regularisation
from rayfs.backbones.conv4 import Conv4
from rayfs.backbones.resnet12 import ResNet12
from rayfs.methods.label_halluc import LabelHallucination, make_network, make_optimizer, step
from rayfs.methods.method import Solution, Task, World
from rayfs.methods.recipes import LabelHallucConfig
from rayfs.randomness import EpisodeRandomness, torch_generator

RANDOMNESS = EpisodeRandomness(seed=5, index=2)
FIRST_CONVOLUTION = {"conv4": "layer1.0.", "resnet12": "layer1.0.conv1."}
# Raw features have small learning rates: larger steps soon put some unit on the other side of a kink in float32.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "released": ("conv4", {}),
    "released, resnet12": ("resnet12", {}),
    "split batch norm": ("conv4", {"batch_norm": "split"}),
    "split batch norm, resnet12": ("resnet12", {"batch_norm": "split", "dropout": "off"}),
    "augmented pseudo-labels": ("conv4", {"pseudo_label_view": "augmented"}),
    "head from the teacher": ("conv4", {"head_init": "logistic-regression"}),
    "first convolution trained": ("conv4", {"first_conv": "trained"}),
    "first convolution trained, resnet12": ("resnet12", {"first_conv": "trained", "pseudo_label_view": "augmented"}),
    "raw features": ("conv4", {"normalize": "off", "lr": 0.005, "head_lr": 0.01}),
    "no dropout": ("resnet12", {"dropout": "off", "head_init": "logistic-regression"}),
    "other weights": ("conv4", {"lambda_kl": 3.0, "lambda_ce": 0.25, "temperature": 1.5, "c": 10.0}),
    "other optimiser": ("conv4", {"momentum": 0.0, "weight_decay": 0.1, "lr": 0.01, "head_lr": 0.2}),
    "distillation alone": ("conv4", {"lambda_ce": 0.0}),
    "everything else": (
        "resnet12",
        {
            "batch_norm": "split", "pseudo_label_view": "augmented", "head_init": "logistic-regression",
            "first_conv": "trained", "normalize": "off", "lr": 0.001, "head_lr": 0.002,
        },
    ),
}  # fmt: skip


def make_config(**changes: Any) -> LabelHallucConfig:
    return LabelHallucConfig(**{"steps": 5, "support_views": 3, "step_views": 2, "base_batch": 7, **changes})


@pytest.fixture(scope="module")
def worlds(characters, make_world) -> dict[str, World]:
    """Return worlds of 160 base images; 5 steps of 7 stay in one pass; dropout is strong enough to matter."""
    backbones = {
        "conv4": Conv4(1, width=6, generator=torch_generator(0, "weights")),
        "resnet12": ResNet12(1, (4, 5, 6, 8), drop_rate=0.4, dropblock_size=2, generator=torch_generator(0, "weights")),
    }
    return {name: make_world(characters, backbone) for name, backbone in backbones.items()}


@pytest.fixture(scope="module")
def task(characters, make_task) -> Task:
    return make_task(characters, [0, 3, 5], n_shot=2, n_query=2)


@pytest.fixture(autouse=True)
def short_dropblock_ramp(monkeypatch):
    """Let DropBlock reach its full rate in 4 forwards instead of 40,000: so short a run would never drop anything."""
    monkeypatch.setattr(regularisation, "RAMP_FORWARDS", 4)


@pytest.mark.parametrize("case", CASES)
def test_finetuning_equals_the_oracle(case, worlds, task, monkeypatch):
    backbone, changes = CASES[case]
    world, config = worlds[backbone], make_config(**changes)
    found, solution = run_and_trace(task, world, config, monkeypatch)
    expected, logits = oracle(task, world, config, RANDOMNESS, FIRST_CONVOLUTION[backbone])
    for given, wanted in zip(found.pseudo_logits, expected.pseudo_logits, strict=True):
        assert_close(given, wanted, atol=1e-4)
    np.testing.assert_allclose(found.losses, expected.losses, rtol=2e-4, atol=1e-6)
    assert found.state.keys() == expected.state.keys()
    for name, wanted in expected.state.items():
        assert_close(found.state[name], wanted, what=name)
    buffers = expected.momentum if config.momentum else {}
    assert found.momentum.keys() == buffers.keys()
    for name, wanted in buffers.items():
        assert_close(found.momentum[name], wanted, what=name)
    assert_close(solution.logits, logits)
    assert [solution.loss_base, solution.loss_support] == found.losses[-1]
    assert solution.steps == 5 == len(found.losses)


@pytest.mark.parametrize("backbone", ["conv4", "resnet12"])
def test_frozen_first_convolution_keeps_its_bits_and_everything_else_moves(backbone, worlds, task, monkeypatch):
    world = worlds[backbone]
    found, _ = run_and_trace(task, world, make_config(), monkeypatch)
    unmoved = {
        name
        for name, parameter in world.backbone.named_parameters()
        if torch.equal(parameter, found.state[f"backbone.{name}"])
    }
    first = {name for name, _ in world.backbone.named_parameters() if name.startswith(FIRST_CONVOLUTION[backbone])}
    assert unmoved == first and first
    n_tensors = len(list(world.backbone.parameters())) + 2
    assert len(found.momentum) == n_tensors - len(first)
    if backbone == "resnet12":
        assert (len(found.momentum), n_tensors) == (49, 50)  # as in the released code


def test_passes_over_a_small_base_set_equal_the_oracle(characters, make_task, make_world, task, monkeypatch):
    """160 base images in batches of 70: the third step starts the second pass."""
    world = make_world(characters, Conv4(1, width=4, generator=torch_generator(0, "weights")))
    config = make_config(base_batch=70, steps=3)
    found, solution = run_and_trace(task, world, config, monkeypatch)
    expected, logits = oracle(task, world, config, RANDOMNESS, FIRST_CONVOLUTION["conv4"])
    np.testing.assert_allclose(found.losses, expected.losses, rtol=2e-4)
    assert_close(solution.logits, logits)


@pytest.mark.parametrize("batch_norm", ["joint", "split"])
def test_first_update_follows_the_finite_differences_of_the_equations(batch_norm, worlds, task):
    """After one step from rest the momentum buffer is the gradient plus weight decay; no autograd on this side."""
    world, config = worlds["conv4"], make_config(batch_norm=batch_norm, first_conv="trained", weight_decay=0.02)
    draw = torch_generator(1, "inputs")
    base_x, support_x = torch.randn(5, 1, 16, 16, generator=draw), torch.randn(6, 1, 16, 16, generator=draw)
    pseudo_logits, labels = 4 * torch.randn(5, 3, generator=draw), torch.tensor([0, 1, 2, 0, 1, 2])
    network = make_network(task, world, RANDOMNESS, config, (torch.empty(0), torch.empty(0)))
    before = copy.deepcopy(network).double()
    optimizer = make_optimizer(network, config)
    step(network, optimizer, base_x, pseudo_logits, support_x, labels, config)

    def objective() -> float:
        inputs = [base_x.double(), support_x.double()]
        with torch.no_grad():
            base, support = before(torch.cat(inputs)).split([5, 6]) if batch_norm == "joint" else map(before, inputs)
        kl = naive_distillation(base, pseudo_logits.double(), config.temperature)
        return float(config.lambda_kl * kl + config.lambda_ce * naive_cross_entropy(support, labels))

    for name, parameter in before.named_parameters():
        moved = network.get_parameter(name)
        for coordinate in (0, parameter.numel() // 2):
            flat = parameter.data.view(-1)
            slope = central_difference(objective, flat, coordinate)
            expected = slope + 0.02 * flat[coordinate].item()
            buffer = optimizer.state[moved]["momentum_buffer"].reshape(-1)[coordinate].item()
            assert buffer == pytest.approx(expected, rel=2e-3, abs=2e-6), name
            rate = config.head_lr if name.startswith("1.") else config.lr
            taken = flat[coordinate].item() - moved.detach().reshape(-1)[coordinate].item()
            assert taken == pytest.approx(rate * expected, rel=5e-3, abs=2e-7), name


def central_difference(objective: Callable[[], float], flat: Tensor, coordinate: int, width: float = 1e-6) -> float:
    kept = flat[coordinate].item()
    flat[coordinate] = kept + width
    above = objective()
    flat[coordinate] = kept - width
    below = objective()
    flat[coordinate] = kept
    return (above - below) / (2 * width)


def assert_close(given: Tensor, wanted: Tensor, atol: float = 3e-5, what: str = "") -> None:
    torch.testing.assert_close(
        given.double(), wanted.double(), atol=atol, rtol=1e-3, msg=lambda text: f"{what}: {text}"
    )


def run_and_trace(
    task: Task, world: World, config: LabelHallucConfig, monkeypatch: pytest.MonkeyPatch
) -> tuple[Trace, Solution]:
    """Solve with the code under test, noting what every step was given and did."""
    trace, last = Trace(), {}

    def spy(
        network: nn.Sequential, optimizer: torch.optim.SGD, base_x: Tensor, pseudo_logits: Tensor, *rest: Any
    ) -> Tensor:
        losses = step(network, optimizer, base_x, pseudo_logits, *rest)
        trace.pseudo_logits.append(pseudo_logits.clone())
        trace.losses.append(losses.tolist())
        last.update(network=network, optimizer=optimizer)
        return losses

    monkeypatch.setattr(rayfs.methods.label_halluc, "step", spy)
    solution = LabelHallucination(config).solve(task, world, RANDOMNESS)
    backbone, head = last["network"]
    named = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict(keep_vars=True).items()}
    named |= {"head.weight": head.linear.weight, "head.bias": head.linear.bias}
    for name, tensor in named.items():
        trace.state[name] = tensor.detach().clone()
        buffer = last["optimizer"].state.get(tensor, {}).get("momentum_buffer")
        if buffer is not None:
            trace.momentum[name] = buffer.clone()
    return trace, solution
