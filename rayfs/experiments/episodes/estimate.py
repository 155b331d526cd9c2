"""What a run would take: measured on this machine for one episode's shapes, then multiplied."""

import math
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from rayfs.backbones.registry import n_features
from rayfs.datasets.episodes import Episode
from rayfs.distributed.activations import activation_shape, kept_activations, kept_bytes
from rayfs.distributed.pool import PoolSize
from rayfs.distributed.session import Resources
from rayfs.engine.host_memory import memory_limit
from rayfs.engine.progress import duration
from rayfs.engine.repeated_step import EAGER_STEPS
from rayfs.errors import InputError
from rayfs.experiments.episodes.experiment import Experiment
from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.experiments.episodes.preparation import preparation_seconds
from rayfs.experiments.episodes.run import pool_size
from rayfs.methods.definition import MethodSettings
from rayfs.methods.needs import with_base_batch, with_steps
from rayfs.methods.registry import needs_of
from rayfs.workers.episode_worker import EpisodeWorker, WorkerSpec

TIMED_STEPS = 3

MORE = "with more steps"

RAY_BYTES = 2_500_000_000
"""Of a node without its workers: the driver, Ray's processes, what is idle after Ray Data, half a GB of objects."""


@dataclass(frozen=True, kw_only=True)
class RunEstimate:
    """What a run is predicted to take. The machine it was measured on stands for every worker's."""

    n_episodes: int
    size: PoolSize
    episode_s: Mapping[str, float]
    """By method, of one episode on one worker."""
    preparation_s: Mapping[str, float]
    """By step, of what comes before the first episode."""
    bank_bytes: int
    """A node, in files that its workers share: images, features and activations of the base set."""
    worker_bytes: int
    """Of one worker at its peak, without those files."""
    workers_here: int
    """Those of `size` that a machine like this one has places for."""
    limit_bytes: int
    """What processes here may use."""

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        rounds = math.ceil(self.n_episodes / self.size.workers)
        return sum(self.preparation_s.values()) + rounds * sum(self.episode_s.values())

    def memory_note(self) -> str:
        """Return whether workers and files fit a machine like this one, and what to do or expect where they do not."""
        here = f"the {self.limit_bytes / 1e9:.1f} GB of this machine"
        left = self.limit_bytes - RAY_BYTES - self.workers_here * self.worker_bytes
        if left < 0:
            n_fitting = max(0, self.limit_bytes - RAY_BYTES) // self.worker_bytes
            instead = f"--workers {n_fitting}" if n_fitting else "smaller batches (--base-batch, --support-batch)"
            return f"{self.workers_here} workers do not fit {here}: use {instead}"
        if left < self.bank_bytes:
            return (
                f"of {here} {left / 1e9:.1f} GB are left for the base bank: what does not fit is read from the disk "
                "again whenever it is drawn"
            )
        return f"all of it fits {here}"


def describe_estimate(experiment: Experiment, config: EvalConfig, cache_dir: Path) -> str:
    """Return episodes, workers, estimated memory and hours; times a few steps here, so it takes some seconds."""
    plan = estimate_run(experiment, config, cache_dir)
    size, hours = plan.size, plan.seconds / 3600
    episodes_s = plan.seconds - sum(plan.preparation_s.values())
    steps = ", ".join(f"{name} {duration(s)}" for name, s in [*plan.preparation_s.items(), ("episodes", episodes_s)])
    return "\n".join(
        [
            f"plan: {plan.n_episodes} episodes x {len(plan.episode_s)} methods on {size.workers} workers "
            f"({size.cpus_per_worker:g} CPUs, {size.gpus_per_worker:g} GPUs each)",
            *(f"  {name}: {value:.1f} s per episode" for name, value in plan.episode_s.items()),
            f"  memory: base bank {plan.bank_bytes / 1e9:.2f} GB a node, in files that workers share; "
            f"{plan.worker_bytes / 1e9:.1f} GB a worker at its peak",
            f"  {plan.memory_note()}",
            f"  time: {hours:.2f} hours ({steps}), on machines like this one with nothing else to do",
        ]
    )


