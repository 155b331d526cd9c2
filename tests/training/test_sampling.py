"""Samplers: every row once, or classes with the probabilities of the formulas; the same rows for the same seed."""

import math

import numpy as np
import pytest
import torch

from rayfs.errors import InputError
from rayfs.randomness import torch_generator
from rayfs.training.config import SAMPLERS
from rayfs.training.sampling import epoch_rows

SIZES = {0: 1000, 2: 4000, 3: 25000}
"""Images of each class; class 1 has none."""

LABELS = np.random.Generator(np.random.Philox(0)).permutation(np.repeat(list(SIZES), list(SIZES.values())))


def drawn(sampler: str, labels: np.ndarray = LABELS, seed: int = 0) -> torch.Tensor:
    return epoch_rows(labels, sampler, torch_generator(seed, "order"))


def test_uniform_is_torchs_permutation():
    assert torch.equal(drawn("uniform"), torch.randperm(len(LABELS), generator=torch_generator(0, "order")))


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        # √1000 : √4000 : √25000 = 1 : 2 : 5.
        ("square-root", {0: 1 / 8, 2: 2 / 8, 3: 5 / 8}),
        ("class-aware", {0: 1 / 3, 2: 1 / 3, 3: 1 / 3}),
    ],
)
def test_classes_come_as_often_as_the_formula_says(sampler, expected):
    counts = np.bincount(LABELS[drawn(sampler).numpy()], minlength=4)
    assert counts.sum() == len(LABELS) and counts[1] == 0
    for label, p in expected.items():
        assert counts[label] / len(LABELS) == pytest.approx(p, abs=4.5 * math.sqrt(p * (1 - p) / len(LABELS)))


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        # One row of class 0 and four of class 1: √1 : √4 = 1 : 2, then a quarter each.
        ("square-root", [1 / 6, 1 / 3, 1 / 6, 1 / 6, 1 / 6]),
        ("class-aware", [1 / 8, 1 / 2, 1 / 8, 1 / 8, 1 / 8]),
    ],
)
def test_rows_of_a_class_come_equally_often(sampler, expected):
    labels, generator = np.array([1, 0, 1, 1, 1]), torch_generator(0, "order")
    epochs = torch.cat([epoch_rows(labels, sampler, generator) for _ in range(4000)])
    frequencies = np.bincount(epochs.numpy(), minlength=5) / len(epochs)
    for p, frequency in zip(expected, frequencies, strict=True):
        assert frequency == pytest.approx(p, abs=4.5 * math.sqrt(p * (1 - p) / len(epochs)))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_rows_depend_on_the_generator_alone(sampler):
    before = torch.get_rng_state()
    first = drawn(sampler)
    assert first.dtype == torch.int64 and first.shape == (len(LABELS),)
    assert torch.equal(first, drawn(sampler))
    assert not torch.equal(first, drawn(sampler, seed=1))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_balanced_tables_reach_every_class(sampler):
    labels = np.repeat(np.arange(10), 30)
    rows = drawn(sampler, labels)
    assert set(labels[rows.numpy()]) == set(range(10))


def test_unknown_sampler_is_refused():
    with pytest.raises(InputError, match="'random'; expected one of uniform, square-root, class-aware"):
        drawn("random")
