"""The one type of table. `table_exports` makes text, CSV, Markdown and LaTeX of it, and pages show it as it is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Unrounded:
    """The figures behind a table's cells, for programs rather than people."""

    heading: tuple[str, ...]
    """Names of the columns of the CSV file; the first is that of the row's name."""
    lines: tuple[tuple[object, ...], ...]
    """The name of each row, then its figures; None where one is undefined."""


@dataclass(frozen=True, kw_only=True)
class ResultTable:
    """A table before it is laid out. An interval stands behind its figure, as "1.50 ± 0.20" or "1.5 [1.3, 1.7]"."""

    heading: Sequence[str]
    """Of each column; perhaps several lines, separated by newlines."""
    lines: Sequence[Sequence[str]]
    """The cells of each row, rounded."""
    notes: tuple[str, ...] = ()
    """Sentences below the table."""
    n_texts: int = 0
    """Columns from the left that hold sentences or long names, which a page may break across lines. 0: the first column
    holds the short name of its row."""
    unrounded: Unrounded | None = None
    """None: the table is not written as CSV."""

    def __post_init__(self) -> None:
        for line in self.lines:
            assert len(line) == len(self.heading), f"{len(line)} cells below {len(self.heading)} headings: {line}"

    def noted(self, *notes: str) -> "ResultTable":
        """Return the table with more notes below it."""
        return replace(self, notes=(*self.notes, *notes))
