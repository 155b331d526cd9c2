"""What people watch while a search runs: a small table on a terminal, a line now and then in a log."""

import time
from dataclasses import dataclass
from typing import TextIO

from rayfs.engine.progress import Clock, Display, Pace, duration
from rayfs.reports.text_table import NONE, aligned, plus_minus

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
        stream: where to write; see `Display`. A log gets a line every half minute.
    """

    def __init__(self, total: int, stream: TextIO, clock: Clock = time.monotonic) -> None:
        self.total = total
        self._display = Display(stream, clock, repaint_s=1.0, line_s=30.0)
        self._episodes = Pace(None, 0, clock)
        self.trials: dict[str, Standing] = {}
        self.n_reused = 0

    def started(self, name: str) -> None:
        """A trial begins, or begins again."""
        self.trials.setdefault(name, Standing()).state = "running"

    def reported(self, name: str, standing: Standing) -> None:
        """Take in a trial's report; `standing.n_run` counts the episodes that were run for this one."""
        before = self.trials.setdefault(name, Standing())
        self._episodes.done += standing.n_run
        self.n_reused += max(0, standing.episodes - before.episodes - standing.n_run)
        standing.n_run += before.n_run
        self.trials[name] = standing

    def stopped(self, name: str, cut: float) -> None:
        """A trial was stopped by the race."""
        trial = self.trials[name]
        trial.state = "stopped"
        assert trial.gain is not None
        gains = f"gain {trial.gain:+.2f}, the cut there {cut:+.2f}"
        self._display.say(f"stopped after {trial.episodes} episodes: {name}, {gains}")

    def ended(self, name: str, state: str, why: str = "") -> None:
        """A trial came to an end of its own, or failed."""
        trial = self.trials.setdefault(name, Standing())
        if trial.state == "running":
            trial.state = state
            gain = "" if trial.gain is None else f", gain {plus_minus(trial.gain, trial.half_width, sign='+')}"
            last = why.strip().splitlines()[-1:] or [""]
            self._display.say(f"{state} after {trial.episodes} episodes: {name}{gain}{': ' if why else ''}{last[0]}")

    def tick(self) -> None:
        """Show the present state if it is time to."""
        if self._display.is_due:
            self.finish()

    def finish(self) -> None:
        """Show the present state, whatever the clock says."""
        self._display.show(self.line(), self.table)

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
        n_run, elapsed_s = self._episodes.done, self._episodes.elapsed_s
        parts.append(f"{n_run} episodes run, {self.n_reused} from rows")
        if n_run and elapsed_s > 0:
            parts.append(f"{self._episodes.rate:.2f} ep/s")
        n_here = sum(trial.n_run > 0 and trial.state != "running" for trial in self.trials.values())
        if n_here:
            parts.append(f"ETA about {duration(elapsed_s / n_here * max(0, self.total - n_ended))}")
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
            seconds = NONE if trial.seconds is None else f"{trial.seconds:.2f}"
            rows.append([name, trial.state, str(trial.episodes), gain, seconds])
        return aligned(rows)

    def _leaders(self) -> list[tuple[str, Standing]]:
        with_gain = [item for item in self.trials.items() if item[1].gain is not None and item[1].state != "failed"]
        return sorted(with_gain, key=lambda item: (-item[1].episodes, -(item[1].gain or 0.0)))
