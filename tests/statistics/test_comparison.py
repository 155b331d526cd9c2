"""Pairing by episode and the figures of a comparison: worked by hand."""

import json
import math
from collections.abc import Callable

import pytest

from rayfs.errors import InputError
from rayfs.reports.comparison.table import paired_text, unpaired_text
from rayfs.runs.rows import Row
from rayfs.statistics.comparison import compare, compare_unpaired, plain_comparison
from rayfs.statistics.intervals import correlation, episodes_needed, unpaired_difference
from rayfs.statistics.pairing import Side, pair

MakeRow = Callable[..., Row]

T2, T3 = 4.30265273, 3.18244631
"""t(0.975, 2) and t(0.975, 3)."""


@pytest.fixture
def side(make_row: MakeRow) -> Callable[..., Side]:
    """Return a function that makes a side of accuracies, or of (episode number, hash, accuracy)."""

    def make(name: str, *accuracies: float | None, rows: list[tuple[int, str, float | None]] | None = None) -> Side:
        triples = rows or [(i, f"h{i}", accuracy) for i, accuracy in enumerate(accuracies)]
        return Side(name=name, rows=[make_row(i, accuracy=a, episode_hash=h) for i, h, a in triples])

    return make


def test_figures_are_the_ones_worked_by_hand(side) -> None:
    a, b = side("lr of A", 0.9, 0.8, 0.7, 0.6), side("lr of B", 0.8, 0.8, 0.5, 0.7)
    comparison = compare("lr", pair(a, b), {"h0": [1, 2], "h1": [2, 3], "h2": [3, 4], "h3": [5, 6]}, 0.5)
    figures = comparison.figures
    # A: 90 80 70 60, squares 500; B: 80 80 50 70, mean 70, squares 600; products 15*10 + 5*10 + 5*20 + 0 = 300
    assert (figures.a.mean, figures.b.mean) == pytest.approx((75, 70))
    assert figures.a.half_width == pytest.approx(T3 * math.sqrt(500 / 3) / 2)
    assert figures.b.half_width == pytest.approx(T3 * math.sqrt(200) / 2)
    assert figures.correlation == pytest.approx(300 / math.sqrt(500 * 600))
    # differences 10 0 20 -10: mean 5, squares 25 + 25 + 225 + 225 = 500
    difference = figures.difference
    assert difference.interval.mean == pytest.approx(5)
    assert difference.interval.half_width == pytest.approx(T3 * math.sqrt(500 / 3) / 2)
    assert (difference.win, difference.tie, difference.loss) == (2, 1, 1)
    assert difference.p_sign == pytest.approx(1.0)
    assert comparison.episodes_for_target == episodes_needed(math.sqrt(500 / 3), 0.5)
    # h1 shares image 2 with h0; h2 and h3 share none with what is kept: 10, 20, -10
    assert comparison.disjoint is not None
    assert comparison.disjoint.difference.interval.n == 3
    assert comparison.disjoint.difference.interval.mean == pytest.approx(20 / 3)
    squares = (10 - 20 / 3) ** 2 + (20 - 20 / 3) ** 2 + (-10 - 20 / 3) ** 2
    assert comparison.disjoint.difference.interval.half_width == pytest.approx(T2 * math.sqrt(squares / 2 / 3))


def test_episodes_are_paired_by_hash_whatever_their_numbers(side) -> None:
    a = side("a", rows=[(0, "x", 0.9), (1, "y", 0.5), (2, "z", 0.7)])
    b = side("b", rows=[(0, "z", 0.6), (7, "x", 0.9), (9, "y", 0.4)])
    pairing = pair(a, b)
    assert pairing.episodes == ["x", "y", "z"]
    assert [pairing.a[e] - pairing.b[e] for e in pairing.episodes] == pytest.approx([0, 10, 10])


def test_episodes_stay_in_the_order_of_their_numbers_in_a_whatever_their_hashes(side) -> None:
    """Which of them are disjoint is decided in this order: z, the first, leaves no place for the others."""
    a = side("a", rows=[(0, "z", 0.9), (1, "m", 0.5), (2, "b", 0.7)])
    b = side("b", rows=[(0, "b", 0.6), (1, "m", 0.1), (2, "z", 0.5)])
    pairing = pair(a, b)
    assert pairing.episodes == ["z", "m", "b"]
    assert [(pairing.a[e], pairing.b[e]) for e in pairing.episodes] == [(90, 50), (50, 10), (70, 60)]
    disjoint = compare("a", pairing, {"z": [1, 2], "m": [1], "b": [2]}, 0.5).disjoint
    assert disjoint is not None and (disjoint.a.n, disjoint.difference.interval.mean) == (1, pytest.approx(40))


