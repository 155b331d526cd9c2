"""Figures of a run's accuracies, gains and times; however many episodes there are, the SVG stays small."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from markupsafe import Markup

from rayfs.reports.figure_style import GRID, INK, MUTED, draw_svg, logarithmic_x
from rayfs.reports.printable import short
from rayfs.runs.rows import Row
from rayfs.statistics.running_mean import RunningMean
from rayfs.statistics.summary import observations

MAX_BINS, MAX_POINTS, MAX_STEPS = 40, 500, 160
"""Most bars of a histogram, points of a scatter plot, and points along a running mean."""

LARGEST_POINT = 12.0
"""Diameter in typographic points; areas are proportional to the number of episodes, down to what can still be seen."""

Colours = Mapping[str, str]
"""Method -> colour, the same in every figure."""

Observations = Mapping[str, Mapping[str, float]]
"""Method -> episode hash -> accuracy in percent, in the order of the episodes."""


def accuracy_step_pt(rows: Sequence[Row]) -> float:
    """Return the distance between two possible accuracies in percentage points: 100 / query images of an episode."""
    return 100 / max((len(row.labels) for row in rows), default=0) if any(row.labels for row in rows) else 1.0


def draw_histograms(values: Observations, colours: Colours, step_pt: float) -> Markup:
    """Draw how often each accuracy came out, one method below another, each with its mean.

    Bars hold whole steps of `step_pt`, so that none is taller only because more accuracies fall into it.
    """
    every = list(chain.from_iterable(method.values() for method in values.values()))
    first, last = round(min(every) / step_pt), round(max(every) / step_pt)
    n_bins = min(MAX_BINS, max(12, round(2 * math.sqrt(max(map(len, values.values()))))))
    width = math.ceil((last - first + 1) / n_bins)
    n_bins = math.ceil((last - first + 1) / width)
    edges = (last + 0.5 - width * np.arange(n_bins, -1, -1)) * step_pt  # whole at the top: there is no 101%

    height_in = 0.6 + max(0.62 * len(values), min(1.5 * len(values), 3.2))

    def draw(figure: Any) -> None:
        rows = figure.subplots(len(values), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (method, accuracies) in zip(rows, values.items(), strict=True):
            counts, _ = np.histogram(list(accuracies.values()), edges)
            mean = math.fsum(accuracies.values()) / len(accuracies)
            axes.stairs(counts, edges, fill=True, color=colours[method], alpha=0.85)
            axes.axvline(mean, color=INK, linewidth=1)
            axes.set_title(f"{short(method)}  ·  mean {mean:.1f}", pad=3)
            axes.spines["left"].set_visible(False)
            axes.set(yticks=[], ylim=(0, 1.05 * max(counts)))
            axes.tick_params(axis="x", length=0)
        rows[-1].tick_params(axis="x", length=3)
        rows[-1].set_xlabel(f"accuracy of an episode, %  ·  a bar is {width * step_pt:.3g} points wide")
        rows[-1].set_xlim(edges[0], edges[-1])

    return draw_svg(draw, "Histogram of the accuracies of each method", height_in=height_in)


def draw_pairs(method: str, values: Observations, baseline: str, colour: str) -> Markup:
    """Draw each episode's accuracy against the baseline's; a point's area is the number of episodes there."""
    both = [episode for episode in values[method] if episode in values[baseline]]
    pairs = [(values[baseline][episode], values[method][episode]) for episode in both]
    points, bin_pt = binned(pairs)
    most, above = max(points.values()), sum(y > x for x, y in pairs)
    below = sum(y < x for x, y in pairs)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        low, high = min(map(min, pairs)), max(map(max, pairs))
        margin = max(1.0, 0.06 * (high - low))
        limits = (low - margin, high + margin)
        axes.plot(limits, limits, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        by_count: dict[int, list[tuple[float, float]]] = {}
        for point, count in points.items():
            by_count.setdefault(count, []).append(point)
        for count, places in sorted(by_count.items()):
            size = max(1.8, min(3.6, LARGEST_POINT / math.sqrt(most)) * math.sqrt(count))
            axes.plot(*zip(*places, strict=True), "o", markersize=size, color=colour, alpha=0.6, markeredgewidth=0)
        axes.text(0.03, 0.97, f"{above} better", transform=axes.transAxes, va="top")
        axes.text(0.97, 0.03, f"{below} worse", transform=axes.transAxes, ha="right")
        axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel=f"{short(baseline)}, accuracy %")
        axes.set_ylabel(f"{short(method, 34)}, accuracy %")
        axes.grid(True)
        scale = f"largest point: {most} episodes" if most > 1 else "one point an episode"
        axes.set_title(scale + (f", within {bin_pt:.3g} points" if bin_pt else ""), color=MUTED)

    return draw_svg(draw, f"Accuracy of {method} against {baseline}, episode by episode", height_in=4.4)


def binned(pairs: Sequence[tuple[float, float]]) -> tuple[dict[tuple[float, float], int], float]:
    """Return point -> number of pairs, and the side of the square bins, 0 where every distinct pair has its point.

    The side doubles from one point until there are at most MAX_POINTS; the point of a bin is the mean of its pairs.
    """
    exact = Counter((round(x, 6), round(y, 6)) for x, y in pairs)
    if len(exact) <= MAX_POINTS:
        return dict(sorted(exact.items())), 0.0
    side = 1.0
    while True:
        members: dict[tuple[int, int], list[tuple[float, float]]] = {}
        for x, y in pairs:
            members.setdefault((math.floor(x / side), math.floor(y / side)), []).append((x, y))
        if len(members) <= MAX_POINTS:
            return {_centre(members[key]): len(members[key]) for key in sorted(members)}, side
        side *= 2


