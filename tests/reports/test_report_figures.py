"""Figures of a report: small whatever the number of episodes, and safe whatever the names."""

import re

import numpy as np
import pytest

from rayfs.reports.episodes.figures import MAX_POINTS, binned, draw_histograms, draw_pairs, draw_running
from rayfs.reports.figure_style import BASELINE, DARK, SERIES, draw_svg, method_colours, palette_css
from rayfs.reports.printable import short


@pytest.fixture(scope="module")
def many() -> dict[str, dict[str, float]]:
    """10,000 episodes of 75 queries under two methods."""
    generator = np.random.default_rng(0)
    lr = generator.binomial(75, 0.7, 10_000)
    other = np.clip(lr + generator.integers(-12, 14, 10_000), 0, 75)
    names = [f"{i:05d}" for i in range(10_000)]
    return {
        "lr": dict(zip(names, (100 * lr / 75).tolist(), strict=True)),
        "label-halluc": dict(zip(names, (100 * other / 75).tolist(), strict=True)),
    }


def test_ten_thousand_episodes_are_few_points(many: dict[str, dict[str, float]]) -> None:
    colours = method_colours(list(many), "lr")
    figures = [
        draw_histograms(many, colours, 100 / 75),
        draw_pairs("label-halluc", many, "lr", colours["label-halluc"]),
        draw_running(many, colours),
        draw_running(many, colours, gains_over="lr"),
    ]
    assert [len(figure) < 150_000 for figure in figures] == [True] * 4
    assert figures[1].count("<use") <= MAX_POINTS + 60


def test_few_pairs_keep_their_places_and_their_number() -> None:
    pairs = [(80.0, 90.0), (80.0, 90.0), (50.0, 100 * 0.7)]
    assert binned(pairs) == ({(50.0, 70.0): 1, (80.0, 90.0): 2}, 0.0)


def test_many_pairs_are_binned_and_none_is_lost() -> None:
    pairs = [(x + 0.25, y + 0.25) for x in range(40) for y in range(40)]
    points, side = binned(pairs)
    assert side == 2.0 and len(points) == 400 and set(points.values()) == {4}
    assert (0.75, 0.75) in points, "the point is the mean of its pairs"


def test_the_running_mean_ends_at_the_mean_of_all_and_one_episode_has_none() -> None:
    assert draw_running({"lr": {"a": 90.0}}, {"lr": BASELINE}) == ""
    assert "number of episodes" in draw_running({"lr": {"a": 90.0, "b": 80.0}}, {"lr": BASELINE})


def test_the_baseline_is_grey_and_the_others_take_turns() -> None:
    names = [f"m{i}" for i in range(8)]
    colours = method_colours([*names[:2], "lr", *names[2:]], "lr")
    assert list(colours) == ["m0", "m1", "lr", *names[2:]] and colours["lr"] == BASELINE
    assert [colours[name] for name in names] == [*SERIES, *SERIES[:2]]
    assert method_colours(["lr"], None) == {"lr": SERIES[0]}


def test_colours_follow_the_page_and_nothing_points_outside() -> None:
    svg = draw_svg(lambda figure: figure.subplots().plot([0, 1], color=SERIES[1], label="x"), 'a "label"', height_in=2)
    assert "var(--c1)" in svg and not re.search("|".join([*DARK]), svg)
    assert 'aria-label="a &quot;label&quot;"' in svg
    assert "http" not in svg and "<metadata" not in svg and "<?xml" not in svg
    for name in re.findall(r"var\(--(\w+)\)", svg):
        assert palette_css().count(f"--{name}:") == 2, "on light and on dark pages"


def test_names_are_text_in_a_figure_not_mathematics_and_not_markup() -> None:
    values = {"$\\frac{$<b>&": {"a": 50.0, "b": 60.0}, "漢字": {"a": 50.0, "b": 70.0}}
    svg = draw_histograms(values, method_colours(list(values), None), 1.0)
    assert "$\\frac{$&lt;b&gt;&amp;" in svg and "漢字" in svg


@pytest.mark.parametrize(
    ("text", "expected"), [("short", "short"), ("a" * 20 + "b" * 20, "aaaaa…bbbb"), ("two\nlines", "two lines")]
)
def test_long_names_lose_their_middle(text: str, expected: str) -> None:
    assert short(text, 10) == expected
