"""Our rows beside a published table: differences, paired gains, and whether they agree. Percent throughout."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rayfs.reports.published.table import Cell, PublishedRow, PublishedTable
from rayfs.reports.result_table import ResultTable
from rayfs.reports.summary_table import count
from rayfs.reports.text_table import NONE, plus_minus
from rayfs.statistics.summary import MethodFigures


@dataclass(frozen=True, kw_only=True)
class Ours:
    """What this project ran for one row: the figures of its method, and where they are from."""

    figures: MethodFigures
    embedding: str
    """What the backbone was trained by."""


def paper_cells(
    table: PublishedTable,
    ours: Mapping[str, Ours],
    absent: Mapping[str, str],
    *,
    benchmark: str,
    n_shot: int,
    backbone: str,
) -> ResultTable:
    """Return one column of a table (one number of shots), ours beside the published.

    Arguments:
        ours: label of the row -> what was run for it.
        absent: label of the row -> why nothing was run for it.
    """
    shown_as = published_benchmark(table, benchmark, n_shot)
    same = backbone == table.runs_as and shown_as == benchmark
    lines = []
    for row in table.rows:
        cell, found = row.cells.get((shown_as, n_shot)), ours.get(row.label)
        if cell is None and found is None and row.label not in absent:
            continue  # the table has no figure of this row for this benchmark
        gain = published_gain(table, row, shown_as, n_shot)
        lines.append(
            [
                row.label,
                plus_minus(cell.accuracy, cell.ci95) if cell else NONE,
                *(_our_cells(found) if found else [absent.get(row.label, NONE), NONE]),
                _difference(table, found, cell) if same else NONE,
                NONE if gain is None else f"{gain:+.2f}",
                plus_minus(found.figures.gain, found.figures.gain_ci95, sign="+") if found else NONE,
                gain_verdict(found, gain),
            ]
        )
    published = f"{'' if shown_as == benchmark else shown_as + ', '}{table.backbone}"
    heading = [
        f"{n_shot}-shot", f"published\n{published}\n± 95% CI", f"ours\n{backbone}\n± 95% CI", "n\n(distinct)",
        "ours -\npublished\n± 95% CI", f"published\ngain\nvs {table.baseline_label}",
        f"our gain\nvs {table.baseline_label}\n± paired 95% CI", "gains\nagree",
    ]  # fmt: skip
    notes = table_notes(table, same=same, ours=f"{benchmark} with {backbone}", published=shown_as)
    return ResultTable(heading=heading, lines=lines, notes=tuple(notes))


def published_benchmark(table: PublishedTable, benchmark: str, n_shot: int) -> str:
    """Return the benchmark whose figures stand beside ours: the same one, else the first that has such a column."""
    with_column = (name for name in (benchmark, *table.benchmarks) if n_shot in table.columns(name))
    return next(with_column, benchmark)


def published_gain(table: PublishedTable, row: PublishedRow, benchmark: str, n_shot: int) -> float | None:
    """Return a row's published accuracy minus that of the baseline on the same embedding in the same table."""
    key = (benchmark, n_shot)
    baseline = next((r for r in table.rows if r.method == table.baseline and r.embedding == row.embedding), None)
    if baseline is None or row.method in (None, table.baseline):
        return None
    if key not in row.cells or key not in baseline.cells:
        return None
    return row.cells[key].accuracy - baseline.cells[key].accuracy


def gain_verdict(found: Ours | None, published: float | None) -> str:
    """Return whether our paired gain has the sign of the published one: "yes", "no", or "open" if ours may be 0."""
    if found is None or published is None or found.figures.gain is None or found.figures.gain_ci95 is None:
        return NONE
    gain, half_width = found.figures.gain, found.figures.gain_ci95
    if abs(gain) <= half_width:
        return "open"
    return "yes" if gain * published > 0 else "no"


def difference_interval(found: Ours, cell: Cell, widening: float) -> tuple[float, float | None]:
    """Return ours minus published and its half-width, the published one `widening` times as wide.

    Without a published interval the half-width is ours alone.
    """
    ours = found.figures.ci95
    published = widening * cell.ci95 if cell.ci95 is not None else 0.0
    half_width = None if ours is None else math.hypot(ours, published)
    assert found.figures.accuracy is not None, "no difference without an accuracy"
    return found.figures.accuracy - cell.accuracy, half_width


def table_notes(table: PublishedTable, *, same: bool, ours: str, published: str) -> list[str]:
    """Return what a reader has to know about the comparison.

    Arguments:
        same: whether backbone and benchmark are the published ones.
        ours: our benchmark and backbone, in words.
        published: the benchmark that stands beside ours.
    """
    notes = [table.widening_note] if table.widening_note else []
    if same:
        widened = ", widened for that" if table.widening_note else ""
        notes.append(f"ours - published: with our interval and the published one{widened}; (=) if 0 lies inside it.")
    else:
        other = f"{ours}, published {published} with {table.backbone}"
        baseline = f"frozen {table.baseline_label}"
        notes.append(f"Accuracies are not comparable cell by cell ({other}); the gains over {baseline} are.")
    notes.append("gains agree: yes, the same sign; no, the other sign; open, 0 lies in our paired interval.")
    return notes


def _our_cells(found: Ours) -> list[str]:
    return [plus_minus(found.figures.accuracy, found.figures.ci95), count(found.figures)]


def _difference(table: PublishedTable, found: Ours | None, cell: Cell | None) -> str:
    if found is None or cell is None or found.figures.accuracy is None:
        return NONE
    difference, half_width = difference_interval(found, cell, table.widening)
    agrees = half_width is not None and abs(difference) <= half_width
    return plus_minus(difference, half_width, sign="+") + (" (=)" if agrees else "")
