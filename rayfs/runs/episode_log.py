"""One JSON line for every row as it comes: for people who follow a run with `tail -f`, and for their log collectors."""

import json
import math
from collections.abc import Iterable
from datetime import UTC, datetime
from io import RawIOBase
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rayfs.errors import InputError
from rayfs.runs.rows import Row

FIELDS = (
    "episode", "method", "status", "accuracy", "seconds", "steps", "loss_base", "loss_support", "attempt", "node",
    "worker", "device",
)  # fmt: skip
"""Of a row; the whole of it is in the run directory."""


class EpisodeLog:
    """Appends to a file while it is open as a context; does nothing without one.

    A disk that fills up ends the log, with a warning, and not the run.

    Arguments:
        path: the file, on this machine; made if it is missing.

    Raises:
        InputError: on entry, the file cannot be written, or is a URI.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: RawIOBase | None = None

    def __enter__(self) -> Self:
        if self._path is not None:
            if ":/" in str(self._path):
                raise InputError(f"--episode-log is '{self._path}', a URI; give the path of a file on this machine")
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("ab", buffering=0)
            except OSError as error:
                raise InputError(
                    f"--episode-log {self._path}: cannot write it ({error.strerror}); name another file"
                ) from None
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
        try:
            self._file.write("".join(f"{json.dumps(_fields(row))}\n" for row in rows).encode())
        except OSError as error:
            print(f"warning: --episode-log {self._path} ends here ({error.strerror}); the run goes on", flush=True)
            self._file.close()
            self._file = None


def _fields(row: Row) -> dict[str, Any]:
    line: dict[str, Any] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
    for name in FIELDS:
        value = getattr(row, name)
        line[name] = None if isinstance(value, float) and not math.isfinite(value) else value  # JSON has no NaN
    if row.status == "failed":
        line["error"] = row.error.strip().rpartition("\n")[2]
    return line
