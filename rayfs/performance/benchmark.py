"""Measure the engine: rounds of the naive recipe and of production workers in turn, on the same episodes."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from rayfs.datasets.image_table import cache_folder
from rayfs.distributed.processes import Process, ask_all, call_elsewhere, processes_of
from rayfs.distributed.session import ray_session
from rayfs.durable_files import write_durably
from rayfs.engine.machine import ForeignLoad, Speeds, measure_speeds, n_cores, processor_name
from rayfs.engine.stages import STAGES, STEP_STAGES
from rayfs.performance.bench import Bench, counts, flops_of, open_all, prepare
from rayfs.performance.benchmark_flags import BenchmarkConfig
from rayfs.performance.benchmark_workers import Measured, ReferenceWorker, TimedEpisodeWorker
from rayfs.performance.memory import measure_memory
from rayfs.performance.profile import measure_profile
from rayfs.performance.scaling import measure_scaling, measure_sweep
from rayfs.performance.startup import measure_driver, measure_startup
from rayfs.performance.timing_report import busy_note, draw_stages, speed_table, stage_table
from rayfs.performance.timings import NAIVE, Timing, compose, mean_by_stage, timing_row, write_rows
from rayfs.workers.episode_worker import device_name


def run_benchmark(config: BenchmarkConfig) -> int:
    """Measure what `config` asks for, print it, and write it where a folder is given."""
    if "startup" in config.measure:
        measure_startup(config)
    if "driver" in config.measure:
        measure_driver(config)
    if "memory" in config.measure:
        measure_memory(config)
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
                        measure_scaling(bench, workers)
                    if "profile" in config.measure:
                        measure_profile(bench, workers)
            if "sweep" in config.measure:
                measure_sweep(bench)
    return 0


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
