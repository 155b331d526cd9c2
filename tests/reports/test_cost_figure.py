"""Accuracy against seconds: which points there are, and what is joined."""

import re

import pytest

from rayfs.reports.episodes.cost_figure import cost_points, draw_cost, families
from rayfs.reports.figure_style import method_colours
from rayfs.statistics.summary import MethodFigures, RunSummary


def figures(seconds: float | None, accuracy: float, gain: float | None) -> MethodFigures:
    return MethodFigures(
        n=9, n_distinct=9, n_failed=0, accuracy=accuracy, ci95=1.0, seconds_per_episode=seconds, mean_loss_base=None,
        mean_loss_support=None, episodes_for_half_point=None, gain=gain, gain_ci95=None if gain is None else 0.5,
    )  # fmt: skip


METHODS = {
    "lr": figures(0.1, 80.0, None),
    "label-halluc": figures(30.0, 82.0, 2.0),
    "label-halluc:steps=50": figures(6.0, 81.5, 1.5),
    "support-only": figures(10.0, 78.0, -2.0),
    "label-halluc:steps=9": figures(None, 81.5, 1.5),
}


def test_points_are_gains_of_the_methods_that_have_a_cost():
    points = cost_points(RunSummary(baseline="lr", methods=METHODS))
    assert points == [
        ("label-halluc", 30.0, 2.0, 0.5), ("label-halluc:steps=50", 6.0, 1.5, 0.5), ("support-only", 10.0, -2.0, 0.5),
    ]  # fmt: skip


def test_without_a_baseline_they_are_accuracies():
    assert cost_points(RunSummary(baseline=None, methods=METHODS))[0] == ("lr", 0.1, 80.0, 1.0)


def test_variants_of_a_method_are_joined_cheapest_first():
    joined = families(cost_points(RunSummary(baseline="lr", methods=METHODS)))
    assert [[point[0] for point in family] for family in joined] == [
        ["label-halluc:steps=50", "label-halluc"], ["support-only"],
    ]  # fmt: skip


def test_too_few_points_are_no_figure():
    colours = method_colours(list(METHODS), "lr")
    assert draw_cost(RunSummary(baseline="lr", methods=METHODS), colours).startswith("<svg")
    assert draw_cost(RunSummary(baseline="lr", methods={"lr": METHODS["lr"]}), colours) == ""


@pytest.mark.parametrize("seconds", [(2.2, 2.9, 4.7), (1.0, 5.0, 30.0), (0.05, 4.0, 300.0)])
def test_seconds_on_the_axis_are_plain_numbers_whatever_they_span(seconds):
    methods = {f"label-halluc:steps={i}": figures(s, 80.0, 1.0) for i, s in enumerate(seconds, 1)}
    svg = draw_cost(RunSummary(baseline="lr", methods=methods), method_colours(list(methods), "lr"))
    numbers = [float(text) for text in re.findall(r">([\d.]+)</text>", svg) if seconds[0] <= float(text) <= seconds[-1]]
    assert len(numbers) >= 2 and "mathdefault" not in svg and "$" not in svg
