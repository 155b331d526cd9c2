"""Episode files: the image ids of every episode in one Parquet file, to share, check and read back."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rayfs.datasets.episodes import Episode, Protocol
from rayfs.datasets.folder_files import refuse_special
from rayfs.durable_files import write_durably
from rayfs.errors import InputError
from rayfs.json_text import parse_json

_KINDS = {
    "episode": "integers",
    "class_ids": "list of integers",
    "support_rows": "list of integers",
    "query_rows": "list of integers",
    "hash": "string",
}
_COLUMNS = tuple(_KINDS)


@dataclass(frozen=True, kw_only=True)
class EpisodeFile:
    """What an episode file says, for readers that do not have the images."""

    fingerprint: str
    """Of the image table that the ids are of."""
    protocol: Protocol
    class_names: tuple[str, ...]
    """Of the table, so that class ids have names; empty in files that lack them."""
    episodes: list[Episode]


def write_episode_file(
    path: Path, episodes: Sequence[Episode], protocol: Protocol, fingerprint: str, class_names: Sequence[str] = ()
) -> None:
    """Write `episodes`, drawn by `protocol` from the table called `fingerprint`; a whole file or none."""
    write_durably(path, encode_episode_file(episodes, protocol, fingerprint, class_names))


def encode_episode_file(
    episodes: Sequence[Episode], protocol: Protocol, fingerprint: str, class_names: Sequence[str]
) -> bytes:
    """Return the Parquet file of `episodes`, drawn by `protocol` from the table called `fingerprint`."""
    columns = {  # named when image ids were called rows
        "episode": pa.array([episode.index for episode in episodes], pa.int64()),
        "class_ids": pa.array([episode.class_ids.tolist() for episode in episodes], pa.list_(pa.int32())),
        "support_rows": pa.array([episode.support_ids.ravel().tolist() for episode in episodes], pa.list_(pa.int64())),
        "query_rows": pa.array([episode.query_ids.ravel().tolist() for episode in episodes], pa.list_(pa.int64())),
        "hash": pa.array([episode.hash for episode in episodes], pa.string()),
    }
    metadata = {
        "fingerprint": fingerprint,
        "protocol": json.dumps(asdict(protocol), sort_keys=True),
        "class_names": json.dumps(list(class_names)),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), sink, write_page_checksum=True)
    encoded: bytes = sink.getvalue().to_pybytes()
    return encoded


def read_episode_file(path: Path, protocol: Protocol, fingerprint: str, n_images: int) -> list[Episode]:
    """Read episodes written by `write_episode_file`, checking that they are of this table and protocol.

    Raises:
        InputError: not an episode file, of another table or protocol, or changed since it was written.
    """
    refuse_special(path)
    table, found = _read(path, str(path))
    if found.fingerprint != fingerprint:
        raise InputError(
            f"{path} was written for image table {found.fingerprint}, but the data at hand are "
            f"{fingerprint}: other images, classes or image size"
        )
    _check_protocol_agrees(path, found.protocol, asdict(protocol))
    return _episodes(table, str(path), protocol, n_images, len(found.class_names) or None)


def decode_episode_file(data: bytes, name: str) -> EpisodeFile:
    """Return what `encode_episode_file` wrote; `name` is the file's, for messages.

    Raises:
        InputError: not an episode file, or changed since it was written.
    """
    table, found = _read(pa.BufferReader(data), name)
    try:
        protocol = Protocol(**found.protocol)
    except (TypeError, InputError) as error:
        raise InputError(f"{name} is not an episode file: its protocol does not fit ({error})") from None
    return EpisodeFile(
        fingerprint=found.fingerprint, protocol=protocol, class_names=found.class_names,
        episodes=_episodes(table, name, protocol, None, len(found.class_names) or None),
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Header:
    fingerprint: str
    protocol: dict[str, Any]
    class_names: tuple[str, ...]


def _read(source: object, name: str) -> tuple[pa.Table, _Header]:
    try:
        file = pq.ParquetFile(source, page_checksum_verification=True)
        table = file.read()
        if table.num_rows != file.metadata.num_rows:  # the footer has no checksum
            raise pa.ArrowInvalid(f"it has {table.num_rows} rows of {file.metadata.num_rows}")
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: damaged text
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{name}: cannot read the episode file ({reason}); expected a Parquet file written by an earlier run"
        ) from None
    metadata = table.schema.metadata or {}
    fingerprint, protocol = metadata.get(b"fingerprint", b"").decode(errors="replace"), _protocol_fields(metadata)
    if set(_COLUMNS) - set(table.column_names) or not fingerprint or protocol is None:
        raise InputError(
            f"{name} is not an episode file: it has columns {', '.join(table.column_names)}, expected "
            f"{', '.join(_COLUMNS)}"
        )
    for column, kind in _KINDS.items():
        if table.column_names.count(column) != 1 or not _is(table.schema.field(column).type, kind):
            types = ", ".join(str(field.type) for field in table.schema if field.name == column)
            raise InputError(f"{name} is not an episode file: its column {column} is {types}, expected {kind}")
    return table, _Header(fingerprint=fingerprint, protocol=protocol, class_names=_class_names(metadata))


def _is(found: pa.DataType, kind: str) -> bool:
    if kind == "list of integers":
        return bool(pa.types.is_list(found) and pa.types.is_signed_integer(found.value_type))
    return bool(pa.types.is_signed_integer(found) if kind == "integers" else pa.types.is_string(found))


def _episodes(
    table: pa.Table, name: str, protocol: Protocol, n_images: int | None, n_classes: int | None
) -> list[Episode]:
    try:
        rows = table.to_pylist()
    except ValueError as error:  # damaged text
        raise InputError(f"{name}: cannot read the episode file ({error}); write it again") from None
    episodes = [_episode(name, row, protocol, n_images, n_classes) for row in rows]
    _check_numbers(name, [episode.index for episode in episodes])
    return episodes


def _class_names(metadata: dict[bytes, bytes]) -> tuple[str, ...]:
    try:
        return tuple(map(str, parse_json(metadata.get(b"class_names", b"[]"))))
    except (ValueError, TypeError):
        return ()


def _protocol_fields(metadata: dict[bytes, bytes]) -> dict[str, Any] | None:
    try:
        fields = parse_json(metadata[b"protocol"])
    except (KeyError, ValueError):
        return None
    return fields if isinstance(fields, dict) else None


def _check_numbers(path: str, indices: list[int | None]) -> None:
    """Refuse episode numbers that are missing or not distinct; they are not part of an episode's hash."""
    odd = [index for index, n in Counter(indices).items() if n > 1 or index is None or index < 0]
    if odd or not indices:
        what = f"{len(odd)} episode numbers that are missing or repeated, among them {odd[0]}" if odd else "0 episodes"
        raise InputError(f"{path} holds {what}; expected distinct numbers from 0 on: write it again")


