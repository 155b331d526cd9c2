"""The search itself, on Ray Tune. Import it behind `connect`: Ray reads its environment when it is imported."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from rayfs.distributed.data_task import task_cause
from rayfs.distributed.pool import PoolSize
from rayfs.distributed.trial import Ledger, run_trial
from rayfs.errors import InputError
from rayfs.runs.race import Race
from rayfs.workers.trial import BlockReport, Course, Done

MAX_PROCESS_FAILURES = 2
"""How often a trial whose process died is started again; it goes on behind its finished blocks."""

TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files beside the rows
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is ours
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # rows are the state that a search resumes from
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


@dataclass(frozen=True, kw_only=True)
class Events:
    """What the driver does when something happens to a trial; all are called from its own thread."""

    started: Callable[[dict[str, Any]], None]
    """With the trial's settings."""
    reported: Callable[[BlockReport, bool], None]
    """With the report, and whether the scheduler ends the trial on it."""
    ended: Callable[[dict[str, Any], str], None]
    """With the trial's settings, and the error that it ended with, if any."""
    tick: Callable[[], None]
    """Several times a second."""


def run_search(
    course: Course, race: Race, size: PoolSize, proposals: Searcher, events: Events, done: dict[str, Done],
    limits: dict[str, int], *, storage: Path, callbacks: Sequence[Any] = (),
) -> None:  # fmt: skip
    """Run the trials that `proposals` yields, `size.workers` at a time.

    Arguments:
        done: trial -> what is done of it; not run again.
        limits: trial -> episodes after which it ends, for trials of which only former results count.
        storage: folder that Ray Tune and `callbacks` may write to, on a disk that all nodes share.

    Raises:
        InputError: the trials cannot run on their nodes.
    """
    logging.getLogger("ray.tune").setLevel(logging.ERROR)  # it warns of every slow moment of a busy machine
    os.environ.update({name: os.environ.get(name, value) for name, value in TUNE_ENVIRONMENT.items()})
    ledger = ray.remote(Ledger).options(num_cpus=0, max_restarts=-1).remote(done, limits)
    trainable = tune.with_resources(
        tune.with_parameters(run_trial, course=course, ledger=ledger),
        {"cpu": size.cpus_per_worker, "gpu": size.gpus_per_worker},
    )
    recorder = _Recorder(events, ledger)
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric="gain", mode="max", num_samples=-1, search_alg=proposals, scheduler=_scheduler(race),
            max_concurrent_trials=size.workers, reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=storage.name, storage_path=str(storage.parent), verbose=0,
            failure_config=tune.FailureConfig(max_failures=MAX_PROCESS_FAILURES), callbacks=[recorder, *callbacks],
        ),
    )  # fmt: skip
    results = tuner.fit()
    ray.kill(ledger)
    if results.num_errors and results.num_errors == len(results):
        error = results.errors[0]
        raise (
            task_cause(error)
            if isinstance(error, ray.exceptions.RayTaskError)
            else InputError(f"all {len(results)} trials ended with an error, the first with: {error}")
        )


def _scheduler(race: Race) -> TrialScheduler:
    if not race.rungs:
        return FIFOScheduler()
    return _Halving(
        time_attr="episodes", max_t=race.episodes, grace_period=race.grace, reduction_factor=race.reduction, brackets=1
    )


class _Halving(ASHAScheduler):  # type: ignore[misc]  # Ray has no types
    """ASHA that stands by what it decided before: a trial that went on from a rung then, goes on from it now.

    Its decisions depend on the order in which trials come by; a resumed search has another one.
    """

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        action: str = super().on_trial_result(tune_controller, trial, result)
        return str(TrialScheduler.CONTINUE) if result["went_on"] else action


class _Recorder(tune.Callback):  # type: ignore[misc]
    def __init__(self, events: Events, ledger: Any) -> None:
        self._events, self._ledger = events, ledger

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._events.started(trial.config)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        report = BlockReport.of(result)
        fresh: Done = {row.episode: (row.accuracy, row.seconds) for row in report.rows if row.accuracy is not None}
        if fresh:
            self._ledger.add.remote(report.trial, fresh)
        self._events.reported(report, bool(result.get("done")))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._events.ended(trial.config, "")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._events.ended(trial.config, str(trial.get_error() or "its process died"))

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._events.tick()
