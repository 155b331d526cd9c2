"""The run directory: the only place where results live, safe against kills, full disks and second writers."""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Self, overload

from typing_extensions import TypeVar

from rayfs.errors import InputError
from rayfs.redaction import without_secrets, without_secrets_inside
from rayfs.runs.episode_rows import EPISODES
from rayfs.runs.identity import Identity
from rayfs.runs.lock import LEASE, WriterLease, WriterLock
from rayfs.runs.parts import encode_part, merge_rows, part_name, part_numbers, read_origins, read_part
from rayfs.runs.row_kind import Key, ResultRow, RowKind
from rayfs.runs.rows import Row
from rayfs.runs.run_manifest import merge_manifest, refuse_difference, refuse_other_kind
from rayfs.runs.run_manifest_shape import parse_manifest
from rayfs.runs.storage import STORAGE_ERRORS, Storage, explained, is_temporary

R = TypeVar("R", bound=ResultRow, default=Row)
T = TypeVar("T")

MANIFEST = "manifest.json"
SUMMARY = "summary.json"
EPISODE_FILE = "episodes.parquet"
"""The row ids of the run's episodes (`rayfs.datasets.episode_file`)."""
LOCK = ".lock"


class RowsNotSavedError(InputError):
    """Rows could not be written (full disk, lost network); the parts written earlier are intact."""


