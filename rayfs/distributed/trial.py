"""What runs in the process of a trial: its episodes in blocks, a report after each; and the ledger of what is done.

A process serves one trial after another and keeps the world (backbone, memory maps) between them.
"""

import math
from collections.abc import Mapping
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

_ready: dict[str, tuple[EpisodeWorker, dict[str, MethodSettings]]] = {}
"""World -> its worker and the methods that it knows: the one thing that a process keeps from trial to trial."""


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


class Ledger:
    """Which episodes of which trial are done, and how far former trials go. An actor, filled by the driver alone."""

    def __init__(self, done: dict[str, Done], limits: dict[str, int]) -> None:
        self._done, self._limits = done, limits

    def known(self, trial: str) -> tuple[Done, int | None]:
        """Return what is done of `trial`, and after how many episodes it ends; None: after all."""
        return self._done.get(trial, {}), self._limits.get(trial)

    def add(self, trial: str, done: Done) -> None:
        """Take in finished episodes, so that a trial whose process died goes on behind them."""
        self._done.setdefault(trial, {}).update(done)


def run_trial(settings: Mapping[str, Any], *, course: Course, ledger: Any) -> None:
    """Run the episodes of one trial that are not done yet; a Ray Tune trainable.

    Reports after every block {"episodes", "gain" (points), "half_width", "accuracy" (percent), "seconds" (mean of an
    episode), "failed" (0 or 1), "n_run" (episodes run now, the others were done before), "went_on" (whether later
    episodes are done already), "rows"}. A failed episode, or
    a loss that is not finite, ends the trial with the gain `LOST`.
    """
    import ray
    from ray import tune

    name, config = course.variants.of(settings)
    known, limit = ray.get(ledger.known.remote(name))
    done: Done = dict(known)
    worker = None
    for end in course.block_ends:
        if limit is not None and end > limit:
            return
        rows: list[Row] = []
        for episode in course.episodes[:end]:
            if episode.index in done:
                continue
            if worker is None:
                worker = _ready_worker(course.worker, {name: config})
            rows += worker.run(episode, [name], attempt=1)
            if is_failed(rows[-1]):
                worker.prepare()  # a lost GPU ends this process, and the trial is run again
                break
            assert rows[-1].accuracy is not None
            done[episode.index] = (rows[-1].accuracy, rows[-1].seconds)
        failed = bool(rows) and is_failed(rows[-1])
        tune.report(_report(name, end, done, course.baseline, rows, failed))
        if failed:
            return


def _report(
    name: str, end: int, done: Done, baseline: Mapping[int, float], rows: list[Row], failed: bool
) -> dict[str, Any]:
    gains = gains_of({episode: accuracy for episode, (accuracy, _) in done.items() if episode < end}, baseline)
    interval = mean_interval(gains.values()) if gains else None
    seconds = [done[episode][1] for episode in gains]
    return {
        "trial": name,
        "episodes": end,
        "gain": LOST if failed or interval is None else interval.mean,
        "half_width": math.nan if interval is None or interval.half_width is None else interval.half_width,
        "accuracy": 100 * math.fsum(done[e][0] for e in gains) / len(gains) if gains else math.nan,
        "seconds": math.fsum(seconds) / len(seconds) if seconds else math.nan,
        "failed": int(failed),
        "n_run": len(rows),
        "went_on": max(done, default=-1) >= end,
        "rows": tuple(rows),  # a tuple: TensorBoard would draw a list
    }


def _ready_worker(spec: WorkerSpec, methods: Mapping[str, MethodSettings]) -> EpisodeWorker:
    world = repr(replace(spec, methods={}))
    if world not in _ready:
        _ready.clear()  # of an earlier search
        known: dict[str, MethodSettings] = {}
        _ready[world] = EpisodeWorker(replace(spec, methods=known)), known
    worker, known = _ready[world]
    known.update(methods)
    worker.prepare()
    return worker
