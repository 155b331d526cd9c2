"""What a run would take: measured on this machine for one episode's shapes, then multiplied."""

import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from rayfs.backbones.registry import n_features
from rayfs.distributed.activations import activation_shape, kept_activations, kept_bytes
from rayfs.distributed.eval_config import EvalConfig
from rayfs.distributed.evaluate import pool_size
from rayfs.distributed.experiment import Experiment
from rayfs.distributed.preparation import preparation_seconds
from rayfs.distributed.runner import PoolSize
from rayfs.distributed.runtime import Resources
from rayfs.distributed.worker import EpisodeWorker, WorkerSpec
from rayfs.engine.bank import save_features
from rayfs.errors import InputError
from rayfs.evaluation.progress import duration
from rayfs.methods.configs import AssoAlignConfig, BaseFinetuneConfig, FinetuneConfig, MethodConfig

TIMED_STEPS = 3


@dataclass(frozen=True, kw_only=True)
class Plan:
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

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        rounds = math.ceil(self.n_episodes / self.size.workers)
        return sum(self.preparation_s.values()) + rounds * sum(self.episode_s.values())


def describe_plan(experiment: Experiment, config: EvalConfig, cache_dir: Path) -> str:
    """Return episodes, workers, estimated memory and hours; times a few steps here, so it takes some seconds."""
    plan = make_plan(experiment, config, cache_dir)
    size, hours = plan.size, plan.seconds / 3600
    episodes_s = plan.seconds - sum(plan.preparation_s.values())
    steps = ", ".join(f"{name} {duration(s)}" for name, s in [*plan.preparation_s.items(), ("episodes", episodes_s)])
    return "\n".join(
        [
            f"plan: {plan.n_episodes} episodes x {len(plan.episode_s)} methods on {size.workers} workers "
            f"({size.cpus_per_worker:g} CPUs, {size.gpus_per_worker:g} GPUs each)",
            *(f"  {name}: {value:.1f} s per episode" for name, value in plan.episode_s.items()),
            f"  memory: base bank {plan.bank_bytes / 1e9:.2f} GB a node, shared; {plan.worker_bytes / 1e9:.1f} GB a "
            "worker at its peak",
            f"  time: {hours:.2f} hours ({steps}), on machines like this one with nothing else to do",
        ]
    )


def make_plan(experiment: Experiment, config: EvalConfig, cache_dir: Path) -> Plan:
    """Time one episode of each method, with few of its steps, and parts of what has to be made before."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    here = Resources(nodes=((float(cpus), float(torch.cuda.device_count())),))
    fitting = pool_size(here, None, config.cpus_per_worker, config.gpus_per_worker)
    size = replace(fitting, workers=config.workers or fitting.workers)  # more may fit the cluster it is planned for
    gpu = size.gpus_per_worker > 0
    places = (
        max(here.gpus, size.workers * size.gpus_per_worker)
        if gpu
        else max(here.cpus, size.workers * size.cpus_per_worker)
    )
    features = n_features(experiment.backbone.load(torch.device("cpu")))
    activations = sum(kept_bytes(experiment.backbone, kept) for kept in kept_activations(experiment.methods))
    episode_s = {name: _episode_seconds(experiment, name, size, features, cache_dir) for name in experiment.methods}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Plan(
        n_episodes=len(experiment.episodes), size=size, episode_s=episode_s,
        preparation_s=preparation_seconds(experiment, cache_dir, int(places), gpu),
        bank_bytes=experiment.n_base * (experiment.novel.images[0].nbytes + 4 * features + activations),
        worker_bytes=peak,
    )  # fmt: skip


def _episode_seconds(experiment: Experiment, method: str, size: PoolSize, n_features: int, cache_dir: Path) -> float:
    """Time `method` on the first episode with few steps, and scale its steps up to the configured number."""
    config = experiment.methods[method]
    if not isinstance(config, FinetuneConfig):
        return _timed(experiment, method, config, size, n_features, cache_dir)
    few = min(config.steps, 1 + TIMED_STEPS)
    one, more = (
        _timed(experiment, method, replace(config, steps=steps), size, n_features, cache_dir) for steps in (1, few)
    )
    per_step = max(0.0, more - one) / max(1, few - 1)
    return one + per_step * (config.steps - 1)


def _timed(
    experiment: Experiment, method: str, config: MethodConfig, size: PoolSize, n_features: int, cache_dir: Path
) -> float:
    """Return the seconds of the second of two episodes; the first pays for imports and warm-up.

    Of processor time where a worker is one thread, so that other work on this machine does not count.
    """
    with tempfile.TemporaryDirectory() as folder:
        worker = EpisodeWorker(_stand_in_spec(experiment, method, config, size, n_features, cache_dir, Path(folder)))
        worker.prepare()
        for _ in range(2):
            started = time.process_time()
            row = worker.run(experiment.episodes[0], [method], 1)[0]
            used_s = time.process_time() - started
    if row.status == "failed":
        raise InputError(f"{method} fails on the first episode: {row.error.strip().splitlines()[-1]}")
    return used_s if size.cpus_per_worker == 1 and not size.gpus_per_worker else row.seconds


def _stand_in_spec(
    experiment: Experiment, method: str, config: MethodConfig, size: PoolSize, n_features: int, cache_dir: Path,
    folder: Path,
) -> WorkerSpec:  # fmt: skip
    """Return a worker whose base images are the novel ones and whose features are zero: same shapes, no base bank."""
    features = folder / "features.npy"
    save_features(
        features,
        np.zeros((len(experiment.novel), n_features), dtype=np.float32),
    )
    activations = {}
    for kept in kept_activations({method: config}):
        activations[kept] = str(folder / f"activations_{kept[0]}_{kept[1]}.npy")
        shape = (len(experiment.novel), *activation_shape(experiment.backbone, kept))
        np.lib.format.open_memmap(activations[kept], mode="w+", dtype=np.float16, shape=shape)
    if isinstance(config, BaseFinetuneConfig | AssoAlignConfig):
        config = replace(config, base_batch=min(config.base_batch, len(experiment.novel)))
    return WorkerSpec(
        cache_dir=str(cache_dir), base_fingerprint=experiment.novel.fingerprint, features_path=str(features),
        activations=activations, novel_fingerprint=experiment.novel.fingerprint, backbone=experiment.backbone,
        augmentation=experiment.benchmark.augmentation, protocol=experiment.protocol, methods={method: config},
        n_threads=int(size.cpus_per_worker), gpu=size.gpus_per_worker > 0,
    )  # fmt: skip
