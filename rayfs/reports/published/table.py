"""The one type of published table. A paper is one module of such tables, and one line of `registry`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Column = int | str
"""A number of shots, or a group of classes of a long tail ("many", "few")."""


@dataclass(frozen=True, kw_only=True)
class Paper:
    """Where published figures are from."""

    key: str
    """As `--table KEY:TABLE` names it."""
    reference: str
    """Authors, title, venue, year."""
    short: str
    """The reference in a heading."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One published accuracy in percent."""

    accuracy: float
    ci95: float | None = None
    """Half-width as printed, None where none is."""


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One row of a table."""

    label: str
    embedding: str | None = None
    """What the backbone was trained by, as `--embedding` names it; None: published only, no method of ours."""
    method: str | None = None
    """Method or variant, as `--methods` takes it."""
    cells: Mapping[tuple[str, Column], Cell] = field(default_factory=dict)
    """(benchmark, column) -> figure."""


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """One table of a paper, of one backbone."""

    paper: Paper
    name: str
    """As the paper counts it: "table 2"."""
    title: str
    """What it compares."""
    backbone: str
    """As the paper writes it."""
    runs_as: str | None = None
    """The same as `--backbone` names it: only on this one do accuracies compare cell by cell. None: not here."""
    baseline: str | None = None
    """The method of the rows that gains are over, one for each embedding."""
    baseline_label: str = ""
    """How headings name the baseline."""
    widening: float = 1.0
    """What a published half-width is multiplied by before it is compared: its episodes were not all distinct."""
    widening_note: str = ""
    """Why, for a reader of the table."""
    n_way: int = 5
    rows: tuple[PublishedRow, ...]

    @property
    def source(self) -> str:
        """Where a figure stands: "table 9, ResNet-101, uniform"."""
        return ", ".join(filter(None, (self.name, self.backbone, self.title)))

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """The benchmarks that it has figures of, in its order."""
        return tuple(dict.fromkeys(benchmark for row in self.rows for benchmark, _ in row.cells))

    def columns(self, benchmark: str) -> tuple[Column, ...]:
        """Return the columns that the table has for a benchmark: numbers of shots ascending, groups as they stand."""
        found = dict.fromkeys(column for row in self.rows for name, column in row.cells if name == benchmark)
        numbers = sorted(column for column in found if isinstance(column, int))
        return (*numbers, *(column for column in found if isinstance(column, str)))
