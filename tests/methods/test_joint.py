"""Joint recognition against a loop, and what it keeps out of finetuning."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rayfs.engine.row_input import RowInput
from rayfs.methods.joint import MEAN_IMAGES, joint_rows, recognise_jointly
from rayfs.methods.label_halluc import LabelHallucSettings
from rayfs.methods.logistic_regression import LogisticRegressionSettings
from rayfs.methods.method import Task
from rayfs.methods.registry import create_method
from rayfs.methods.support_only import SupportOnlySettings
from rayfs.randomness import EpisodeRandomness

RANDOMNESS = EpisodeRandomness(seed=3, index=11)
FINETUNING = {"steps": 2, "support_views": 1, "step_views": 1, "head_init": "logistic-regression"}
CONFIGS = {
    "lr": LogisticRegressionSettings(support_views=2, joint_queries=30),
    "support-only": SupportOnlySettings(**FINETUNING, joint_queries=30),
    "label-halluc": LabelHallucSettings(**FINETUNING, base_batch=10, joint_queries=30),
}


@pytest.fixture(scope="module")
def world(characters, make_world):
    return make_world(characters)


@pytest.fixture(scope="module")
def task(characters, make_task) -> Task:
    return make_task(characters, [1, 4, 6], n_shot=2, n_query=4)


def test_rows_set_aside_are_distinct_and_every_class_has_a_mean(characters):
    rows = joint_rows(characters, 30, RANDOMNESS)
    assert len(rows.queries) == 30 and len(set(rows.all.tolist())) == len(rows.all)
    counts = np.bincount(characters.labels[rows.means], minlength=8)
    assert counts.tolist() == [5] * 8 and MEAN_IMAGES > 5, "a quarter of 20 images"
    again, other = joint_rows(characters, 30, RANDOMNESS), joint_rows(characters, 30, replace(RANDOMNESS, index=12))
    assert rows.all.tolist() == again.all.tolist() != other.all.tolist()


def test_predictions_equal_a_loop_over_images_and_classes(world, task, characters):
    rows = joint_rows(characters, 20, RANDOMNESS)
    found = recognise_jointly(world.backbone, task, world, rows)

    def feature(image: torch.Tensor) -> torch.Tensor:
        z = world.backbone(world.plain(image[None])).double()[0]
        return z / z.norm()

    with torch.no_grad():
        means = []
        for k in range(3):
            images = [
                image for image, label in zip(task.support_images, task.support_labels, strict=True) if label == k
            ]
            means.append(sum(map(feature, images)) / len(images))
        for c in range(8):
            images = [characters.take(np.array([row]))[0] for row in rows.means if characters.labels[row] == c]
            means.append(sum(map(feature, images)) / len(images))

        def nearest(image: torch.Tensor) -> int:
            return min(range(11), key=lambda c: (feature(image) - means[c]).norm().item())

        assert found.novel_predictions.tolist() == [nearest(image) for image in task.query_images]
        assert found.base_predictions.tolist() == [nearest(image) for image in characters.take(rows.queries)]
    assert found.base_labels.tolist() == [3 + characters.labels[row] for row in rows.queries]


@pytest.mark.parametrize("name", CONFIGS)
def test_methods_answer_jointly_where_asked_and_their_logits_stay(name, world, task):
    config = CONFIGS[name]
    solution = create_method(config).solve(task, world, RANDOMNESS)
    assert solution.joint is not None and solution.joint.novel_predictions.shape == (12,)
    assert solution.joint.base_predictions.shape == solution.joint.base_labels.shape == (30,)
    plain = create_method(replace(config, joint_queries=0)).solve(task, world, RANDOMNESS)
    assert plain.joint is None
    if name != "label-halluc":  # which is finetuned without the rows that are set aside
        assert torch.equal(plain.logits, solution.logits)


def test_rows_set_aside_are_not_finetuned_on(world, task, monkeypatch):
    seen: set[int] = set()
    load = RowInput.load

    def spy(images, rows):
        seen.update(rows.tolist())
        load(images, rows)

    monkeypatch.setattr("rayfs.methods.finetuning.loop.recognise_jointly", lambda *arguments: None)
    monkeypatch.setattr(RowInput, "load", spy)
    config = replace(CONFIGS["label-halluc"], steps=40)
    create_method(config).solve(task, world, RANDOMNESS)
    aside = set(joint_rows(world.bank.table, 30, RANDOMNESS).all.tolist())
    assert len(seen) == 160 - len(aside) and not seen & aside
