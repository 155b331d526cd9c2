"""Which base images a method uses: related ones, shares of classes, those a classifier is surest of."""

from itertools import chain
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from oracle_base_rows import naive_chosen, naive_related

from rayfs.methods.finetuning.base_rows import (
    TOP,
    base_logits,
    chosen_rows,
    class_shares,
    episode_rows,
    kept_images,
    n_chosen,
    related_rows,
    top_base,
)
from rayfs.methods.label_halluc import LabelHallucSettings
from rayfs.methods.needs import BaseImages
from rayfs.methods.registry import needs_of
from rayfs.randomness import EpisodeRandomness, torch_generator


def make_config(**changes: Any) -> LabelHallucSettings:
    return LabelHallucSettings(**{"steps": 1, "support_views": 1, "step_views": 1, "base_batch": 1, **changes})


def table_of(counts: list[int]) -> Any:
    """Return what `chosen_rows` reads of a table with classes of these sizes."""

    class Table(SimpleNamespace):
        def __len__(self) -> int:
            return sum(counts)

        def class_counts(self) -> np.ndarray:
            return np.array(counts)

    return Table(offsets=np.cumsum([0, *counts]), class_names=[f"class {c}" for c in range(len(counts))])


def related(predicted: list[list[int]], n_way: int, n_related: int) -> dict[int, int]:
    """Return row -> related class, for base classes whose images are predicted so."""
    labels = np.repeat(np.arange(len(predicted)), [len(of_class) for of_class in predicted])
    logits = torch.nn.functional.one_hot(torch.tensor([*chain(*predicted)]), n_way).float()
    rows, related_to = related_rows(logits, labels, n_related)
    assert rows.dtype == related_to.dtype == np.int64
    return dict(zip(rows.tolist(), related_to.tolist(), strict=True))


@pytest.mark.parametrize(
    ("predicted", "n_related", "expected"),
    [
        # Base class 0 is class 0 by 3/4, base class 1 is class 1 by 2/2; the image that is not so predicted goes.
        ([[0, 0, 1, 0], [1, 1]], 1, {0: 0, 1: 0, 3: 0, 4: 1, 5: 1}),
        # Both base classes are most like class 0; the better one has it, and the other goes to class 1 with 1 image.
        ([[0, 0, 0, 1], [0, 0, 0, 0]], 1, {3: 1, 4: 0, 5: 0, 6: 0, 7: 0}),
        # Two base classes for each: both go to class 0, and none is left for class 1.
        ([[0, 0, 0, 1], [0, 0, 0, 0]], 2, {0: 0, 1: 0, 2: 0, 4: 0, 5: 0, 6: 0, 7: 0}),
        # A tie between the base classes: the first has class 0. The other has nothing in common with class 1.
        ([[0, 0], [0, 0]], 1, {0: 0, 1: 0}),
        # A tie between the classes of an episode within one base class: the first has it, class 1 has none.
        ([[1, 0]], 1, {1: 0}),
        # Shares count, not images: 2 of 2 comes before 3 of 4.
        ([[0, 0, 0, 1], [0, 0]], 1, {3: 1, 4: 0, 5: 0}),
        # One base class, n_related * n_way = 20: it is used once, for its best class.
        ([[1, 1, 0]], 10, {0: 1, 1: 1}),
        # Three base classes of 2 images; class 1 is no image's: it has no base class at all.
        ([[0, 0], [0, 0], [0, 0]], 3, dict.fromkeys(range(6), 0)),
    ],
)
def test_related_rows_worked_by_hand(predicted, n_related, expected):
    assert related(predicted, 2, n_related) == expected


@pytest.mark.parametrize("n_related", [1, 2, 3, 10])
@pytest.mark.parametrize("n_way", [2, 3, 5])
def test_related_rows_equal_a_loop_that_takes_the_best_pair_again_and_again(n_way, n_related):
    draw = np.random.default_rng(n_way)
    for _ in range(8):  # small classes: many ties
        predicted = [draw.integers(0, n_way, draw.integers(1, 5)).tolist() for _ in range(6)]
        labels = [c for c, of_class in enumerate(predicted) for _ in of_class]
        assert related(predicted, n_way, n_related) == naive_related([*chain(*predicted)], labels, n_way, n_related)


