"""The figure of a comparison, and the bins of its histogram."""

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayfs.reports.comparison.drawing import MOST_BINS, draw_comparisons, histogram_edges
from rayfs.statistics.comparison import Comparison, compare
from rayfs.statistics.pairing import Pairing


def comparison(name: str, a: list[float], b: list[float]) -> Comparison:
    episodes = [str(i) for i in range(len(a))]
    pairing = Pairing(
        name_a=f"{name} of runs/a", name_b=f"{name} of runs/b", episodes=episodes,
        a=dict(zip(episodes, a, strict=True)), b=dict(zip(episodes, b, strict=True)),
        only_a=0, only_b=0, failed_a=0, failed_b=0,
    )  # fmt: skip
    return compare(name, pairing, {}, 0.5)


def test_figure_says_what_is_on_its_axes_and_is_the_same_every_time() -> None:
    drawn = [comparison("lr", [90, 80, 70, 70], [80, 80, 60, 60]), comparison("svm", [50, 60], [60, 40])]
    svg = draw_comparisons(drawn)
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    for text in (
        "A: lr of runs/a, accuracy %", "B: svm of runs/b, accuracy %", "4 episodes, r = 0.90, largest point 2 episodes",
        "lr: +7.50 ± 7.96, win/tie/loss of A 3/1/0", "2 episodes, r = -1.00", "A better", "B better",
    ):  # fmt: skip
        assert f">{text}<" in svg.decode(), text
    assert svg == draw_comparisons(drawn)


@pytest.mark.parametrize("accuracies", [([100.0], [100.0]), ([50.0, 50.0], [40.0, 40.0]), ([0.0], [100.0])])
def test_pairs_without_spread_are_a_figure_too(accuracies: tuple[list[float], list[float]]) -> None:
    assert b"<svg" in draw_comparisons([comparison("lr", *accuracies)])


def test_a_long_name_is_shortened_in_the_middle() -> None:
    svg = draw_comparisons([comparison("a-method-with-quite-a-long-name", [50.0, 60.0], [60.0, 70.0])]).decode()
    assert ">A: a-method-wit…ite-a-long-name of runs/a, accuracy %<" in svg


def test_bins_of_few_steps_are_one_step_wide_and_centred_on_zero() -> None:
    assert histogram_edges([-2.0, 0.0, 1.0]) == [-2.5, -1.5, -0.5, 0.5, 1.5]
    assert histogram_edges([-3.0, 2.0])[:2] == [-3.5, -2.5], "a step of 1, though no two differences are 1 apart"
    assert histogram_edges([0.0, 0.0]) == [-0.5, 0.5]
    assert histogram_edges([5.0]) == [-2.5, 2.5, 7.5], "0 is always in the picture"


@settings(deadline=None)
@given(st.lists(st.integers(-75, 75), min_size=1, max_size=60), st.sampled_from([25, 75, 80, 128, 640]))
def test_every_difference_lies_inside_a_bin_and_on_no_edge(steps: list[int], n_queries: int) -> None:
    values = [100 * (40 + k) / n_queries - 100 * 40 / n_queries for k in steps]
    edges = histogram_edges(values)
    assert len(edges) <= MOST_BINS + 3
    for value in values:
        assert edges[0] < value < edges[-1]
        assert min(abs(value - edge) for edge in edges) > 0.1 / n_queries
