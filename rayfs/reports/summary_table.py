"""The table of a run: what `rayfs.statistics.summary.summarise` returns, as a result table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rayfs.reports.result_table import ResultTable, Unrounded
from rayfs.reports.text_table import NONE, plus_minus, probability
from rayfs.statistics.summary import MethodFigures, RunSummary


@dataclass(frozen=True, kw_only=True)
class _Column:
    heading: str
    fields: tuple[str, ...]
    """Names of the figures that it shows, which are the columns of a CSV file."""
    show: Callable[[MethodFigures], str]
    """Figures of one method -> text of the cell, rounded."""


def summary_table(summary: RunSummary, baseline_label: str | None = None) -> ResultTable:
    """Return the table of a summary, accuracies in percent and gains in percentage points, with its notes.

    Arguments:
        summary: what `summarise` returns.
        baseline_label: how the heading names the baseline, for example "the baseline"; default the method's name.
    """
    methods, paired = summary.methods, summary.baseline is not None
    columns = _columns(baseline_label or summary.baseline if paired else None)
    names = [name for column in columns for name in column.fields]
    return ResultTable(
        heading=["method", *(column.heading for column in columns)],
        lines=[[name, *(column.show(figures) for column in columns)] for name, figures in methods.items()],
        notes=tuple(_notes(methods, paired=paired)),
        unrounded=Unrounded(
            heading=("method", *names),
            lines=tuple((method, *(getattr(figures, name) for name in names)) for method, figures in methods.items()),
        ),
    )


def error_table(summary: RunSummary, published: Mapping[str, float]) -> ResultTable:
    """Return error rates (percent, lowest first) of a summary's methods beside published ones.

    Arguments:
        summary: what `summarise` returns.
        published: system -> published error rate in percent.
    """
    entries: list[tuple[float, list[str]]] = [
        (error, [system, f"{error:.2f}", "published", NONE]) for system, error in published.items()
    ]
    for name, figures in summary.methods.items():
        if figures.accuracy is not None:
            error = 100 - figures.accuracy
            entries.append((error, [name, plus_minus(error, figures.ci95), "this run", count(figures)]))
    heading = ["system", "error %\n± 95% CI", "source", "n\n(distinct)"]
    return ResultTable(heading=heading, lines=[cells for _, cells in sorted(entries, key=lambda entry: entry[0])])


def count(figures: MethodFigures) -> str:
    """Return the episodes and, in brackets, the distinct ones."""
    return f"{figures.n} ({figures.n_distinct})"


def _columns(baseline: str | None) -> list[_Column]:
    """Return the columns after the method's name; those of gains only where there is a baseline."""
    columns = [
        _Column(heading="n\n(distinct)", fields=("n", "n_distinct"), show=count),
        _Column(
            heading="accuracy %\n± 95% CI", fields=("accuracy", "ci95"),
            show=lambda figures: plus_minus(figures.accuracy, figures.ci95),
        ),
    ]  # fmt: skip
    if baseline is not None:
        columns += _paired_columns(baseline)
    return [*columns, _Column(heading="s per\nepisode", fields=("seconds_per_episode",), show=_seconds)]


def _paired_columns(baseline: str) -> list[_Column]:
    return [
        _Column(
            heading=f"gain vs\n{baseline}\n± paired 95% CI", fields=("gain", "gain_ci95"),
            show=lambda figures: plus_minus(figures.gain, figures.gain_ci95, sign="+"),
        ),
        _Column(heading="win/tie/loss", fields=("win", "tie", "loss"), show=_outcomes),
        _Column(heading="p", fields=("p_wilcoxon",), show=lambda figures: probability(figures.p_wilcoxon)),
    ]  # fmt: skip


def _outcomes(figures: MethodFigures) -> str:
    return NONE if figures.win is None else f"{figures.win}/{figures.tie}/{figures.loss}"


def _seconds(figures: MethodFigures) -> str:
    seconds = figures.seconds_per_episode
    return NONE if seconds is None else f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"


def _notes(methods: Mapping[str, MethodFigures], *, paired: bool) -> list[str]:
    notes = ["p: Wilcoxon signed-rank test, two-sided, on the same episodes."] if paired else []
    needed = {name: figures.episodes_for_half_point for name, figures in methods.items()}
    if parts := [f"{name} {n:,}" for name, n in needed.items() if n is not None]:
        notes.append(f"Episodes needed for ±0.5 points: {', '.join(parts)}.")
    for name, figures in methods.items():
        if figures.n_failed:
            notes.append(f"{name}: {figures.n_failed} failed episodes are not in the means.")
        if figures.n_distinct < figures.n:
            notes.append(f"{name}: {figures.n} episodes are only {figures.n_distinct} distinct ones.")
    return notes
