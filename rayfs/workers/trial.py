"""A trial: its episodes in blocks, and a report after each.

A process serves one trial after another and keeps the world (backbone, memory maps) between them.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rayfs.datasets.episodes import Episode
from rayfs.methods.definition import MethodSettings
from rayfs.methods.search_spaces import Variants
from rayfs.runs.rows import Row
from rayfs.statistics.intervals import mean_interval
from rayfs.statistics.trials import gains_of, is_failed
from rayfs.workers.episode_worker import EpisodeWorker, WorkerSpec

LOST = -100.0
"""Gain that a failed trial reports, in points: no accuracy can fall further, so it loses every comparison."""

Done = dict[int, tuple[float, float]]
"""Episode -> accuracy (a fraction) and seconds."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """What all trials are told."""

    worker: WorkerSpec
    """Without methods: each trial adds its own."""
    variants: Variants
    episodes: list[Episode]
    baseline: dict[int, float]
    """Episode -> accuracy of the frozen baseline, a fraction."""
    block_ends: list[int]


@dataclass(frozen=True, kw_only=True)
class BlockReport:
    """How far a trial is after a block of its episodes."""

    trial: str
    episodes: int
    gain: float
    """Mean over the baseline, points; `LOST` if an episode failed."""
    half_width: float
    """Of its paired 95% interval, points; NaN where there is none."""
    accuracy: float
    """Percent."""
    seconds: float
    """Mean of an episode."""
    failed: int
    """0 or 1."""
    n_run: int
    """Episodes run now; the others were done before."""
    went_on: bool
    """Whether later episodes are done already: a former run of the trial was not stopped here."""
    rows: tuple[Row, ...]
    """Of the episodes run now."""

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> "BlockReport":
        """Return the report inside a result that has more beside it."""
        return cls(**{name: result[name] for name in cls.__dataclass_fields__})


class ProcessWorker:
    """The worker of this process: made for the first trial, and again only where the world is another one."""

    def __init__(self, make: Callable[[WorkerSpec], EpisodeWorker] = EpisodeWorker) -> None:
        self._make = make
        self._world: WorkerSpec | None = None
        self._methods: dict[str, MethodSettings] = {}
        self._worker: EpisodeWorker | None = None

    def ready(self, spec: WorkerSpec, methods: Mapping[str, MethodSettings]) -> EpisodeWorker:
        """Return the worker, prepared, and able to solve `methods` beside those that it knew."""
        world = replace(spec, methods={})
        if self._worker is None or world != self._world:
            self._worker = None  # of an earlier search: two worlds may be too much for this process
            self._world, self._methods = world, {}
            self._worker = self._make(replace(spec, methods=self._methods))
        self._methods.update(methods)
        self._worker.prepare()
        return self._worker


def run_blocks(
    trial: str, done: Done, limit: int | None, course: Course, worker: Callable[[], EpisodeWorker]
) -> Iterator[BlockReport]:
    """Run the episodes of a trial that are not done yet, and yield a report after each block.

    A failed episode, or a loss that is not finite, ends the trial with the gain `LOST`.

    Arguments:
        limit: episodes after which the trial ends; None: after all.
        worker: returns the prepared worker; asked only if there is an episode to run.
    """
    done = dict(done)
    ready: EpisodeWorker | None = None
    for end in course.block_ends:
        if limit is not None and end > limit:
            return
        rows: list[Row] = []
        for episode in course.episodes[:end]:
            if episode.index in done:
                continue
            if ready is None:
                ready = worker()
            rows += ready.run(episode, [trial], attempt=1)
            if is_failed(rows[-1]):
                ready.prepare()  # a lost GPU ends this process, and the trial is run again
                break
            assert rows[-1].accuracy is not None
            done[episode.index] = (rows[-1].accuracy, rows[-1].seconds)
        report = block_report(trial, end, done, course.baseline, rows)
        yield report
        if report.failed:
            return


def block_report(trial: str, end: int, done: Done, baseline: Mapping[int, float], rows: list[Row]) -> BlockReport:
    """Return the figures of a trial over the first `end` episodes, of which `rows` were run now."""
    failed = bool(rows) and is_failed(rows[-1])
    gains = gains_of({episode: accuracy for episode, (accuracy, _) in done.items() if episode < end}, baseline)
    interval = mean_interval(gains.values()) if gains else None
    seconds = [done[episode][1] for episode in gains]
    return BlockReport(
        trial=trial,
        episodes=end,
        gain=LOST if failed or interval is None else interval.mean,
        half_width=math.nan if interval is None or interval.half_width is None else interval.half_width,
        accuracy=100 * math.fsum(done[e][0] for e in gains) / len(gains) if gains else math.nan,
        seconds=math.fsum(seconds) / len(seconds) if seconds else math.nan,
        failed=int(failed),
        n_run=len(rows),
        went_on=max(done, default=-1) >= end,
        rows=tuple(rows),  # a tuple: TensorBoard would draw a list
    )
