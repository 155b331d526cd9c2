"""The table of an evaluation of long-tailed recognition: for the terminal, Markdown and CSV."""

from collections.abc import Mapping
from itertools import product
from typing import Any

from rayfs.long_tail.groups import GROUPS
from rayfs.long_tail.settings import COSINE
from rayfs.reports.published import compositional
from rayfs.reports.result_table import ResultTable, Unrounded
from rayfs.reports.table_exports import csv_table, markdown_table, text_table
from rayfs.reports.text_table import NONE
from rayfs.statistics.long_tail_summary import order_of_groups


def long_tail_table(summary: Mapping[str, Any]) -> ResultTable:
    """Return the table: accuracies of each group in percent, differences to the baseline in points."""
    groups, baseline = order_of_groups(summary), summary["gain_of"]["baseline"]
    gained = [*(["unseen"] if "unseen" in groups else ["few"] if "few" in groups else []), "all"]
    heading = ["classifier", *(f"{group}\n%" for group in groups), *(f"{group}\nvs {baseline}" for group in gained)]
    lines = [
        [
            name,
            *(with_interval(figures["accuracy"][group]) for group in groups),
            *(with_interval(figures["gain"][group], sign="+") if figures["gain"] else NONE for group in gained),
        ]
        for name, figures in summary["classifiers"].items()
    ]  # fmt: skip
    return ResultTable(heading=heading, lines=lines, notes=tuple(notes(summary)), unrounded=_unrounded(summary))


def _unrounded(summary: Mapping[str, Any]) -> Unrounded:
    kinds = list(product(("accuracy", "gain"), summary["groups"], ("value", "low", "high")))
    return Unrounded(
        heading=("classifier", *("_".join(kind) for kind in kinds)),
        lines=tuple(
            (name, *(figures[kind][group][part] if figures[kind] else None for kind, group, part in kinds))
            for name, figures in summary["classifiers"].items()
        ),
    )


def notes(summary: Mapping[str, Any]) -> list[str]:
    """Return what the cells are, and the gain of the ensemble in words."""
    sizes = ", ".join(f"{name} {g['n_classes']}" for name, g in summary["groups"].items() if name != "all")
    found = [unseen_text(summary)] if summary["unseen"] else []
    found += [
        f"[low, high]: {summary['interval']}; differences are paired on the same images.",
        f"Groups: {summary['borders']}; classes: {sizes}.",
    ]
    found += [text for group in ("few", "unseen") if (text := gain_text(summary, group))]
    if tuned := summary["tuned_gain"]:
        gains = ", ".join(f"{group} {with_interval(tuned[group], sign='+')}" for group in order_of_groups(summary))
        found.append(f"Tuned ensemble minus ensemble, points: {gains}.")
    mismatches = [c["mismatches"] for c in summary["checkpoints"]]
    few = " (few-shot {few})" if not summary["unseen"] else ""
    counted = ", ".join(("{all}" + few).format_map(m) for m in mismatches)
    which = "Classes" if not summary["unseen"] else "Seen classes"
    found.append(f"{which} whose prototype is closest to another class's weights: {counted}.")
    return found


def unseen_text(summary: Mapping[str, Any]) -> str:
    """Return how many classes the network has not seen, and what that means for the figures."""
    n, n_all = len(summary["unseen"]), summary["groups"]["all"]["n_classes"]
    which = "" if "unseen" in summary["groups"] else ", the few-shot ones"
    return (
        f"{n} of {n_all} classes were not seen in training{which}: their prototypes are of their training images, and "
        f"what is transferred comes from the other {n_all - n} alone. The cosine classifier chooses among these "
        f"{n_all - n}, the others among all {n_all}."
    )


def gain_text(summary: Mapping[str, Any], group: str) -> str:
    """Return the gain of the ensemble over the baseline on a group in words; empty where it has no images."""
    if summary["gain"].get(group, {"value": None})["value"] is None:
        return ""
    n = summary["groups"][group]["n_classes"]
    kind = {"all": "all {} classes", "unseen": "the {} unseen classes"}.get(group, f"the {{}} {group}-shot classes")
    best, baseline = summary["gain_of"].values()
    against = "cosine classifier" if baseline == COSINE else baseline
    gain = with_interval(summary["gain"][group], sign="+")
    text = f"{best.capitalize()} minus {against} on {kind.format(n)}: {gain} points"
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


def published_table(benchmark: str, unseen: bool = False) -> ResultTable:
    """Return many, medium, few and all of what the paper printed for this benchmark; no lines where it has none.

    Arguments:
        unseen: of networks that were trained without the few-shot classes.
    """
    tables = compositional.UNSEEN_TABLES if unseen else compositional.TABLES
    lines = []
    for table in tables.values():
        for row in table.rows if benchmark in table.benchmarks else ():
            cells = (row.cells.get((benchmark, group)) for group in GROUPS)
            figures = (NONE if cell is None else f"{cell.accuracy:.1f}" for cell in cells)
            lines.append([f"{row.label} ({table.source})", *figures])
    return ResultTable(heading=["classifier", *GROUPS], lines=lines, n_texts=1)


def long_tail_text(summary: Mapping[str, Any]) -> str:
    """Return the table for a terminal, with published figures below where the benchmark has some."""
    text = text_table(long_tail_table(summary))
    published = published_table(summary["benchmark"], bool(summary["unseen"]))
    if published.lines:
        text += f"\npublished ({compositional.PAPER.short})\n{text_table(published)}"
    return text


def long_tail_files(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return file name -> content of the table as CSV (not rounded) and Markdown."""
    table = long_tail_table(summary)
    return {"table.csv": csv_table(table), "table.md": markdown_table(table)}
