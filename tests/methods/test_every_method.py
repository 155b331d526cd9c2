"""One suite that every method passes."""

import random
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

import rayfs.methods.label_halluc
from rayfs.backbones.regularisation import set_generator
from rayfs.backbones.resnet12 import ResNet12
from rayfs.backbones.state import state_hash
from rayfs.methods.label_halluc import BaseSampler
from rayfs.methods.method import Method, Solution, Task
from rayfs.methods.recipes import METHODS, FrozenConfig, LabelHallucConfig
from rayfs.methods.registry import MethodConfig, create_method
from rayfs.randomness import EpisodeRandomness, torch_generator

CONFIGS: dict[str, MethodConfig] = {
    "lr": FrozenConfig(support_views=3),
    "label-halluc": LabelHallucConfig(
        steps=4, support_views=3, step_views=2, base_batch=10, head_init="logistic-regression"
    ),
}
RANDOMNESS = EpisodeRandomness(seed=3, index=11)


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Method:
    return create_method(CONFIGS[request.param])


@pytest.fixture(scope="module")
def world(characters, make_world):
    return make_world(characters)


@pytest.fixture(scope="module")
def task(characters, make_task) -> Task:
    return make_task(characters, [1, 4, 6], n_shot=2, n_query=4)


def test_gives_one_finite_row_of_logits_a_query(method, world, task):
    solution = method.solve(task, world, RANDOMNESS)
    assert solution.logits.shape == (12, 3)
    assert solution.logits.dtype == torch.float32
    assert solution.logits.isfinite().all()
    assert not solution.logits.is_inference() and not solution.logits.requires_grad


def test_reports_its_steps_and_losses(method, world, task):
    solution, steps = method.solve(task, world, RANDOMNESS), getattr(method.config, "steps", 0)
    assert solution.steps == steps
    losses = (solution.loss_base, solution.loss_support)
    assert all(np.isfinite(loss) and loss >= 0 for loss in losses) if steps else losses == (None, None)


def test_same_randomness_gives_the_same_logits_and_another_seed_others(method, world, task):
    first, again = (method.solve(task, world, RANDOMNESS).logits for _ in range(2))
    assert torch.equal(first, again)
    for other in (replace(RANDOMNESS, seed=4), replace(RANDOMNESS, index=12)):
        assert not torch.equal(first, method.solve(task, world, other).logits)


def test_leaves_the_shared_world_as_it_was(method, world, task):
    def fingerprint() -> tuple:
        backbone, bank = world.backbone, world.bank
        flags = [module.training for module in backbone.modules()], [p.requires_grad for p in backbone.parameters()]
        no_gradients = all(parameter.grad is None for parameter in backbone.parameters())
        return state_hash(backbone), flags, no_gradients, bank.features.tobytes(), np.array(bank.table.images).tobytes()

    before = fingerprint()
    inputs = [task.support_images.clone(), task.support_labels.clone(), task.query_images.clone()]
    method.solve(task, world, RANDOMNESS)
    assert fingerprint() == before
    for tensor, copy in zip((task.support_images, task.support_labels, task.query_images), inputs, strict=True):
        assert torch.equal(tensor, copy)


def test_leaves_dropout_of_the_shared_backbone_as_it_was(method, characters, make_world, task):
    backbone = ResNet12(1, (4, 6, 8, 8), dropblock_size=2, generator=torch_generator(0, "weights"))
    generator = torch_generator(0, "somebody else's")
    set_generator(backbone, generator)
    blocks = [backbone.layer3[0].regularise, backbone.layer4[0].regularise]
    for block in blocks:
        block.n_forwards.fill_(500)
    state = generator.get_state()
    method.solve(task, make_world(characters, backbone), RANDOMNESS)
    assert [block.n_forwards.item() for block in blocks] == [500, 500]
    assert all(block.generator is generator and block.drop_rate == 0.1 for block in blocks)
    assert torch.equal(generator.get_state(), state)


def test_leaves_global_random_states_and_grad_mode_as_they_were(method, world, task):
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())  # noqa: NPY002
    method.solve(task, world, RANDOMNESS)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), str(np.random.get_state())) == before[1:]  # noqa: NPY002
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


def test_a_task_has_no_query_labels():
    assert {field.name for field in fields(Task)} == {"support_images", "support_labels", "query_images", "n_way"}


def test_permuting_the_queries_permutes_the_logits(method, world, task):
    order = torch.randperm(12, generator=torch_generator(0, "order"))
    logits = method.solve(task, world, RANDOMNESS).logits
    permuted = method.solve(replace(task, query_images=task.query_images[order]), world, RANDOMNESS).logits
    torch.testing.assert_close(permuted, logits[order], atol=1e-5, rtol=1e-5)


def test_each_query_is_judged_alone(method, world, task):
    logits = method.solve(task, world, RANDOMNESS).logits
    alone = method.solve(replace(task, query_images=task.query_images[5:6]), world, RANDOMNESS).logits
    torch.testing.assert_close(alone, logits[5:6], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("n_way", [2, 4])
def test_beats_chance_on_separable_classes(method, make_blobs, make_task, channels, n_way):
    table, world = make_blobs(channels)
    solution = method.solve(make_task(table, list(range(n_way)), n_shot=1, n_query=10), world, RANDOMNESS)
    assert solution.logits.shape == (10 * n_way, n_way)
    assert accuracy(solution, n_way) > 0.9


def test_permuting_class_labels_permutes_the_columns_of_the_baseline(world, task):
    method = create_method(CONFIGS["lr"])
    renamed = torch.tensor([2, 0, 1])
    logits = method.solve(task, world, RANDOMNESS).logits
    permuted = method.solve(replace(task, support_labels=renamed[task.support_labels]), world, RANDOMNESS).logits
    torch.testing.assert_close(permuted[:, renamed], logits, atol=1e-4, rtol=1e-4)


def test_pseudo_labels_come_from_the_very_classifier_of_the_baseline(world, characters, task, monkeypatch):
    """With the base images as queries, the baseline's logits are the pseudo-logits of the rows that are drawn."""
    seen = spy_on_pseudo_logits(monkeypatch)
    everything = replace(task, query_images=characters.take(np.arange(len(characters))))
    baseline = create_method(CONFIGS["lr"]).solve(everything, world, RANDOMNESS).logits
    finetuning = create_method(CONFIGS["label-halluc"])
    finetuning.solve(task, world, RANDOMNESS)
    sampler = BaseSampler(len(characters), finetuning.config.base_batch, RANDOMNESS.generator("base rows"))
    assert len(seen) == finetuning.config.steps
    for pseudo_logits in seen:
        expected = baseline[sampler.draw()]
        torch.testing.assert_close(pseudo_logits, expected, atol=1e-5, rtol=1e-5)
        assert torch.equal(pseudo_logits.argmax(dim=1), expected.argmax(dim=1))


def accuracy(solution: Solution, n_way: int) -> float:
    labels = torch.arange(n_way).repeat_interleave(len(solution.logits) // n_way)
    return (solution.logits.argmax(dim=1) == labels).float().mean().item()


def spy_on_pseudo_logits(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    seen: list[torch.Tensor] = []
    real: Callable[..., torch.Tensor] = rayfs.methods.label_halluc.step

    def spy(network, optimizer, base_x, pseudo_logits, *rest):
        seen.append(pseudo_logits.clone())
        return real(network, optimizer, base_x, pseudo_logits, *rest)

    monkeypatch.setattr(rayfs.methods.label_halluc, "step", spy)
    return seen
