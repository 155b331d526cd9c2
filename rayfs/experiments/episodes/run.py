"""Run an experiment: base bank, episode pool, rows as they finish, progress, summary."""

import shlex
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rayfs.datasets.episode_file import decode_episode_file, encode_episode_file
from rayfs.datasets.episodes import Episode, Protocol
from rayfs.datasets.image_table import ImageTable
from rayfs.distributed.activations import Kept, ensure_activations
from rayfs.distributed.base_bank import ensure_bank
from rayfs.distributed.metrics import EpisodeMetrics
from rayfs.distributed.nodes import gpus_of_worker, wait_for_nodes
from rayfs.distributed.pool import EpisodePool, PoolSize
from rayfs.distributed.pool_messages import WorkItem
from rayfs.distributed.session import RaySession, Resources, cluster_resources, ray_session
from rayfs.engine.bank import BaseBank
from rayfs.errors import InputError
from rayfs.experiments.episodes.experiment import Experiment
from rayfs.methods.definition import MethodSettings
from rayfs.methods.registry import needs_of
from rayfs.redaction import without_secrets
from rayfs.reports.progress import Progress
from rayfs.runs.episode_log import EpisodeLog
from rayfs.runs.result_buffer import ResultBuffer
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import EPISODE_FILE, RowsNotSavedError, RunDirectory
from rayfs.statistics.episodes_summary import EpisodesSummary
from rayfs.statistics.joint_summary import summarise_joint
from rayfs.statistics.summary import looked_at, summarise
from rayfs.workers.episode_worker import WorkerSpec


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How an experiment is run; none of it changes a row."""

    workers: int | None = None
    """Actors; None: as many as fit."""
    cpus_per_worker: int = 1
    gpus_per_worker: float | None = None
    """None: one where there are GPUs, else none."""
    episode_timeout: float | None = None
    """Seconds after which an episode is taken for hung; None: as `EpisodePool` has it."""
    wait_for_nodes: float | None = None
    """Seconds; as `wait_for_nodes` takes them."""


def evaluate(
    experiment: Experiment, run: RunDirectory, execution: Execution, *, cache_dir: Path, command: list[str],
    log: EpisodeLog | None = None,
) -> EpisodesSummary:  # fmt: skip
    """Solve the episodes that `run` (open) does not have yet, and return its summary, which is written, too.

    Rows are committed as they finish; an interrupt or a crash loses the episodes in flight and nothing else.

    Arguments:
        log: open; gets every row as well.

    Raises:
        InputError: data or resources that only the cluster could tell are wrong.
        RowsNotSavedError: the disk is full, or the location is lost; what was committed is safe.
        KeyboardInterrupt: Ctrl-C or SIGTERM, after everything finished was committed.
    """
    refuse_other_episodes(experiment, wanted_rows(experiment, run))
    keep_episodes(run, experiment.episodes, experiment.protocol, experiment.novel)
    items = missing_items(experiment, run.completed())
    if items:
        try:
            _run_missing(experiment, run, items, execution, cache_dir, log or EpisodeLog(None))
        except (KeyboardInterrupt, RowsNotSavedError):
            again = without_secrets(shlex.join(command))
            print(f"\nstopped; {run.location} keeps what is finished. Resume with:\n  {again}", flush=True)
            raise
    summary = summarise_run(experiment, run)
    run.write_summary(summary.to_json())
    return summary


def _run_missing(
    experiment: Experiment, run: RunDirectory, items: list[WorkItem], execution: Execution, cache_dir: Path,
    log: EpisodeLog,
) -> None:  # fmt: skip
    with ray_session() as session:
        asked = execution.workers, execution.cpus_per_worker, execution.gpus_per_worker
        resources = wait_for_nodes(*asked, 0 if session.is_private else execution.wait_for_nodes)
        size = pool_size(resources, *asked)
        refuse_graphs_on_cpus(experiment.methods, size)
        bank = ensure_bank(experiment.base, experiment.backbone, cache_dir, resources, size.gpus_per_worker > 0)
        run.confirm("base_table", bank.table.fingerprint)
        activations = ensure_activations(
            bank.table, experiment.backbone, experiment.methods, experiment.benchmark.augmentation,
            experiment.protocol.seed, cache_dir, resources, size.gpus_per_worker > 0,
        )  # fmt: skip
        needed = replace(size, workers=min(size.workers, len(items)))
        print(describe_pool(needed, session, resources), flush=True)
        spec = worker_spec(experiment, bank, activations, needed, cache_dir)
        pool = EpisodePool(spec, needed, execution.episode_timeout, capacity_of(execution, needed))
        solve_items(experiment, run, items, pool, log)


def describe_pool(size: PoolSize, session: RaySession, resources: Resources) -> str:
    """Say how many workers run where."""
    where = "a private Ray on this machine" if session.is_private else f"the Ray cluster at {session.address}"
    return (
        f"{size.workers} workers with {size.cpus_per_worker:g} CPUs and {size.gpus_per_worker:g} GPUs each on {where} "
        f"({len(resources.nodes)} nodes, {resources.cpus:g} CPUs, {resources.gpus:g} GPUs)"
    )


def wanted_rows(experiment: Experiment, run: RunDirectory) -> list[Row]:
    """Return the rows of this experiment's episodes and methods; the run directory may hold more of both."""
    wanted = {episode.index for episode in experiment.episodes}
    return [row for row in run.rows() if row.episode in wanted and row.method in experiment.methods]


def refuse_other_episodes(experiment: Experiment, rows: list[Row]) -> None:
    """Refuse rows whose episode of the same number was another one (drawn by another manifest)."""
    hashes = {episode.index: episode.hash for episode in experiment.episodes}
    for row in rows:
        if row.episode_hash != hashes[row.episode]:
            raise InputError(
                f"episode {row.episode} of the run has hash {row.episode_hash} but is now {hashes[row.episode]}: the "
                "manifest is another one; use another --out or the former --manifest"
            )