def test_related_classes_are_at_most_n_for_each_class_and_none_is_used_twice():
    predicted = torch.randint(0, 3, (200,), generator=torch_generator(0, "predictions"))
    labels = np.repeat(np.arange(20), 10)
    rows, related_to = related_rows(torch.nn.functional.one_hot(predicted, 3).float(), labels, 4)
    pairs = set(zip(labels[rows].tolist(), related_to.tolist(), strict=True))
    assert len({base for base, _ in pairs}) == len(pairs) == 12
    assert sorted(novel for _, novel in pairs) == [0] * 4 + [1] * 4 + [2] * 4
    assert np.array_equal(related_to, predicted.numpy()[rows])


@pytest.mark.parametrize(
    ("form", "ratio", "n_classes", "expected"),
    [
        ("none", 1.0, 3, [1, 1, 1]),
        ("exponential", 100.0, 3, [1, 0.1, 0.01]),
        ("exponential", 8.0, 4, [1, 0.5, 0.25, 0.125]),
        ("exponential", 8.0, 1, [1]),
        ("step", 10.0, 4, [1, 1, 0.1, 0.1]),
        ("step", 10.0, 5, [1, 1, 1, 0.1, 0.1]),
        ("step", 2.0, 1, [1]),
    ],
)
def test_class_shares_worked_by_hand(form, ratio, n_classes, expected):
    np.testing.assert_allclose(class_shares(n_classes, form, ratio), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("n_images", "share", "kept"), [(20, 0.1, 2), (20, 0.01, 1), (600, 0.5, 300), (3, 0.5, 2), (1, 1.0, 1), (7, 0.5, 4)]
)
def test_a_class_keeps_the_nearest_number_of_images_and_at_least_one(n_images, share, kept):
    assert kept_images(np.array([n_images]), np.array([share])).tolist() == [kept]


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({"base_fraction": 0.5}, [10, 10, 10, 10]),
        ({"base_fraction": 0.01}, [1, 1, 1, 1]),
        ({"base_imbalance": "step", "imbalance_ratio": 4.0}, [5, 5, 20, 20]),
        ({"base_imbalance": "exponential", "imbalance_ratio": 8.0}, [2, 5, 10, 20]),  # 2.5 images: 2
        ({"base_imbalance": "exponential", "imbalance_ratio": 8.0, "base_fraction": 0.4}, [1, 2, 4, 8]),
        ({"base_imbalance": "step", "imbalance_ratio": 10.0, "base_fraction": 0.5}, [1, 1, 10, 10]),
    ],
)
def test_sizes_of_chosen_classes_worked_by_hand(changes, sizes):
    table, config = table_of([20] * 4), make_config(**changes)
    orders = set()
    for seed in range(12):
        rows = chosen_rows(table, config, seed)
        found = np.bincount(rows // 20, minlength=4).tolist()
        assert sorted(found) == sizes
        assert n_chosen(table.class_counts(), base_images(config)) == len(rows)
        orders.add(tuple(found))
    assert len(orders) > 1 or len(set(sizes)) == 1, "which class has which size is drawn"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"base_fraction": 0.3},
        {"base_imbalance": "exponential", "imbalance_ratio": 5.0},
        {"base_imbalance": "step", "imbalance_ratio": 3.0, "base_fraction": 0.7},
    ],
)
def test_chosen_rows_equal_a_loop_over_classes(changes):
    table, config = table_of([13, 2, 30, 7, 21]), make_config(**changes)
    for seed in range(4):
        rows = chosen_rows(table, config, seed)
        assert rows.dtype == np.int64 and rows.tolist() == naive_chosen(table, config, seed)
        assert (np.diff(rows) > 0).all()


def test_seed_alone_decides_the_chosen_rows():
    table, config = table_of([20] * 4), make_config(base_fraction=0.5)
    first = chosen_rows(table, config, 0).tolist()
    assert chosen_rows(table, make_config(base_fraction=0.5, steps=9), 0).tolist() == first
    assert chosen_rows(table, config, 1).tolist() != first


