"""Accuracy against seconds: what each method, and each variant of it, gains for its cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from rayfs.reports.figure_style import GRID, INK, MUTED, draw_svg, logarithmic_x
from rayfs.reports.printable import short
from rayfs.statistics.summary import RunSummary

MARKERS = "osD^vPX<>"
"""So that colour is not all that tells methods apart."""

MIN_METHODS = 3
"""Fewer points are no curve: the result table says the same."""


def draw_cost(summary: RunSummary, colours: Mapping[str, str]) -> Markup:
    """Draw the paired gain (or, without a baseline, the accuracy) of each method against its seconds per episode.

    Variants of one method are joined by a line in the order of their cost. Empty where there are too few methods.

    Arguments:
        summary: what `summarise` returns.
    """
    points = cost_points(summary)
    if len(points) < MIN_METHODS:
        return Markup()
    gains = summary.baseline is not None
    what = "accuracy, %" if summary.baseline is None else f"gain over {short(summary.baseline)}, points"

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.grid(color=GRID)
        if gains:
            axes.axhline(0, color=INK, linewidth=1)
        for family in families(points):
            if len(family) > 1:
                axes.plot([p[1] for p in family], [p[2] for p in family], color=MUTED, linewidth=0.8, zorder=1)
        for i, (name, seconds, value, half_width) in enumerate(points):
            axes.errorbar(
                seconds, value, half_width, color=colours[name], marker=MARKERS[i % len(MARKERS)], markersize=5,
                linewidth=1.1, label=short(name, 60), linestyle="none", elinewidth=1.1,
            )  # fmt: skip
        logarithmic_x(axes, max(p[1] for p in points) / min(p[1] for p in points))
        axes.margins(x=0.08)
        axes.set(xlabel="seconds per episode", ylabel=what)
        figure.legend(loc="outside lower left", ncols=1)

    return draw_svg(draw, f"{what} against seconds per episode", height_in=2.9 + 0.19 * len(points))


def cost_points(summary: RunSummary) -> list[tuple[str, float, float, float]]:
    """Return (method, seconds, gain or accuracy, half-width of its interval) of each method that has all of them."""
    value, half_width = ("gain", "gain_ci95") if summary.baseline is not None else ("accuracy", "ci95")
    points = []
    for name, figures in summary.methods.items():
        seconds, y, interval = figures.seconds_per_episode, getattr(figures, value), getattr(figures, half_width)
        if seconds and y is not None and interval is not None:
            points.append((name, seconds, y, interval))
    return points


def families(points: Sequence[tuple[str, float, float, float]]) -> list[list[tuple[str, float, float, float]]]:
    """Return the points of each method with its variants, cheapest first."""
    found: dict[str, list[tuple[str, float, float, float]]] = {}
    for point in sorted(points, key=lambda point: point[1]):
        found.setdefault(point[0].partition(":")[0], []).append(point)
    return list(found.values())