def test_an_episode_that_is_there_twice_is_one_pair(side) -> None:
    a = side("a", rows=[(0, "x", 0.8), (1, "x", 0.6), (2, "y", 0.5)])
    pairing = pair(a, side("b", rows=[(0, "x", 0.6), (1, "y", 0.5)]))
    assert pairing.episodes == ["x", "y"]
    assert pairing.a["x"] == pytest.approx(70)


def test_other_episodes_are_refused_with_the_first_number_and_both_hashes(side) -> None:
    a = side("lr of runs/a", rows=[(0, "x", 0.8), (3, "y", 0.6), (4, "z", 0.6)])
    b = side("lr of runs/b", rows=[(0, "x", 0.8), (3, "u", 0.6), (4, "v", 0.6)])
    with pytest.raises(InputError) as refused:
        pair(a, b)
    assert str(refused.value) == (
        "cannot pair lr of runs/a with lr of runs/b: of 3 and 3 episodes 1 are in both; the first that differs, "
        "episode 3, is y in lr of runs/a and u in lr of runs/b; run both on the same episodes, or pass --common to "
        "compare those 1 only"
    )


@pytest.mark.parametrize("swapped", [False, True])
def test_episodes_that_one_side_lacks_are_named_as_missing(side, swapped: bool) -> None:
    long, short = side("the long", 0.9, 0.8, 0.7, 0.6), side("the short", 0.9, 0.8)
    with pytest.raises(
        InputError, match=r"the first that differs, episode 2 \(h2 in the long\), is missing in the short"
    ):
        pair(*((short, long) if swapped else (long, short)))


def test_common_episodes_are_compared_and_the_others_are_counted(side) -> None:
    pairing = pair(side("a", 0.9, 0.8, 0.7, 0.6), side("b", 0.8, 0.8), common=True)
    assert (pairing.episodes, pairing.only_a, pairing.only_b) == (["h0", "h1"], 2, 0)
    text = paired_text([compare("lr", pairing, {}, 0.5)], 0.5)
    assert "lr: 2 episodes that only A has and 0 that only B has are left out." in text


@pytest.mark.parametrize("common", [False, True])
def test_no_common_episode_is_always_refused(side, common: bool) -> None:
    a, b = side("a", rows=[(0, "x", 0.8)]), side("b", rows=[(0, "y", 0.8), (1, "z", 0.8)])
    with pytest.raises(
        InputError, match=r"of 1 and 2 episodes none is in both; .* episode 0, is x in a and y in b; .*"
    ):
        pair(a, b, common=common)


def test_failed_episodes_are_in_no_figure_and_are_counted(side) -> None:
    pairing = pair(side("a", 0.9, None, 0.7, None), side("b", 0.8, 0.8, None, None))
    assert (pairing.episodes, pairing.failed_a, pairing.failed_b) == (["h0"], 2, 2)
    comparison = compare("lr", pairing, {}, 0.5)
    assert "lr: 2 episodes failed in A and 2 in B; they are in no figure." in paired_text([comparison], 0.5)
    assert comparison.episodes_for_target is None, "a single episode says nothing about spread"


def test_sides_that_finished_nothing_in_common_are_refused(side) -> None:
    with pytest.raises(InputError, match="none of the 2 episodes of both finished in both"):
        pair(side("a", 0.9, None), side("b", None, 0.9))
    with pytest.raises(InputError, match="none of the 2 rows of b is ok"):
        compare_unpaired("lr", side("a", 0.9), side("b", None, None))


def test_disjoint_episodes_leave_out_those_whose_images_are_not_known(side) -> None:
    pairing = pair(side("a", 0.9, 0.8, 0.7), side("b", 0.8, 0.8, 0.8))
    comparison = compare("lr", pairing, {"h0": [1], "h2": [2]}, 0.5)
    assert comparison.disjoint is not None and comparison.disjoint.difference.interval.n == 2
    assert comparison.without_row_ids == 1
    assert "lr: the images of 1 episodes are not known" in paired_text([comparison], 0.5)
    assert compare("lr", pairing, {}, 0.5).disjoint is None


