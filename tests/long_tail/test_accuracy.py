"""Groups and their accuracy by hand, and bootstrap intervals against resampling image by image."""

import numpy as np
import pytest

from rayfs.errors import InputError
from rayfs.long_tail.accuracy import class_scores, group_accuracy, group_difference
from rayfs.long_tail.groups import class_groups

COUNTS = np.array([500, 101, 100, 99, 21, 20, 19, 1])


def test_the_two_conventions_differ_exactly_at_the_borders() -> None:
    paper, kang = class_groups(COUNTS), class_groups(COUNTS, "kang")
    assert {name: np.flatnonzero(group).tolist() for name, group in paper.items()} == {
        "many": [0, 1, 2], "medium": [3, 4], "few": [5, 6, 7], "all": list(range(8)),
    }  # fmt: skip
    assert {name: np.flatnonzero(group).tolist() for name, group in kang.items()} == {
        "many": [0, 1], "medium": [2, 3, 4, 5], "few": [6, 7], "all": list(range(8)),
    }  # fmt: skip


LABELS = np.array([0, 0, 0, 0, 1, 1, 2, 2])
ANSWERS = np.array([0, 0, 0, 1, 1, 0, 0, 0])
BASELINE = np.array([0, 1, 1, 0, 0, 0, 2, 0])
GROUPS = {
    "many": np.array([True, False, False]), "medium": np.array([False, True, True]),
    "few": np.zeros(3, dtype=bool), "all": np.ones(3, dtype=bool),
}  # fmt: skip


def test_accuracy_of_a_group_is_that_of_its_images() -> None:
    figures = group_accuracy(ANSWERS, LABELS, GROUPS)
    assert figures["many"].value == 75 and figures["medium"].value == 25 and figures["all"].value == 50
    assert figures["few"].value is None and figures["few"].low is None
    assert (figures["medium"].n_classes, figures["medium"].n_images) == (2, 4)
    scores = class_scores(ANSWERS, LABELS, 3)
    assert scores.n_C.tolist() == [4, 2, 2] and scores.correct_C.tolist() == [3, 1, 0]


def test_a_difference_is_the_difference_of_the_accuracies() -> None:
    figures = group_difference(ANSWERS, BASELINE, LABELS, GROUPS)
    assert figures["many"].value == 25 and figures["medium"].value == 0 and figures["all"].value == 12.5


@pytest.mark.parametrize("over", ["images", "classes"])
def test_the_same_seed_gives_the_same_interval_and_another_seed_another(over) -> None:
    first, again, other = (group_accuracy(ANSWERS, LABELS, GROUPS, over=over, seed=seed) for seed in (1, 1, 2))
    assert first == again
    differing = (group_accuracy(ANSWERS, LABELS, GROUPS, over=over, seed=s, n_resamples=20)["all"] for s in range(9))
    assert len({(figure.low, figure.high) for figure in differing}) > 1
    assert first["all"].value == other["all"].value


def test_an_interval_is_that_of_drawing_images_one_by_one() -> None:
    generator = np.random.Generator(np.random.Philox(5))
    labels = np.repeat(np.arange(4), [30, 30, 30, 10])
    answers = np.where(generator.random(100) < 0.6, labels, 9)
    baseline = np.where(generator.random(100) < 0.5, labels, 9)
    groups = {"all": np.ones(4, dtype=bool)}
    right, right_baseline = answers == labels, baseline == labels
    starts, sizes = np.array([0, 30, 60, 90]), np.array([30, 30, 30, 10])

    def resample(over: str) -> tuple[float, float]:
        classes = generator.integers(4, size=4) if over == "classes" else np.arange(4)
        rows = np.concatenate([starts[c] + generator.integers(sizes[c], size=sizes[c]) for c in classes])
        return 100 * right[rows].mean(), 100 * (right[rows].mean() - right_baseline[rows].mean())

    for over in ("images", "classes"):
        drawn = np.array([resample(over) for _ in range(3000)])
        found = group_accuracy(answers, labels, groups, over=over, n_resamples=3000)["all"]
        paired = group_difference(answers, baseline, labels, groups, over=over, n_resamples=3000)["all"]
        expected = np.quantile(drawn, [0.025, 0.975], axis=0)
        assert np.allclose([found.low, found.high], expected[:, 0], atol=1.2)
        assert np.allclose([paired.low, paired.high], expected[:, 1], atol=1.8)
    assert paired.high - paired.low > 5, "the figures vary enough for the comparison to mean something"


def test_all_right_has_no_spread_and_one_resample_is_refused() -> None:
    figure = group_accuracy(LABELS, LABELS, GROUPS)["all"]
    assert (figure.value, figure.low, figure.high) == (100, 100, 100)
    with pytest.raises(InputError, match="1 bootstrap resamples"):
        group_accuracy(LABELS, LABELS, GROUPS, n_resamples=1)