def test_all_episodes_of_a_run_are_finetuned_on_the_same_chosen_rows(characters, make_world):
    bank, config = make_world(characters).bank, make_config(base_fraction=0.25)
    chosen = [episode_rows(bank, config, EpisodeRandomness(seed=7, index=i), None).tolist() for i in (0, 1)]
    assert chosen[0] == chosen[1] == chosen_rows(bank.table, config, 7).tolist()
    assert len(chosen[0]) == 40


def test_related_rows_are_among_the_chosen_ones_and_in_the_tables_numbers(characters, make_world):
    bank = make_world(characters).bank
    config = make_config(base_fraction=0.5, base_subset="related", related_classes=1)
    weights = torch.randn(2, bank.features.shape[1], generator=torch_generator(1, "W"))
    logits = base_logits(bank, (weights, torch.zeros(2)))
    rows = episode_rows(bank, config, EpisodeRandomness(seed=7, index=0), logits)
    left = naive_chosen(bank.table, config, 7)
    features = torch.from_numpy(bank.features[left]).double()
    guesses = (features / features.norm(dim=1, keepdim=True) @ weights.double().T).argmax(1).tolist()
    kept = naive_related(guesses, [int(bank.table.labels[row]) for row in left], 2, 1)
    assert rows.tolist() == [left[i] for i in kept] and 0 < len(rows) < len(left)
    assert set(top_base(logits, rows).rows.flatten().tolist()) <= set(rows.tolist())


@pytest.mark.parametrize("changes", [{"base_fraction": 0.5}, {"base_fraction": 0.37, "ratio": 3.0}, {"ratio": 6.0}])
def test_no_seed_leaves_fewer_rows_of_unequal_classes_than_were_foretold(changes):
    imbalance = {"base_imbalance": "step", "imbalance_ratio": changes["ratio"]} if "ratio" in changes else {}
    config = make_config(base_fraction=changes.get("base_fraction", 1.0), **imbalance)
    counts = np.array([7, 9, 25, 3])
    found = {len(chosen_rows(table_of(counts.tolist()), config, seed)) for seed in range(60)}
    assert min(found) == n_chosen(counts, base_images(config))


def test_fewest_rows_heed_how_shares_are_rounded():
    """Shares 1/2 and 1/6 leave 4 + 2 of 7 and 9 images (3.5 and 1.5), but 1 + 4 (1.17 and 4.5) the other way round."""
    config = make_config(base_fraction=0.5, base_imbalance="step", imbalance_ratio=3.0)
    found = {len(chosen_rows(table_of([7, 9]), config, seed)) for seed in range(12)}
    assert found == {5, 6} and n_chosen(np.array([7, 9]), base_images(config)) == 5


def test_base_logits_are_those_of_one_row_at_a_time(characters, make_world, monkeypatch):
    monkeypatch.setattr("rayfs.methods.finetuning.base_rows.CHUNK", 50)  # 160 rows in 4 parts
    bank = make_world(characters).bank
    draw = torch_generator(0, "classifier")
    weights, bias = torch.randn(3, bank.features.shape[1], generator=draw), torch.randn(3, generator=draw)
    features = torch.from_numpy(np.array(bank.features))
    expected = torch.stack([weights @ (z / z.norm()) + bias for z in features])
    torch.testing.assert_close(base_logits(bank, (weights, bias)), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("n_rows", [5, TOP, 60])
def test_top_base_equals_a_full_sort(n_rows):
    logits = torch.randn(80, 3, generator=torch_generator(n_rows, "logits"))
    rows = np.arange(2, 80)[torch.randperm(78, generator=torch_generator(0, "rows")).numpy()][:n_rows]
    top = top_base(logits, rows)
    assert top.rows.shape == top.probabilities.shape == (3, min(TOP, n_rows))
    assert top.rows.dtype == torch.int64 and top.probabilities.dtype == torch.float32
    for k in range(3):
        powers = {row: logits[row].double().exp() for row in rows.tolist()}
        surest = sorted(((powers[row][k] / powers[row].sum()).item(), row) for row in powers)[::-1][:TOP]
        assert top.rows[k].tolist() == [row for _, row in surest]
        np.testing.assert_allclose(top.probabilities[k], [probability for probability, _ in surest], rtol=1e-5)


def base_images(config: LabelHallucSettings) -> BaseImages:
    found = needs_of(config).base_images
    assert found is not None
    return found
