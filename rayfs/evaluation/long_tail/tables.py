"""The table of an evaluation of long-tailed recognition: for the terminal, Markdown and CSV."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from rayfs.evaluation.long_tail.published import PUBLISHED
from rayfs.evaluation.long_tail.summary import order_of_groups
from rayfs.evaluation.result_cells import NONE, ResultCells
from rayfs.evaluation.table import aligned
from rayfs.evaluation.table_exports import markdown_table, printable
from rayfs.long_tail.groups import GROUPS


def result_cells(summary: Mapping[str, Any]) -> ResultCells:
    """Return the cells: accuracies of each group in percent, differences to the cosine classifier in points."""
    groups = order_of_groups(summary)
    gained = [group for group in ("few", "all") if group in groups]
    heading = ["classifier", *(f"{group}\n%" for group in groups), *(f"{group}\nvs cosine" for group in gained)]
    lines = [
        [
            name,
            *(with_interval(figures["accuracy"][group]) for group in groups),
            *(with_interval(figures["gain"][group], sign="+") if figures["gain"] else NONE for group in gained),
        ]
        for name, figures in summary["classifiers"].items()
    ]  # fmt: skip
    return ResultCells(heading=heading, lines=lines, notes=notes(summary))


def notes(summary: Mapping[str, Any]) -> list[str]:
    """Return what the cells are, and the gain of the ensemble in words."""
    sizes = ", ".join(f"{name} {g['n_classes']}" for name, g in summary["groups"].items() if name != "all")
    found = [
        f"[low, high]: {summary['interval']}; differences are paired on the same images.",
        f"Groups: {summary['borders']}; classes: {sizes}.",
    ]
    if few := gain_text(summary, "few"):
        found.append(few)
    if tuned := summary["tuned_gain"]:
        gains = ", ".join(f"{group} {with_interval(tuned[group], sign='+')}" for group in order_of_groups(summary))
        found.append(f"Tuned ensemble minus ensemble, points: {gains}.")
    mismatches = [c["mismatches"] for c in summary["checkpoints"]]
    counted = ", ".join(f"{m['all']} (few-shot {m['few']})" for m in mismatches)
    found.append(f"Classes whose prototype is closest to another class's weights: {counted}.")
    return found


def gain_text(summary: Mapping[str, Any], group: str) -> str:
    """Return the ensemble's gain over the cosine classifier on a group in words; empty where it has no images."""
    if summary["gain"][group]["value"] is None:
        return ""
    n = summary["groups"][group]["n_classes"]
    of = f"the {n} {group}-shot classes" if group != "all" else f"all {n} classes"
    text = f"Ensemble minus cosine classifier on {of}: {with_interval(summary['gain'][group], sign='+')} points"
    if summary["gain_over_classes"] is None:
        return f"{text}, over checkpoints."
    wide = with_interval(summary["gain_over_classes"][group], sign="+").partition(" ")[2]
    return f"{text} over test images of these classes, {wide} if the classes are drawn anew, too."


def with_interval(figure: Mapping[str, float | None], sign: str = "") -> str:
    """Return "12.3 [11.0, 13.5]"."""
    if figure["value"] is None:
        return NONE
    if figure["low"] is None:
        return f"{figure['value']:{sign}.1f}"
    return f"{figure['value']:{sign}.1f} [{figure['low']:{sign}.1f}, {figure['high']:{sign}.1f}]"


def published_lines(benchmark: str) -> list[list[str]]:
    """Return (name, many, medium, few, all) of what the paper printed for this benchmark, a source line before each."""
    lines = []
    for network in PUBLISHED.get(benchmark, ()):
        lines += [[f"{name} ({network.source})", *(f"{figures[group]:.1f}" for group in GROUPS)]
                  for name, figures in network.lines()]  # fmt: skip
    return lines


def text_table(summary: Mapping[str, Any]) -> str:
    """Return the table for a terminal, with published figures below where the benchmark has some."""
    cells = result_cells(summary)
    text = "\n".join([aligned([cells.heading, *cells.lines]), *cells.notes]) + "\n"
    if published := published_lines(summary["benchmark"]):
        text += "\npublished (Parisot et al., CVPR 2022)\n" + aligned([["classifier", *GROUPS], *published]) + "\n"
    return text


def table_files(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return file name -> content of the table as CSV (not rounded) and Markdown."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    kinds = [
        (kind, group, part) for kind in ("accuracy", "gain") for group in GROUPS for part in ("value", "low", "high")
    ]
    writer.writerow(["classifier", *("_".join(kind) for kind in kinds)])
    for name, figures in summary["classifiers"].items():
        values = [figures[kind][group][part] if figures[kind] else None for kind, group, part in kinds]
        writer.writerow([printable(name), *("" if value is None else value for value in values)])
    return {"table.csv": stream.getvalue(), "table.md": markdown_table(result_cells(summary))}
