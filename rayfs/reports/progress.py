"""The one line that a running job shows."""

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from rayfs.reports.text_table import plus_minus
from rayfs.runs.rows import Row
from rayfs.statistics.running_mean import RunningMean

REPAINT_S = 0.2
"""Least time between two repaints on a terminal, in seconds."""
LINE_S = 10.0
"""Least time between two lines in a log, in seconds."""


class Progress:
    """`done 12/30 | label-halluc 90.1 ± 1.7 | gain vs lr +0.6 ± 0.8 | 0.31 ep/s | ETA 1m02s | failed 0`.

    Means are in percent with running Student-t 95% intervals; the gain is paired. The rate counts only the episodes
    that this process finished, from its construction on. An update costs the same however many came before.

    Arguments:
        total: episodes of the whole run; None if not known yet (`total` may be set later).
        already_done: episodes finished by former processes; give their rows to `resume`.
        label: the method whose mean is shown.
        baseline: the method that the gain is against, if any.
        stream: where to write; a terminal is repainted in place, anything else gets a line now and then.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        total: int | None,
        already_done: int,
        label: str,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
        *,
        baseline: str | None = None,
    ) -> None:
        self.total = total
        self._already_done = already_done
        self._label = label
        self._baseline = baseline if baseline != label else None
        self._stream = stream
        self._clock = clock
        self._is_terminal = stream.isatty()
        self._start = clock()
        self._shown_at: float | None = None
        self._shown = ""
        self._n_here = self._n_failed = 0
        self._accuracy, self._gain = RunningMean(), RunningMean()

    def resume(self, rows: Iterable[Row]) -> None:
        """Feed the means with the rows of former processes; they count neither as done here nor in the rate."""
        episodes: dict[int, list[Row]] = {}
        for row in rows:
            episodes.setdefault(row.episode, []).append(row)
        for of_one_episode in episodes.values():
            self._feed(of_one_episode)

    def update(self, rows_of_one_episode: Sequence[Row]) -> None:
        """Count one finished episode and show it if it is time to."""
        self.update_all([rows_of_one_episode])

    def update_all(self, episodes: Iterable[Sequence[Row]]) -> None:
        """Count episodes that finished together, each given by its rows, and show them if it is time to."""
        for rows in episodes:
            self._feed(rows)
            self._n_here += 1
            self._n_failed += any(row.status == "failed" for row in rows)
        wait = REPAINT_S if self._is_terminal else LINE_S
        if self._shown_at is None or self._clock() - self._shown_at >= wait:
            self._show()

    def finish(self) -> None:
        """Show the last state, whatever the clock says, and end the line."""
        if self.line() != self._shown:
            self._show()
        if self._is_terminal:
            self._stream.write("\n")
            self._stream.flush()

    def line(self) -> str:
        """Return the line as of now."""
        done = self._already_done + self._n_here
        parts = [f"done {done}" if self.total is None else f"done {done}/{self.total}"]
        if accuracy := self._accuracy.interval():
            parts.append(f"{self._label} {plus_minus(accuracy.mean, accuracy.half_width, digits=1)}")
        if gain := self._gain.interval():
            parts.append(f"gain vs {self._baseline} {plus_minus(gain.mean, gain.half_width, sign='+', digits=1)}")
        elapsed = self._clock() - self._start
        rate = self._n_here / elapsed if elapsed > 0 else 0.0
        parts.append(f"{rate:.2f} ep/s" if rate else "- ep/s")
        if self.total is not None:
            left = max(0, self.total - done)
            parts.append(f"ETA {duration(left / rate) if rate else '-' if left else '0s'}")
        return " | ".join([*parts, f"failed {self._n_failed}"])

    def _feed(self, rows: Sequence[Row]) -> None:
        accuracies = {row.method: 100 * row.accuracy for row in rows if row.accuracy is not None}
        if self._label in accuracies:
            self._accuracy.add(accuracies[self._label])
            if self._baseline is not None and self._baseline in accuracies:
                self._gain.add(accuracies[self._label] - accuracies[self._baseline])

    def _show(self) -> None:
        line = self.line()
        self._shown_at = self._clock()
        if self._is_terminal:
            visible = line[: shutil.get_terminal_size().columns - 1]
            self._stream.write("\r" + visible.ljust(len(self._shown)))
            self._shown = visible
        else:
            self._stream.write(line + "\n")
            self._shown = line
        self._stream.flush()


def duration(seconds: float) -> str:
    """Return seconds as "12s", "1m02s", "3h05m" or "2d04h"."""
    whole = round(seconds)
    for unit, size, smaller, smaller_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller_size:02d}{smaller}"
    return f"{whole}s"