def _check_protocol_agrees(path: Path, written: dict[str, Any], asked: dict[str, Any]) -> None:
    for field in sorted(asked.keys() - {"seed"}):  # the seed that drew the episodes; the run's own goes to the methods
        if written.get(field) != asked[field]:
            flag = "--" + field.replace("_", "-")
            raise InputError(
                f"{path} holds episodes with {field} = {written.get(field)} but {asked[field]} was "
                f"asked for; pass {flag} {written.get(field)} or another --manifest"
            )


def _episode(
    path: str, row: dict[str, Any], protocol: Protocol, n_images: int | None, n_classes: int | None
) -> Episode:
    shapes = {
        "class_ids": (protocol.n_way,),
        "support_rows": (protocol.n_way, protocol.n_shot),
        "query_rows": (protocol.n_way, protocol.n_query),
    }
    try:
        arrays = {name: np.array(row[name], dtype=np.int64).reshape(shape) for name, shape in shapes.items()}
        episode = Episode(
            index=row["episode"], class_ids=arrays["class_ids"], support_ids=arrays["support_rows"],
            query_ids=arrays["query_rows"],
        )  # fmt: skip
        whole = episode.hash == row["hash"]
    except (TypeError, ValueError):
        whole = False
    if not whole:
        raise InputError(
            f"{path}: episode {row['episode']} does not match its hash {row['hash']}; the file was "
            "changed or damaged, write it again"
        )
    _check_ids(path, episode, n_images, n_classes)
    return episode


def _check_ids(path: str, episode: Episode, n_images: int | None, n_classes: int | None) -> None:
    """Refuse what no draw gives, though its hash be right: ids outside the table, or an image or a class twice."""
    ids_of_images = np.concatenate([episode.support_ids.ravel(), episode.query_ids.ravel()])
    for what, ids, n in (("image", ids_of_images, n_images), ("class", episode.class_ids, n_classes)):
        outside = ids[(ids < 0) | (n is not None and ids >= n)]
        if len(outside):
            there = f"0 to {n - 1}" if n is not None else "0 or more"
            raise InputError(
                f"{path}: episode {episode.index} names {what} {outside[0]}, expected {there}; write it again from the "
                "images at hand"
            )
        values, counts = np.unique(ids, return_counts=True)
        if len(values) < len(ids):
            raise InputError(
                f"{path}: episode {episode.index} holds {what} {values[counts > 1][0]} more than once among "
                f"{len(ids)}; expected distinct ones, in support and query together: write it again"
            )
