"""The columns and notes of a result table: one list that text, CSV, Markdown, LaTeX and HTML tables are made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

NONE = "–"
"""Shown where a figure is undefined."""

Figures = Mapping[str, Any]
"""The figures of one method, as `summarise` returns them."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of figures."""

    heading: str
    """Lines of the heading, separated by newlines."""
    fields: tuple[str, ...]
    """Names of the figures that it shows: the columns of a CSV file, where they are not rounded."""
    show: Callable[[Figures], str]
    """Figures of one method -> text of the cell, rounded."""


@dataclass(frozen=True, kw_only=True)
class ResultCells:
    """A result table before it is laid out; the first column holds method names."""

    heading: list[str]
    lines: list[list[str]]
    notes: list[str]


def result_columns(summary: Mapping[str, Any], baseline_label: str | None = None) -> list[Column]:
    """Return the columns after the method's name; those of gains only where there is a baseline.

    Arguments:
        summary: what `summarise` returns.
        baseline_label: how the heading names the baseline, for example "frozen LR"; default the method's name.
    """
    columns = [
        Column(heading="n\n(distinct)", fields=("n", "n_distinct"), show=count),
        Column(
            heading="accuracy %\n± 95% CI", fields=("accuracy", "ci95"),
            show=lambda figures: plus_minus(figures["accuracy"], figures["ci95"]),
        ),
    ]  # fmt: skip
    if summary["baseline"] is not None:
        columns += _paired_columns(baseline_label or summary["baseline"])
    return [*columns, Column(heading="s per\nepisode", fields=("seconds_per_episode",), show=_seconds)]


def result_cells(summary: Mapping[str, Any], baseline_label: str | None = None) -> ResultCells:
    """Return the cells of a summary, accuracies in percent and gains in percentage points, with its notes."""
    columns = result_columns(summary, baseline_label)
    methods = summary["methods"]
    return ResultCells(
        heading=["method", *(column.heading for column in columns)],
        lines=[[name, *(column.show(figures) for column in columns)] for name, figures in methods.items()],
        notes=_notes(methods, paired=summary["baseline"] is not None),
    )


def plus_minus(mean: float | None, half_width: float | None, sign: str = "", digits: int = 2) -> str:
    """Return "90.12 ± 1.70"; the mean alone where there is no interval; `sign` "+" shows the sign of the mean."""
    if mean is None:
        return NONE
    text = f"{mean:{sign}.{digits}f}"
    return text if half_width is None else f"{text} ± {half_width:.{digits}f}"


def count(figures: Figures) -> str:
    """Return the episodes and, in brackets, the distinct ones."""
    return f"{figures['n']} ({figures['n_distinct']})"


def _paired_columns(baseline: str) -> list[Column]:
    return [
        Column(
            heading=f"gain vs\n{baseline}\n± paired 95% CI", fields=("gain", "gain_ci95"),
            show=lambda figures: plus_minus(figures["gain"], figures["gain_ci95"], sign="+"),
        ),
        Column(heading="win/tie/loss", fields=("win", "tie", "loss"), show=_outcomes),
        Column(heading="p", fields=("p_wilcoxon",), show=_probability),
    ]  # fmt: skip


def _outcomes(figures: Figures) -> str:
    return NONE if figures["win"] is None else f"{figures['win']}/{figures['tie']}/{figures['loss']}"


def _probability(figures: Figures) -> str:
    p = figures["p_wilcoxon"]
    return NONE if p is None else "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _seconds(figures: Figures) -> str:
    seconds = figures["seconds_per_episode"]
    return NONE if seconds is None else f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"


def _notes(methods: Mapping[str, Figures], *, paired: bool) -> list[str]:
    notes = ["p: Wilcoxon signed-rank test, two-sided, on the same episodes."] if paired else []
    needed = {name: figures["episodes_for_half_point"] for name, figures in methods.items()}
    if parts := [f"{name} {n:,}" for name, n in needed.items() if n is not None]:
        notes.append(f"Episodes needed for ±0.5 points: {', '.join(parts)}.")
    for name, figures in methods.items():
        if figures["n_failed"]:
            notes.append(f"{name}: {figures['n_failed']} failed episodes are not in the means.")
        if figures["n_distinct"] < figures["n"]:
            notes.append(f"{name}: {figures['n']} episodes are only {figures['n_distinct']} distinct ones.")
    return notes
