"""What a soak must show: every episode once, with the rows of a quiet run, and a driver whose memory stays flat."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from rayfs.reports.text_table import aligned
from rayfs.runs.episode_rows import EPISODES
from rayfs.runs.parts import part_numbers, read_part
from rayfs.runs.rows import Row, scientific_columns
from rayfs.runs.storage import Storage

FLAT_MB = 32.0
"""A driver's memory is flat if the median of the last third of the samples is at most so far above that of the first
(ours)."""


@dataclass(frozen=True, kw_only=True)
class EpisodeTally:
    """Episodes of a soak, by what became of them; one with several methods counts once."""

    wanted: int
    done: int
    """With exactly one ok row for each method."""
    lost: int
    """Without any row for one of the methods."""
    duplicated: int
    """With several ok rows for a method, or rows that nobody asked for."""
    failed: int
    """With failed rows only for one of the methods."""
    compared: int
    different: int
    """Of those compared: with a row that is not the reference's in every scientific column."""
    retried: int
    """Done at a later attempt than the first."""
    most_attempts: int

    @property
    def right(self) -> bool:
        """Whether nothing is lost, duplicated, failed or different, and something was compared."""
        wrong = self.lost + self.duplicated + self.failed + self.different
        return wrong == 0 and self.done == self.wanted and self.compared > 0


@dataclass(frozen=True, kw_only=True)
class MemoryTally:
    """Resident memory of the driver while it ran episodes, in MB (10^6 bytes)."""

    first: float
    last: float
    peak: float
    first_third: float
    """Median of the first third of the samples."""
    last_third: float
    per_1000_episodes: float
    """Growth by least squares over all samples."""
    n_samples: int

    @property
    def flat(self) -> bool:
        """Whether the last third of the run held no more than the first, but for `FLAT_MB`."""
        return self.last_third - self.first_third <= FLAT_MB


@dataclass(frozen=True, kw_only=True)
class FaultTally:
    """What was done to the cluster meanwhile."""

    workers_killed: int
    nodes_lost: int
    nodes_regained: int

    @property
    def enough(self) -> bool:
        """Whether there was anything to survive: a soak without faults shows nothing."""
        return min(self.workers_killed, self.nodes_lost, self.nodes_regained) > 0


def committed_rows(location: str) -> list[Row]:
    """Return every row of every part of a run, as written: `RunDirectory.rows` would hide duplicates."""
    storage = Storage.at(location)
    return [row for number in part_numbers(EPISODES, storage) for row in read_part(EPISODES, storage, number)]


def tally_episodes(
    rows: Iterable[Row], reference: Iterable[Row], methods: Sequence[str], n_episodes: int
) -> EpisodeTally:
    """Count what became of episodes 0 to `n_episodes` - 1.

    Arguments:
        rows: all rows of all parts of the soak.
        reference: ok rows of a run without faults, of all or the first episodes.
        methods: what every episode was to be solved with.
    """
    rows = list(rows)
    wanted = {(episode, method) for episode in range(n_episodes) for method in methods}
    n_ok = Counter((row.episode, row.method) for row in rows if row.status == "ok")
    answered = {(row.episode, row.method) for row in rows}
    expected = {(row.episode, row.method): scientific_columns([row]) for row in reference}
    ok = [row for row in rows if row.status == "ok"]
    lost = {episode for episode, _ in wanted - answered}
    duplicated = {key[0] for key in answered if key not in wanted or n_ok[key] > 1}
    failed = {key[0] for key in wanted & answered if n_ok[key] == 0}
    attempts = Counter[int]()
    for row in ok:
        attempts[row.episode] = max(attempts[row.episode], row.attempt)
    return EpisodeTally(
        wanted=n_episodes,
        done=n_episodes - len((lost | duplicated | failed) & set(range(n_episodes))),
        lost=len(lost), duplicated=len(duplicated), failed=len(failed),
        compared=len({row.episode for row in ok if (row.episode, row.method) in expected}),
        different=len({row.episode for row in ok if scientific_columns([row]) != expected.get(
            (row.episode, row.method), scientific_columns([row]))}),
        retried=sum(attempt > 1 for attempt in attempts.values()),
        most_attempts=max(attempts.values(), default=0),
    )  # fmt: skip


def tally_memory(samples: Sequence[tuple[float, float]], n_episodes: int) -> MemoryTally:
    """Summarise samples (seconds, MB), at least 3 and in order, taken while `n_episodes` were solved."""
    seconds, mb = np.array(samples).T
    third = len(mb) // 3
    slope = np.polyfit(seconds - seconds[0], mb, 1)[0]
    return MemoryTally(
        first=float(mb[0]), last=float(mb[-1]), peak=float(mb.max()),
        first_third=median(mb[:third].tolist()), last_third=median(mb[-third:].tolist()),
        per_1000_episodes=float(slope * (seconds[-1] - seconds[0]) / n_episodes * 1000), n_samples=len(mb),
    )  # fmt: skip


def soak_table(
    episodes: EpisodeTally, memory: MemoryTally, faults: FaultTally, seconds: float, quiet_rate: float
) -> str:
    """Return the tally as people read it.

    Arguments:
        seconds: from the first episode to the last.
        quiet_rate: episodes a second of the reference.
    """
    lines = [
        ("episodes wanted", f"{episodes.wanted:,}"),
        ("done", f"{episodes.done:,}"),
        ("lost", f"{episodes.lost:,}"),
        ("duplicated", f"{episodes.duplicated:,}"),
        ("different from a quiet run", f"{episodes.different:,} of {episodes.compared:,} compared"),
        ("failed", f"{episodes.failed:,}"),
        ("tried again", f"{episodes.retried:,} (at most {episodes.most_attempts} attempts)"),
        ("workers killed, each at an episode", f"{faults.workers_killed:,}"),
        ("nodes lost", f"{faults.nodes_lost:,}"),
        ("nodes regained", f"{faults.nodes_regained:,}"),
        ("driver's memory, first and last", f"{memory.first:.0f} and {memory.last:.0f} MB"),
        ("peak", f"{memory.peak:.0f} MB of {memory.n_samples:,} samples"),
        ("median of first and last third", f"{memory.first_third:.0f} and {memory.last_third:.0f} MB"),
        (f"flat (at most {FLAT_MB:.0f} MB more)", "yes" if memory.flat else "no"),
        ("growth, 1,000 episodes", f"{memory.per_1000_episodes:+.1f} MB"),
        ("seconds of episodes", f"{seconds:.0f}"),
        ("episodes a second", f"{episodes.wanted / seconds:.2f} (quiet: {quiet_rate:.2f})"),
    ]
    return aligned([("soak", ""), *lines])
