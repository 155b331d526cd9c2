"""Episode manifests: the row ids of every episode in one Parquet file, to share, check and read back."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rayfs.benchmarks.episodes import Episode, Protocol
from rayfs.durable_files import written_durably
from rayfs.errors import InputError

_COLUMNS = ("episode", "class_ids", "support_rows", "query_rows", "hash")


def write_manifest(path: Path, episodes: Sequence[Episode], protocol: Protocol, fingerprint: str) -> None:
    """Write `episodes`, drawn by `protocol` from the table called `fingerprint`; a whole file or none."""
    rows = {
        "episode": pa.array([episode.index for episode in episodes], pa.int64()),
        "class_ids": pa.array([episode.class_ids.tolist() for episode in episodes], pa.list_(pa.int32())),
        "support_rows": pa.array([episode.support_rows.ravel().tolist() for episode in episodes], pa.list_(pa.int64())),
        "query_rows": pa.array([episode.query_rows.ravel().tolist() for episode in episodes], pa.list_(pa.int64())),
        "hash": pa.array([episode.hash for episode in episodes], pa.string()),
    }
    metadata = {"fingerprint": fingerprint, "protocol": json.dumps(asdict(protocol), sort_keys=True)}
    with written_durably(path) as temporary:
        pq.write_table(pa.table(rows).replace_schema_metadata(metadata), temporary)


def read_manifest(path: Path, protocol: Protocol, fingerprint: str, n_rows: int) -> list[Episode]:
    """Read episodes written by `write_manifest`, checking that they are of this table and protocol.

    Raises:
        InputError: not a manifest, of another table or protocol, or changed since it was written.
    """
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path}: cannot read the manifest ({reason}); expected a Parquet file written by an earlier run"
        ) from None
    metadata = table.schema.metadata or {}
    written_for, written_by = metadata.get(b"fingerprint", b"").decode(errors="replace"), _protocol_fields(metadata)
    if set(_COLUMNS) - set(table.column_names) or not written_for or written_by is None:
        raise InputError(
            f"{path} is not an episode manifest: it has columns {', '.join(table.column_names)}, expected "
            f"{', '.join(_COLUMNS)}"
        )
    if written_for != fingerprint:
        raise InputError(
            f"{path} was written for image table {written_for}, but the data at hand are "
            f"{fingerprint}: other images, classes or image size"
        )
    _check_protocol_agrees(path, written_by, asdict(protocol))
    episodes = [_episode(path, row, protocol, n_rows) for row in table.to_pylist()]
    _check_numbers(path, [episode.index for episode in episodes])
    return episodes


def _protocol_fields(metadata: dict[bytes, bytes]) -> dict | None:
    try:
        fields = json.loads(metadata[b"protocol"])
    except (KeyError, ValueError):
        return None
    return fields if isinstance(fields, dict) else None


def _check_numbers(path: Path, indices: list[int | None]) -> None:
    """Refuse episode numbers that are missing or not distinct; they are not part of an episode's hash."""
    odd = [index for index, n in Counter(indices).items() if n > 1 or index is None or index < 0]
    if odd or not indices:
        what = f"{len(odd)} episode numbers that are missing or repeated, among them {odd[0]}" if odd else "0 episodes"
        raise InputError(f"{path} holds {what}; expected distinct numbers from 0 on: write it again")


def _check_protocol_agrees(path: Path, written: dict, asked: dict) -> None:
    for field in asked.keys() - {"seed"}:  # the seed that drew the episodes; the run's own goes to the methods
        if written.get(field) != asked[field]:
            flag = "--" + field.replace("_", "-")
            raise InputError(
                f"{path} holds episodes with {field} = {written.get(field)} but {asked[field]} was "
                f"asked for; pass {flag} {written.get(field)} or another --manifest"
            )


def _episode(path: Path, row: dict, protocol: Protocol, n_rows: int) -> Episode:
    shapes = {
        "class_ids": (protocol.n_way,),
        "support_rows": (protocol.n_way, protocol.n_shot),
        "query_rows": (protocol.n_way, protocol.n_query),
    }
    try:
        arrays = {name: np.array(row[name], dtype=np.int64).reshape(shape) for name, shape in shapes.items()}
        episode = Episode(index=row["episode"], **arrays)
        inside = all(array.min() >= 0 and array.max() < n_rows for array in (episode.support_rows, episode.query_rows))
    except (TypeError, ValueError):
        inside = False
    if not inside or episode.hash != row["hash"]:
        raise InputError(
            f"{path}: episode {row['episode']} does not match its hash {row['hash']}; the file was "
            "changed or damaged, write it again"
        )
    return episode
