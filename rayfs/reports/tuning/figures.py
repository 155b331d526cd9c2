"""Figures of a search: gain for its cost, the race, parallel coordinates, and one panel for each setting.

Blue trials ran to the end, grey ones were stopped or have not ended, the red one is the winner. Numbers are places in
the table of the best trials.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from rayfs.reports.figure_style import BASELINE, GRID, INK, MUTED, SERIES, draw_svg, logarithmic_x
from rayfs.reports.printable import short
from rayfs.statistics.trials import Trial, pareto_front

FINISHED, WINNER, OTHER = SERIES[0], SERIES[1], BASELINE

NUMBERED = 5
"""Trials whose place stands beside their point."""

PANEL_COLUMNS = 3

Spaces = Mapping[str, Mapping[str, Any]]
"""Setting -> its space as `search.json` has it: low, high and log, or values."""


def draw_pareto(trials: Sequence[Trial], winner: Trial, baseline: str) -> Markup:
    """Draw gain with its interval against seconds per episode, and join the Pareto front. Empty without a gain."""
    shown = [trial for trial in _scored(trials) if trial.seconds]
    if not shown:
        return Markup()
    front = pareto_front([trial for trial in shown if trial.state == "finished"] or shown)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.grid(color=GRID)
        axes.axhline(0, color=INK, linewidth=1)
        places = {trial.name: place for place, trial in enumerate(trials, 1)}
        axes.plot([t.seconds for t in front], [t.gain for t in front], color=MUTED, linewidth=0.9, zorder=1)
        for trial in reversed(shown):
            _point(axes, trial.seconds, trial, winner, hollow=trial not in front)
            if places[trial.name] <= NUMBERED or trial in front or trial.is_default:
                mark = "default" if trial.is_default else f"#{places[trial.name]}"
                axes.annotate(mark, (trial.seconds, trial.gain), xytext=(4, 3), textcoords="offset points")
        seconds = [trial.seconds or 1.0 for trial in shown]
        logarithmic_x(axes, max(seconds) / min(seconds))
        axes.margins(x=0.08)
        axes.set(xlabel="seconds per episode", ylabel=f"gain over {short(baseline)}, points")

    return draw_svg(draw, "Gain of each trial against its seconds per episode", height_in=3.4)


def draw_race(trials: Sequence[Trial], winner: Trial, rungs: Sequence[int], baseline: str) -> Markup:
    """Draw each trial's mean gain against the episodes it has run; a cross is where the race stopped it."""
    shown = _scored(trials)
    if not shown:
        return Markup()

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.axhline(0, color=INK, linewidth=1)
        for rung in rungs:
            axes.axvline(rung, color=GRID, linewidth=1)
        start = min(rungs, default=1)
        for trial in reversed(shown):
            points = [point for point in _thinned(trial.curve) if point[0] >= start] or trial.curve[-1:]
            colour, width = _colour(trial, winner), 2.0 if trial is winner else 1.0
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=width, alpha=1 if trial is winner else 0.6)
            if trial.stop is not None:
                axes.plot(*points[-1], "x", color=MUTED, markersize=5)
        most = max(trial.episodes for trial in shown)
        logarithmic_x(axes, most / start)
        axes.set_xticks(sorted({start, *rungs, most}))
        axes.margins(x=0.03)
        axes.set(xlabel="episodes", ylabel=f"mean gain over {short(baseline)}, points")

    return draw_svg(draw, "Mean gain of each trial against episodes, and where it was stopped", height_in=3.4)


def draw_parallel(trials: Sequence[Trial], winner: Trial, spaces: Spaces) -> Markup:
    """Draw each trial as a line through its settings and its gain, an axis for each."""
    shown = _scored(trials)
    if not shown:
        return Markup()
    gains = [trial.gain or 0.0 for trial in shown]
    least, most = min(gains), max(gains)

    def height(trial: Trial) -> float:
        return ((trial.gain or 0.0) - least) / (most - least) if most > least else 0.5

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        n = len(spaces)
        for i, (name, space) in enumerate(spaces.items()):
            axes.axvline(i, color=MUTED, linewidth=0.8)
            axes.text(i, 1.06, _flag(name), ha="center", va="bottom", fontweight="bold")
            for value in _ticks(space):
                axes.text(i + 0.03, _share(space, value), _shown(value), va="center", fontsize=7.5, color=MUTED)
        axes.axvline(n, color=MUTED, linewidth=0.8)
        axes.text(n, 1.06, "gain, points", ha="center", va="bottom", fontweight="bold")
        for value, y in ((least, 0.0), (most, 1.0)):
            axes.text(n + 0.03, y, f"{value:+.2f}", va="center", fontsize=7.5, color=MUTED)
        for trial in reversed(shown):
            heights = [*(_share(space, trial.settings[name]) for name, space in spaces.items()), height(trial)]
            thick = 2.2 if trial is winner else 1.0 if trial.state == "finished" else 0.7
            axes.plot(
                range(n + 1), heights, color=_colour(trial, winner), linewidth=thick,
                alpha=1 if trial is winner else 0.7 if trial.state == "finished" else 0.35,
            )  # fmt: skip
        axes.set(xlim=(-0.1, n + 0.35), ylim=(-0.05, 1.15))
        axes.axis("off")

    return draw_svg(draw, "Parallel coordinates: the settings and the gain of each trial", height_in=3.2, width_in=8.6)


