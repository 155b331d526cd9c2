"""The trials of a search, from its rows: gains, winner, Pareto front."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from rayfs.errors import InputError
from rayfs.runs.race import Stop
from rayfs.runs.rows import Row
from rayfs.statistics.intervals import Interval, mean_interval, paired_difference

State = Literal["finished", "stopped", "failed", "unfinished"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is known of one trial."""

    name: str
    """The method with the trial's settings, as --methods takes it."""
    settings: Mapping[str, Any]
    """Setting that was searched -> value."""
    state: State
    episodes: int
    """With a row of the trial and of the baseline."""
    gain: float | None
    """Mean gain over the baseline, points."""
    half_width: float | None
    """Of its paired 95% interval."""
    accuracy: float | None
    """Percent."""
    seconds: float | None
    """Mean of an episode."""
    gains: Mapping[int, float]
    """Episode -> gain over the baseline, points, in the order of the episodes."""
    stop: Stop | None = None

    @property
    def curve(self) -> list[tuple[int, float]]:
        """(episodes, mean gain of so many), for every episode."""
        return [(n, total / n) for n, total in enumerate(accumulate(self.gains.values()), 1)]

    @property
    def is_default(self) -> bool:
        """Whether it is the method as it comes, without settings of its own."""
        return ":" not in self.name


def gains_of(accuracies: Mapping[int, float], baseline: Mapping[int, float]) -> dict[int, float]:
    """Return episode -> gain in points where both have an accuracy (a fraction)."""
    return {e: 100 * (accuracies[e] - baseline[e]) for e in sorted(accuracies.keys() & baseline.keys())}


def read_trials(
    rows: Iterable[Row],
    names: Mapping[str, Mapping[str, Any]],
    baseline: str,
    n_episodes: int,
    stops: Mapping[str, Stop],
) -> list[Trial]:
    """Return the trials that have rows, best first (`rank`).

    Arguments:
        names: trial -> its settings.
        n_episodes: of a finished trial; later rows, of a search with more, are left out.
        stops: trial -> why it was stopped.
    """
    by_method: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.episode < n_episodes:
            by_method[row.method].append(row)
    reference = {row.episode: row.accuracy for row in by_method[baseline] if row.accuracy is not None}
    trials = [
        _trial(name, settings, by_method[name], reference, n_episodes, stops.get(name))
        for name, settings in names.items()
        if by_method[name]
    ]
    return sorted(trials, key=rank)


def _trial(
    name: str, settings: Mapping[str, Any], rows: Sequence[Row], reference: Mapping[int, float], n_episodes: int,
    stop: Stop | None,
) -> Trial:  # fmt: skip
    ok = [row for row in rows if row.accuracy is not None]
    gains = gains_of({row.episode: row.accuracy for row in ok if row.accuracy is not None}, reference)
    interval = mean_interval(gains.values()) if gains else None
    failed = any(map(is_failed, rows))
    stopped = stop is not None and len(gains) <= stop.episodes
    state: State = "failed" if failed else "finished" if len(gains) >= len(reference.keys() & range(n_episodes)) else (
        "stopped" if stopped else "unfinished"
    )  # fmt: skip
    return Trial(
        name=name, settings=settings, state=state, episodes=len(gains),
        gain=interval.mean if interval else None, half_width=interval.half_width if interval else None,
        accuracy=100 * math.fsum(row.accuracy or 0.0 for row in ok) / len(ok) if ok else None,
        seconds=math.fsum(row.seconds for row in ok) / len(ok) if ok else None,
        gains=gains, stop=stop if state == "stopped" else None,
    )  # fmt: skip


def is_failed(row: Row) -> bool:
    """Say whether a row makes its trial lose: it failed, or a loss is not finite."""
    losses = [loss for loss in (row.loss_base, row.loss_support) if loss is not None]
    return row.status == "failed" or not all(map(math.isfinite, losses))


def rank(trial: Trial) -> tuple[float, ...]:
    """Return what trials are sorted by: failed ones last, more episodes first, then the larger gain, the cheaper."""
    gain = -math.inf if trial.gain is None else trial.gain
    return trial.state == "failed", -trial.episodes, -gain, trial.seconds or math.inf


def choose_winner(trials: Sequence[Trial]) -> Trial:
    """Return the best mean gain among trials with the most episodes; of equals the cheaper.

    Raises:
        InputError: no trial came to an end without failing.
    """
    standing = [trial for trial in trials if trial.state != "failed" and trial.gain is not None]
    if not standing:
        raise InputError(f"none of {len(trials)} trials has a gain: there is no winner; the rows say what failed")
    return min(standing, key=rank)


def gain_over_default(trials: Sequence[Trial]) -> Interval | None:
    """Return the winner minus the recipe's default in points, paired; None where they are one or share nothing."""
    winner, default = choose_winner(trials), next((trial for trial in trials if trial.is_default), None)
    if default is None or winner is default or len(both := winner.gains.keys() & default.gains.keys()) < 2:
        return None
    return paired_difference({e: winner.gains[e] for e in both}, {e: default.gains[e] for e in both}).interval


def pareto_front(trials: Sequence[Trial]) -> list[Trial]:
    """Return the trials that no other one beats in both gain and seconds, cheapest first."""
    scored = [trial for trial in trials if trial.gain is not None and trial.seconds and trial.state != "failed"]
    front: list[Trial] = []
    for trial in sorted(scored, key=lambda each: (each.seconds or 0.0, -(each.gain or 0.0))):
        if not front or (trial.gain or 0.0) > (front[-1].gain or 0.0):
            front.append(trial)
    return front


def stopped_at(trials: Iterable[Trial]) -> dict[int, int]:
    """Return episodes -> how many trials were stopped there."""
    counts: dict[int, int] = defaultdict(int)
    for trial in trials:
        if trial.stop is not None:
            counts[trial.stop.episodes] += 1
    return dict(sorted(counts.items()))