def estimate_run(experiment: Experiment, config: EvalConfig, cache_dir: Path) -> RunEstimate:
    """Time one episode of each method, with few of its steps, and parts of what has to be made before."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    here = Resources(nodes=((float(cpus), float(torch.cuda.device_count())),))
    asked = config.workers
    fitting = pool_size(here, None, asked.cpus_per_worker, asked.gpus_per_worker)
    size = replace(fitting, workers=asked.n_workers or fitting.workers)  # more may fit the cluster it is planned for
    gpu = size.gpus_per_worker > 0
    places = (
        max(here.gpus, size.workers * size.gpus_per_worker)
        if gpu
        else max(here.cpus, size.workers * size.cpus_per_worker)
    )
    features = n_features(experiment.backbone.load(torch.device("cpu")))
    activations = sum(kept_bytes(experiment.backbone, kept) for kept in kept_activations(experiment.methods))
    episode_s, peak = _measure(experiment, size, features, cache_dir)
    return RunEstimate(
        n_episodes=len(experiment.episodes), size=size, episode_s=episode_s,
        preparation_s=preparation_seconds(experiment, cache_dir, int(places), gpu),
        bank_bytes=experiment.n_base * (experiment.novel.images[0].nbytes + 4 * features + activations),
        worker_bytes=peak, workers_here=min(size.workers, fitting.workers), limit_bytes=memory_limit(),
    )  # fmt: skip


def _measure(experiment: Experiment, size: PoolSize, n_features: int, cache_dir: Path) -> tuple[dict[str, float], int]:
    """Return the seconds of an episode by method, and the peak of a worker's memory in bytes.

    In a process of its own, as workers are. Few steps are done, and scaled up to the configured number.
    """
    methods = dict(experiment.methods)
    left = {}
    for name, settings in experiment.methods.items():
        if steps := needs_of(settings).finetuning:
            first = min(steps.steps, 1 + EAGER_STEPS if steps.replayed else 1)  # with the capture
            more = min(steps.steps, first + TIMED_STEPS)
            left[name] = (steps.steps - first) / max(1, more - first)
            methods[name], methods[f"{name} {MORE}"] = with_steps(settings, first), with_steps(settings, more)
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, get_context("spawn")) as process:
        spec = _stand_in_spec(experiment, methods, size, n_features, cache_dir, Path(folder))
        try:
            seconds, peak = process.submit(measure_worker, spec, experiment.episodes[0]).result()
        except BrokenProcessPool:
            raise InputError(
                "a worker with these settings dies on this machine, most likely for want of memory; use smaller "
                "batches (--base-batch, --support-batch)"
            ) from None
    for name, n_times in left.items():
        seconds[name] += n_times * max(0.0, seconds[f"{name} {MORE}"] - seconds[name])
    return {name: seconds[name] for name in experiment.methods}, peak


def measure_worker(spec: WorkerSpec, episode: Episode) -> tuple[dict[str, float], int]:
    """Return the seconds that `episode` takes each method of a worker, and the peak of this process's memory in bytes.

    Seconds of the second time, as the first pays for imports and warm-up; of processor time where the worker is one
    thread, so that other work on this machine does not count.

    Raises:
        InputError: a method fails.
    """
    worker = EpisodeWorker(spec)
    worker.prepare()
    seconds = {}
    for name in spec.methods:
        for _ in range(2):
            started = time.process_time()
            row = worker.run(episode, [name], 1)[0]
            used_s = time.process_time() - started
        if row.status == "failed":
            raise InputError(f"{name} fails on the first episode: {row.error.strip().splitlines()[-1]}")
        seconds[name] = used_s if spec.n_threads == 1 and not spec.gpu else row.seconds
    return seconds, held_bytes()


def held_bytes(pid: str = "self") -> int:
    """Return the memory that a process holds, without pages of files, which it shares and can lose.

    A worker gives none back (`configure_process`), so that this is its peak. Off Linux: the peak of this process, pages
    of files included.
    """
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        held = {name: int(kib) << 10 for name, kib in re.findall(r"(\w+):\s+(\d+) kB", status.read_text())}
        return held["RssAnon"] + held["RssShmem"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _stand_in_spec(
    experiment: Experiment, methods: dict[str, MethodSettings], size: PoolSize, n_features: int, cache_dir: Path,
    folder: Path,
) -> WorkerSpec:  # fmt: skip
    """Return a worker whose base images are the novel ones and whose features are zero: same shapes, no base bank."""
    features = folder / "features.npy"  # as activations: a file without content takes no room
    np.lib.format.open_memmap(features, mode="w+", dtype=np.float32, shape=(len(experiment.novel), n_features))
    activations = {}
    for kept in kept_activations(methods):
        activations[kept] = str(folder / f"activations_{kept[0]}_{kept[1]}.npy")
        shape = (len(experiment.novel), *activation_shape(experiment.backbone, kept))
        np.lib.format.open_memmap(activations[kept], mode="w+", dtype=np.float16, shape=shape)
    fitting = {
        name: with_base_batch(settings, min(images.per_step, len(experiment.novel)))
        if (images := needs_of(settings).base_images)
        else settings
        for name, settings in methods.items()
    }
    return WorkerSpec(
        cache_dir=str(cache_dir), base_fingerprint=experiment.novel.fingerprint, features_path=str(features),
        activations=activations, novel_fingerprint=experiment.novel.fingerprint, backbone=experiment.backbone,
        augmentation=experiment.benchmark.augmentation, protocol=experiment.protocol, methods=fitting,
        n_threads=int(size.cpus_per_worker), gpus=size.gpus_per_worker,
    )  # fmt: skip
