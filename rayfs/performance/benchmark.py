"""Measure the engine: rounds of the naive recipe and of production workers in turn, on the same episodes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from rayfs.backbones.checkpoints import save_checkpoint
from rayfs.backbones.packaged import best_packaged
from rayfs.backbones.registry import create_backbone, n_features
from rayfs.datasets.episodes import Protocol
from rayfs.datasets.image_table import cache_folder, load_table
from rayfs.datasets.registry import Benchmark, open_benchmark
from rayfs.distributed.base_bank import ensure_bank
from rayfs.distributed.pool import PoolSize
from rayfs.distributed.processes import Process, ask_all, call_elsewhere, processes_of
from rayfs.distributed.session import Resources, ray_session
from rayfs.durable_files import write_durably
from rayfs.engine.bank import save_features
from rayfs.engine.machine import ForeignLoad, Speeds, measure_speeds, n_cores, processor_name
from rayfs.engine.stages import STAGES, STEP_STAGES
from rayfs.experiments.episodes.experiment import Experiment, prepare_experiment
from rayfs.experiments.episodes.run import pool_size
from rayfs.methods.definition import MethodSettings
from rayfs.methods.label_halluc import LabelHallucSettings
from rayfs.methods.recipe import default_protocol
from rayfs.methods.variants import resolve
from rayfs.performance.benchmark_flags import BenchmarkConfig
from rayfs.performance.benchmark_workers import Measured, ReferenceWorker, TimedEpisodeWorker
from rayfs.performance.reference.flops import step_flops
from rayfs.performance.reference.recipe import EVALUATE_EVERY
from rayfs.performance.timing_report import busy_note, draw_stages, speed_table, stage_table
from rayfs.performance.timings import NAIVE, Counts, Timing, compose, mean_by_stage, timing_row, write_rows
from rayfs.randomness import torch_generator
from rayfs.workers.episode_worker import WorkerSpec, device_name

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


def run_benchmark(config: BenchmarkConfig) -> int:
    """Measure what `config` asks for, print it, and write it where a folder is given."""
    from rayfs.performance import memory as benchmark_memory
    from rayfs.performance import profile as benchmark_profile
    from rayfs.performance import scaling as benchmark_scaling
    from rayfs.performance import startup as benchmark_startup

    if "startup" in config.measure:
        benchmark_startup.measure_startup(config)
    if "driver" in config.measure:
        benchmark_startup.measure_driver(config)
    if "memory" in config.measure:
        benchmark_memory.measure_memory(config)
    if not {"ratio", "scaling", "profile", "sweep"} & set(config.measure):
        return 0
    with TemporaryDirectory() as folder:
        opened = open_all(config, cache_folder(), Path(folder))
        with ray_session() as session:
            bench = prepare(config, opened, session.resources, cache_folder(), Path(folder))
            print(describe(bench), flush=True)
            if {"ratio", "scaling", "profile"} & set(config.measure):
                with engine_workers(bench) as workers:
                    if "ratio" in config.measure:
                        measure_ratio(bench, workers)
                    if "scaling" in config.measure:
                        benchmark_scaling.measure_scaling(bench, workers)
                    if "profile" in config.measure:
                        benchmark_profile.measure_profile(bench, workers)
            if "sweep" in config.measure:
                benchmark_scaling.measure_sweep(bench)
    return 0


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


def describe(bench: Bench) -> str:
    """Return what is about to be measured."""
    experiment, config, whole = bench.experiment, bench.config, bench.whole
    gpu = "no GPU"
    if bench.device.type == "cuda":  # that of a worker: the driver's machine may have none
        gpu = call_elsewhere(device_name, bench.device, cpus=1, gpus=bench.size.gpus_per_worker)
    protocol = experiment.protocol
    weights = experiment.checkpoint_report
    if weights.endswith("random.safetensors"):
        weights = "random weights, random features of base images (they take as long as trained ones)"
    return (
        f"{n_cores()} cores of {processor_name()}, {gpu}, torch {torch.__version__}\n"
        f"{experiment.benchmark.name}, {experiment.backbone.name}, {protocol.n_way}-way {protocol.n_shot}-shot, "
        f"{experiment.n_base:,} base images; {weights}\n"
        f"an episode: {whole.steps} steps of {whole.base_batch} base and "
        f"{protocol.n_way * protocol.n_shot * whole.step_views} support views; naive: float32, "
        f"{config.naive_threads or n_cores()} threads, {config.naive_loaders} loader processes"
        f"{', allocator as the engine' if config.naive_allocator else ''}"
    )


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


def measure_ratio(bench: Bench, workers: Sequence[Process]) -> None:
    """Run the rounds, compare the losses, print and write the timings."""
    with naive_worker(bench) as naive:
        timings: list[Timing] = []
        for number in range(bench.config.rounds):
            timings += run_round(bench, number, workers, naive)
            done = [f"{t.side} {t.episode_s:.3g} s" for t in timings if t.round == number]
            print(f"round {number + 1}/{bench.config.rounds}: {', '.join(done)}", flush=True)
        print(f"\n{stage_table(timings, STAGES)}\n\n{speed_table(timings, STEP_STAGES)}")
        print(how_composed(bench) + busy_note(timings), flush=True)
        for precision in bench.config.precisions if bench.config.compared_steps else ():
            result = workers[0].ask("compare", bench.experiment.episodes[0], f"compared {precision}")
            print(
                f"same batches, {len(result.naive_losses)} steps: the losses of engine {precision} and naive recipe "
                f"differ by at most {result.largest_difference:.2g} (first {sum(result.naive_losses[0]):.3f}, last "
                f"{sum(result.naive_losses[-1]):.3f}); same prediction for {result.n_same} of {result.n_queries} "
                "queries",
                flush=True,
            )
    if bench.config.out is not None:
        write_rows(bench.config.out / "timings.parquet", [row_of(bench, timing) for timing in timings])
        title = f"{bench.experiment.backbone.name}, {bench.experiment.benchmark.name}: one episode"
        write_durably(bench.config.out / "timings.svg", draw_stages(timings, STAGES, title))
        print(f"timings.parquet, timings.svg: {bench.config.out}")


def how_composed(bench: Bench) -> str:
    """Say how the seconds of an episode came about."""
    if bench.config.whole:
        return "Whole episodes were run.\n"
    measured, whole = counts(bench, naive=True)
    return (
        f"Composed: {measured.steps} steps were run a round, and {measured.batches} batches of base images labelled "
        f"naively; an episode has {whole.steps} and {whole.batches}. --whole runs it all.\n"
    )


def run_round(bench: Bench, number: int, workers: Sequence[Process], naive: Process) -> list[Timing]:
    """Return the timings of each side; odd rounds begin with the engine."""
    speeds = workers[0].ask("speeds") if bench.device.type == "cuda" else speeds_of_all_cores()
    sides = [NAIVE, *bench.config.precisions]
    return [run_side(bench, number, side, workers, naive, speeds) for side in (sides[::-1] if number % 2 else sides)]


def speeds_of_all_cores() -> Speeds:
    """Return the speeds of this process on all its cores."""
    former = torch.get_num_threads()
    torch.set_num_threads(n_cores())
    speeds = measure_speeds(torch.device("cpu"))
    torch.set_num_threads(former)
    return speeds


def run_side(
    bench: Bench, number: int, side: str, workers: Sequence[Process], naive: Process, speeds: Speeds
) -> Timing:
    """Time one side on the episode of this round."""
    episode, is_naive = bench.experiment.episodes[number], side == NAIVE
    part, whole = counts(bench, is_naive)
    load = ForeignLoad()
    if is_naive:
        n_batches = None if bench.config.whole else part.batches
        found: list[Measured] = [naive.ask("measure", episode, bench.part, n_batches)]
    else:
        found = ask_all(workers, "measure", episode, side)
    protocol, config = bench.experiment.protocol, bench.whole
    n_images = config.base_batch + protocol.n_way * protocol.n_shot * config.step_views
    return Timing(
        round=number, side=side if is_naive else f"engine {side}", workers=len(found),
        wall_s=compose(mean_by_stage([one.wall_s for one in found]), part, whole, STEP_STAGES),
        cpu_s=compose(mean_by_stage([one.cpu_s for one in found]), part, whole, STEP_STAGES),
        images=n_images * config.steps, step_flops=flops_of(bench, n_images, is_naive), measured=part, whole=whole,
        peak_rss_bytes=max(one.peak_rss_bytes for one in found),
        matmul_flops_per_s=speeds.matmul_flops_per_s["float32" if is_naive else side],
        copy_bytes_per_s=speeds.copy_bytes_per_s, foreign_cores=load.cores(),
    )  # fmt: skip


def flops_of(bench: Bench, n_images: int, naive: bool) -> int:
    """Return the operations of a step; the naive one has gradients of a frozen first convolution, too."""
    config = replace(bench.whole, first_conv="trained") if naive else bench.whole
    size = bench.spec.backbone.image_size
    shape = (bench.spec.backbone.channels, size, size)
    return step_flops(bench.spec.backbone.load(torch.device("cpu")), n_images, shape, config)


def row_of(bench: Bench, timing: Timing) -> Mapping[str, Any]:
    """Return a flat row with what was measured where."""
    protocol = bench.experiment.protocol
    return {
        "benchmark": bench.experiment.benchmark.name, "backbone": bench.experiment.backbone.name,
        "n_way": protocol.n_way, "n_shot": protocol.n_shot, "processor": processor_name(), "cores": n_cores(),
        "device": bench.device.type, "torch": torch.__version__, **timing_row(timing),
        "gflops_per_s": timing.flops_per_s(STEP_STAGES) / 1e9,
    }  # fmt: skip


@contextmanager
def engine_workers(bench: Bench) -> Iterator[list[Process]]:
    """Yield prepared and warmed-up workers, as a run has them."""
    size = bench.size
    with processes_of(
        TimedEpisodeWorker, [bench.spec], n=size.workers, cpus=size.cpus_per_worker, gpus=size.gpus_per_worker
    ) as workers:
        ask_all(workers, "prepare")
        ask_all(workers, "measure", bench.experiment.episodes[0], "warm-up")
        yield workers


@contextmanager
def naive_worker(bench: Bench) -> Iterator[Process]:
    """Yield the prepared and warmed-up naive recipe, in a process with PyTorch's own settings."""
    config = bench.config
    arguments = bench.spec, config.naive_threads or n_cores(), config.naive_loaders, config.naive_allocator
    environment = {} if config.naive_allocator else {"THP_MEM_ALLOC_ENABLE": "0"}
    with processes_of(
        ReferenceWorker, arguments, n=1, cpus=0, gpus=bench.size.gpus_per_worker, environment=environment
    ) as (worker,):
        worker.ask("prepare")
        worker.ask("measure", bench.experiment.episodes[0], replace(bench.part, steps=1), 1)
        yield worker
