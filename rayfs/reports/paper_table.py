"""Our rows beside a published table: differences, paired gains, and whether they agree. Percent throughout."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rayfs.reports.published.label_halluc import DISTINCT, FROZEN, Cell, PublishedRow, PublishedTable
from rayfs.reports.result_cells import NONE, ResultCells, count, plus_minus

PUBLISHED_BACKBONE = "resnet12"

DISTINCT_FACTOR = math.sqrt(2)
"""What a published half-width is multiplied by: 300 of the 600 episodes are distinct."""


@dataclass(frozen=True, kw_only=True)
class Ours:
    """What this project ran for one row: the figures of its method, and where they are from."""

    figures: Mapping[str, Any]
    """Of one method, as `summarise` gives them."""
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
) -> ResultCells:
    """Return the cells of one column of a table (one number of shots), ours beside the published.

    Arguments:
        ours: label of the row -> what was run for it.
        absent: label of the row -> why nothing was run for it.
    """
    shown_as = published_benchmark(table, benchmark, n_shot)
    same = backbone == PUBLISHED_BACKBONE and shown_as == benchmark
    lines = []
    for row in table.rows:
        cell, found = row.cells.get((shown_as, n_shot)), ours.get(row.label)
        if cell is None and found is None and row.label not in absent:
            continue  # the table has no figure of this row for this benchmark
        lines.append(
            [
                row.label,
                plus_minus(cell.accuracy, cell.ci95) if cell else NONE,
                *(_our_cells(found) if found else [absent.get(row.label, NONE), NONE]),
                _difference(found, cell) if same else NONE,
                _gain_text(published_gain(table, row, shown_as, n_shot)),
                plus_minus(found.figures["gain"], found.figures["gain_ci95"], sign="+") if found else NONE,
                gain_verdict(found, published_gain(table, row, shown_as, n_shot)),
            ]
        )
    heading = [
        f"{n_shot}-shot", f"published\n{'' if shown_as == benchmark else shown_as + ', '}ResNet-12\n± 95% CI",
        f"ours\n{backbone}\n± 95% CI", "n\n(distinct)", "ours -\npublished\n± 95% CI", "published\ngain\nvs LR",
        "our gain\nvs LR\n± paired 95% CI", "gains\nagree",
    ]  # fmt: skip
    return ResultCells(heading=heading, lines=lines, notes=table_notes(same, backbone, shown_as, benchmark))


def published_benchmark(table: PublishedTable, benchmark: str, n_shot: int) -> str:
    """Return the benchmark whose figures stand beside ours: the same one, else miniImageNet (table 4)."""
    return benchmark if any((benchmark, n_shot) in row.cells for row in table.rows) else "mini-imagenet"


def published_gain(table: PublishedTable, row: PublishedRow, benchmark: str, n_shot: int) -> float | None:
    """Return a row's published accuracy minus that of the frozen classifier on the same embedding in the same table."""
    key = (benchmark, n_shot)
    frozen = next((r for r in table.rows if r.method == FROZEN and r.embedding == row.embedding), None)
    if frozen is None or row.method in (None, FROZEN) or key not in row.cells or key not in frozen.cells:
        return None
    return row.cells[key].accuracy - frozen.cells[key].accuracy


def gain_verdict(found: Ours | None, published: float | None) -> str:
    """Return whether our paired gain has the sign of the published one: "yes", "no", or "open" if ours may be 0."""
    if found is None or published is None or found.figures["gain"] is None or found.figures["gain_ci95"] is None:
        return NONE
    gain, half_width = found.figures["gain"], found.figures["gain_ci95"]
    if abs(gain) <= half_width:
        return "open"
    return "yes" if gain * published > 0 else "no"


def difference_interval(found: Ours, cell: Cell) -> tuple[float, float | None]:
    """Return ours minus published and its half-width, the published one widened to 300 distinct episodes.

    Without a published interval the half-width is ours alone.
    """
    ours = found.figures["ci95"]
    published = DISTINCT_FACTOR * cell.ci95 if cell.ci95 is not None else 0.0
    half_width = None if ours is None else math.hypot(ours, published)
    return found.figures["accuracy"] - cell.accuracy, half_width


def table_notes(same: bool, backbone: str, shown_as: str, benchmark: str) -> list[str]:
    """Return what a reader has to know about the comparison."""
    notes = [DISTINCT]
    if same:
        notes.append(
            "ours - published: with our interval and the published one, widened for that; (=) if 0 lies inside it."
        )
    else:
        other = f"{benchmark} with {backbone}, published {shown_as} with ResNet-12"
        notes.append(f"Accuracies are not comparable cell by cell ({other}); the gains over frozen LR are.")
    notes.append("gains agree: yes, the same sign; no, the other sign; open, 0 lies in our paired interval.")
    return notes


def _our_cells(found: Ours) -> list[str]:
    return [plus_minus(found.figures["accuracy"], found.figures["ci95"]), count(found.figures)]


def _difference(found: Ours | None, cell: Cell | None) -> str:
    if found is None or cell is None or found.figures["accuracy"] is None:
        return NONE
    difference, half_width = difference_interval(found, cell)
    agrees = half_width is not None and abs(difference) <= half_width
    return plus_minus(difference, half_width, sign="+") + (" (=)" if agrees else "")


def _gain_text(gain: float | None) -> str:
    return NONE if gain is None else f"{gain:+.2f}"
