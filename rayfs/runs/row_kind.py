"""What a run directory is told of the rows that it holds: one `RowKind` for each kind of result."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import pyarrow as pa

from rayfs.runs.storage import Storage

Key = tuple[Any, ...]


class ResultRow(Protocol):
    """What every row, and the few columns of it that a resume reads, must say of itself."""

    @property
    def key(self) -> Key:
        """What it is the result of; there is one row of each, and they are sorted by it."""

    @property
    def finished(self) -> bool:
        """Whether the work is done; what has no finished row is run again."""


R = TypeVar("R", bound=ResultRow)


@dataclass(frozen=True)
class Done:
    """What a resume reads of rows that are all finished."""

    key: Key
    finished: bool = True

    @classmethod
    def of(cls, *key: Any) -> Self:
        """Return the origin of the row with the columns `key`."""
        return cls(key)


def _unchanged(table: pa.Table) -> pa.Table:
    return table


def _nothing(*given: object) -> None:
    """Refuse nothing; no such directory was written before there was a manifest."""


@dataclass(frozen=True, kw_only=True)
class RowKind(Generic[R]):
    """A kind of result: its rows, where they lie, and what would contradict them.

    The rows are committed as numbered parts in `folder`, or, where they are computed at once, as the one file `file`,
    which is replaced whole.
    """

    name: str
    """Of the kind, in the manifest and in messages."""
    folder: str = ""
    file: str = ""
    schema: pa.Schema
    """Columns of a part, in the order of the fields of `row`; a field that is a word of Python's has an underscore."""
    row: Callable[..., R]
    """Makes a row of the values of all columns, by name."""
    origin: Callable[..., ResultRow]
    """Makes what a resume reads of the values of `origin_columns`, in order."""
    origin_columns: tuple[str, ...]
    translated: Callable[[pa.Table], pa.Table] = _unchanged
    """Returns what an earlier version wrote (a table of the same schema) in the words of this one."""
    described: Callable[[Sequence[R]], str]
    """Says which rows these are, for a message: "lr: episodes 0-3, 7"."""
    origin_of: Callable[[R], Any]
    """Returns the origin of a row."""
    refuse_foreign: Callable[[Mapping[int, Iterable[Any]], Callable[[int], str]], None] = _nothing
    """Refuses (part number -> its origins, part number -> its path) parts that were copied here from another run."""
    refuse_impossible: Callable[[Sequence[R], Mapping[str, Any], str], None] = _nothing
    """Refuses (rows, identity, location) rows that cannot be of a run of that identity."""
    former_identity: Callable[[Storage, Sequence[str]], dict[str, Any] | None] = _nothing
    """Returns the identity of (storage, its names) a directory that was written before this kind had a manifest."""


def table_of(kind: RowKind[R], rows: Iterable[R]) -> pa.Table:
    """Return `rows` as an Arrow table of the kind's schema."""
    rows = list(rows)
    fields = _fields(kind)
    return pa.table({name: [getattr(row, fields[name]) for row in rows] for name in kind.schema.names}, kind.schema)


def rows_of(kind: RowKind[R], table: pa.Table) -> list[R]:
    """Return the rows of an Arrow table of the kind's schema."""
    fields, columns = _fields(kind), table.to_pydict()
    values = zip(*(columns[name] for name in fields), strict=True)
    return [kind.row(**dict(zip(fields.values(), of_row, strict=True))) for of_row in values]


def _fields(kind: RowKind[Any]) -> dict[str, str]:
    """Return column -> field."""
    return {name: f"{name}_" if name == "class" else name for name in kind.schema.names}
