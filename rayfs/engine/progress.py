"""Progress of long work other than episodes: done, rate and time left, a line every ten seconds."""

import time
from collections.abc import Callable
from functools import partial

PRINT_EVERY_S = 10.0


class WorkProgress:
    """Counts `total` units of work.

    Arguments:
        label: what is done, for example "base bank".
        unit: the plural of what is counted, for example "images".
        clock: monotonic seconds.
        done: units that an earlier run has done; they count, but not for the rate.
        say: what prints a line; print, at once, by default.
    """

    def __init__(
        self,
        label: str,
        unit: str,
        total: int,
        clock: Callable[[], float] = time.monotonic,
        done: int = 0,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.total, self.done = total, done
        self._label, self._unit, self._clock = label, unit, clock
        self._say = say or partial(print, flush=True)
        self._done_before, self._started = done, clock()
        self._printed = self._started

    def add(self, n: int = 1) -> None:
        """Count `n` more units, and print the line if the last one is ten seconds old and there is more to come."""
        self.done += n
        if self.done < self.total and self._clock() - self._printed >= PRINT_EVERY_S:
            self._printed = self._clock()
            self._say(self.line())

    def line(self) -> str:
        """Return 'label: done/total unit | rate | ETA'."""
        rate = (self.done - self._done_before) / max(self._clock() - self._started, 1e-9)
        left = round((self.total - self.done) / rate) if rate else 0
        return (
            f"{self._label}: {self.done:,}/{self.total:,} {self._unit} | {rate:,.1f} {self._unit}/s | "
            f"ETA {left // 60}m{left % 60:02d}s"
        )
