"""Episode manifests: the row ids of every episode in one Parquet file, to share, check and read back."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rayfs.benchmarks.episodes import Episode, Protocol
from rayfs.durable_files import write_durably
from rayfs.errors import InputError

_COLUMNS = ("episode", "class_ids", "support_rows", "query_rows", "hash")


@dataclass(frozen=True, kw_only=True)
class EpisodeManifest:
    """What a manifest says, for readers that do not have the images."""

    fingerprint: str
    """Of the image table that the rows are of."""
    protocol: Protocol
    class_names: tuple[str, ...]
    """Of the table, so that class ids have names; empty in files that lack them."""
    episodes: list[Episode]


def write_manifest(
    path: Path, episodes: Sequence[Episode], protocol: Protocol, fingerprint: str, class_names: Sequence[str] = ()
) -> None:
    """Write `episodes`, drawn by `protocol` from the table called `fingerprint`; a whole file or none."""
    write_durably(path, encode_manifest(episodes, protocol, fingerprint, class_names))


def encode_manifest(
    episodes: Sequence[Episode], protocol: Protocol, fingerprint: str, class_names: Sequence[str]
) -> bytes:
    """Return the Parquet file of `episodes`, drawn by `protocol` from the table called `fingerprint`."""
    rows = {
        "episode": pa.array([episode.index for episode in episodes], pa.int64()),
        "class_ids": pa.array([episode.class_ids.tolist() for episode in episodes], pa.list_(pa.int32())),
        "support_rows": pa.array([episode.support_rows.ravel().tolist() for episode in episodes], pa.list_(pa.int64())),
        "query_rows": pa.array([episode.query_rows.ravel().tolist() for episode in episodes], pa.list_(pa.int64())),
        "hash": pa.array([episode.hash for episode in episodes], pa.string()),
    }
    metadata = {
        "fingerprint": fingerprint,
        "protocol": json.dumps(asdict(protocol), sort_keys=True),
        "class_names": json.dumps(list(class_names)),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(rows).replace_schema_metadata(metadata), sink)
    return sink.getvalue().to_pybytes()


def read_manifest(path: Path, protocol: Protocol, fingerprint: str, n_rows: int) -> list[Episode]:
    """Read episodes written by `write_manifest`, checking that they are of this table and protocol.

    Raises:
        InputError: not a manifest, of another table or protocol, or changed since it was written.
    """
    table, found = _read(path, str(path))
    if found.fingerprint != fingerprint:
        raise InputError(
            f"{path} was written for image table {found.fingerprint}, but the data at hand are "
            f"{fingerprint}: other images, classes or image size"
        )
    _check_protocol_agrees(path, found.protocol, asdict(protocol))
    return _episodes(table, str(path), protocol, n_rows)


def decode_manifest(data: bytes, name: str) -> EpisodeManifest:
    """Return what `encode_manifest` wrote; `name` is the file's, for messages.

    Raises:
        InputError: not a manifest, or changed since it was written.
    """
    table, found = _read(pa.BufferReader(data), name)
    try:
        protocol = Protocol(**found.protocol)
    except TypeError as error:
        raise InputError(f"{name} is not an episode manifest: its protocol does not fit ({error})") from None
    return EpisodeManifest(
        fingerprint=found.fingerprint, protocol=protocol, class_names=found.class_names,
        episodes=_episodes(table, name, protocol, None),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Header:
    fingerprint: str
    protocol: dict
    class_names: tuple[str, ...]


def _read(source: object, name: str) -> tuple[pa.Table, _Header]:
    try:
        table = pq.read_table(source)
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{name}: cannot read the manifest ({reason}); expected a Parquet file written by an earlier run"
        ) from None
    metadata = table.schema.metadata or {}
    fingerprint, protocol = metadata.get(b"fingerprint", b"").decode(errors="replace"), _protocol_fields(metadata)
    if set(_COLUMNS) - set(table.column_names) or not fingerprint or protocol is None:
        raise InputError(
            f"{name} is not an episode manifest: it has columns {', '.join(table.column_names)}, expected "
            f"{', '.join(_COLUMNS)}"
        )
    return table, _Header(fingerprint=fingerprint, protocol=protocol, class_names=_class_names(metadata))


def _episodes(table: pa.Table, name: str, protocol: Protocol, n_rows: int | None) -> list[Episode]:
    episodes = [_episode(name, row, protocol, n_rows) for row in table.to_pylist()]
    _check_numbers(name, [episode.index for episode in episodes])
    return episodes


def _class_names(metadata: dict[bytes, bytes]) -> tuple[str, ...]:
    try:
        return tuple(map(str, json.loads(metadata.get(b"class_names", b"[]"))))
    except (ValueError, TypeError):
        return ()


def _protocol_fields(metadata: dict[bytes, bytes]) -> dict | None:
    try:
        fields = json.loads(metadata[b"protocol"])
    except (KeyError, ValueError):
        return None
    return fields if isinstance(fields, dict) else None


def _check_numbers(path: str, indices: list[int | None]) -> None:
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


def _episode(path: str, row: dict, protocol: Protocol, n_rows: int | None) -> Episode:
    shapes = {
        "class_ids": (protocol.n_way,),
        "support_rows": (protocol.n_way, protocol.n_shot),
        "query_rows": (protocol.n_way, protocol.n_query),
    }
    try:
        arrays = {name: np.array(row[name], dtype=np.int64).reshape(shape) for name, shape in shapes.items()}
        episode = Episode(index=row["episode"], **arrays)
        rows = np.concatenate([episode.support_rows.ravel(), episode.query_rows.ravel()])
        inside = rows.min() >= 0 and (n_rows is None or rows.max() < n_rows)
    except (TypeError, ValueError):
        inside = False
    if not inside or episode.hash != row["hash"]:
        raise InputError(
            f"{path}: episode {row['episode']} does not match its hash {row['hash']}; the file was "
            "changed or damaged, write it again"
        )
    return episode
