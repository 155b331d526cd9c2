"""The one line that a running job of episodes shows."""

import time
from collections.abc import Iterable, Sequence
from typing import TextIO

from rayfs.engine.progress import Clock, Display, Pace, duration
from rayfs.reports.text_table import plus_minus
from rayfs.runs.rows import Row
from rayfs.statistics.running_mean import RunningMean


class Progress:
    """`done 12/30 | label-halluc 90.1 ± 1.7 | gain vs lr +0.6 ± 0.8 | 0.31 ep/s | ETA 1m02s | failed 0`.

    Means are in percent with running Student-t 95% intervals; the gain is paired. The rate counts only the episodes
    that this process finished, from its construction on. An update costs the same however many came before.

    Arguments:
        total: episodes of the whole run; None if not known yet.
        already_done: episodes finished by former processes; give their rows to `resume`.
        label: the method whose mean is shown.
        baseline: the method that the gain is against, if any.
        stream: where to write; see `Display`.
    """

    def __init__(
        self,
        total: int | None,
        already_done: int,
        label: str,
        stream: TextIO,
        clock: Clock = time.monotonic,
        *,
        baseline: str | None = None,
    ) -> None:
        self._pace, self._display = Pace(total, already_done, clock), Display(stream, clock, at_once=True)
        self._label = label
        self._baseline = baseline if baseline != label else None
        self._n_failed = 0
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
            self._pace.done += 1
            self._n_failed += any(row.status == "failed" for row in rows)
        if self._display.is_due:
            self._display.show(self.line())

    def finish(self) -> None:
        """Show the last state, whatever the clock says, and end the line."""
        self._display.finish(self.line())

    def line(self) -> str:
        """Return the line as of now."""
        total, done, rate = self._pace.total, self._pace.done, self._pace.rate
        parts = [f"done {done}" if total is None else f"done {done}/{total}"]
        if accuracy := self._accuracy.interval():
            parts.append(f"{self._label} {plus_minus(accuracy.mean, accuracy.half_width, digits=1)}")
        if gain := self._gain.interval():
            parts.append(f"gain vs {self._baseline} {plus_minus(gain.mean, gain.half_width, sign='+', digits=1)}")
        parts.append(f"{rate:.2f} ep/s" if rate else "- ep/s")
        if total is not None:
            left = self._pace.left
            parts.append(f"ETA {duration(left / rate) if rate else '-' if left else '0s'}")
        return " | ".join([*parts, f"failed {self._n_failed}"])

    def _feed(self, rows: Sequence[Row]) -> None:
        accuracies = {row.method: 100 * row.accuracy for row in rows if row.accuracy is not None}
        if self._label in accuracies:
            self._accuracy.add(accuracies[self._label])
            if self._baseline is not None and self._baseline in accuracies:
                self._gain.add(accuracies[self._label] - accuracies[self._baseline])
