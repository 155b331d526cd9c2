"""Plain-text tables for terminals and logs: 100 columns hold thousands of episodes and names of 18 characters."""

from collections.abc import Mapping, Sequence
from typing import Any

from rayfs.reports.result_cells import NONE, count, plus_minus, result_cells

__all__ = ["NONE", "aligned", "error_table", "plus_minus", "result_table"]


def result_table(summary: Mapping[str, Any], baseline_label: str | None = None) -> str:
    """Return the table of a summary, accuracies in percent and gains in percentage points, with its notes.

    Arguments:
        summary: what `summarise` returns.
        baseline_label: how the header names the baseline, for example "frozen LR"; default the method's name.
    """
    cells = result_cells(summary, baseline_label)
    return "\n".join([aligned([cells.heading, *cells.lines]), *cells.notes]) + "\n"


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
            entries.append((error, [name, plus_minus(error, figures["ci95"]), "this run", count(figures)]))
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
