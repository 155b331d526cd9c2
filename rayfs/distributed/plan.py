"""What a run would take: measured on this machine for one episode's shapes, then multiplied."""

import os
import resource
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from rayfs.backbones.registry import n_features
from rayfs.distributed.activations import activation_shape, kept_activations, kept_bytes
from rayfs.distributed.eval_config import EvalConfig
from rayfs.distributed.evaluate import pool_size
from rayfs.distributed.experiment import Experiment
from rayfs.distributed.runner import PoolSize
from rayfs.distributed.runtime import Resources
from rayfs.distributed.worker import EpisodeWorker, WorkerSpec
from rayfs.engine.bank import save_features
from rayfs.errors import InputError
from rayfs.evaluation.progress import duration
from rayfs.methods.configs import AssoAlignConfig, BaseFinetuneConfig, FinetuneConfig, MethodConfig

TIMED_STEPS = 3


def describe_plan(experiment: Experiment, config: EvalConfig, cache_dir: Path) -> str:
    """Return episodes, workers, estimated memory and hours; times a few steps here, so it takes some seconds.

    The machine this runs on stands for every worker's: on a cluster of others the hours scale with their speed.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    here = Resources(nodes=((float(cpus), float(torch.cuda.device_count())),))
    fitting = pool_size(here, None, config.cpus_per_worker, config.gpus_per_worker)
    size = replace(fitting, workers=config.workers or fitting.workers)  # more may fit the cluster it is planned for
    features = n_features(experiment.backbone.load(torch.device("cpu")))
    activations = sum(kept_bytes(experiment.backbone, kept) for kept in kept_activations(experiment.methods))
    seconds = {name: _episode_seconds(experiment, name, size, features, cache_dir) for name in experiment.methods}
    bank_bytes = experiment.n_base * (experiment.novel.images[0].nbytes + 4 * features + activations)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    hours = sum(seconds.values()) * len(experiment.episodes) / size.workers / 3600
    return "\n".join(
        [
            f"plan: {len(experiment.episodes)} episodes x {len(experiment.methods)} methods on {size.workers} workers "
            f"({size.cpus_per_worker:g} CPUs, {size.gpus_per_worker:g} GPUs each)",
            *(f"  {name}: {value:.1f} s per episode" for name, value in seconds.items()),
            f"  memory: base bank {bank_bytes / 1e9:.2f} GB a node, shared; {peak / 1e9:.1f} GB a worker at its peak",
            f"  time: {hours:.2f} hours ({duration(hours * 3600)}) of episodes, on machines like this one",
        ]
    )


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
    """Return the seconds of the second of two episodes; the first pays for imports and warm-up."""
    with tempfile.TemporaryDirectory() as folder:
        worker = EpisodeWorker(_stand_in_spec(experiment, method, config, size, n_features, cache_dir, Path(folder)))
        worker.prepare()
        rows = [worker.run(experiment.episodes[0], [method], 1)[0] for _ in range(2)]
    if rows[1].status == "failed":
        raise InputError(f"{method} fails on the first episode: {rows[1].error.strip().splitlines()[-1]}")
    return rows[1].seconds


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
