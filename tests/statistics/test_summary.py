"""From rows to figures: worked by hand."""

import json
import math
from collections.abc import Callable

import pytest

from rayfs.errors import InputError
from rayfs.runs.rows import Row
from rayfs.statistics.intervals import episodes_needed
from rayfs.statistics.summary import looked_at, observations, summarise

MakeRow = Callable[..., Row]


def test_figures_are_the_ones_worked_by_hand(make_row: MakeRow) -> None:
    rows = [make_row(i, "lr", accuracy, seconds=1.0) for i, accuracy in enumerate([0.8, 0.8, 0.5])]
    rows += [
        make_row(i, "ours", accuracy, seconds=2.0 + i, loss_base=0.5 * i, loss_support=0.1)
        for i, accuracy in enumerate([0.9, 0.8, 0.7])
    ]
    summary = summarise(rows, "lr", ["ours", "lr"])
    assert list(summary.methods) == ["ours", "lr"]
    ours = summary.to_json()["methods"]["ours"]
    # 90, 80, 70: std 10, t(0.975, 2) = 4.30265273; gains 10, 0, 20: mean 10, std 10; sign test 2 wins: 2 / 4
    assert ours == {
        "n": 3,
        "n_distinct": 3,
        "n_failed": 0,
        "accuracy": pytest.approx(80),
        "ci95": pytest.approx(4.30265273 * 10 / math.sqrt(3)),
        "gain": pytest.approx(10),
        "gain_ci95": pytest.approx(4.30265273 * 10 / math.sqrt(3)),
        "n_paired": 3,
        "win": 2,
        "tie": 1,
        "loss": 0,
        "p_sign": pytest.approx(0.5),
        "p_wilcoxon": pytest.approx(0.5),
        "seconds_per_episode": pytest.approx(3.0),
        "mean_loss_base": pytest.approx(0.5),
        "mean_loss_support": pytest.approx(0.1),
        "episodes_for_half_point": episodes_needed(10, 0.5),
    }
    baseline = summary.methods["lr"]
    assert baseline.accuracy == pytest.approx(70)
    assert [baseline.gain, baseline.gain_ci95, baseline.win, baseline.p_sign, baseline.mean_loss_base] == [None] * 5


def test_an_episode_that_is_there_twice_counts_once(make_row: MakeRow) -> None:
    once = [make_row(i, accuracy=a, episode_hash=str(i)) for i, a in enumerate([0.6, 0.8, 0.7])]
    twice = once + [make_row(i + 3, accuracy=a, episode_hash=str(i)) for i, a in enumerate([0.6, 0.8, 0.7])]
    one, two = (summarise(rows, None, ["logistic-regression"]).methods["logistic-regression"] for rows in (once, twice))
    assert (two.n, two.n_distinct) == (6, 3)
    assert two.ci95 == pytest.approx(one.ci95), "a repeated episode does not narrow the interval"
    assert two.accuracy == pytest.approx(one.accuracy)
    assert observations([make_row(0, accuracy=0.5, episode_hash="h"), make_row(1, accuracy=0.7, episode_hash="h")]) == {
        "h": pytest.approx(60)
    }


def test_failed_episodes_are_counted_but_never_averaged(make_row: MakeRow) -> None:
    rows = [make_row(0, "lr"), make_row(1, "lr"), make_row(0, "ours", 0.9), make_row(1, "ours", None, seconds=99.0)]
    ours = summarise(rows, "lr", ["lr", "ours"]).methods["ours"]
    assert (ours.n, ours.n_failed, ours.n_paired) == (1, 1, 1)
    assert ours.accuracy == pytest.approx(90)
    assert ours.gain == pytest.approx(10)
    assert ours.seconds_per_episode == 1.5


def test_what_is_undefined_is_none_and_the_summary_is_json(make_row: MakeRow) -> None:
    rows = [make_row(0, "lr"), make_row(0, "ours", loss_base=math.nan, loss_support=math.inf)]
    summary = summarise(rows, "lr", ["lr", "ours", "not run yet"])
    assert json.loads(json.dumps(summary.to_json(), allow_nan=False)) == summary.to_json()
    ours, missing = summary.methods["ours"], summary.methods["not run yet"]
    assert (ours.ci95, ours.gain_ci95, ours.mean_loss_base, ours.mean_loss_support) == (None,) * 4
    assert (ours.tie, ours.p_sign, ours.p_wilcoxon) == (1, None, None)
    assert (missing.n, missing.n_distinct, missing.n_failed, missing.accuracy) == (0, 0, 0, None)


def test_order_of_the_rows_changes_no_bit(make_row: MakeRow) -> None:
    rows = [make_row(i, m, (7 * i % 11) / 11 / (1 + (m == "b"))) for i in range(20) for m in "ab"]
    assert summarise(rows, "a", ["a", "b"]) == summarise(rows[::-1], "a", ["a", "b"])


def test_without_a_baseline_there_are_no_gains(make_row: MakeRow) -> None:
    summary = summarise([make_row(0, "lr"), make_row(1, "lr")], None, ["lr"])
    assert summary.baseline is None
    assert summary.methods["lr"].gain is None


def test_a_baseline_that_is_not_a_method_is_an_input_error(make_row: MakeRow) -> None:
    with pytest.raises(InputError, match="baseline 'knn' is not one of the methods lr, ours"):
        summarise([make_row()], "knn", ["lr", "ours"])


@pytest.mark.parametrize(
    ("methods", "baseline", "expected"),
    [
        (["lr", "support-only", "label-halluc"], "lr", "label-halluc"),
        (["lr", "support-only", "hard-label"], "lr", "support-only"),
        (["lr", "label-halluc:steps=9"], "lr", "label-halluc:steps=9"),
        (["support-only", "lr"], None, "support-only"),
        (["lr"], "lr", "lr"),
        (["label-halluc", "lr"], "label-halluc", "lr"),
        ([], None, None),
    ],
)
def test_the_method_that_is_looked_at(methods, baseline, expected) -> None:
    assert looked_at(methods, baseline) == expected