def draw_panels(trials: Sequence[Trial], winner: Trial, spaces: Spaces, baseline: str) -> Markup:
    """Draw gain with its interval against each setting, one panel a setting; stopped trials have no interval."""
    shown = _scored(trials)
    if not shown:
        return Markup()
    n_rows = math.ceil(len(spaces) / PANEL_COLUMNS)
    n_columns = min(len(spaces), PANEL_COLUMNS)

    def draw(figure: Any) -> None:
        grid = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False)
        for axes, (name, space) in zip(grid.flat, spaces.items(), strict=False):
            axes.grid(color=GRID)
            axes.axhline(0, color=INK, linewidth=1)
            for trial in reversed(shown):
                _point(axes, _place(space, trial.settings[name]), trial, winner, hollow=False)
            if "values" in space:
                axes.set_xticks(range(len(space["values"])), [_shown(value) for value in space["values"]])
            elif space["log"]:
                logarithmic_x(axes, space["high"] / space["low"])
                axes.margins(x=0.08)
            axes.set_xlabel(_flag(name))
        for axes in grid.flat[len(spaces) :]:
            axes.set_visible(False)
        for row in grid:
            row[0].set_ylabel(f"gain over {short(baseline)}")

    return draw_svg(draw, "Gain of each trial against each setting", height_in=2.5 * n_rows, width_in=2.9 * n_columns)


def _scored(trials: Sequence[Trial]) -> list[Trial]:
    return [trial for trial in trials if trial.gain is not None and trial.state != "failed"]


def _point(axes: Any, x: Any, trial: Trial, winner: Trial, *, hollow: bool) -> None:
    finished = trial.state == "finished"
    axes.errorbar(
        x, trial.gain, trial.half_width if finished else None, color=_colour(trial, winner), marker="o",
        markersize=5 if trial is winner else 4 if finished else 2.8, linestyle="none", elinewidth=1.0,
        alpha=1 if trial is winner else 0.8 if finished else 0.6, markerfacecolor="none" if hollow else None,
        zorder=4 if trial is winner else 3 if finished else 2,
    )  # fmt: skip


def _colour(trial: Trial, winner: Trial) -> str:
    return WINNER if trial is winner else FINISHED if trial.state == "finished" else OTHER


def _thinned(curve: Sequence[tuple[int, float]], most: int = 60) -> list[tuple[int, float]]:
    step = max(1, len(curve) // most)
    return [point for i, point in enumerate(curve) if i % step == 0 or i == len(curve) - 1]


def _place(space: Mapping[str, Any], value: Any) -> Any:
    """Return where `value` stands on the axis of its panel; the default may lie outside of a choice."""
    if "values" not in space:
        return value
    return space["values"].index(value) if value in space["values"] else -1


def _share(space: Mapping[str, Any], value: Any) -> float:
    """Return how far up its axis `value` stands, 0 to 1; what lies outside of the space stands at its end."""
    if "values" in space:
        last = len(space["values"]) - 1
        return space["values"].index(value) / last if value in space["values"] else 0.0
    low, high = space["low"], space["high"]
    value = min(max(value, low), high)
    return math.log(value / low) / math.log(high / low) if space["log"] else (value - low) / (high - low)


def _ticks(space: Mapping[str, Any]) -> list[Any]:
    if "values" in space:
        return list(space["values"])
    low, high = space["low"], space["high"]
    middle = math.sqrt(low * high) if space["log"] else (low + high) / 2
    return [low, round(middle) if space.get("integer") else float(f"{middle:.2g}"), high]


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | int) else short(str(value), 16)


def _flag(name: str) -> str:
    return short(name.replace("_", "-"), 24)
