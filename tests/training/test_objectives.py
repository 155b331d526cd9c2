"""What every objective has to keep to: shapes, draws, parts of a batch, gradients, teachers, state."""

from typing import Any

import pytest
import torch
from small_objectives import (
    DISTILLED,
    N_CLASSES,
    NAMES,
    SIZE,
    VIEWS_AN_IMAGE,
    backbone,
    create,
    images,
    labels,
    photos,
    teacher,
)
from torch import Tensor

from rayfs.randomness import torch_generator
from rayfs.training.objective import Objective, Outcome
from rayfs.training.objectives.cosine.loss import cosine

ROWS = torch.tensor([7, 2, 11, 3, 19, 0])

every_objective = pytest.mark.parametrize("name", NAMES)


def draw(objective: Any, seed: int = 0) -> Any:
    return objective.draw(ROWS, torch_generator(seed, "views"))


def step(objective: Any) -> tuple[Outcome, dict[str, Tensor]]:
    """Return what one step gives, gradients included, and the outputs of the networks."""
    draws, n = draw(objective), len(ROWS)
    views = objective.views(images(n), draws)
    outputs = objective.networks.train()(views)
    outcome = objective.loss(outputs, objective.targets(views), labels(n), ROWS, draws)
    outcome.loss.backward()
    return outcome, outputs


@every_objective
def test_outcome_is_finite_and_of_the_promised_shapes(name):
    objective: Objective[Any] = create(name)
    outcome, _ = step(objective)
    for value in (outcome.loss, outcome.accuracy, *outcome.parts.values()):
        assert value.shape == () and value.dtype == torch.float32 and value.isfinite()
    assert outcome.loss.requires_grad
    assert not any(part.requires_grad for part in outcome.parts.values())


@every_objective
def test_views_are_float_and_as_many_as_promised(name):
    objective = create(name)
    views = objective.views(images(len(ROWS)), draw(objective))
    assert views.shape == (VIEWS_AN_IMAGE.get(name, 1) * len(ROWS), 3, SIZE, SIZE)
    assert views.dtype == torch.float32


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"rotations"}))  # There a turn is a class, and all views count.
def test_accuracy_is_that_of_the_first_views(name):
    outcome, outputs = step(create(name))
    guesses = outputs["classifier"].argmax(1)[: len(ROWS)].tolist()
    right = [guess == label for guess, label in zip(guesses, labels(len(ROWS)).tolist(), strict=True)]
    assert outcome.accuracy.item() == pytest.approx(sum(right) / len(right))


@every_objective
def test_views_depend_on_the_generator_alone(name):
    objective, before = create(name), torch.get_rng_state()
    first, again, other = (objective.views(images(6), draw(objective, seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@every_objective
def test_views_of_a_part_are_that_part_of_the_views(name):
    objective, n = create(name), len(ROWS)
    whole = objective.views(images(n), draw(objective))
    for mine in (slice(0, 2), slice(2, 6)):
        part = objective.views(images(n)[mine], draw(objective).part(mine))
        expected = whole.view(-1, n, *whole.shape[1:])[:, mine].flatten(0, 1)
        torch.testing.assert_close(part, expected, atol=1e-6, rtol=0, check_stride=False)


@every_objective
def test_every_parameter_learns(name):
    objective = create(name)
    step(objective)
    for parameter_name, parameter in objective.networks.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
        # A bias that batch norm cancels has no gradient to speak of.
        if parameter.ndim > 1:
            assert parameter.grad.any(), parameter_name


@every_objective
def test_initial_weights_depend_on_the_generator_alone(name):
    before = torch.get_rng_state()
    first, again = create(name).networks.state_dict(), create(name).networks.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert torch.equal(torch.get_rng_state(), before)


@every_objective
def test_state_comes_back(name):
    objective, resumed = create(name), create(name)
    step(objective)
    resumed.load_state(objective.state())
    assert set(resumed.state()) == set(objective.state())
    assert all(torch.equal(resumed.state()[key], value) for key, value in objective.state().items())


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(DISTILLED)))
def test_objectives_without_a_teacher_have_no_targets(name):
    objective = create(name)
    assert objective.targets(objective.views(images(6), draw(objective))) == {}


@pytest.mark.parametrize("name", DISTILLED)
def test_teacher_is_frozen_and_no_part_of_what_is_trained(name):
    taught = teacher().train()
    objective = create(name, taught)
    objective.networks.train()
    before = {key: tensor.clone() for key, tensor in taught.state_dict().items()}
    step(objective)
    assert not any(module.training for module in taught.modules())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in taught.parameters())
    assert all(torch.equal(tensor, before[key]) for key, tensor in taught.state_dict().items())
    trained = {parameter.data_ptr() for parameter in objective.networks.parameters()}
    assert trained.isdisjoint(parameter.data_ptr() for parameter in taught.parameters())


@pytest.mark.parametrize("name", DISTILLED)
def test_targets_have_no_gradients(name):
    objective = create(name)
    targets = objective.targets(objective.views(images(6), draw(objective)))
    assert targets and not any(target.requires_grad for target in targets.values())


@every_objective
def test_a_few_steps_lower_the_loss(name):
    objective, n = create(name), len(ROWS)
    draws = draw(objective)
    views = objective.views(images(n), draws)
    targets = objective.targets(views)
    optimizer = torch.optim.SGD(objective.networks.train().parameters(), lr=0.02, momentum=0.9)
    losses = []
    for _ in range(12):
        loss = objective.loss(objective.networks(views), targets, labels(n), ROWS, draws).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_scale_of_the_cosine_is_trained_with_the_rest():
    objective = cosine(backbone(), photos(), N_CLASSES, 4.0, generator=torch_generator(0, "heads"))
    step(objective)
    assert objective.networks.heads["classifier"].scale.grad.abs() > 0
