"""Intervals and paired tests: worked by hand, against scipy, and against naive loops."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from rayfs.errors import InputError
from rayfs.statistics import intervals as stats
from rayfs.statistics.intervals import (
    episodes_needed,
    half_width,
    mean_interval,
    paired_difference,
    sign_test,
    wilcoxon_test,
)
from rayfs.statistics.running_mean import RunningMean

accuracies = st.lists(st.integers(0, 75).map(lambda k: k / 75), min_size=2, max_size=40)


@pytest.mark.parametrize(
    ("values", "mean", "std", "half"),
    [
        # t(0.975, 1) = 12.7062, t(0.975, 2) = 4.302653, t(0.975, 3) = 3.182446
        ([0.8, 0.9], 0.85, 0.070710678, 0.635310237),
        ([0.8, 0.9, 1.0], 0.9, 0.1, 0.248413771),
        ([1.0, 1.0, 0.0, 0.0], 0.5, 0.577350269, 0.918693116),
        ([0.5, 0.5, 0.5], 0.5, 0.0, 0.0),
    ],
)
def test_interval_is_the_one_worked_by_hand(values: list[float], mean: float, std: float, half: float) -> None:
    interval = mean_interval(values)
    assert interval.n == len(values)
    assert (interval.mean, interval.std, interval.half_width) == pytest.approx((mean, std, half), abs=1e-8)


def test_one_episode_has_a_mean_but_no_interval() -> None:
    interval = mean_interval([0.7])
    assert (interval.n, interval.mean, interval.std, interval.half_width) == (1, 0.7, None, None)


def test_no_episode_is_an_input_error() -> None:
    with pytest.raises(InputError, match="mean of 0 episodes"):
        mean_interval([])


@settings(deadline=None)
@given(accuracies)
def test_interval_agrees_with_scipy(values: list[float]) -> None:
    interval = mean_interval(values)
    assert interval.std is not None and interval.half_width is not None
    assert interval.std == pytest.approx(np.std(values, ddof=1), abs=1e-12)
    expected = scipy.stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    assert interval.half_width == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(st.data(), accuracies)
def test_no_bit_of_a_result_depends_on_the_order_of_the_episodes(data: st.DataObject, values: list[float]) -> None:
    assert mean_interval(data.draw(st.permutations(values))) == mean_interval(values)


@settings(deadline=None)
@given(accuracies)
def test_running_mean_agrees_with_the_interval_of_all_values(values: list[float]) -> None:
    running = RunningMean()
    assert running.interval() is None
    for value in values:
        running.add(value)
    now, whole = running.interval(), mean_interval(values)
    assert now is not None and now.n == whole.n
    assert (now.mean, now.std, now.half_width) == pytest.approx((whole.mean, whole.std, whole.half_width), abs=1e-9)


@pytest.mark.parametrize(
    ("win", "loss", "p"),
    [
        (5, 0, 2 / 32),
        (0, 5, 2 / 32),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
        (3, 3, 1.0),
        (1, 0, 1.0),
        (0, 0, None),
    ],
)
def test_sign_test_is_the_one_worked_by_hand(win: int, loss: int, p: float | None) -> None:
    assert sign_test(win, loss) == (None if p is None else pytest.approx(p, abs=1e-12))


@given(st.integers(0, 300), st.integers(1, 300))
def test_sign_test_agrees_with_scipy(win: int, loss: int) -> None:
    assert sign_test(win, loss) == pytest.approx(scipy.stats.binomtest(win, win + loss).pvalue, rel=1e-9)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3, 4, 5], 2 / 32),
        # W- = 5: of the 32 subsets of the ranks 1..5, 1+1+1+2+2+3 = 10 sum to at most 5.
        ([1, 2, 3, 4, -5], 2 * 10 / 32),
        ([0, 0, 1, 2, 3, 4, 5], 2 / 32),
        ([0, 0, 0], None),
    ],
)
def test_wilcoxon_is_the_one_worked_by_hand(differences: list[float], p: float | None) -> None:
    assert wilcoxon_test(differences) == (None if p is None else pytest.approx(p, abs=1e-12))


def test_the_last_bits_of_a_difference_do_not_decide_ranks() -> None:
    in_floats = [0.8 - 0.6, 0.6 - 0.4, 0.4 - 0.2, -(0.3 - 0.1), 0.9 - 0.7]
    assert len({abs(difference) for difference in in_floats}) > 1
    assert wilcoxon_test(in_floats) == wilcoxon_test([0.2, 0.2, 0.2, -0.2, 0.2])


def test_paired_difference_is_the_one_worked_by_hand() -> None:
    paired = paired_difference({0: 0.9, 1: 0.8, 2: 0.7, 3: 0.6}, {0: 0.8, 1: 0.8, 2: 0.5, 3: 0.7})
    # differences 0.1, 0, 0.2, -0.1: mean 0.05, std sqrt(0.05 / 3), h = 3.182446 * std / 2
    assert (paired.win, paired.tie, paired.loss) == (2, 1, 1)
    assert paired.interval.mean == pytest.approx(0.05)
    assert paired.interval.half_width == pytest.approx(3.18244631 * math.sqrt(0.05 / 3) / 2)
    assert paired.p_sign == pytest.approx(1.0)


def test_equal_accuracies_computed_in_two_ways_are_a_tie() -> None:
    assert 0.1 + 0.2 != 0.3
    paired = paired_difference({0: 0.1 + 0.2}, {0: 0.3})
    assert (paired.win, paired.tie, paired.loss, paired.p_sign, paired.p_wilcoxon) == (0, 1, 0, None, None)
    assert paired.interval.mean == 0.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 75), st.integers(0, 75)), min_size=1, max_size=30))
def test_swapping_method_and_baseline_mirrors_the_comparison(pairs: list[tuple[int, int]]) -> None:
    a = {i: x / 75 for i, (x, _) in enumerate(pairs)}
    b = {i: y / 75 for i, (_, y) in enumerate(pairs)}
    forth, back = paired_difference(a, b), paired_difference(b, a)
    naive = [sum(x > y for x, y in pairs), sum(x == y for x, y in pairs), sum(x < y for x, y in pairs)]
    assert [forth.win, forth.tie, forth.loss] == naive == [back.loss, back.tie, back.win]
    assert forth.interval.mean == -back.interval.mean
    assert forth.interval.half_width == back.interval.half_width
    assert forth.p_sign == back.p_sign
    assert forth.p_wilcoxon == (None if back.p_wilcoxon is None else pytest.approx(back.p_wilcoxon))


@pytest.mark.parametrize(
    ("values", "baseline", "message"),
    [
        ({0: 0.1, 1: 0.1, 7: 0.1}, {0: 0.1, 1: 0.1}, "3 episodes with 2: 1 are not in both; .* episode 7, .* method's"),
        ({5: 0.1}, {3: 0.1, 5: 0.1}, "episode 3, is only in the baseline's"),
    ],
)
def test_pairing_different_episodes_is_refused(values: dict, baseline: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        paired_difference(values, baseline)


@settings(deadline=None)
@given(st.floats(0.01, 0.3), st.floats(0.002, 0.1))
def test_episodes_needed_is_the_smallest_number_that_suffices(std: float, target: float) -> None:
    n = episodes_needed(std, target)
    assert half_width(std, n) <= target
    assert n == 2 or half_width(std, n - 1) > target


def test_episodes_needed_agrees_with_a_naive_loop() -> None:
    n = 2
    while scipy.stats.t.ppf(0.975, n - 1) * 8.0 / math.sqrt(n) > 0.5:
        n += 1
    assert episodes_needed(8.0, 0.5) == n == 986


def test_equal_episodes_need_two_for_any_interval() -> None:
    assert episodes_needed(0.0, 0.5) == 2


@pytest.mark.parametrize(("std", "target"), [(1.0, 0.0), (1.0, -1.0), (math.nan, 1.0), (math.inf, 1.0), (-1.0, 1.0)])
def test_episodes_needed_refuses_what_has_no_answer(std: float, target: float) -> None:
    with pytest.raises(InputError, match="give a positive"):
        episodes_needed(std, target)


def test_the_package_imports_neither_torch_nor_ray_and_scipy_only_when_used() -> None:
    with_torch = {"__init__", "long_tail_summary"}  # the bootstrap of a long tail is drawn by torch's generator
    names = sorted({path.stem for path in Path(stats.__file__).parent.glob("*.py")} - with_torch)
    code = "import sys, " + ", ".join(f"rayfs.statistics.{name}" for name in names)
    code += "; print([name for name in ('torch', 'ray', 'scipy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
