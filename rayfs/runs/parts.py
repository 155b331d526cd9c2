"""Part files: the Parquet files that a run's rows are committed in."""

import re
from collections.abc import Iterable, Mapping

import pyarrow as pa
from pyarrow import parquet

from rayfs.errors import InputError
from rayfs.runs.row_kind import Key, R, ResultRow, RowKind, rows_of, table_of
from rayfs.runs.storage import STORAGE_ERRORS, Storage

_NAME = re.compile(r"part-(\d{6,})\.parquet")


def part_name(kind: RowKind[R], number: int) -> str:
    """Return the path of part `number` below the run directory; rows that are one file are part 0."""
    return kind.file or f"{kind.folder}/part-{number:06d}.parquet"


def part_numbers(kind: RowKind[R], storage: Storage) -> list[int]:
    """Return the numbers of the committed parts, in order; other files in the folder are ignored."""
    if kind.file:
        return [0] if kind.file in storage.names() else []
    return sorted(int(match[1]) for name in storage.names(kind.folder) if (match := _NAME.fullmatch(name)))


def encode_part(kind: RowKind[R], rows: Iterable[R]) -> bytes:
    """Return `rows` as a Parquet file with page checksums."""
    sink = pa.BufferOutputStream()
    parquet.write_table(table_of(kind, rows), sink, compression="zstd", write_page_checksum=True)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def read_part(kind: RowKind[R], storage: Storage, number: int) -> list[R]:
    """Return the rows of one part.

    Raises:
        InputError: it is damaged, or has other columns; names the file.
    """
    return rows_of(kind, _read(kind, storage, number))


def read_origins(kind: RowKind[R], storage: Storage, number: int) -> list[ResultRow]:
    """Return the origins of the rows of one part, reading their columns only; raises as `read_part`."""
    columns = _read(kind, storage, number, list(kind.origin_columns)).to_pydict()
    return [kind.origin(*values) for values in zip(*(columns[name] for name in kind.origin_columns), strict=True)]


def _read(kind: RowKind[R], storage: Storage, number: int, columns: list[str] | None = None) -> pa.Table:
    name = part_name(kind, number)
    path = storage.path(name)
    try:
        with storage.open(name) as stream:
            file = parquet.ParquetFile(stream, page_checksum_verification=True)
            same = file.schema_arrow.equals(kind.schema)
            table = file.read(columns=columns) if same else None
            if table is not None and table.num_rows != file.metadata.num_rows:  # the footer has no checksum
                raise pa.ArrowInvalid(f"it has {table.num_rows} rows of {file.metadata.num_rows}")
    except (*STORAGE_ERRORS, ValueError) as error:  # ValueError: damaged text
        raise InputError(
            f"{path} cannot be read: {error}; if it is damaged, delete it and rerun the same command: "
            f"only its {kind.folder or 'rows'} run again"
        ) from error
    if table is None:
        raise InputError(
            f"{path} has other columns than this version of rayfs writes; read it with the version it is of"
        )
    return kind.translated(table)


def merge_rows(parts: Mapping[int, Iterable[R]]) -> list[R]:
    """Return one row for each key, sorted by it: finished beats failed, then a later part beats an earlier.

    Arguments:
        parts: part number -> its rows, in any order.
    """
    best: dict[Key, R] = {}
    for number in sorted(parts):
        for row in parts[number]:
            if row.finished or row.key not in best or not best[row.key].finished:
                best[row.key] = row
    return [best[key] for key in sorted(best)]
