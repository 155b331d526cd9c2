"""Plain-text tables for terminals and logs: 100 columns hold thousands of episodes and names of 18 characters."""

from collections.abc import Mapping, Sequence
from typing import Any

NONE = "–"
"""Printed where a figure is undefined."""


def result_table(summary: Mapping[str, Any], baseline_label: str | None = None) -> str:
    """Return the table of a summary, accuracies in percent and gains in percentage points, with its notes.

    Arguments:
        summary: what `summarise` returns.
        baseline_label: how the header names the baseline, for example "frozen LR"; default the method's name.
    """
    methods = summary["methods"]
    header = ["method", "n\n(distinct)", "accuracy %\n± 95% CI"]
    if summary["baseline"] is not None:
        label = baseline_label or summary["baseline"]
        header += [f"gain vs\n{label}\n± paired 95% CI", "win/tie/loss", "p"]
    header.append("s per\nepisode")
    lines = [_result_line(name, figures, len(header)) for name, figures in methods.items()]
    return "\n".join([aligned([header, *lines]), *_notes(methods, paired=summary["baseline"] is not None)]) + "\n"


def error_table(summary: Mapping[str, Any], published: Mapping[str, float]) -> str:
    """Return error rates (percent, lowest first) of a summary's methods beside published ones.

    Arguments:
        summary: what `summarise` returns.
        published: system -> published error rate in percent.
    """
    entries: list[tuple[float, list[str]]] = [
        (error, [system, f"{error:.2f}", "published", NONE]) for system, error in published.items()
    ]
    for name, figures in summary["methods"].items():
        if figures["accuracy"] is not None:
            error = 100 - figures["accuracy"]
            entries.append((error, [name, plus_minus(error, figures["ci95"]), "this run", _count(figures)]))
    header = ["system", "error %\n± 95% CI", "source", "n\n(distinct)"]
    return aligned([header, *(cells for _, cells in sorted(entries, key=lambda entry: entry[0]))]) + "\n"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Lay out `rows`, the first of which is a header of perhaps several lines; the first column is set left."""
    depth = max(cell.count("\n") for cell in rows[0]) + 1
    header = [([""] * depth + cell.split("\n"))[-depth:] for cell in rows[0]]
    lines = [list(line) for line in zip(*header, strict=True)] + [list(row) for row in rows[1:]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        " │ ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    text.insert(depth, "─┼─".join("─" * width for width in widths))
    return "\n".join(line.rstrip() for line in text)


def plus_minus(mean: float | None, half_width: float | None, sign: str = "", digits: int = 2) -> str:
    """Return "90.12 ± 1.70"; the mean alone where there is no interval; `sign` "+" shows the sign of the mean."""
    if mean is None:
        return NONE
    text = f"{mean:{sign}.{digits}f}"
    return text if half_width is None else f"{text} ± {half_width:.{digits}f}"


def _result_line(name: str, figures: Mapping[str, Any], n_columns: int) -> list[str]:
    line = [name, _count(figures), plus_minus(figures["accuracy"], figures["ci95"])]
    if n_columns > 4:
        line.append(plus_minus(figures["gain"], figures["gain_ci95"], sign="+"))
        line.append(NONE if figures["win"] is None else f"{figures['win']}/{figures['tie']}/{figures['loss']}")
        line.append(_probability(figures["p_wilcoxon"]))
    seconds = figures["seconds_per_episode"]
    return [*line, NONE if seconds is None else f"{seconds:.3g}" if seconds < 100 else f"{seconds:.0f}"]


def _count(figures: Mapping[str, Any]) -> str:
    return f"{figures['n']} ({figures['n_distinct']})"


def _probability(p: float | None) -> str:
    return NONE if p is None else "<0.0001" if p < 0.0001 else f"{p:.4f}"


def _notes(methods: Mapping[str, Mapping[str, Any]], *, paired: bool) -> list[str]:
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
