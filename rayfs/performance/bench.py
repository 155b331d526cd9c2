"""What a benchmark measures: an experiment, its recipe and its workers, opened and prepared once."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from rayfs.backbones.checkpoints import save_checkpoint
from rayfs.backbones.packaged import best_packaged
from rayfs.backbones.registry import create_backbone, n_features
from rayfs.datasets.episodes import Protocol
from rayfs.datasets.image_table import load_table
from rayfs.datasets.registry import Benchmark, open_benchmark
from rayfs.distributed.base_bank import ensure_bank
from rayfs.distributed.pool import PoolSize
from rayfs.distributed.session import Resources
from rayfs.engine.bank import save_features
from rayfs.experiments.episodes.experiment import Experiment, prepare_experiment
from rayfs.experiments.episodes.run import pool_size
from rayfs.methods.definition import MethodSettings
from rayfs.methods.label_halluc import LabelHallucSettings
from rayfs.methods.recipe import default_protocol
from rayfs.methods.variants import resolve
from rayfs.performance.benchmark_flags import BenchmarkConfig
from rayfs.performance.reference.flops import step_flops
from rayfs.performance.reference.recipe import EVALUATE_EVERY
from rayfs.performance.timings import Counts
from rayfs.randomness import torch_generator
from rayfs.workers.episode_worker import WorkerSpec

SHARED_GPU = 0.5


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """What is measured, on which machine."""

    config: BenchmarkConfig
    experiment: Experiment
    whole: LabelHallucSettings
    """The released recipe, or what the flags make of it."""
    part: LabelHallucSettings
    """The same with as many steps as a round has."""
    size: PoolSize
    spec: WorkerSpec
    device: torch.device


@dataclass(frozen=True, kw_only=True, eq=False)
class Opened:
    """What is measured, as far as it is known without Ray."""

    experiment: Experiment
    whole: LabelHallucSettings
    is_random: bool
    """There are no trained weights: features of base images are random, too."""


def open_all(config: BenchmarkConfig, cache_dir: Path, folder: Path) -> Opened:
    """Open data and backbone; weights are written to `folder` where there are none."""
    benchmark = open_benchmark(config.data.benchmark, config.data.folder, config.data.image_size)
    defaults = default_protocol(config.data.benchmark)
    n_way, n_shot = config.n_way or defaults["n_way"], config.n_shot or defaults["n_shot"]
    given = {"steps": config.steps} if config.steps else {}
    whole: LabelHallucSettings = resolve("label-halluc", config.data.benchmark, n_way, n_shot, given)
    name, checkpoint = config.backbone.name, config.backbone.checkpoint
    packaged = best_packaged(name, config.data.benchmark, benchmark.channels, benchmark.image_size)
    is_random = checkpoint is None and packaged is None
    experiment = prepare_experiment(
        benchmark=benchmark, protocol=Protocol(n_way=n_way, n_shot=n_shot, n_query=defaults["n_query"], split="test"),
        n_episodes=config.rounds, manifest=None, methods={"label-halluc": whole}, backbone=name,
        checkpoint=random_checkpoint(benchmark, name, folder) if is_random else checkpoint,
        cache_dir=cache_dir,
    )  # fmt: skip
    return Opened(experiment=experiment, whole=whole, is_random=is_random)


def prepare(config: BenchmarkConfig, opened: Opened, resources: Resources, cache_dir: Path, folder: Path) -> Bench:
    """Size the pool, and have the features of the base images, or random ones."""
    experiment, whole = opened.experiment, opened.whole
    part = whole if config.whole else replace(whole, steps=min(config.measured_steps, whole.steps))
    gpu = resources.gpus >= 1
    # A GPU is shared by one worker and the naive recipe, which take turns.
    size = pool_size(resources, 1 if gpu else config.workers, 1, SHARED_GPU if gpu else 0)
    if opened.is_random:
        features, fingerprint = random_features(experiment, cache_dir, folder)
    else:
        bank = ensure_bank(experiment.base, experiment.backbone, cache_dir, resources, gpu)
        features, fingerprint = bank.path, bank.table.fingerprint
    spec = WorkerSpec(
        cache_dir=str(cache_dir), base_fingerprint=fingerprint, features_path=str(features), activations={},
        novel_fingerprint=experiment.novel.fingerprint, backbone=experiment.backbone,
        augmentation=experiment.benchmark.augmentation, protocol=experiment.protocol,
        methods=timed_methods(config, part), n_threads=1, gpus=size.gpus_per_worker,
    )  # fmt: skip
    return Bench(
        config=config, experiment=experiment, whole=whole, part=part, size=size, spec=spec,
        device=torch.device("cuda" if gpu else "cpu"),
    )  # fmt: skip


def timed_methods(config: BenchmarkConfig, part: LabelHallucSettings) -> dict[str, MethodSettings]:
    """Return what workers time and compare in each precision, and what they warm up with."""
    methods: dict[str, MethodSettings] = {
        precision: replace(part, precision=precision, execution=config.execution) for precision in config.precisions
    }
    compared = replace(part, steps=max(1, config.compared_steps))
    methods |= {f"compared {precision}": replace(compared, precision=precision) for precision in config.precisions}
    return methods | {"warm-up": replace(part, steps=1, execution=config.execution)}


def random_features(experiment: Experiment, cache_dir: Path, folder: Path) -> tuple[Path, str]:
    """Write random features of the base images; return their file and the fingerprint of the images."""
    benchmark, path = experiment.benchmark, folder / "features.npy"
    base = load_table(experiment.base, cache_dir, channels=benchmark.channels, image_size=benchmark.image_size)
    depth = n_features(experiment.backbone.load(torch.device("cpu")))
    save_features(path, np.random.Generator(np.random.Philox(0)).normal(size=(len(base), depth)))
    return path, base.fingerprint


def random_checkpoint(benchmark: Benchmark, backbone: str, folder: Path) -> Path:
    """Write initial weights: they take as long as trained ones."""
    module = create_backbone(backbone, benchmark.channels, benchmark.image_size, torch_generator(0, "backbone"))
    path = folder / "random.safetensors"
    save_checkpoint(path, module, {"source": "random"})
    return path


def counts(bench: Bench, naive: bool) -> tuple[Counts, Counts]:
    """Return what a round measures of a side, and what an episode has."""
    n_batches = math.ceil(bench.experiment.n_base / bench.whole.base_batch) if naive else 1
    part, whole = bench.part.steps, bench.whole.steps
    looks = [1 + steps // EVALUATE_EVERY if naive else 1 for steps in (part, whole)]
    measured_batches = n_batches if bench.config.whole else min(n_batches, bench.config.measured_batches)
    return (
        Counts(steps=part, batches=measured_batches, looks=looks[0]),
        Counts(steps=whole, batches=n_batches, looks=looks[1]),
    )


def flops_of(bench: Bench, n_images: int, naive: bool) -> int:
    """Return the operations of a step; the naive one has gradients of a frozen first convolution, too."""
    config = replace(bench.whole, first_conv="trained") if naive else bench.whole
    size = bench.spec.backbone.image_size
    shape = (bench.spec.backbone.channels, size, size)
    return step_flops(bench.spec.backbone.load(torch.device("cpu")), n_images, shape, config)
