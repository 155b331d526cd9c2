"""The sections of a report about classes: how often each is recognised, and what it is taken for."""

from collections.abc import Mapping

from rayfs.reports import page
from rayfs.reports.episodes.class_accuracy import ClassCounts, confused_pairs, largest_mistake
from rayfs.reports.episodes.class_figures import MAX_MATRIX, class_order, draw_class_accuracy, draw_confusion
from rayfs.reports.table_exports import escape_html
from rayfs.runs.run_directory import EPISODE_FILE

N_MISTAKES = 15
"""Pairs of classes in the list of mistakes."""


def class_sections(counts: Mapping[str, ClassCounts], main: str, colours: Mapping[str, str]) -> str:
    """Return the sections; classes are sorted by the accuracy of the method `main`, whose mistakes are listed."""
    left_out = sum(of_method.n_left_out for of_method in counts.values())
    notes = (
        [page.warning(f"{left_out:,} rows are of episodes that {EPISODE_FILE} does not hold.")] if left_out else []
    )
    plots = [
        page.plot(draw_class_accuracy(counts, main, colours), "Accuracy of each class",
                  f"Hardest first, by {main}; all query images of the distinct episodes."),
        '<div class="plot">' + _mistakes(counts[main], main) + "</div>",
    ]  # fmt: skip
    every = page.folded(f"Every class in figures ({len(counts[main].names)})", _class_table(counts, main))
    matrices = [_matrix(method, of_method, opened=method == main) for method, of_method in counts.items()]
    text = "Rows are true classes and sum to 100%; a class can be taken only for one drawn into the same episode."
    return page.section("Classes", *notes, page.grid(*plots), every) + page.section(
        "What is taken for what", *matrices, text=text
    )


def _mistakes(counts: ClassCounts, method: str) -> str:
    pairs = confused_pairs(counts, N_MISTAKES)
    heading = (
        f"<figcaption><b>Most frequent mistakes of {escape_html(method)}</b>Share of the true class's query images."
    )
    lines = [(true, taken, n, f"{100 * share:.1f}%") for true, taken, n, share in pairs]
    return heading + "</figcaption>" + page.plain_table(["class", "taken for", "images", "share"], lines, n_texts=2)


def _class_table(counts: Mapping[str, ClassCounts], main: str) -> str:
    accuracy = {m: dict(zip(c.class_ids.tolist(), c.accuracy, strict=True)) for m, c in counts.items()}
    order = [(int(counts[main].class_ids[i]), i) for i in class_order(counts[main])]
    lines = [
        [counts[main].names[i], int(counts[main].n_queries[i]),
         *(f"{accuracy[method][c]:.1f}" if c in accuracy[method] else "–" for method in counts)]
        for c, i in order
    ]  # fmt: skip
    return page.plain_table(["class", "query images", *(f"{method} %" for method in counts)], lines)


def _matrix(method: str, counts: ClassCounts, *, opened: bool) -> str:
    if len(counts.names) > MAX_MATRIX:
        return f'<p class="muted">{escape_html(method)}: {len(counts.names)} classes are too many for one picture.</p>'
    picture = f'<div class="wide"><div class="matrix">{draw_confusion(counts, method)}</div></div>'
    return page.folded(method, page.matrix_key(largest_mistake(counts)) + picture, opened=opened)