class RunDirectory(Generic[R]):
    """`manifest.json`, rows of one kind in Parquet files, and whole files such as `summary.json`, at one location.

    Reading (`manifest`, `completed`, `rows`) needs no `open`. Writing does: it holds a lock on the local filesystem, a
    lease on others (object stores).
    Work may be done more than once, but the row of a key is committed as finished at most once.

    Arguments:
        location: a local path or any pyarrow filesystem URI.
        kind: of the rows, by default those of episodes.

    Raises:
        InputError: if the URI has no filesystem; `open` and the readers raise it for anything wrong at the location.
    """

    @overload
    def __init__(self: "RunDirectory[Row]", location: str) -> None: ...

    @overload
    def __init__(self, location: str, kind: RowKind[R]) -> None: ...

    def __init__(self, location: str, kind: RowKind[Any] = EPISODES) -> None:
        self.location = without_secrets(location)
        self._kind: RowKind[R] = kind
        self._storage = Storage.at(location)
        self._lock: WriterLock | WriterLease | None = None
        self._completed: set[Key] | None = None

    def open(
        self,
        identity: Identity | Mapping[str, Any],
        information: Mapping[str, Any],
        methods: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Self:
        """Create the run, or resume it if it is the same.

        Arguments:
            identity: what makes two runs the same (`rayfs.runs.identity`), or its nested plain values.
            information: anything worth keeping (versions, git commit, command); never compared, and kept without the
                secrets in it.
            methods: method name -> its config; known names must have the same config, new names are added. Kinds
                whose rows are of no methods have none.

        Raises:
            InputError: if the location cannot be written, holds foreign files or another run, or has another writer.
        """
        assert self._completed is None, "this run directory is open already"
        try:
            with explained(f"write the run directory {self.location}"):
                self._claim()
                self.write_manifest(self._merged_manifest(identity, information, methods or {}))
                if self._kind.folder:
                    self._storage.make_folder(self._kind.folder)
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

    def refuse_other(
        self, identity: Identity | Mapping[str, Any], methods: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        """Check, without writing or locking anything, that `open` would create or resume this run.

        Raises:
            InputError: if the location cannot be read, holds foreign files or another run.
        """
        with explained(f"read the run directory {self.location}"):
            self._refuse_foreign_files()
            self._merged_manifest(identity, {}, methods or {})

    def _merged_manifest(
        self,
        identity: Identity | Mapping[str, Any],
        information: Mapping[str, Any],
        methods: Mapping[str, Mapping[str, Any]],
    ) -> dict[str, Any]:
        values = dict(identity) if isinstance(identity, Mapping) else identity.to_json()
        information = without_secrets_inside(dict(information))
        plain = _plain({"identity": values, "information": information, "methods": dict(methods)})
        existing = self.manifest()
        if existing is None and (former := self._former_identity()) is not None:
            refuse_difference(former, plain["identity"], self.location)
        return merge_manifest(existing, kind=self._kind.name, location=self.location, **plain)

    def _former_identity(self) -> dict[str, Any] | None:
        return self._kind.former_identity(self._storage, self._storage.names())

    def _refuse_foreign_files(self) -> None:
        names = self._storage.names()
        foreign = [name for name in names if name != LOCK and not name.startswith(LEASE) and not is_temporary(name)]
        if foreign and MANIFEST not in names and self._former_identity() is None:
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
        if self._kind.folder:
            self._storage.delete_temporary_files(self._kind.folder)

    def manifest(self) -> dict[str, Any] | None:
        """Return the manifest, None where there is no run yet.

        Raises:
            InputError: if it is not a manifest, is of another kind of run, or the location cannot be read.
        """
        with explained(f"read the run directory {self.location}"):
            if MANIFEST not in self._storage.names():
                return None
            content = self._storage.read(MANIFEST)
        manifest = parse_manifest(content, self._storage.path(MANIFEST))
        refuse_other_kind(manifest, self._kind.name, self.location)
        return manifest

    def completed(self) -> set[Key]:
        """Return the keys that have a finished row; of episodes they are (episode, method).

        Raises:
            InputError: if a part is damaged or of another run, naming the file.
        """
        if self._completed is not None:
            return set(self._completed)
        parts = self._of_every_part(lambda number: read_origins(self._kind, self._storage, number))
        self._kind.refuse_foreign(parts, self._part_path)
        return {row.key for part in parts.values() for row in part if row.finished}

    def rows(self) -> list[R]:
        """Return one row for each key, sorted by it: finished beats failed, later beats earlier.

        Raises:
            InputError: if there is no run here, or a part is damaged or of another run, naming the file.
        """
        manifest = self._refuse_absent()
        parts = self._of_every_part(lambda number: read_part(self._kind, self._storage, number))
        origins = {number: map(self._kind.origin_of, rows) for number, rows in parts.items()}
        self._kind.refuse_foreign(origins, self._part_path)
        rows = merge_rows(parts)
        self._kind.refuse_impossible(rows, manifest["identity"], self.location)
        return rows

    def _part_path(self, number: int) -> str:
        return self._storage.path(part_name(self._kind, number))

    def _refuse_absent(self) -> dict[str, Any]:
        manifest = self.manifest()
        if manifest is None:
            raise InputError(f"{self.location} has no {MANIFEST}: it is not a run directory")
        return manifest

    def written_at(self) -> tuple[datetime, datetime] | None:
        """Return when the first and the last part were written, by the dates of the files; None if there is none."""
        with explained(f"read the run directory {self.location}"):
            dates = self._storage.dates(self._kind.folder)
        parts = [date for name, date in dates.items() if not is_temporary(name) and self._kind.file in ("", name)]
        return (min(parts), max(parts)) if parts else None

    def _of_every_part(self, read: Callable[[int], T]) -> dict[int, T]:
        with explained(f"read the run directory {self.location}"):
            numbers = part_numbers(self._kind, self._storage)
        with ThreadPoolExecutor(8) as pool:  # hides the latency of object stores
            return dict(zip(numbers, pool.map(read, numbers), strict=True))

    def append(self, rows: Iterable[R]) -> int:
        """Commit `rows` as one new part and return how many were written.

        Keys that already have a finished row are ignored: a lost worker may answer late, after its work was redone.

        Raises:
            RowsNotSavedError: if they could not be written; no partial part remains and earlier parts are intact.
        """
        assert self._completed is not None, "open the run directory before writing"
        assert not self._kind.file, "rows that are one file are replaced whole"
        fresh = merge_rows({0: [row for row in rows if row.key not in self._completed]})
        if fresh:
            self._commit(fresh, lambda: max(part_numbers(self._kind, self._storage), default=-1) + 1)
            self._completed |= {row.key for row in fresh if row.finished}
        return len(fresh)

    def replace(self, rows: Iterable[R]) -> None:
        """Commit `rows`, which are one file, in place of those that are there.

        Raises:
            RowsNotSavedError: if they could not be written; the former rows are intact.
        """
        assert self._completed is not None, "open the run directory before writing"
        assert self._kind.file, "numbered parts are appended"
        rows = list(rows)
        self._commit(rows, lambda: 0)
        self._completed = {row.key for row in rows if row.finished}

    def _commit(self, rows: list[R], choose_number: Callable[[], int]) -> None:
        data, path = encode_part(self._kind, rows), self._storage.path(self._kind.folder)
        try:
            self._refuse_lost_lease()
            number = choose_number()
            path = self._part_path(number)
            self._storage.write(part_name(self._kind, number), data)
        except STORAGE_ERRORS as error:
            raise RowsNotSavedError(
                f"{len(rows)} rows are not saved to {path}, {len(data):,} bytes ({self._kind.described(rows)}): "
                f"{without_secrets(str(error))}; earlier rows are safe; make room or restore the location, "
                "then rerun the same command"
            ) from error

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
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

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace `summary.json` atomically."""
        self.write_file(SUMMARY, _json(without_secrets_inside(dict(summary))))

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

    def names(self, folder: str = "") -> list[str]:
        """Return the sorted names in the directory, or directly below a folder of it; needs no `open`."""
        with explained(f"read the run directory {self.location}"):
            return self._storage.names(folder)

    def read_file(self, name: str, folder: str = "") -> bytes | None:
        """Return the content of the file `name`, None if there is none; needs no `open`."""
        path = f"{folder}/{name}" if folder else name
        with explained(f"read {path} in {self.location}"):
            return self._storage.read(path) if name in self._storage.names(folder) else None

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


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """Return `value` as JSON gives it back: tuples become lists, keys become texts."""
    plain: dict[str, Any] = json.loads(_json(value))
    return plain