def test_plain_figures_are_valid_json(side) -> None:
    paired = plain_comparison(compare("lr", pair(side("a", 0.9), side("b", 0.9)), {"h0": [1]}, 0.5))
    unpaired = plain_comparison(compare_unpaired("lr", side("a", 0.9, 0.9), side("b", 0.8)))
    for figures in (paired, unpaired):
        assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert paired["disjoint"]["n"] == paired["n"] == paired["tie"] == 1
    assert [paired[key] for key in ("difference_ci95", "p_sign", "p_wilcoxon", "correlation")] == [None] * 4
    assert (unpaired["difference"], unpaired["difference_ci95"], unpaired["p_welch"]) == (pytest.approx(10), None, None)
    assert (unpaired["n_common"], unpaired["a"]["n"], unpaired["b"]["n"]) == (1, 2, 1)


def test_tables_hold_the_figures(side) -> None:
    pairing = pair(side("a", 0.9, 0.8, 0.7, 0.6), side("b", 0.8, 0.8, 0.5, 0.7))
    text = paired_text([compare("x − y", pairing, {"h0": [1], "h1": [1], "h2": [2], "h3": [2]}, 1.0)], 1.0)
    lines = [line.split(" │ ") for line in text.splitlines() if line.startswith("x − y")]
    assert [cell.strip() for cell in lines[0]] == [
        "x − y", "4", "75.00 ± 20.54", "70.00 ± 22.50", "+5.00 ± 20.54", "2/1/1",
    ]  # fmt: skip
    assert lines[1][1].strip() == "2", "two episodes share no image"
    assert [cell.strip() for cell in lines[2]][3:] == ["0.548", str(episodes_needed(math.sqrt(500 / 3), 1.0))]
    assert "A − B ± 1\n" in text and max(map(len, text.splitlines())) <= 100


def test_an_unpaired_table_says_so_first(side) -> None:
    same = unpaired_text([compare_unpaired("lr", side("a", 0.9, 0.8), side("b", 0.8, 0.8))])
    assert same.startswith("UNPAIRED (Welch's t interval)")
    assert "lr: 2 episodes are in both; without --force-unpaired they are paired." in same
    other = unpaired_text([compare_unpaired("lr", side("a", 0.9, 0.8, 0.7), side("b", 0.8, 0.8))])
    assert "lr: 2 episodes are in both; without --force-unpaired, with --common, they are paired." in other


def test_welch_is_the_one_worked_by_hand() -> None:
    # 1 2 3: variance 1, v 1/3; 2 6: variance 8, v 4; df = (13/3)^2 / ((1/3)^2 / 2 + 4^2 / 1)
    difference = unpaired_difference([1, 2, 3], [2, 6])
    assert difference.mean == -2
    assert difference.degrees_of_freedom == pytest.approx((169 / 9) / (1 / 18 + 16))


def test_welch_agrees_with_scipy() -> None:
    import scipy.stats

    a, b = [0.1, 0.5, 0.3, 0.9, 0.2], [0.4, 0.45, 0.8]
    expected = scipy.stats.ttest_ind(a, b, equal_var=False)
    interval, found = expected.confidence_interval(0.95), unpaired_difference(a, b)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.degrees_of_freedom == pytest.approx(expected.df)
    assert found.half_width == pytest.approx((interval.high - interval.low) / 2)


def test_welch_without_spread_has_no_test() -> None:
    difference = unpaired_difference([0.5, 0.5], [0.25, 0.25])
    assert (difference.mean, difference.half_width, difference.p) == (0.25, 0.0, None)


@pytest.mark.parametrize(
    ("pairs", "r"),
    [
        ([(1, 2), (2, 4), (3, 6)], 1.0),
        ([(1, 6), (2, 4), (3, 2)], -1.0),
        ([(0, 0), (0, 1), (1, 0), (1, 1)], 0.0),
        # deviations -1 0 1 and 0 -1 1: 1 / sqrt(2 * 2)
        ([(1, 1), (2, 0), (3, 2)], 0.5),
        ([(1, 2)], None),
        ([(1, 2), (1, 3)], None),
        ([(0.1 + 0.2, 2), (0.3, 3)], None),
        ([], None),
    ],
)
def test_correlation_is_the_one_worked_by_hand(pairs: list[tuple[float, float]], r: float | None) -> None:
    assert correlation(pairs) == (None if r is None else pytest.approx(r, abs=1e-12))
