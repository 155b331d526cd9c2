"""Tune a method on validation classes: proposals, the race on Ray Tune, rows as trials report, winner, page."""

import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from rayfs.datasets.image_table import cache_folder
from rayfs.distributed.activations import ensure_activations
from rayfs.distributed.base_bank import ensure_bank
from rayfs.distributed.nodes import wait_for_nodes
from rayfs.distributed.pool import PoolSize
from rayfs.distributed.session import RaySession, Resources, ray_session, refuse_lost_outputs
from rayfs.distributed.trackers import refuse_absent_trackers, tracker_callbacks
from rayfs.errors import InputError
from rayfs.experiments.episodes.experiment import Experiment, check_base_batch, session_information
from rayfs.experiments.episodes.job import build_experiment, describe, method_identities
from rayfs.experiments.episodes.run import (
    Execution,
    evaluate,
    pool_size,
    refuse_graphs_on_cpus,
    worker_spec,
)
from rayfs.experiments.tuning.final import score_winner
from rayfs.experiments.tuning.flags import TuneConfig
from rayfs.experiments.tuning.long_tail import tune_long_tail
from rayfs.experiments.tuning.long_tail_flags import COMPOSITIONAL
from rayfs.experiments.tuning.proposals import ListedTrials, list_trials, searcher
from rayfs.flags.command_line import EXIT_FAILED, EXIT_OK
from rayfs.flags.parsing import flag_values
from rayfs.methods.definition import MethodSettings
from rayfs.methods.registry import BASELINE
from rayfs.methods.variants import parse_variant
from rayfs.redaction import without_secrets
from rayfs.reports.tuning.board import Board, Standing
from rayfs.reports.tuning.page import write_page
from rayfs.reports.tuning.table import trials_table
from rayfs.runs.race import Stop
from rayfs.runs.result_buffer import ResultBuffer
from rayfs.runs.run_directory import RunDirectory
from rayfs.runs.search_state import SearchState, read_state, write_state
from rayfs.runs.storage import Storage
from rayfs.statistics.race import Rungs
from rayfs.statistics.summary import summarise
from rayfs.statistics.trials import Trial, choose_winner, is_failed, read_trials
from rayfs.workers.trial import BlockReport, Course, Done

FLUSH_S = 1.0
"""Seconds of finished blocks that `kill -9` may lose."""


def run_tune(config: TuneConfig, command: list[str]) -> int:
    """Search, print what people look at, and return the exit code.

    Raises:
        InputError: wrong input, mostly before any work.
    """
    refuse_lost_outputs({"--out": config.out})
    refuse_absent_trackers(config.log_to)
    search = tune_long_tail if config.method == COMPOSITIONAL else tune_on_episodes
    return search(config, command)


def tune_on_episodes(config: TuneConfig, command: list[str]) -> int:
    """Tune a method that solves episodes: its gain over the frozen baseline on the same episodes counts."""
    cache_dir = cache_folder()
    methods = tuple(dict.fromkeys([BASELINE, config.method]))
    experiment = build_experiment(
        config.evaluation(methods=methods, split="validation", episodes=config.episodes), cache_dir
    )
    plan = list_trials(config)
    counts = np.array(list(experiment.base.class_counts().values()))
    check_base_batch(plan.proposed, counts)
    print(describe(experiment), plan.described(), sep="\n", flush=True)
    identities = method_identities(replace(experiment, methods={**experiment.methods, **plan.proposed}))
    with RunDirectory(config.out).open(experiment.identity(), session_information(command), identities) as run:
        search = Search(config, experiment, run, plan, cache_dir)
        search.run(command)
        trials = search.trials()
        shown = [BASELINE, *(trial.name for trial in trials if trial.name != BASELINE)]
        run.write_summary(summarise(run.rows(), BASELINE, shown).to_json())
        winner = choose_winner(trials)
        best_command = paste_command(config, winner)
        print("\n" + trials_table(trials, BASELINE) + f"\nbest, to paste:\n  {best_command}\n")
        again = without_secrets(shlex.join(command))
        write_page(run, trials, search.state, BASELINE, best_command, again)
        if config.final:
            score_winner(config, winner, run, search.state, cache_dir, command)
            write_page(run, trials, search.state, BASELINE, best_command, again)
        print(f"rows, search.json, tune.html: {run.location}")
    failed = [trial for trial in trials if trial.state == "failed"]
    if failed:
        print(f"{len(failed)} trials failed and lost; rerun the command to try them again. The first: {failed[0].name}")
    return EXIT_FAILED if failed else EXIT_OK


