"""Comparisons as plain text: over all distinct episodes, over disjoint ones, and tests, one line for each pair."""

from collections.abc import Sequence

from rayfs.reports.text_table import NONE, aligned, plus_minus, probability
from rayfs.statistics.comparison import Comparison, Figures, UnpairedComparison

UNPAIRED = (
    "UNPAIRED (Welch's t interval): the luck of which episodes each side drew is in these differences;\n"
    "it would cancel on the same episodes."
)
"""Printed above every unpaired table."""


def paired_text(comparisons: Sequence[Comparison], target_pt: float) -> str:
    """Return the tables of paired comparisons with their notes."""
    blocks = [
        "Over all distinct episodes (with replacement: they may share images)\n"
        + _figures_table([(comparison.name, comparison.figures) for comparison in comparisons])
    ]
    disjoint = [(comparison.name, comparison.disjoint) for comparison in comparisons if comparison.disjoint]
    if disjoint:
        blocks.append(
            "Over disjoint episodes only (without replacement: n is how many there are that share no image)\n"
            + _figures_table(disjoint)
        )
    blocks.append(f"Paired tests, two-sided, over all distinct episodes\n{_tests_table(comparisons, target_pt)}")
    notes = [note for comparison in comparisons for note in _notes(comparison)]
    if notes:
        blocks.append("\n".join(notes))
    return "\n\n".join(blocks) + "\n"


def unpaired_text(comparisons: Sequence[UnpairedComparison]) -> str:
    """Return the table of unpaired comparisons with their notes."""
    header = ["method", "n\nA", "n\nB", "A %\n± 95% CI", "B %\n± 95% CI", "A − B\n± Welch 95% CI", "p\nWelch"]
    lines = [
        [
            comparison.name,
            str(comparison.a.n),
            str(comparison.b.n),
            plus_minus(comparison.a.mean, comparison.a.half_width),
            plus_minus(comparison.b.mean, comparison.b.half_width),
            plus_minus(comparison.difference.mean, comparison.difference.half_width, sign="+"),
            probability(comparison.difference.p),
        ]
        for comparison in comparisons
    ]
    notes = [
        f"{comparison.name}: {comparison.n_common} episodes are in both; without --force-unpaired"
        f"{'' if comparison.n_common == comparison.a.n == comparison.b.n else ', with --common,'} they are paired."
        for comparison in comparisons
        if comparison.n_common
    ]
    return "\n".join([UNPAIRED, aligned([header, *lines]), *notes]) + "\n"


def _figures_table(entries: Sequence[tuple[str, Figures]]) -> str:
    header = ["method", "n", "A %\n± 95% CI", "B %\n± 95% CI", "A − B\n± paired 95% CI", "win/tie/loss\nof A"]
    return aligned([header, *(_figures_line(name, figures) for name, figures in entries)])


def _figures_line(name: str, figures: Figures) -> list[str]:
    difference = figures.difference
    return [
        name,
        str(difference.interval.n),
        plus_minus(figures.a.mean, figures.a.half_width),
        plus_minus(figures.b.mean, figures.b.half_width),
        plus_minus(difference.interval.mean, difference.interval.half_width, sign="+"),
        f"{difference.win}/{difference.tie}/{difference.loss}",
    ]


def _tests_table(comparisons: Sequence[Comparison], target_pt: float) -> str:
    needed = f"episodes for\nA − B ± {target_pt:g}"
    header = ["method", "p\nsign test", "p\nWilcoxon", "correlation\nof A and B", needed]
    lines = [
        [
            comparison.name,
            probability(comparison.figures.difference.p_sign),
            probability(comparison.figures.difference.p_wilcoxon),
            NONE if comparison.figures.correlation is None else f"{comparison.figures.correlation:.3f}",
            NONE if comparison.episodes_for_target is None else f"{comparison.episodes_for_target:,}",
        ]
        for comparison in comparisons
    ]
    return aligned([header, *lines])


def _notes(comparison: Comparison) -> list[str]:
    pairing, name = comparison.pairing, comparison.name
    notes = []
    if pairing.only_a or pairing.only_b:
        notes.append(
            f"{name}: {pairing.only_a} episodes that only A has and {pairing.only_b} that only B has are left out."
        )
    if pairing.failed_a or pairing.failed_b:
        notes.append(
            f"{name}: {pairing.failed_a} episodes failed in A and {pairing.failed_b} in B; they are in no figure."
        )
    if comparison.without_row_ids and comparison.disjoint is not None:
        notes.append(
            f"{name}: the images of {comparison.without_row_ids} episodes are not known; the disjoint leave them out."
        )
    return notes