def _centre(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    x, y = np.mean(pairs, axis=0)
    return round(float(x), 6), round(float(y), 6)


def draw_running(values: Observations, colours: Colours, *, gains_over: str | None = None) -> Markup:
    """Draw the mean of the first n episodes with its 95% interval, of accuracies or of gains over a baseline.

    Empty where no method has two episodes.
    """
    gains = gains_over is not None
    shown = {method: _running(method, values, gains_over) for method in values if method != gains_over}
    shown = {method: curve for method, curve in shown.items() if curve}
    if not shown:
        return Markup()
    band = 0.18 if len(shown) <= 2 else 0.08

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for method, curve in shown.items():
            n, mean, half = (np.array(column) for column in zip(*curve, strict=True))
            axes.fill_between(n, mean - half, mean + half, color=colours[method], alpha=band, linewidth=0)
            axes.plot(n, mean, color=colours[method], label=short(method), linestyle=_dash(method, shown))
        if gains:
            axes.axhline(0, color=INK, linewidth=0.8)
        axes.set_ylim(*_settled_limits(list(shown.values()), gains))
        axes.set_xlim(0, max(curve[-1][0] for curve in shown.values()))
        axes.xaxis.get_major_locator().set_params(integer=True)
        what = f"mean gain over {short(gains_over or '', 20)}, points" if gains else "mean accuracy, %"
        axes.set(xlabel="number of episodes", ylabel=what)
        axes.grid(True)
        figure.legend(loc="outside upper left", ncols=2 if max(map(len, shown)) < 20 else 1, handlelength=1.6)

    what = "gain over the baseline" if gains else "accuracy"
    return draw_svg(draw, f"Running mean of the {what} with its 95% interval", height_in=3.1)


def draw_seconds(rows: Sequence[Row], colours: Colours) -> Markup:
    """Draw the seconds an episode took: middle half as a box, 5% to 95% as a line, the median and the mean in it."""
    of = {
        method: np.array([row.seconds for row in rows if row.status == "ok" and row.method == method])
        for method in colours
    }
    of = {method: seconds for method, seconds in of.items() if len(seconds)}

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for i, (method, seconds) in enumerate(of.items()):
            low, first, median, third, high = np.quantile(seconds, [0.05, 0.25, 0.5, 0.75, 0.95])
            axes.plot([low, high], [i, i], color=colours[method], linewidth=1.6, solid_capstyle="butt")
            axes.plot([first, third], [i, i], color=colours[method], linewidth=11, solid_capstyle="butt")
            axes.plot([median, median], [i - 0.2, i + 0.2], color=INK, linewidth=1.6)
            axes.plot(seconds.mean(), i, "D", color=INK, markersize=3.5)
            axes.text(0, i - 0.34, f"{short(method)}  ·  median {_time(median)}", transform=axes.get_yaxis_transform(),
                      va="bottom")  # fmt: skip
        positive = np.concatenate(list(of.values()))
        if positive.min() > 0 and positive.max() > 8 * positive.min():
            logarithmic_x(axes, positive.max() / positive.min())
        else:
            axes.set_xlim(left=0)
        axes.set(ylim=(len(of) - 0.55, -0.75), yticks=[], xlabel="seconds per episode")
        axes.spines["left"].set_visible(False)
        axes.grid(True, axis="x", color=GRID)

    return draw_svg(draw, "Seconds per episode of each method", height_in=0.7 + 0.55 * len(of))


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def ordered_observations(rows: Sequence[Row], methods: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the observations of every method that has one."""
    found = {method: observations(row for row in rows if row.method == method) for method in methods}
    return {method: values for method, values in found.items() if values}


def _running(method: str, values: Observations, baseline: str | None) -> list[tuple[int, float, float]]:
    """Return (n, mean, half width) at no more than MAX_STEPS places, from 2 episodes on."""
    series = [
        value - (values[baseline][episode] if baseline is not None else 0.0)
        for episode, value in values[method].items()
        if baseline is None or episode in values[baseline]
    ]
    places = set(np.unique(np.linspace(2, len(series), MAX_STEPS).round().astype(int))) if len(series) > 1 else set()
    running, curve = RunningMean(), []
    for n, value in enumerate(series, 1):
        running.add(value)
        if n in places:
            interval = running.interval()
            assert interval is not None and interval.half_width is not None
            curve.append((n, interval.mean, interval.half_width))
    return curve


def _settled_limits(curves: Sequence[Sequence[tuple[int, float, float]]], gains: bool) -> tuple[float, float]:
    """Return limits that show everything after the first episodes, when intervals are still wide."""
    late = [
        (mean - half, mean + half)
        for curve in curves
        for n, mean, half in curve
        if n >= max(0.1 * curve[-1][0], min(10, 0.5 * curve[-1][0]))
    ]
    low, high = min(low for low, _ in late), max(high for _, high in late)
    low, high = (min(low, 0.0), max(high, 0.0)) if gains else (low, high)
    margin = max(0.1, 0.05 * (high - low))
    return (low - margin, high + margin) if gains else (max(0.0, low - margin), min(100.0, high + margin))


def _dash(method: str, shown: Mapping[str, Any]) -> Any:
    """Return another line style for each method of one figure, so that colour is not all that tells them apart."""
    return ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)))[list(shown).index(method) % 4]
