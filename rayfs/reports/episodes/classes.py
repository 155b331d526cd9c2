"""The sections of a report about classes: how often each is recognised, and what it is taken for."""

from collections.abc import Mapping

from rayfs.reports.document import Block, ColourKey, Figure, Folded, Grid, Note, Section, Table
from rayfs.reports.episodes.class_accuracy import ClassCounts, confused_pairs, largest_mistake
from rayfs.reports.episodes.class_figures import MAX_MATRIX, class_order, draw_class_accuracy, draw_confusion
from rayfs.reports.figure_style import SERIES, css_colour
from rayfs.reports.result_table import ResultTable
from rayfs.reports.text_table import NONE
from rayfs.runs.run_directory import EPISODE_FILE

N_MISTAKES = 15
"""Pairs of classes in the list of mistakes."""


def class_sections(counts: Mapping[str, ClassCounts], main: str, colours: Mapping[str, str]) -> list[Section]:
    """Return the sections; classes are sorted by the accuracy of the method `main`, whose mistakes are listed."""
    left_out = sum(of_method.n_left_out for of_method in counts.values())
    note = f"{left_out:,} rows are of episodes that {EPISODE_FILE} does not hold." if left_out else ""
    caption = f"Hardest first, by {main}; all query images of the distinct episodes."
    accuracy = Figure(draw_class_accuracy(counts, main, colours), "Accuracy of each class", caption)
    caption = "Share of the true class's query images."
    mistakes = Table(_mistakes(counts[main]), f"Most frequent mistakes of {main}", caption)
    every = Folded(f"Every class in figures ({len(counts[main].names)})", [Table(_class_table(counts, main))])
    matrices = [_matrix(method, of_method, opened=method == main) for method, of_method in counts.items()]
    prose = "Rows are true classes and sum to 100%; a class can be taken only for one drawn into the same episode."
    return [
        Section("Classes", [Note(note, "warning"), Grid([accuracy, mistakes]), every]),
        Section("What is taken for what", matrices, prose),
    ]


def _mistakes(counts: ClassCounts) -> ResultTable:
    pairs = confused_pairs(counts, N_MISTAKES)
    lines = [(true, taken, str(n), f"{100 * share:.1f}%") for true, taken, n, share in pairs]
    return ResultTable(heading=["class", "taken for", "images", "share"], lines=lines, n_texts=2)


def _class_table(counts: Mapping[str, ClassCounts], main: str) -> ResultTable:
    accuracy = {m: dict(zip(c.class_ids.tolist(), c.accuracy, strict=True)) for m, c in counts.items()}
    order = [(int(counts[main].class_ids[i]), i) for i in class_order(counts[main])]
    lines = [
        [counts[main].names[i], str(counts[main].n_queries[i]),
         *(f"{accuracy[method][c]:.1f}" if c in accuracy[method] else NONE for method in counts)]
        for c, i in order
    ]  # fmt: skip
    return ResultTable(heading=["class", "query images", *(f"{method} %" for method in counts)], lines=lines, n_texts=1)


def _matrix(method: str, counts: ClassCounts, *, opened: bool) -> Block:
    n = len(counts.names)
    if n > MAX_MATRIX:
        return Note(f"{method}: {n} classes are too many for one picture.", "muted")
    picture = Figure(draw_confusion(counts, method), wide=True)
    return Folded(method, [_depths(largest_mistake(counts)), picture], opened)


def _depths(largest_mistake: float) -> ColourKey:
    """Return what the depths of colour of a confusion matrix mean; `largest_mistake` is a share."""
    shades = [(SERIES[0], depth, depth**2, "right") for depth in (0.5, 1.0)]
    if largest_mistake > 0:
        shades += [(SERIES[1], depth, depth**2 * largest_mistake, "mistaken") for depth in (0.25, 0.5, 1.0)]
    return ColourKey([(css_colour(c), depth, f"{100 * share:.3g}% {what}") for c, depth, share, what in shades])
