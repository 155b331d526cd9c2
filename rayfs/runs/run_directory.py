"""The run directory: the only place where results live, safe against kills, full disks and second writers."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar

from rayfs.errors import InputError
from rayfs.redaction import without_secrets, without_secrets_inside
from rayfs.runs.lock import LEASE, WriterLease, WriterLock
from rayfs.runs.origins import origin, refuse_foreign, refuse_other_labels
from rayfs.runs.parts import (
    EPISODES,
    encode_part,
    merge_rows,
    part_name,
    part_numbers,
    read_origins,
    read_part,
)
from rayfs.runs.rows import Row
from rayfs.runs.run_manifest import merge_manifest, refuse_difference
from rayfs.runs.run_manifest_shape import parse_manifest
from rayfs.runs.storage import STORAGE_ERRORS, Storage, explained, is_temporary

T = TypeVar("T")

MANIFEST = "manifest.json"
SUMMARY = "summary.json"
EPISODE_MANIFEST = "episodes.parquet"
"""The row ids of the run's episodes (`rayfs.datasets.episode_file`)."""
LOCK = ".lock"


class RowsNotSavedError(InputError):
    """Rows could not be written (full disk, lost network); the parts written earlier are intact."""


class RunDirectory:
    """`manifest.json`, `episodes.parquet`, `episodes/part-NNNNNN.parquet` and `summary.json` at one location.

    Reading (`manifest`, `completed`, `rows`) needs no `open`. Writing does: it holds a lock on the local filesystem, a
    lease on others (object stores).
    Work may be done more than once, but a (episode, method) is committed as ok at most once.

    Arguments:
        location: a local path or any pyarrow filesystem URI.

    Raises:
        InputError: if the URI has no filesystem; `open` and the readers raise it for anything wrong at the location.
    """

    def __init__(self, location: str) -> None:
        self.location = without_secrets(location)
        self._storage = Storage.at(location)
        self._lock: WriterLock | WriterLease | None = None
        self._completed: set[tuple[int, str]] | None = None

    def open(self, identity: dict[str, Any], information: dict[str, Any], methods: dict[str, dict[str, Any]]) -> Self:
        """Create the run, or resume it if it is the same.

        Arguments:
            identity: what makes two runs the same (benchmark, fingerprint, protocol ...), nested plain values.
            information: anything worth keeping (versions, git commit, command); never compared, and kept without the
                secrets in it.
            methods: method name -> its config; known names must have the same config, new names are added.

        Raises:
            InputError: if the location cannot be written, holds foreign files or another run, or has another writer.
        """
        assert self._completed is None, "this run directory is open already"
        try:
            with explained(f"write the run directory {self.location}"):
                self._claim()
                self.write_manifest(self._merged_manifest(identity, information, methods))
                self._storage.make_folder(EPISODES)
            self._completed = self.completed()
        except BaseException:
            self.close()
            raise
        return self

    def reopen(self) -> Self:
        """Take the lock of a run that is there, to write files beside its rows; the manifest stays as it is.

        Raises:
            InputError: if there is no run here, it cannot be written, or has another writer.
        """
        assert self._completed is None, "this run directory is open already"
        self._refuse_absent()
        try:
            with explained(f"write the run directory {self.location}"):
                self._claim()
            self._completed = self.completed()
        except BaseException:
            self.close()
            raise
        return self

    def refuse_other(self, identity: dict[str, Any], methods: dict[str, dict[str, Any]]) -> None:
        """Check, without writing or locking anything, that `open` would create or resume this run.

        Raises:
            InputError: if the location cannot be read, holds foreign files or another run.
        """
        with explained(f"read the run directory {self.location}"):
            self._refuse_foreign_files()
            self._merged_manifest(identity, {}, methods)

    def _merged_manifest(
        self, identity: dict[str, Any], information: dict[str, Any], methods: dict[str, dict[str, Any]]
    ) -> dict[str, Any]:
        information = without_secrets_inside(information)
        plain = _plain({"identity": identity, "information": information, "methods": methods})
        return merge_manifest(self.manifest(), location=self.location, **plain)

    def _refuse_foreign_files(self) -> None:
        names = self._storage.names()
        foreign = [name for name in names if name != LOCK and not name.startswith(LEASE) and not is_temporary(name)]
        if foreign and MANIFEST not in names:
            raise InputError(
                f"{self.location} holds {len(foreign)} files ({', '.join(foreign[:3])} ...) but no {MANIFEST}: it is "
                "not a run directory; use another --out or an empty one"
            )

    def _claim(self) -> None:
        self._refuse_foreign_files()
        self._storage.make_folder()
        if self._storage.is_local:
            self._lock = WriterLock(Path(self._storage.path(LOCK)))
        else:
            self._lock = WriterLease(self._storage, self.location)
        self._storage.delete_temporary_files()
        self._storage.delete_temporary_files(EPISODES)

    def manifest(self) -> dict[str, Any] | None:
        """Return the manifest, None where there is no run yet.

        Raises:
            InputError: if it is not a manifest or the location cannot be read.
        """
        with explained(f"read the run directory {self.location}"):
            if MANIFEST not in self._storage.names():
                return None
            content = self._storage.read(MANIFEST)
        return parse_manifest(content, self._storage.path(MANIFEST))

    def completed(self) -> set[tuple[int, str]]:
        """Return the (episode, method) pairs that have an ok row.

        Raises:
            InputError: if a part is damaged or of another run, naming the file.
        """
        if self._completed is not None:
            return set(self._completed)
        parts = self._of_every_part(read_origins)
        refuse_foreign(parts, self._part_path)
        return {(row.episode, row.method) for part in parts.values() for row in part if row.status == "ok"}

    def rows(self) -> list[Row]:
        """Return one row for each (episode, method), sorted by them: ok beats failed, later beats earlier.

        Raises:
            InputError: if there is no run here, or a part is damaged or of another run, naming the file.
        """
        manifest = self._refuse_absent()
        parts = self._of_every_part(read_part)
        refuse_foreign({number: map(origin, rows) for number, rows in parts.items()}, self._part_path)
        rows = merge_rows(parts)
        n_way = manifest["identity"].get("protocol", {}).get("n_way")
        if isinstance(n_way, int):
            refuse_other_labels(rows, n_way, self.location)
        return rows

    def _part_path(self, number: int) -> str:
        return self._storage.path(part_name(number))

    def _refuse_absent(self) -> dict[str, Any]:
        manifest = self.manifest()
        if manifest is None:
            raise InputError(f"{self.location} has no {MANIFEST}: it is not a run directory")
        return manifest

    def written_at(self) -> tuple[datetime, datetime] | None:
        """Return when the first and the last part were written, by the dates of the files; None if there is none."""
        with explained(f"read the run directory {self.location}"):
            dates = self._storage.dates(EPISODES)
        parts = [date for name, date in dates.items() if not is_temporary(name)]
        return (min(parts), max(parts)) if parts else None

    def _of_every_part(self, read: Callable[[Storage, int], T]) -> dict[int, T]:
        with explained(f"read the run directory {self.location}"):
            numbers = part_numbers(self._storage)
        with ThreadPoolExecutor(8) as pool:  # hides the latency of object stores
            return dict(zip(numbers, pool.map(lambda number: read(self._storage, number), numbers), strict=True))

    def append(self, rows: Iterable[Row]) -> int:
        """Commit `rows` as one new part and return how many were written.

        Pairs that already have an ok row are ignored: a lost worker may answer late, after its episode was redone.

        Raises:
            RowsNotSavedError: if they could not be written; no partial part remains and earlier parts are intact.
        """
        assert self._completed is not None, "open the run directory before writing"
        fresh = merge_rows({0: [row for row in rows if (row.episode, row.method) not in self._completed]})
        if not fresh:
            return 0
        data, path = encode_part(fresh), self._storage.path(EPISODES)
        try:
            self._refuse_lost_lease()
            number = max(part_numbers(self._storage), default=-1) + 1
            path = self._part_path(number)
            self._storage.write(part_name(number), data)
        except STORAGE_ERRORS as error:
            raise RowsNotSavedError(
                f"{len(fresh)} rows are not saved to {path}, {len(data):,} bytes ({_episodes_of(fresh)}): "
                f"{without_secrets(str(error))}; earlier rows are safe; make room or restore the location, "
                "then rerun the same command"
            ) from error
        self._completed |= {(row.episode, row.method) for row in fresh if row.status == "ok"}
        return len(fresh)

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace `manifest.json` atomically."""
        self.write_file(MANIFEST, _json(manifest))

    def confirm(self, name: str, value: str) -> None:
        """Record what only work can tell of the run, such as the hash of its base images; compare it on a resume.

        Raises:
            InputError: if the run has another value.
        """
        manifest = self.manifest()
        assert manifest is not None, "open the run directory before writing"
        confirmed = {**manifest.get("confirmed", {}), name: value}
        refuse_difference({**confirmed, **manifest.get("confirmed", {})}, confirmed, self.location)
        if confirmed != manifest.get("confirmed"):
            self.write_manifest({**manifest, "confirmed": confirmed})

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Replace `summary.json` atomically."""
        self.write_file(SUMMARY, _json(without_secrets_inside(summary)))

    def write_file(self, name: str, content: str | bytes) -> None:
        """Replace the file `name` (a report, a table, a figure) atomically."""
        assert self._lock is not None, "open the run directory before writing"
        with explained(f"write {name} in {self.location}"):
            self._refuse_lost_lease()
            self._storage.write(
                name, content.encode(errors="backslashreplace") if isinstance(content, str) else content
            )

    def _refuse_lost_lease(self) -> None:
        if isinstance(self._lock, WriterLease):
            self._lock.check()

    def read_file(self, name: str) -> bytes | None:
        """Return the content of the file `name`, None if there is none; needs no `open`."""
        with explained(f"read {name} in {self.location}"):
            return self._storage.read(name) if name in self._storage.names() else None

    def close(self) -> None:
        """Let another writer in; nothing is pending, so nothing is lost without it."""
        self._completed = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Return `value` as JSON gives it back: tuples become lists, keys become texts."""
    return json.loads(_json(value))


def _episodes_of(rows: list[Row]) -> str:
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
