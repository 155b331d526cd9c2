"""One JSON line for every row as it comes: for people who follow a run with `tail -f`, and for their log collectors."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from rayfs.errors import InputError
from rayfs.evaluation.rows import Row

FIELDS = (
    "episode", "method", "status", "accuracy", "seconds", "steps", "loss_base", "loss_support", "attempt", "node",
    "worker", "device",
)  # fmt: skip
"""Of a row; the whole of it is in the run directory."""


class EpisodeLog:
    """Appends to a file while it is open as a context; does nothing without one.

    Arguments:
        path: the file; made if it is missing.

    Raises:
        InputError: on entry, the file cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("a", encoding="utf-8")
            except OSError as error:
                raise InputError(f"--episode-log {self._path}: cannot write it ({error.strerror})") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, rows: Iterable[Row]) -> None:
        """Append a line a row: the time (UTC), `FIELDS`, and of a failed row the last line of its error."""
        if self._file is None:
            return
        for row in rows:
            line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
            line |= {name: getattr(row, name) for name in FIELDS}
            if row.status == "failed":
                line["error"] = row.error.strip().rpartition("\n")[2]
            self._file.write(json.dumps(line) + "\n")
        self._file.flush()
