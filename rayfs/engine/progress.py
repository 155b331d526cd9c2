"""Progress of long work: the one display of all jobs, how fast work goes, and the line of work that is counted.

On a terminal the display is repainted in place, in a log it is a line now and then. Libraries draw bars and do one of
the two: where there is no terminal, they write every repaint into the log, or nothing until the end.
"""

import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import TextIO

Clock = Callable[[], float]
"""Monotonic seconds."""

LINE_S = 10.0
"""Least time between two lines in a log, in seconds."""


class Display:
    """What people watch while something runs.

    Arguments:
        stream: where to write; None for a log that `say` writes.
        say: what writes a line of a log; default to the stream, at once.
        repaint_s: least time between two repaints on a terminal, in seconds.
        line_s: the same between two lines in a log.
        at_once: whether the first state is shown as soon as there is one.
    """

    def __init__(
        self, stream: TextIO | None, clock: Clock = time.monotonic, *, say: Callable[[str], None] | None = None,
        repaint_s: float = 0.2, line_s: float = LINE_S, at_once: bool = False,
    ) -> None:  # fmt: skip
        self._write = say or partial(print, file=stream, flush=True)
        self._stream = stream if stream is not None and stream.isatty() else None
        self._clock = clock
        self._wait_s = line_s if self._stream is None else repaint_s
        self._shown_at = clock() - (self._wait_s if at_once else 0.0)
        self._shown = ""
        self._n_painted = 0

    @property
    def is_due(self) -> bool:
        """Whether it is time to show the present state."""
        return self._clock() - self._shown_at >= self._wait_s

    def show(self, line: str, table: Callable[[], str] | None = None) -> None:
        """Show the present state, whatever the clock says: `line`, and on a terminal `table` above it."""
        self._shown_at = self._clock()
        if self._stream is None:
            self._write(line)
        elif table is None:
            line = line[: self._width]
            print("\r" + line.ljust(len(self._shown)), end="", file=self._stream, flush=True)
        else:
            lines = [text[: self._width] for text in [*table().splitlines(), line]]
            self._wipe()
            print("\n".join(lines), file=self._stream, flush=True)
            self._n_painted = len(lines)
        self._shown = line

    def say(self, text: str) -> None:
        """Write a line that stays; what was painted goes, and comes again below it."""
        self._wipe()
        self._write(text)

    def finish(self, line: str) -> None:
        """Show the last state unless it is shown already, and end the line."""
        if line != self._shown:
            self.show(line)
        if self._stream is not None:
            print(file=self._stream, flush=True)

    @property
    def _width(self) -> int:
        return shutil.get_terminal_size().columns - 1

    def _wipe(self) -> None:
        if self._n_painted:
            print(f"\x1b[{self._n_painted}A\x1b[J", end="", file=self._stream)
            self._n_painted = 0


class Pace:
    """How much of some work is done, and how fast it goes.

    Arguments:
        total: units of the whole work; None if not known yet (`total` may be set later).
        done_before: units that an earlier process has done; they count, but not for the rate.
    """

    def __init__(self, total: int | None, done_before: int, clock: Clock = time.monotonic) -> None:
        self.total, self.done = total, done_before
        self._done_before, self._clock, self._start = done_before, clock, clock()

    @property
    def elapsed_s(self) -> float:
        """Seconds since this was made."""
        return self._clock() - self._start

    @property
    def rate(self) -> float:
        """Units a second; 0 before the first."""
        elapsed_s = self.elapsed_s
        return (self.done - self._done_before) / elapsed_s if elapsed_s > 0 else 0.0

    @property
    def left(self) -> int:
        """Units that are left of a known total."""
        assert self.total is not None
        return max(0, self.total - self.done)


class WorkProgress:
    """Counts `total` units of work and writes a line every ten seconds.

    Arguments:
        label: what is done, for example "base bank".
        unit: the plural of what is counted, for example "images".
        done: units that an earlier run has done; they count, but not for the rate.
        say: what prints a line; print, at once, by default.
    """

    def __init__(
        self, label: str, unit: str, total: int, clock: Clock = time.monotonic, done: int = 0,
        say: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        self.total = total
        self._label, self._unit = label, unit
        self._pace = Pace(total, done, clock)
        self._display = Display(None, clock, say=say)

    @property
    def done(self) -> int:
        """Units that are done."""
        return self._pace.done

    def add(self, n: int = 1) -> None:
        """Count `n` more units, and print the line if the last one is ten seconds old and there is more to come."""
        self._pace.done += n
        if self._pace.left and self._display.is_due:
            self._display.show(self.line())

    def line(self) -> str:
        """Return 'label: done/total unit | rate | ETA'."""
        rate = self._pace.rate
        left_s = round(self._pace.left / rate) if rate else 0
        return (
            f"{self._label}: {self.done:,}/{self.total:,} {self._unit} | {rate:,.1f} {self._unit}/s | "
            f"ETA {left_s // 60}m{left_s % 60:02d}s"
        )


def duration(seconds: float) -> str:
    """Return seconds as "12s", "1m02s", "3h05m" or "2d04h"."""
    whole = round(seconds)
    for unit, size, smaller, smaller_size in (("d", 86400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller_size:02d}{smaller}"
    return f"{whole}s"
