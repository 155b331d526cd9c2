"""Seconds from the command to the first episode, and what an episode that does nothing costs the driver."""

import os
import pickle
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import rayfs
from rayfs.datasets.episodes import Episode
from rayfs.datasets.image_table import cache_folder
from rayfs.distributed.pool import EpisodePool, PoolSize
from rayfs.distributed.session import ray_session
from rayfs.engine.bank import BaseBank
from rayfs.errors import InputError
from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.experiments.episodes.job import build_experiment, open_run
from rayfs.experiments.episodes.run import missing_items, solve_items, worker_spec
from rayfs.hashing import stable_hash
from rayfs.performance.benchmark_flags import BenchmarkConfig
from rayfs.performance.timings import spread, write_rows
from rayfs.reports.text_table import aligned
from rayfs.runs.episode_log import EpisodeLog
from rayfs.runs.rows import Row
from rayfs.runs.run_directory import RunDirectory
from rayfs.workers.episode_worker import EpisodeWorker

JOB = Path(rayfs.__file__).parents[1] / "jobs" / "label_halluc_eval.py"

MARKS = {
    "benchmark and checkpoint read": ": ",
    "Ray and base images ready": " on a private Ray",
    "first episode": "done 1/",
}
"""Moments of the main job's start, and what the line that it prints then contains; None of them in another order."""


def measure_startup(config: BenchmarkConfig) -> None:
    """Launch the main job again and again, with warm caches; print and write when it reached what."""
    if not JOB.exists():
        raise InputError(f"--measure startup needs {JOB}; run it from a checkout")
    launch(config)  # fills the caches
    launches = [launch(config) for _ in range(config.rounds)]
    rows = [["seconds after the command", f"median [least, most] of {config.rounds}"]]
    rows += [[label, spread([one[label] for one in launches], ".1f")] for label in launches[0]]
    print(
        f"start of label_halluc_eval.py, {config.data.benchmark}, {config.backbone.name}\n{aligned(rows)}", flush=True
    )
    if config.out is not None:
        write_rows(config.out / "startup.parquet", [{"round": i, **one} for i, one in enumerate(launches)])


def launch(config: BenchmarkConfig) -> dict[str, float]:
    """Run the main job on one episode a worker and return when it reached each mark, in seconds."""
    data, backbone = config.data, config.backbone
    flags = ["--benchmark", data.benchmark, "--backbone", backbone.name, "--episodes", "2", "--steps", "1"]
    flags += ["--data", data.folder] if data.folder is not None else []
    flags += ["--checkpoint", str(backbone.checkpoint)] if backbone.checkpoint is not None else []
    left, reached, started = dict(MARKS), {}, time.monotonic()
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-u", str(JOB), *flags, "--out", f"{folder}/run"]
        reached["--help"] = seconds_of([*command[:3], "--help"])
        started = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                label, mark = next(iter(left.items()), ("", "\0"))
                if mark in line:
                    reached[label] = time.monotonic() - started
                    left.pop(label)
        if process.returncode != 0 or left:
            raise InputError(f"the job ended with {process.returncode} before '{next(iter(left), 'its end')}'")
        seconds = [row.seconds for row in RunDirectory(f"{folder}/run").rows()]
    reached["... of which in the episode itself"] = sum(seconds) / 2
    reached["end"] = time.monotonic() - started
    return reached


def seconds_of(command: list[str]) -> float:
    """Return the wall seconds of a command."""
    started = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - started


class TrivialWorker(EpisodeWorker):
    """Loads nothing and answers at once, with rows like those of a run."""

    def prepare(self) -> str:
        """Return where the worker runs."""
        return str(os.getpid())

    def run(self, episode: Episode, methods: list[str], attempt: int) -> list[Row]:
        """Return a row for each method, all queries right."""
        protocol = self._spec.protocol
        labels = [c for c in range(protocol.n_way) for _ in range(protocol.n_query)]
        return [
            Row(
                episode=episode.index, method=method, status="ok", accuracy=1.0, predictions=labels, labels=labels,
                attempt=attempt, episode_hash=episode.hash, config_hash=stable_hash(self._spec.methods[method]),
                seconds=1e-6,
            )
            for method in methods
        ]  # fmt: skip


def measure_driver(config: BenchmarkConfig) -> None:
    """Run episodes that do nothing through pool, row files, log, metrics and progress; print the cost of each."""
    with ray_session() as session, TemporaryDirectory() as folder:
        cost = driver_cost(config, f"{folder}/run", cache_folder(), int(session.resources.cpus))
    rows = [["an episode that does nothing", ""], *([label, f"{value:,.3g}"] for label, value in cost.items())]
    print(f"driver, {config.episodes:,} episodes\n{aligned(rows)}", flush=True)
    if config.out is not None:
        write_rows(config.out / "driver.parquet", [cost])


def driver_cost(config: BenchmarkConfig, out: str, cache_dir: Path, n_cpus: int) -> Mapping[str, float]:
    """Return milliseconds and bytes of an episode on a cluster of `n_cpus`."""
    drawing = time.process_time()
    experiment = build_experiment(EvalConfig(episodes=config.episodes, out=out), cache_dir)
    drawing = time.process_time() - drawing
    n_cpus = max(1, n_cpus)
    workers = config.workers or n_cpus
    size = PoolSize(workers=workers, cpus_per_worker=min(1, n_cpus / workers), gpus_per_worker=0)
    bank = BaseBank(table=experiment.novel, features=experiment.novel.images, path=Path("none"))
    pool = EpisodePool(worker_spec(experiment, bank, {}, size, cache_dir), size, worker=TrivialWorker)
    with open_run(experiment, out, ["benchmark"]) as run, EpisodeLog(None) as log:
        items = missing_items(experiment, run.completed())
        while pool.n_ready < workers:
            pool.run(items[:1], lambda rows, done: None, lambda: None)
        wall_s, cpu_s = time.monotonic(), _driver_cpu_s()
        solve_items(experiment, run, items, pool, log)
        wall_s, cpu_s = time.monotonic() - wall_s, _driver_cpu_s() - cpu_s
        rows = run.rows()
    n = len(experiment.episodes)
    return {
        "driver, processor ms": 1000 * cpu_s / n, "in all, wall ms": 1000 * wall_s / n,
        "drawing it, processor ms": 1000 * drawing / n, "workers": workers,
        "bytes to a worker": len(pickle.dumps(items[0].episode)),
        "bytes back": len(pickle.dumps([row for row in rows if row.episode == 0])),
        "driver's peak memory, MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def _driver_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