class Search:
    """One search in an open run directory; the driver's side."""

    def __init__(
        self, config: TuneConfig, experiment: Experiment, run: RunDirectory, plan: ListedTrials, cache_dir: Path
    ) -> None:
        self._config, self._experiment, self._run, self._plan, self._cache_dir = (
            config, experiment, run, plan, cache_dir
        )  # fmt: skip
        self.state: SearchState = read_state(run)
        self._stops = self.state.stops_of(config.race)
        self._buffer = ResultBuffer(run, flush_seconds=FLUSH_S)
        self._rungs = Rungs(race=config.race)
        self._failed: set[str] = set()

    def run(self, command: list[str]) -> None:
        """Run what is missing of the baseline, then the trials."""
        config, run = self._config, self._run
        self.state.add_search({
            "method": config.method, "search": config.search, "seed": config.protocol.seed, "n_trials": config.n_trials,
            "spaces": {name: asdict(space) for name, space in config.spaces.items()}, "race": asdict(config.race),
        })  # fmt: skip
        write_state(run, self.state)
        execution = Execution(**config.execution)
        baseline = replace(self._experiment, methods={BASELINE: self._experiment.methods[BASELINE]})
        evaluate(baseline, run, execution, cache_dir=self._cache_dir, command=command)
        done = self._done()
        if len(done.get(BASELINE, {})) < config.episodes:
            raise InputError(f"the baseline {BASELINE} failed on some of {config.episodes} episodes; the rows say why")
        limits, former = self._former(done)
        listed = [*former, *(self._settings(name) for name in self._plan.proposed)]
        self._board = Board(len(listed) + self._plan.n_more(len(former)), sys.stdout)
        with _resumable(run, command), ray_session() as session:
            self._race(execution, session, done, limits, listed, len(former))

    def _race(
        self, execution: Execution, session: RaySession, done: dict[str, Done], limits: dict[str, int],
        listed: list[dict[str, Any]], n_former: int,
    ) -> None:  # fmt: skip
        from rayfs.distributed.search import Events, run_search

        config = self._config
        asked = execution.workers, execution.cpus_per_worker, execution.gpus_per_worker
        size = pool_size(wait_for_nodes(*asked, 0 if session.is_private else execution.wait_for_nodes), *asked)
        print(
            f"{len(listed)} trials, {size.workers} at a time with {size.cpus_per_worker:g} CPUs and "
            f"{size.gpus_per_worker:g} GPUs each; {sum(map(len, done.values())):,} rows are here already", flush=True,
        )  # fmt: skip
        then = searcher(config, self._plan, self.trials(), n_former)
        events = Events(started=self._on_start, reported=self._on_report, ended=self._on_end, tick=self._on_tick)
        with self._storage() as storage:
            try:
                run_search(
                    self._course(size, session.resources, done), config.race, size, then(listed), events, done, limits,
                    storage=storage, callbacks=tracker_callbacks(config.log_to),
                )  # fmt: skip
            finally:
                self._buffer.flush()
                self._board.finish()

    def _course(self, size: PoolSize, resources: Resources, done: Mapping[str, Done]) -> Course:
        experiment, gpu = self._experiment, size.gpus_per_worker > 0
        refuse_graphs_on_cpus(self._plan.proposed, size)
        bank = ensure_bank(experiment.base, experiment.backbone, self._cache_dir, resources, gpu)
        self._run.confirm("base_table", bank.table.fingerprint)
        activations = ensure_activations(
            bank.table, experiment.backbone, {**experiment.methods, **self._plan.proposed},
            experiment.benchmark.augmentation, experiment.protocol.seed, self._cache_dir, resources, gpu,
        )  # fmt: skip
        return Course(
            worker=worker_spec(replace(experiment, methods={}), bank, activations, size, self._cache_dir),
            variants=self._config.variants, episodes=experiment.episodes, block_ends=self._config.race.block_ends,
            baseline={episode: accuracy for episode, (accuracy, _) in done[BASELINE].items()},
        )  # fmt: skip

    @contextmanager
    def _storage(self) -> Iterator[Path]:
        """Yield where Ray Tune writes: beside the rows where TensorBoard logs are wanted, else nowhere that stays."""
        if "tensorboard" in self._config.log_to:
            storage = Storage.at(self._config.out)
            if not storage.is_local:
                raise InputError(f"--log-to tensorboard writes files, but --out {self._run.location} is no local path")
            yield Path(storage.path("tensorboard")).absolute()
            return
        parent = self._cache_dir / "tune"  # all nodes share the cache
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as folder:
            yield Path(folder).absolute() / "search"

    def trials(self) -> list[Trial]:
        """Return all trials that this run directory has rows of, best first."""
        variants, fields = self._config.variants, list(self._config.spaces)
        names = {name: variants.settings_of(name, fields) for name in self._names()}
        return read_trials(self._run.rows(), names, BASELINE, self._config.episodes, self._stops)

    def _names(self) -> list[str]:
        manifest = self._run.manifest()
        assert manifest is not None, "the run directory is open"
        known = [name for name in manifest["methods"] if parse_variant(name)[0] == self._config.method]
        return [name for name in known if name != BASELINE or self._config.method == BASELINE]

    def _done(self) -> dict[str, Done]:
        done: dict[str, Done] = {}
        for row in self._run.rows():
            if row.accuracy is not None and row.episode < self._config.episodes and not is_failed(row):
                done.setdefault(row.method, {})[row.episode] = (row.accuracy, row.seconds)
        return done

    def _former(self, done: Mapping[str, Done]) -> tuple[dict[str, int], list[dict[str, Any]]]:
        """Return trial -> episodes after which it ends, and the settings of trials that are not proposed any more.

        A trial that was stopped stays so; one of a former space keeps its rows, which the others race against.
        """
        race = self._config.race
        limits = {name: stop.episodes for name, stop in self._stops.items()}
        former = []
        for name in self._names():
            if name in self._plan.proposed:
                continue
            n = next((i for i in range(race.episodes) if i not in done.get(name, {})), race.episodes)
            reached = max((end for end in race.block_ends if end <= n), default=0)
            if self._plan.resumes_former and name not in limits:
                former.append(self._settings(name))
            elif reached:
                limits[name] = min(reached, limits.get(name, reached))
                former.append(self._settings(name))
        return limits, former

    def _settings(self, name: str) -> dict[str, Any]:
        return parse_variant(name)[1]

    def _on_start(self, settings: dict[str, Any]) -> None:
        name, method = self._config.variants.of(settings)
        self._declare(name, method)
        self._board.started(name)

    def _declare(self, name: str, method: MethodSettings) -> None:
        manifest = self._run.manifest()
        assert manifest is not None, "the run directory is open"
        if name not in manifest["methods"]:
            manifest["methods"][name] = asdict(method)
            self._run.write_manifest(manifest)

    def _on_report(self, report: BlockReport, ends: bool) -> None:
        name, episodes, gain = report.trial, report.episodes, report.gain
        self._buffer.add(report.rows)
        self._board.reported(
            name,
            Standing(
                episodes=episodes, gain=gain, half_width=_finite(report.half_width), n_run=report.n_run,
                seconds=_finite(report.seconds),
            ),
        )  # fmt: skip
        cut = self._rungs.pass_by(name, episodes, gain)
        if report.failed:
            self._failed.add(name)
            self._board.ended(name, "failed", report.rows[-1].error or "a loss is not finite")
        elif ends and episodes < self._config.episodes and cut is not None:
            if name not in self._stops:
                self._stops[name] = Stop(episodes=episodes, gain=gain, cut=cut)
                self._buffer.flush()
                write_state(self._run, self.state)
            self._board.stopped(name, cut)

    def _on_end(self, settings: dict[str, Any], error: str) -> None:
        name, _ = self._config.variants.of(settings)
        stopped = name in self._stops
        self._board.ended(name, "failed" if error else "stopped" if stopped else "finished", error)

    def _on_tick(self) -> None:
        self._buffer.poll()
        self._board.tick()


def paste_command(config: TuneConfig, winner: Trial) -> str:
    """Return the command that runs the winner beside the recipe's default on test classes."""
    values, data, backbone = flag_values(config), config.data, config.backbone
    words: list[str] = ["python", "jobs/label_halluc_eval.py", "--benchmark", data.benchmark]
    for name in ("data", "image_size", "n_way", "n_shot", "n_query", "checkpoint"):
        if (value := values[name]) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--seed", str(values["seed"])] if values["seed"] else []
    words += ["--backbone", backbone.name] if backbone.name != "conv4" else []
    words += ["--recipe", config.recipe] if config.recipe != "released" else []
    for name, value in config.held.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--methods", *dict.fromkeys([BASELINE, config.method, winner.name]), "--out", "runs/tuned"]
    return without_secrets(shlex.join(words))


@contextmanager
def _resumable(run: RunDirectory, command: list[str]) -> Iterator[None]:
    """Say how to resume what is interrupted inside the block."""
    try:
        yield
    except KeyboardInterrupt:
        again = without_secrets(shlex.join(command))
        print(f"\nstopped; {run.location} keeps every finished block. Resume with:\n  {again}", flush=True)
        raise


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