def keep_episodes(run: RunDirectory, episodes: list[Episode], protocol: Protocol, table: ImageTable) -> None:
    """Write the row ids of `episodes` into `run`, unless it has as many already: what a report and a comparison read.

    Raises:
        InputError: the run has a file of that name that cannot be read, or it cannot be written.
    """
    stored = run.read_file(EPISODE_FILE)
    if stored is None or len(decode_episode_file(stored, EPISODE_FILE).episodes) < len(episodes):
        run.write_file(EPISODE_FILE, encode_episode_file(episodes, protocol, table.fingerprint, table.class_names))


def missing_items(experiment: Experiment, completed: set[tuple[int, str]]) -> list[WorkItem]:
    """Return what is left to do: for each episode the methods without an ok row."""
    items = []
    for episode in experiment.episodes:
        methods = tuple(name for name in experiment.methods if (episode.index, name) not in completed)
        if methods:
            items.append(WorkItem(episode=episode, methods=methods))
    return items


def summarise_run(experiment: Experiment, run: RunDirectory) -> EpisodesSummary:
    """Return the figures over the experiment's episodes: benchmark, protocol, methods, joint recognition if asked."""
    rows, methods = wanted_rows(experiment, run), list(experiment.methods)
    return EpisodesSummary(
        benchmark=experiment.benchmark.name, protocol=experiment.protocol, n_episodes=len(experiment.episodes),
        backbone=experiment.identity().backbone, figures=summarise(rows, experiment.baseline, methods),
        joint=summarise_joint(rows, experiment.baseline, methods),
    )  # fmt: skip


def pool_size(resources: Resources, workers: int | None, cpus: int, gpus: float | None) -> PoolSize:
    """Size the pool: one worker a GPU where there are GPUs, else one for every `cpus` CPUs.

    Raises:
        InputError: more is asked for than the cluster has.
    """
    gpus = gpus_of_worker(resources, gpus)
    fitting = resources.n_fitting(cpus, gpus)
    if fitting < 1 or (workers or 1) > fitting:
        raise InputError(
            f"{workers or 1} workers with {cpus} CPUs and {gpus:g} GPUs each do not fit the cluster's "
            f"{len(resources.nodes)} nodes with {resources.cpus:g} CPUs and {resources.gpus:g} GPUs, which hold "
            f"{fitting}; lower --workers, --cpus-per-worker or --gpus-per-worker, or "
            "--wait-for-nodes SECONDS where nodes have still to join"
        )
    return PoolSize(workers=workers or fitting, cpus_per_worker=cpus, gpus_per_worker=gpus)


def capacity_of(execution: Execution, size: PoolSize) -> Callable[[], int] | None:
    """Return what tells how many workers like those of `size` fit the cluster now; None where their number is given."""
    if execution.workers is not None:
        return None

    def fitting() -> int:
        return cluster_resources().n_fitting(size.cpus_per_worker, size.gpus_per_worker)

    return fitting


def refuse_graphs_on_cpus(methods: Mapping[str, MethodSettings], size: PoolSize) -> None:
    """Refuse steps that are to be captured by workers without a GPU."""
    for name, settings in methods.items():
        steps = needs_of(settings).finetuning
        if size.gpus_per_worker == 0 and steps is not None and steps.replayed:
            raise InputError(
                f"--execution of {name} replays its steps as a graph, but workers have 0 GPUs, and only GPUs do that: "
                "use eager or compiled"
            )


def worker_spec(
    experiment: Experiment, bank: BaseBank, activations: dict[Kept, str], size: PoolSize, cache_dir: Path
) -> WorkerSpec:
    """Return what every worker is told."""
    return WorkerSpec(
        cache_dir=str(cache_dir),
        base_fingerprint=bank.table.fingerprint,
        features_path=str(bank.path),
        activations=activations,
        novel_fingerprint=experiment.novel.fingerprint,
        backbone=experiment.backbone,
        augmentation=experiment.benchmark.augmentation,
        protocol=experiment.protocol,
        methods=dict(experiment.methods),
        n_threads=int(size.cpus_per_worker),
        gpus=size.gpus_per_worker,
    )


def solve_items(
    experiment: Experiment, run: RunDirectory, items: list[WorkItem], pool: EpisodePool, log: EpisodeLog
) -> None:
    """Solve `items` by `pool`, which is closed, and pass every row on as it comes: to disk, log, metrics, progress."""
    n_episodes = len(experiment.episodes)
    shown = looked_at(list(experiment.methods), experiment.baseline)
    assert shown is not None, "an experiment has methods"
    progress = Progress(n_episodes, n_episodes - len(items), shown, sys.stdout, baseline=experiment.baseline)
    buffer = ResultBuffer(run)
    metrics = EpisodeMetrics()
    partial: dict[int, list[Row]] = defaultdict(list)
    unfinished = {item.episode.index for item in items}
    stored = [row for row in wanted_rows(experiment, run) if row.status == "ok"]
    progress.resume(row for row in stored if row.episode not in unfinished)
    for row in stored:  # a method solved earlier pairs with the one that comes now
        if row.episode in unfinished:
            partial[row.episode].append(row)

    def on_rows(rows: list[Row], episode_done: bool) -> None:
        if rows:
            partial[rows[0].episode] += rows
            buffer.add(rows)
            log.add(rows)
            metrics.add(rows)
        if episode_done and rows:
            progress.update(partial.pop(rows[0].episode))

    try:
        pool.run(items, on_rows, buffer.poll)
    finally:
        try:
            buffer.flush()
        finally:
            progress.finish()
            pool.close()
