"""A comparison as a figure: the accuracies as pairs, and the histogram of their differences, one row for each pair."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import reduce
from typing import Any

from rayfs.reports.figure_style import MUTED, SERIES, draw_file
from rayfs.reports.printable import short
from rayfs.reports.text_table import plus_minus
from rayfs.statistics.comparison import Comparison

PAIR_COLOUR, MEAN_COLOUR = SERIES[:2]
NAME_CHARACTERS, NAME_END = 38, 25
"""Of a run along an axis: most characters, and how many of them from its end, which tells runs apart."""

LARGEST_AREA, SMALLEST_AREA = 80.0, 6.0
"""Of a point, in square typographic points; between them, area is proportional to the number of episodes."""

MOST_BINS = 41
"""Of the histogram."""


def draw_comparisons(comparisons: Sequence[Comparison]) -> bytes:
    """Return the SVG file."""

    def draw(figure: Any) -> None:
        figure.get_layout_engine().set(hspace=0.08, wspace=0.04)
        grid = figure.subplots(len(comparisons), 2, squeeze=False, width_ratios=[1, 1.25])
        for (pairs, differences), comparison in zip(grid, comparisons, strict=True):
            _draw_pairs(pairs, comparison)
            _draw_differences(differences, comparison)

    return draw_file(draw, width_in=9, height_in=3.9 * len(comparisons))


def _draw_pairs(axes: Any, comparison: Comparison) -> None:
    pairing = comparison.pairing
    points = Counter((round(pairing.a[episode], 6), round(pairing.b[episode], 6)) for episode in pairing.episodes)
    most = max(points.values())
    low, high = min(map(min, points)), max(map(max, points))
    margin = max(2.0, 0.06 * (high - low))
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color=MUTED, linewidth=0.8, zorder=1)
    axes.scatter(
        [a for a, _ in points], [b for _, b in points], s=[_area(n, most) for n in points.values()],
        color=PAIR_COLOUR, alpha=0.55, linewidths=0, zorder=2,
    )  # fmt: skip
    for x, y, text in ((0.03, 0.97, "B better"), (0.97, 0.03, "A better")):
        side = {"ha": "left", "va": "top"} if x < y else {"ha": "right", "va": "bottom"}
        axes.text(x, y, text, transform=axes.transAxes, color=MUTED, **side)
    axes.set(xlim=limits, ylim=limits, aspect="equal")
    axes.set_xlabel(f"A: {short(pairing.name_a, NAME_CHARACTERS, n_last=NAME_END)}, accuracy %")
    axes.set_ylabel(f"B: {short(pairing.name_b, NAME_CHARACTERS, n_last=NAME_END)}, accuracy %")
    axes.set_title(f"{len(pairing.episodes)} episodes{_correlation(comparison)}{_legend(most)}")


def _draw_differences(axes: Any, comparison: Comparison) -> None:
    pairing, difference = comparison.pairing, comparison.figures.difference
    values = [pairing.a[episode] - pairing.b[episode] for episode in pairing.episodes]
    mean, half = difference.interval.mean, difference.interval.half_width
    axes.hist(values, bins=histogram_edges(values), color=PAIR_COLOUR, alpha=0.55)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    if half is not None:
        axes.axvspan(mean - half, mean + half, color=MEAN_COLOUR, alpha=0.25, linewidth=0)
    axes.axvline(mean, color=MEAN_COLOUR, linewidth=1.4)
    axes.set_xlabel("A − B, percentage points, with mean and paired 95% CI")
    axes.set_ylabel("episodes")
    counts = f"{difference.win}/{difference.tie}/{difference.loss}"
    axes.set_title(f"{comparison.name}: {plus_minus(mean, half, sign='+')}, win/tie/loss of A {counts}")


def histogram_edges(values: Sequence[float]) -> list[float]:
    """Return edges of at most about `MOST_BINS` bins, one of them centred on 0.

    Accuracies are multiples of 1 / (number of queries), and so are their differences: bins are an odd number of such
    steps wide and centred on one, so that none covers more steps than its neighbour and no value lies on an edge.
    """
    low, high = min(0.0, *values), max(0.0, *values)
    step = reduce(_common_step, map(abs, values), 0.0) or 1.0
    width = step * (max(1, math.ceil((high - low) / step / MOST_BINS)) | 1)
    first, last = math.floor(low / width + 0.5), math.floor(high / width + 0.5)
    return [(k - 0.5) * width for k in range(first, last + 2)]


def _common_step(a: float, b: float) -> float:
    """Return the greatest common divisor of two numbers, either of which may be 0 or off in its last bits."""
    while b > 1e-6:
        a, b = b, abs(math.remainder(a, b))
    return a if a > 1e-6 else 0.0


def _area(n: int, most: int) -> float:
    return max(SMALLEST_AREA, LARGEST_AREA * n / most) if most > 1 else 3 * SMALLEST_AREA


def _correlation(comparison: Comparison) -> str:
    r = comparison.figures.correlation
    return "" if r is None else f", r = {r:.2f}"


def _legend(most: int) -> str:
    return f", largest point {most} episodes" if most > 1 else ""
