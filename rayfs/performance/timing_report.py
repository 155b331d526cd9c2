"""What a benchmark prints and draws: a table of stages, ratios, speeds; stacked bars."""

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rayfs.performance.timings import BUSY_CORES, NAIVE, OTHER, Timing, ratios, spread
from rayfs.reports.figure_style import BASELINE, SERIES, draw_file
from rayfs.reports.text_table import aligned

if TYPE_CHECKING:  # which imports torch
    from rayfs.engine.operations import Operation


def stage_table(timings: Sequence[Timing], stages: Sequence[str]) -> str:
    """Return the medians over the rounds of the wall seconds of an episode by stage, and their sum."""
    sides = _sides(timings)
    rows = [["s per episode and process", *sides]]
    for name in (*stages, OTHER):
        rows.append([name, *(_seconds(_median(timings, side, name)) for side in sides)])
    totals = [statistics.median(sum(t.wall_s.values()) for t in _of(timings, side)) for side in sides]
    return aligned([*rows, ["sum", *map(_seconds, totals)]])


def speed_table(timings: Sequence[Timing], step_stages: Sequence[str]) -> str:
    """Return what each side did with the machine: medians over the rounds, and the ratios' least and most."""
    sides = _sides(timings)

    def row(label: str, cell: Any) -> list[str]:
        return [label, *(cell(side, _of(timings, side)) for side in sides)]

    def median(values: Any, form: str) -> str:
        return f"{statistics.median(values):{form}}"

    def ratio(value: str) -> Any:
        return lambda side, _: "–" if side == NAIVE else spread(ratios(timings, side, value))

    return aligned(
        [
            ["of the machine", *sides],
            row("processes at once", lambda _, ts: str(ts[0].workers)),
            row("wall s per episode", lambda _, ts: _seconds(statistics.median(t.episode_s for t in ts))),
            row("ratio naive / side, wall", ratio("episode_s")),
            row("processor s per episode", lambda _, ts: _seconds(statistics.median(t.episode_cpu_s for t in ts))),
            row("ratio naive / side, processor", ratio("episode_cpu_s")),
            row("images/s in steps", lambda _, ts: median([_images_per_s(t, step_stages) for t in ts], ",.0f")),
            row("GFLOP/s in steps", lambda _, ts: median([t.flops_per_s(step_stages) / 1e9 for t in ts], ",.0f")),
            row("matmul peak, GFLOP/s", lambda _, ts: median([t.matmul_flops_per_s / 1e9 for t in ts], ",.0f")),
            row(
                "fraction of the peak",
                lambda _, ts: median([t.flops_per_s(step_stages) / t.matmul_flops_per_s for t in ts], ".0%"),
            ),
            row("peak memory, GB a process", lambda _, ts: f"{max(t.peak_rss_bytes for t in ts) / 1e9:.1f}"),
            row("foreign cores", lambda _, ts: median([t.foreign_cores for t in ts], ".2f")),
        ]
    )


N_OPERATIONS = 15
"""That a table shows."""


def operation_table(operations: Sequence["Operation"], n_steps: int) -> str:
    """Return what the longest operations take of a step, and all others together.

    Arguments:
        operations: longest first.
    """
    whole_s = sum(operation.seconds for operation in operations)
    rows = [["stage", "operation", "calls a step", "ms a step", "share"]]

    def row(stage: str, name: str, calls: int, seconds: float) -> list[str]:
        return [stage, name, f"{calls / n_steps:.3g}", f"{1000 * seconds / n_steps:.3g}", f"{seconds / whole_s:.1%}"]

    rows += [row(o.stage, o.name[:60], o.calls, o.seconds) for o in operations[:N_OPERATIONS]]
    others = operations[N_OPERATIONS:]
    if others:
        label = f"{len(others)} others"
        rows.append(row("", label, sum(o.calls for o in others), sum(o.seconds for o in others)))
    return aligned([*rows, row("", "sum", sum(o.calls for o in operations), whole_s)])


def busy_note(timings: Sequence[Timing]) -> str:
    """Say which rounds other work disturbed; empty where none was."""
    busy = sorted({timing.round for timing in timings if timing.foreign_cores > BUSY_CORES})
    if not busy:
        return ""
    n_rounds = len({timing.round for timing in timings})
    return (
        f"Other processes used more than {BUSY_CORES} cores in {len(busy)} of {n_rounds} rounds "
        f"({', '.join(map(str, busy))}): trust processor seconds and ratios over wall seconds."
    )


def draw_stages(timings: Sequence[Timing], stages: Sequence[str], title: str) -> bytes:
    """Return an SVG file: the stages of an episode as stacked bars, medians over the rounds, by side."""
    sides = _sides(timings)
    colours = dict(zip((*stages, OTHER), (*SERIES, "#b8b8b8", "#4b5563", BASELINE), strict=False))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        left = dict.fromkeys(sides, 0.0)
        for name in (*stages, OTHER):
            values = {side: _median(timings, side, name) / _of(timings, side)[0].workers for side in sides}
            axes.barh(sides, list(values.values()), left=list(left.values()), label=name, color=colours[name])
            left = {side: left[side] + values[side] for side in sides}
        for side, total in left.items():
            axes.text(total, side, f" {_seconds(total)} s", va="center")
        axes.set_xlim(0, 1.18 * max(left.values()))
        axes.invert_yaxis()
        axes.set_xlabel("wall seconds of the machine per episode")
        axes.set_title(title)
        figure.legend(loc="outside lower center", ncols=3)

    return draw_file(draw, height_in=1.7 + 0.35 * len(sides), width_in=6.4)


def _images_per_s(timing: Timing, step_stages: Sequence[str]) -> float:
    return timing.images / timing.whole.steps / timing.step_s(step_stages)


def _sides(timings: Sequence[Timing]) -> list[str]:
    return list(dict.fromkeys(timing.side for timing in timings if timing.side == NAIVE)) + list(
        dict.fromkeys(timing.side for timing in timings if timing.side != NAIVE)
    )


def _of(timings: Sequence[Timing], side: str) -> list[Timing]:
    return [timing for timing in timings if timing.side == side]


def _median(timings: Sequence[Timing], side: str, stage: str) -> float:
    return statistics.median(timing.wall_s.get(stage, 0.0) for timing in _of(timings, side))


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"
