"""Rows are committed in batches: often enough to lose little, seldom enough to keep the parts few."""

import time
from collections.abc import Callable, Iterable

from rayfs.runs.rows import Row
from rayfs.runs.run_directory import RunDirectory


class ResultBuffer:
    """Collects rows and commits them when there are `flush_rows`, or when the oldest waits for `flush_seconds`.

    If a commit fails the rows stay in `pending`, so that a later `flush` can try again.

    Arguments:
        run: an open run directory.
        flush_seconds: longest wait in seconds; holds as long as `poll` or `add` is called that often.
        flush_rows: most rows in one part (ours).
        clock: monotonic seconds.
    """

    def __init__(
        self,
        run: RunDirectory,
        *,
        flush_seconds: float = 5.0,
        flush_rows: int = 64,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._flush_seconds = flush_seconds
        self._flush_rows = flush_rows
        self._clock = clock
        self._oldest = 0.0
        self.pending: list[Row] = []

    def add(self, rows: Iterable[Row]) -> None:
        """Take in the rows of one episode, and commit if it is time to.

        Raises:
            RowsNotSavedError: if the commit fails.
        """
        if not self.pending:
            self._oldest = self._clock()
        self.pending.extend(rows)
        if len(self.pending) >= self._flush_rows:
            self.flush()
        self.poll()

    def poll(self) -> None:
        """Commit if the oldest row has waited long enough; call it whenever the driver's loop turns."""
        if self.pending and self._clock() - self._oldest >= self._flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Commit all pending rows now."""
        if self.pending:
            self._run.append(self.pending)
            self.pending = []
