"""Rows of episodes as a kind of result (`rayfs.runs.rows`)."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from rayfs.methods.registry import canonical
from rayfs.runs.origins import Origin, origin, refuse_foreign, refuse_other_labels
from rayfs.runs.row_kind import RowKind
from rayfs.runs.rows import SCHEMA, Row


def episodes_of(rows: Sequence[Row]) -> str:
    """Write the episodes of each method as ranges: "lr: episodes 0-3, 7"."""
    episodes: dict[str, list[list[int]]] = defaultdict(list)
    for row in rows:
        ranges = episodes[row.method]
        if ranges and row.episode == ranges[-1][1] + 1:
            ranges[-1][1] = row.episode
        else:
            ranges.append([row.episode, row.episode])
    return "; ".join(
        f"{method}: episodes " + ", ".join(f"{a}-{b}" if b > a else f"{a}" for a, b in ranges)
        for method, ranges in episodes.items()
    )


def _refuse_impossible(rows: Sequence[Row], identity: Mapping[str, Any], location: str) -> None:
    n_way = identity.get("protocol", {}).get("n_way")
    if isinstance(n_way, int):
        refuse_other_labels(rows, n_way, location)


def _with_canonical_names(table: pa.Table) -> pa.Table:
    """Return `table` with methods under their proper names: rows that were written before have others for some."""
    place = table.schema.get_field_index("method")
    proper = [canonical(name) for name in table.column(place).to_pylist()]
    return table.set_column(place, table.schema.field(place), pa.array(proper, pa.string()))


EPISODES: RowKind[Row] = RowKind(
    name="episodes",
    folder="episodes",
    schema=SCHEMA,
    row=Row,
    origin=Origin,
    origin_columns=Origin._fields,
    origin_of=origin,
    translated=_with_canonical_names,
    described=episodes_of,
    refuse_foreign=refuse_foreign,
    refuse_impossible=_refuse_impossible,
)
"""One row for each (episode, method)."""
