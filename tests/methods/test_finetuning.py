"""The loop around the steps: learning rates, when it stops, what each step is given and what it reports."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import rayfs.methods.finetuning
from rayfs.methods.finetuning.loop import Batch, finetune, make_network, no_longer_falls, rate_factor
from rayfs.methods.method import Solution, Task, World
from rayfs.methods.support_only import SupportOnlySettings
from rayfs.randomness import EpisodeRandomness

RANDOMNESS = EpisodeRandomness(seed=1, index=4)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [1, 1, 1, 1]),
        ("linear", [1, 0.75, 0.5, 0.25]),
        ("cosine", [1, 0.8535534, 0.5, 0.1464466]),  # cos² of 0, 22.5, 45 and 67.5 degrees
    ],
)
def test_rate_factors_of_four_steps_worked_by_hand(schedule, factors):
    assert [rate_factor(schedule, t, 4) for t in range(4)] == pytest.approx(factors, rel=1e-6)


@pytest.mark.parametrize(
    ("losses", "window", "stops"),
    [
        ([3, 2, 1], 0, False),
        ([1, 9], 0, False),
        ([1], 1, False),  # nothing to compare with
        ([3, 2], 1, False),
        ([3, 3], 1, True),
        ([2, 3], 1, True),
        ([2, 3, 1], 1, False),  # the last two count
        ([4, 2, 5], 2, False),  # in the middle of a window
        ([4, 2, 5], 3, False),
        ([4, 2, 3, 2], 2, False),  # means 3 and 2.5
        ([4, 2, 5, 1], 2, True),  # 3 and 3
        ([9, 9, 4, 2, 5, 1], 2, True),
        ([1, 1, 4, 2, 5, 0], 2, False),
        ([1, 1, 4, 2, 5], 2, False),
        ([1, 1, 1, 2, 2, 2], 3, True),
        ([2, 2, 2, 1, 1, 3], 3, False),
    ],
)
@pytest.mark.parametrize("base_share", [0.0, 0.25])
def test_losses_no_longer_fall_worked_by_hand(losses, window, stops, base_share):
    given = [torch.tensor([base_share * loss, (1 - base_share) * loss]) for loss in losses]
    assert no_longer_falls(given, window) is stops


def test_the_sum_of_both_losses_decides():
    rising_base = [torch.tensor([1.0, 5.0]), torch.tensor([2.0, 3.0])]
    assert not no_longer_falls(rising_base, 1)
    assert no_longer_falls([torch.tensor([1.0, 5.0]), torch.tensor([4.0, 3.0])], 1)


@pytest.fixture(scope="module")
def world(characters, make_world) -> World:
    return make_world(characters)


@pytest.fixture(scope="module")
def task(characters, make_task) -> Task:
    return make_task(characters, [0, 3], n_shot=3, n_query=2)


def run(task: Task, world: World, take_step: Any, rows: np.ndarray, base_batch: int, **changes: Any) -> Solution:
    config = SupportOnlySettings(**{"steps": 6, "support_views": 1, "step_views": 2, **changes})
    network = make_network(task, world, RANDOMNESS, config, None)
    return finetune(task, world, RANDOMNESS, config, network, rows, base_batch, take_step)


NO_ROWS = np.empty(0, dtype=np.int64)


@pytest.mark.parametrize(
    ("losses", "early_stop", "taken"),
    [
        ([6, 5, 4, 3, 2, 1], 0, 6),
        ([1, 2, 3, 4, 5, 6], 0, 6),
        ([6, 5, 4, 3, 2, 1], 1, 6),
        ([6, 5, 5, 3, 2, 1], 1, 3),
        ([6, 5, 6, 5, 2, 1], 2, 4),
        ([6, 5, 4, 3, 3, 4], 2, 6),
        ([6, 5, 7, 3, 2, 1], 4, 6),
    ],
)
def test_steps_and_losses_of_the_last_step_really_taken_are_reported(task, world, losses, early_stop, taken):
    left = list(losses)
    solution = run(task, world, lambda *_: torch.tensor([0.5, left.pop(0)]), np.arange(40), 8, early_stop=early_stop)
    assert solution.steps == taken == len(losses) - len(left)
    assert (solution.loss_base, solution.loss_support) == (0.5, losses[taken - 1])


@pytest.mark.parametrize(("schedule", "factors"), [("constant", [1, 1, 1, 1]), ("linear", [1, 0.75, 0.5, 0.25])])
def test_both_learning_rates_of_every_step_follow_the_schedule(task, world, schedule, factors):
    seen = []

    def take_step(network: Any, optimizer: torch.optim.SGD, batch: Batch) -> Tensor:
        seen.append([group["lr"] for group in optimizer.param_groups])
        return torch.zeros(2)

    run(task, world, take_step, NO_ROWS, 0, schedule=schedule, steps=4, lr=0.5, head_lr=2.0)
    assert seen == [[0.5 * factor, 2.0 * factor] for factor in factors]


def batches_of(task: Task, world: World, rows: np.ndarray, base_batch: int, **changes: Any) -> list[Batch]:
    seen: list[Batch] = []

    def take_step(network: Any, optimizer: torch.optim.SGD, batch: Batch) -> Tensor:
        seen.append(batch)
        return torch.zeros(2)

    run(task, world, take_step, rows, base_batch, **changes)
    return seen


def test_without_base_images_a_batch_has_none_and_no_loss_on_them_is_reported(task, world):
    for batch in batches_of(task, world, NO_ROWS, 0):
        assert len(batch.base_rows) == len(batch.base_x) == 0
        assert batch.support_x.shape == (12, 1, 16, 16)
        assert batch.support_labels.tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert run(task, world, lambda *_: torch.zeros(2), NO_ROWS, 0).loss_base is None


def test_base_images_come_from_the_given_rows_in_passes_and_all_of_them_if_they_are_few(task, world):
    rows = np.array([3, 50, 51, 99, 140])
    for batch in batches_of(task, world, rows, 8):
        assert sorted(batch.base_rows.tolist()) == rows.tolist() and len(batch.base_x) == 5
    seen = [batch.base_rows.tolist() for batch in batches_of(task, world, rows, 2)]
    for first, second in zip(seen[::2], seen[1::2], strict=True):
        assert len({*first, *second}) == 4 and {*first, *second} < {*rows.tolist()}


def test_support_views_of_a_step_are_fresh_and_a_batch_of_them_comes_in_passes(task, world, monkeypatch):
    monkeypatch.setattr(rayfs.methods.finetuning.batches, "tile_support", numbered_support)
    seen = [batch.support_labels.tolist() for batch in batches_of(task, world, NO_ROWS, 0, support_batch=5)]
    assert [len(labels) for labels in seen] == [5] * 6
    for first, second in zip(seen[::2], seen[1::2], strict=True):  # 12 views: two batches a pass, 2 views left out
        assert len({*first, *second}) == 10
    assert seen[0] != seen[2]
    whole = batches_of(task, world, NO_ROWS, 0, support_batch=99)
    assert all(batch.support_labels.tolist() == list(range(12)) for batch in whole)
    assert not torch.equal(whole[0].support_x, whole[1].support_x)


def numbered_support(task: Task, n_views: int) -> tuple[Tensor, Tensor]:
    images = task.support_images.repeat(n_views, 1, 1, 1)
    return images, torch.arange(len(images))


def test_labels_of_support_mini_batches_are_those_of_their_images(characters, make_world, make_task, task, monkeypatch):
    """With views that change nothing, every image of a mini-batch is found in the support set, under its label."""
    world = make_world(characters)
    monkeypatch.setattr(World, "views", lambda self, images, generator: self.plain(images))
    support = world.plain(task.support_images)
    for batch in batches_of(task, world, NO_ROWS, 0, support_batch=5):
        for x, label in zip(batch.support_x, batch.support_labels.tolist(), strict=True):
            assert label in {int(task.support_labels[i]) for i in range(6) if torch.equal(support[i], x)}


def test_queries_are_judged_in_eval_mode(task, world):
    def take_step(network: Any, optimizer: torch.optim.SGD, batch: Batch) -> Tensor:
        seen.append(network)
        return torch.zeros(2)

    seen: list[Any] = []
    solution = run(task, world, take_step, NO_ROWS, 0, steps=1)
    assert not any(module.training for module in seen[0].modules())
    with torch.no_grad():
        expected = seen[0](world.plain(task.query_images))
    assert torch.equal(solution.logits, expected)
