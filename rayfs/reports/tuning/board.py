"""What people watch while a search runs: a small table on a terminal, a line now and then in a log."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from rayfs.reports.progress import duration
from rayfs.reports.text_table import aligned, plus_minus

REPAINT_S, LINE_S = 1.0, 30.0
"""Least time between two repaints on a terminal, and between two lines in a log, in seconds."""

BEST = 3
"""Trials that the table shows beside those that run."""


@dataclass(kw_only=True)
class Standing:
    """A trial as of its last report."""

    episodes: int = 0
    gain: float | None = None
    half_width: float | None = None
    seconds: float | None = None
    state: str = "running"
    n_run: int = 0


class Board:
    """`trials 12/41: 2 running, 8 stopped, 2 finished | best +2.3 ± 0.9 after 72: ... | 0.41 ep/s | ETA about 12m03s`.

    The estimate takes the trials to come for as long as those that ended here and ran something.

    Arguments:
        total: trials of the search.
        stream: where to write; a terminal is repainted in place, anything else gets lines.
        clock: monotonic seconds.
    """

    def __init__(self, total: int, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self._stream, self._clock, self._is_terminal = stream, clock, stream.isatty()
        self._start = self._shown_at = clock()
        self._n_painted = 0
        self.trials: dict[str, Standing] = {}
        self.n_run = self.n_reused = 0

    def started(self, name: str) -> None:
        """A trial begins, or begins again."""
        self.trials.setdefault(name, Standing()).state = "running"

    def reported(self, name: str, standing: Standing) -> None:
        """Take in a trial's report; `standing.n_run` counts the episodes that were run for this one."""
        before = self.trials.setdefault(name, Standing())
        self.n_run += standing.n_run
        self.n_reused += max(0, standing.episodes - before.episodes - standing.n_run)
        standing.n_run += before.n_run
        self.trials[name] = standing

    def stopped(self, name: str, cut: float) -> None:
        """A trial was stopped by the race."""
        trial = self.trials[name]
        trial.state = "stopped"
        assert trial.gain is not None
        self._say(f"stopped after {trial.episodes} episodes: {name}, gain {trial.gain:+.2f}, the cut there {cut:+.2f}")

    def ended(self, name: str, state: str, why: str = "") -> None:
        """A trial came to an end of its own, or failed."""
        trial = self.trials.setdefault(name, Standing())
        if trial.state == "running":
            trial.state = state
            gain = "" if trial.gain is None else f", gain {plus_minus(trial.gain, trial.half_width, sign='+')}"
            last = why.strip().splitlines()[-1:] or [""]
            self._say(f"{state} after {trial.episodes} episodes: {name}{gain}{': ' if why else ''}{last[0]}")

    def tick(self) -> None:
        """Show the present state if it is time to."""
        if self._clock() - self._shown_at >= (REPAINT_S if self._is_terminal else LINE_S):
            self._show()

    def finish(self) -> None:
        """Show the last state."""
        self._show()

    def line(self) -> str:
        """Return the one line as of now."""
        states = [trial.state for trial in self.trials.values()]
        order = [state for state in dict.fromkeys(["running", "stopped", "finished", *states]) if state in states]
        counts = [f"{states.count(state)} {state}" for state in order]
        n_ended = len(states) - states.count("running")
        parts = [f"trials {n_ended}/{self.total}: {', '.join(counts) or 'none yet'}"]
        if best := self.best():
            name, trial = best
            parts.append(f"best {plus_minus(trial.gain, trial.half_width, sign='+')} after {trial.episodes}: {name}")
        elapsed = self._clock() - self._start
        parts.append(f"{self.n_run} episodes run, {self.n_reused} from rows")
        if self.n_run and elapsed > 0:
            parts.append(f"{self.n_run / elapsed:.2f} ep/s")
        n_here = sum(trial.n_run > 0 and trial.state != "running" for trial in self.trials.values())
        if n_here:
            parts.append(f"ETA about {duration(elapsed / n_here * max(0, self.total - n_ended))}")
        return " | ".join(parts)

    def best(self) -> tuple[str, Standing] | None:
        """Return the trial that leads: of those with the most episodes, the largest gain."""
        return next(iter(self._leaders()), None)

    def table(self) -> str:
        """Return the running and the leading trials as a table."""
        running = [item for item in self.trials.items() if item[1].state == "running"]
        leaders = [item for item in self._leaders() if item[1].state != "running"][:BEST]
        rows = [["trial", "state", "episodes", "gain, points", "s per episode"]]
        for name, trial in [*leaders, *running]:
            gain = plus_minus(trial.gain, trial.half_width, sign="+")
            seconds = "–" if trial.seconds is None else f"{trial.seconds:.2f}"
            rows.append([name, trial.state, str(trial.episodes), gain, seconds])
        return aligned(rows)

    def _leaders(self) -> list[tuple[str, Standing]]:
        with_gain = [item for item in self.trials.items() if item[1].gain is not None and item[1].state != "failed"]
        return sorted(with_gain, key=lambda item: (-item[1].episodes, -(item[1].gain or 0.0)))

    def _say(self, text: str) -> None:
        self._wipe()
        self._stream.write(text + "\n")
        self._stream.flush()

    def _show(self) -> None:
        self._shown_at = self._clock()
        if not self._is_terminal:
            self._say(self.line())
            return
        width = shutil.get_terminal_size().columns - 1
        lines = [line[:width] for line in [*self.table().splitlines(), self.line()]]
        self._wipe()
        self._stream.write("\n".join(lines) + "\n")
        self._stream.flush()
        self._n_painted = len(lines)

    def _wipe(self) -> None:
        if self._n_painted:
            self._stream.write(f"\x1b[{self._n_painted}A\x1b[J")
            self._n_painted = 0
