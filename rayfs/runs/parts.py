"""Part files: the Parquet files that a run's rows are committed in."""

import re
from collections.abc import Iterable, Mapping

import pyarrow as pa
from pyarrow import parquet

from rayfs.errors import InputError
from rayfs.methods.registry import canonical
from rayfs.runs.origins import Origin
from rayfs.runs.rows import SCHEMA, Row, rows_to_table, table_to_rows
from rayfs.runs.storage import STORAGE_ERRORS, Storage

EPISODES = "episodes"
"""Folder of the parts."""

_NAME = re.compile(r"part-(\d{6,})\.parquet")


def part_name(number: int) -> str:
    """Return the path of part `number` below the run directory."""
    return f"{EPISODES}/part-{number:06d}.parquet"


def part_numbers(storage: Storage) -> list[int]:
    """Return the numbers of the committed parts, in order; other files in the folder are ignored."""
    return sorted(int(match[1]) for name in storage.names(EPISODES) if (match := _NAME.fullmatch(name)))


def encode_part(rows: Iterable[Row]) -> bytes:
    """Return `rows` as a Parquet file with page checksums."""
    sink = pa.BufferOutputStream()
    parquet.write_table(rows_to_table(rows), sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def read_part(storage: Storage, number: int) -> list[Row]:
    """Return the rows of one part."""
    return table_to_rows(_read(storage, number))


def read_origins(storage: Storage, number: int) -> list[Origin]:
    """Return the origins of the rows of one part, reading their columns only."""
    columns = _read(storage, number, list(Origin._fields)).to_pydict()
    return [Origin(*values) for values in zip(*(columns[name] for name in Origin._fields), strict=True)]


def _read(storage: Storage, number: int, columns: list[str] | None = None) -> pa.Table:
    path = storage.path(part_name(number))
    try:
        with storage.open(part_name(number)) as stream:
            file = parquet.ParquetFile(stream, page_checksum_verification=True)
            same = file.schema_arrow.equals(SCHEMA)
            table = file.read(columns=columns) if same else None
            if table is not None and table.num_rows != file.metadata.num_rows:  # the footer has no checksum
                raise pa.ArrowInvalid(f"it has {table.num_rows} rows of {file.metadata.num_rows}")
    except (*STORAGE_ERRORS, ValueError) as error:  # ValueError: damaged text
        raise InputError(
            f"{path} cannot be read: {error}; if it is damaged, delete it and rerun the same command: "
            "only its episodes run again"
        ) from error
    if table is None:
        raise InputError(
            f"{path} has other columns than this version of rayfs writes; read it with the version it is of"
        )
    return _with_canonical_names(table)


def _with_canonical_names(table: pa.Table) -> pa.Table:
    """Return `table` with methods under their proper names: rows that were written before have others for some."""
    place = table.schema.get_field_index("method")
    proper = [canonical(name) for name in table.column(place).to_pylist()]
    return table.set_column(place, table.schema.field(place), pa.array(proper, pa.string()))


def merge_rows(parts: Mapping[int, Iterable[Row]]) -> list[Row]:
    """Return one row for each (episode, method), sorted by them: ok beats failed, then a later part beats an earlier.

    Arguments:
        parts: part number -> its rows, in any order.
    """
    best: dict[tuple[int, str], Row] = {}
    for number in sorted(parts):
        for row in parts[number]:
            key = (row.episode, row.method)
            if row.status == "ok" or key not in best or best[key].status == "failed":
                best[key] = row
    return [best[key] for key in sorted(best)]
