"""The search: its figures are those of evaluating each setting alone, and its draws can be repeated."""

from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
import torch
from small_problem import COUNTS

from rayfs.errors import InputError
from rayfs.long_tail.centres import compose
from rayfs.long_tail.ensemble import predict
from rayfs.long_tail.groups import class_groups
from rayfs.long_tail.search import best_setting, score_settings
from rayfs.long_tail.search_space import TransferSetting, TransferSpace, distinct_thresholds, draw_block
from rayfs.long_tail.settings import TERMS, paper_classifiers

GROUPS = {name: members for name, members in class_groups(np.array(COUNTS)).items() if name != "many"}


def test_a_search_gives_the_figures_of_each_setting_alone(problem) -> None:
    space = TransferSpace(attention=("p-w", "w-w"), block=12)
    settings = [s for i in range(6) for s in draw_block(space, distinct_thresholds(COUNTS), 3, i)]
    assert len({(s.tau, s.terms, s.attention, s.own_neighbour) for s in settings}) == 6
    labels = problem.test_labels_N
    kept = (labels != 1) & (torch.arange(len(labels)) % 5 != labels % 5)  # unequal numbers, and none of class 1
    features, labels = problem.test_ND[kept], labels[kept]
    scored = score_settings(features, labels, problem.centres, GROUPS, settings)
    for setting, found in zip(settings, scored, strict=True):
        composed = compose(problem.centres, setting.classifier, setting.attention, setting.own_neighbour)
        answers = predict(features, {"one": setting.classifier}, composed, problem.centres.scale)["one"]
        for group, members in GROUPS.items():
            of_class = [100 * (answers[labels == c] == c).mean() for c in np.flatnonzero(members) if c != 1]
            assert np.isclose(found.accuracy[group], np.mean(of_class), atol=1e-4)
    assert len({round(s.accuracy["all"], 3) for s in scored}) > 5, "settings matter here"
    best = best_setting(scored, "few")
    assert best.accuracy["few"] == max(s.accuracy["few"] for s in scored)
    assert best_setting(scored, "groups").value("groups") == max(
        (s.accuracy["medium"] + s.accuracy["few"]) / 2 for s in scored
    )


def test_equal_accuracies_are_equal_in_the_last_bit_whatever_the_matrix_product_makes_of_them(problem) -> None:
    """Else the processor chooses among equals: exact fractions of the answers against the figures."""
    space = TransferSpace(attention=("p-w", "w-w"), block=40)
    settings = [s for i in range(3) for s in draw_block(space, distinct_thresholds(COUNTS), 5, i)]
    labels = problem.test_labels_N
    kept = torch.arange(len(labels)) % 5 != labels % 5  # unequal numbers
    features, labels = problem.test_ND[kept], labels[kept]
    scored = score_settings(features, labels, problem.centres, GROUPS, settings)
    found: dict[Fraction, set[float]] = {}
    for setting, one in zip(settings, scored, strict=True):
        composed = compose(problem.centres, setting.classifier, setting.attention, setting.own_neighbour)
        answers = predict(features, {"one": setting.classifier}, composed, problem.centres.scale)["one"]
        right = [Fraction(int((answers[labels == c] == c).sum()), int((labels == c).sum())) for c in range(len(COUNTS))]
        found.setdefault(sum(right, Fraction(0)) / len(right), set()).add(one.accuracy["all"])
    assert max(map(len, found.values())) == 1
    assert len(found) < len(settings), "some are equal"


def test_one_image_at_a_time_gives_the_same(problem, monkeypatch) -> None:
    settings = draw_block(TransferSpace(block=10), distinct_thresholds(COUNTS), 0, 0)
    arguments = (problem.test_ND, problem.test_labels_N, problem.centres, GROUPS, settings)
    together = score_settings(*arguments)
    monkeypatch.setattr("rayfs.long_tail.search.CACHED", 1)
    assert score_settings(*arguments) == together


def test_thresholds_to_choose_from_are_those_that_make_a_difference() -> None:
    assert distinct_thresholds((40, 25, 20, 20, 9, 3, 1)) == (0, 1, 3, 9, 20)
    assert distinct_thresholds((5, 5)) == (0,)
    with pytest.raises(InputError, match="1 classes"):
        distinct_thresholds((5,))


def test_draws_are_distinct_within_the_space_and_can_be_repeated() -> None:
    space = TransferSpace(tau=(2.0, 8.0), max_members=2, block=30)
    blocks = [draw_block(space, range(50), 1, i) for i in range(20)]
    assert blocks == [draw_block(space, range(50), 1, i) for i in range(20)]
    assert blocks[0] != draw_block(space, range(50), 2, 0)
    for block in blocks:
        assert len({s.thresholds for s in block}) == len(block) == 30
        assert all(2 <= s.tau <= 8 and 1 <= len(s.thresholds) <= 2 for s in block)
    assert {s.terms for block in blocks for s in block} == {TERMS, TERMS[:2]}
    assert len({block[0].tau for block in blocks}) == 20
    fewer = draw_block(replace(space, thresholds_of_block=9), range(50), 1, 0)
    assert len(fewer) == 30 and len({k for s in fewer for k in s.thresholds}) == 9


def test_few_sets_of_thresholds_are_all_there() -> None:
    block = draw_block(TransferSpace(), (0, 3, 9), 0, 0)
    expected = [s for size in (1, 2, 3) for s in combinations((0, 3, 9), size)]
    assert [s.thresholds for s in block] == expected


def test_the_default_setting_is_the_ensemble_of_the_paper() -> None:
    assert TransferSetting().classifier == paper_classifiers((0, 20, 100), 10.0, True)["ensemble"]
    assert TransferSetting().describe() == "k 0, 20, 100, τ 10, terms transfer + prototype + weight, attention p-w"


@pytest.mark.parametrize(
    "changes", [{"tau": (0.0, 1.0)}, {"tau": (2.0, 1.0)}, {"block": 0}, {"max_members": 0}, {"terms": ()}]
)
def test_spaces_without_settings_are_refused(changes) -> None:
    with pytest.raises(InputError):
        TransferSpace(**changes)


def test_no_images_and_groups_without_images_are_refused(problem) -> None:
    with pytest.raises(InputError, match="0 validation images"):
        score_settings(problem.test_ND[:0], problem.test_labels_N[:0], problem.centres, GROUPS, [TransferSetting()])
    setting = TransferSetting(thresholds=(0,))
    scored = score_settings(problem.test_ND[:12], problem.test_labels_N[:12], problem.centres, GROUPS, [setting])
    with pytest.raises(InputError, match="no class of 'few' has validation images"):
        best_setting(scored, "few")
