"""The two sides of a benchmark as actors: the production worker with a clock, and the naive recipe."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch

from rayfs.datasets.episodes import Episode
from rayfs.datasets.image_table import open_table
from rayfs.engine.machine import Speeds, measure_speeds, peak_rss_bytes
from rayfs.engine.operations import Operation, profile_operations
from rayfs.engine.process import configure_process
from rayfs.engine.stages import StageClock, timed_by
from rayfs.methods.label_halluc import LabelHallucSettings
from rayfs.performance.reference.agreement import Agreement, compare_steps
from rayfs.performance.reference.backbone import plain_copy
from rayfs.performance.reference.images import children_cpu_s
from rayfs.performance.reference.recipe import Reference, solve_naively
from rayfs.performance.timings import OTHER
from rayfs.randomness import EpisodeRandomness
from rayfs.runs.rows import Row
from rayfs.workers.episode_worker import EpisodeWorker, WorkerSpec, make_task


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one process took for a part of an episode."""

    wall_s: dict[str, float]
    """By stage, and outside of them."""
    cpu_s: dict[str, float]
    peak_rss_bytes: int


class TimedEpisodeWorker(EpisodeWorker):
    """The worker of every run, with a clock."""

    def measure(self, episode: Episode, method: str) -> Measured:
        """Solve an episode as in a run.

        Raises:
            RuntimeError: it failed.
        """
        assert self._world is not None, "prepare the worker first"
        clock = StageClock(self._world.device)
        since = clock.now()
        with timed_by(clock):
            row = self.run(episode, [method], 1)[0]
        if row.status == "failed":
            raise RuntimeError(row.error)
        return measured(clock, since)

    def profile(self, episode: Episode, method: str) -> tuple[list[Operation], bytes, Speeds]:
        """Return the operations of an episode's stages, a trace of it all, and this process's speeds.

        Raises:
            RuntimeError: the episode failed.
        """
        assert self._world is not None, "prepare the worker first"
        rows: list[Row] = []
        operations, trace = profile_operations(lambda: rows.extend(self.run(episode, [method], 1)), self._world.device)
        for row in rows:
            if row.status == "failed":
                raise RuntimeError(row.error)
        return operations, trace, self.speeds()

    def speeds(self) -> Speeds:
        """Return what this process reaches on its device."""
        assert self._world is not None, "prepare the worker first"
        return measure_speeds(self._world.device)

    def keep_base(self, share: float) -> None:
        """Keep the first classes of the base set, about `share` of them."""
        assert self._world is not None, "prepare the worker first"
        bank, table = self._world.bank, self._world.bank.table
        n_classes = max(1, round(share * len(table.class_names)))
        n_rows = int(table.offsets[n_classes])
        smaller = replace(
            table, images=table.images[:n_rows], offsets=table.offsets[: n_classes + 1],
            class_names=table.class_names[:n_classes],
        )  # fmt: skip
        bank = replace(bank, table=smaller, features=bank.features[:n_rows])
        self._world = replace(self._world, bank=bank.on(self._world.device, min(1.0, self._spec.gpus)))

    def compare(self, episode: Episode, method: str) -> Agreement:
        """Take the steps of a method, and those of the naive recipe on the same batches."""
        assert self._world is not None, "prepare the worker first"
        config = cast(LabelHallucSettings, self._spec.methods[method])
        randomness = EpisodeRandomness(seed=self._spec.protocol.seed, index=episode.index)
        return compare_steps(make_task(self._novel, episode), self._world, randomness, config)


def measure_alone(spec: WorkerSpec, base_share: float, episode: Episode) -> Measured:
    """Solve an episode with the method "more" of a new worker of this process, after the method "one" to warm up.

    Arguments:
        base_share: of the classes of the base set, that it knows.
    """
    worker = TimedEpisodeWorker(spec)
    worker.prepare()
    worker.keep_base(base_share)
    worker.measure(episode, "one")
    return worker.measure(episode, "more")


class ReferenceWorker:
    """Solves episodes by the naive recipe.

    Arguments:
        n_loaders: processes of each DataLoader.
        allocator: the engine's settings of the process; else those that PyTorch and glibc have.
    """

    def __init__(self, spec: WorkerSpec, n_threads: int, n_loaders: int, allocator: bool) -> None:
        self._spec, self._n_threads, self._n_loaders, self._allocator = spec, n_threads, n_loaders, allocator

    def prepare(self) -> None:
        """Load backbone and tables."""
        spec, cache_dir = self._spec, Path(self._spec.cache_dir)
        if self._allocator:
            configure_process(self._n_threads)
        torch.set_num_threads(self._n_threads)
        torch.manual_seed(spec.protocol.seed)  # the naive recipe draws from the global generator, as released codes do
        device = torch.device("cuda" if spec.gpu else "cpu")
        self._novel = open_table(cache_dir, spec.novel_fingerprint)
        self._reference = Reference(
            backbone=plain_copy(spec.backbone.load(device)), base=open_table(cache_dir, spec.base_fingerprint),
            augmentation=spec.augmentation, mean=spec.backbone.mean, std=spec.backbone.std, device=device,
            n_loaders=self._n_loaders,
        )  # fmt: skip

    def measure(self, episode: Episode, config: LabelHallucSettings, n_batches: int | None) -> Measured:
        """Solve an episode, or a part of it with few steps and `n_batches` of base images."""
        clock = StageClock(self._reference.device, cpu_s=lambda: sum(os.times()[:2]) + children_cpu_s())
        since = clock.now()
        with timed_by(clock):
            solve_naively(make_task(self._novel, episode), self._reference, config, n_batches)
        return measured(clock, since if n_batches is None else None)


def measured(clock: StageClock, since: tuple[float, float] | None) -> Measured:
    """Return the seconds of each stage, and of the rest since `since`; None: there is no rest worth the name."""
    if since is not None:
        wall_s, cpu_s = sum(clock.wall_s.values()), sum(clock.cpu_s.values())
        clock.add(OTHER, since)
        clock.wall_s[OTHER] -= wall_s
        clock.cpu_s[OTHER] -= cpu_s
    return Measured(wall_s=dict(clock.wall_s), cpu_s=dict(clock.cpu_s), peak_rss_bytes=peak_rss_bytes())
