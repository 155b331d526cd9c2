"""Tables as they are printed."""

from collections.abc import Callable

import pytest

from rayfs.reports.summary_table import error_table, summary_table
from rayfs.reports.table_exports import text_table
from rayfs.reports.text_table import aligned, plus_minus
from rayfs.runs.rows import Row
from rayfs.statistics.summary import MethodFigures, RunSummary, summarise

MakeRow = Callable[..., Row]


@pytest.fixture(scope="module")
def summary(make_row: MakeRow) -> RunSummary:
    rows = [make_row(i, "lr", a) for i, a in enumerate([0.80, 0.82, 0.78, 0.80])]
    rows += [make_row(i, "label-halluc", a, seconds=12.345) for i, a in enumerate([0.81, 0.83, 0.80])]
    rows += [make_row(3, "label-halluc", None)]
    return summarise(rows, "lr", ["label-halluc", "lr"])


def test_result_table_is_this_text(summary: RunSummary) -> None:
    assert text_table(summary_table(summary, "frozen LR")) == (
        "             │            │              │         gain vs │              │        │        \n"
        "             │          n │   accuracy % │       frozen LR │              │        │   s per\n"
        "method       │ (distinct) │     ± 95% CI │ ± paired 95% CI │ win/tie/loss │      p │ episode\n"
        "─────────────┼────────────┼──────────────┼─────────────────┼──────────────┼────────┼────────\n"
        "label-halluc │      3 (3) │ 81.33 ± 3.79 │    +1.33 ± 1.43 │        3/0/0 │ 0.2500 │    12.3\n"
        "lr           │      4 (4) │ 80.00 ± 2.60 │               – │            – │      – │     1.5\n"
        "p: Wilcoxon signed-rank test, two-sided, on the same episodes.\n"
        "Episodes needed for ±0.5 points: label-halluc 39, lr 44.\n"
        "label-halluc: 1 failed episodes are not in the means.\n"
    ).replace("│        \n", "│\n")


def test_without_a_baseline_the_paired_columns_are_left_out(make_row: MakeRow) -> None:
    summary = summarise([make_row(0, "lr"), make_row(1, "lr", episode_hash="hash-0")], None, ["lr", "none"])
    text = text_table(summary_table(summary))
    assert "gain" not in text and "Wilcoxon" not in text
    assert "lr: 2 episodes are only 1 distinct ones." in text
    assert "lr     │      2 (1) │      80.00 │     1.5\n" in text
    assert "none   │      0 (0) │          – │       –\n" in text


def test_thousands_of_episodes_fit_100_columns() -> None:
    figures = MethodFigures(
        n=2000, n_distinct=2000, n_failed=0, accuracy=90.0, ci95=1.55, seconds_per_episode=12345.6, mean_loss_base=None,
        mean_loss_support=None, episodes_for_half_point=None, gain=-10.55, gain_ci95=1.55, win=1000, tie=500, loss=500,
        p_wilcoxon=1e-9,
    )  # fmt: skip
    summary = RunSummary(baseline="lr", methods={"m" * 18: figures, "lr": figures})
    text = text_table(summary_table(summary, "frozen LR"))
    assert max(map(len, text.splitlines())) <= 100
    assert "<0.0001" in text and "12346" in text


def test_error_table_ranks_this_run_among_the_published_systems(summary: RunSummary) -> None:
    assert text_table(error_table(summary, {"people": 4.5, "some network": 19.0, "chance": 95.0})) == (
        "             │      error % │           │          n\n"
        "system       │     ± 95% CI │    source │ (distinct)\n"
        "─────────────┼──────────────┼───────────┼───────────\n"
        "people       │         4.50 │ published │          –\n"
        "label-halluc │ 18.67 ± 3.79 │  this run │      3 (3)\n"
        "some network │        19.00 │ published │          –\n"
        "lr           │ 20.00 ± 2.60 │  this run │      4 (4)\n"
        "chance       │        95.00 │ published │          –\n"
    )


@pytest.mark.parametrize(
    ("mean", "half_width", "sign", "digits", "text"),
    [
        (90.123, 1.7, "", 2, "90.12 ± 1.70"),
        (0.55, 0.84, "+", 1, "+0.6 ± 0.8"),
        (-0.04, None, "+", 2, "-0.04"),
        (None, None, "", 2, "–"),
    ],
)
def test_a_figure_is_printed_with_its_interval(
    mean: float | None, half_width: float | None, sign: str, digits: int, text: str
) -> None:
    assert plus_minus(mean, half_width, sign=sign, digits=digits) == text


def test_columns_are_set_left_then_right() -> None:
    assert aligned([["a", "two\nlines"], ["long", "1"]]) == "     │   two\na    │ lines\n─────┼──────\nlong │     1"
