"""A plan against what a real worker takes: memory and hours within a factor of two."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from rayfs.distributed.base_bank import ensure_bank
from rayfs.distributed.pool import EpisodePool, PoolSize
from rayfs.distributed.session import Resources
from rayfs.experiments.episodes.estimate import RAY_BYTES, RunEstimate, estimate_run, held_bytes
from rayfs.experiments.episodes.experiment import Experiment
from rayfs.experiments.episodes.flags import EvalConfig
from rayfs.experiments.episodes.preparation import preparation_seconds
from rayfs.experiments.episodes.run import missing_items, worker_spec
from rayfs.flags.parsing import configured
from rayfs.methods.variants import method_settings
from rayfs.runs.rows import Row

ONE = PoolSize(workers=1, cpus_per_worker=1, gpus_per_worker=0)


def processor_seconds(pid: str) -> float:
    """Return what a process has used so far, whatever else the machine does meanwhile."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.ray
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_worker_takes_what_was_planned_within_a_factor_of_two(
    experiment: Experiment, cache_dir: Path, resources: Resources
) -> None:
    methods = method_settings(("lr", "label-halluc"), "omniglot", 5, 1, {"steps": 40, "support_views": 2})
    longer = replace(experiment, methods=methods)
    bank = ensure_bank(longer.base, longer.backbone, cache_dir, resources, gpu=False)
    used: list[float] = []
    peaks: list[int] = []

    def on_rows(rows: list[Row], episode_done: bool) -> None:  # the worker waits meanwhile
        used.append(processor_seconds(rows[0].worker))
        peaks.append(held_bytes(rows[0].worker))

    pool = EpisodePool(worker_spec(longer, bank, {}, ONE, cache_dir), ONE)
    try:
        pool.run(missing_items(longer, set()), on_rows, lambda: None)
    finally:
        pool.close()
    plan = estimate_run(longer, configured(EvalConfig, workers=1, plan=True), cache_dir)
    assert len(used) == plan.n_episodes == 6
    measured_s = (used[-1] - used[0]) / 5
    assert measured_s / 2 < sum(plan.episode_s.values()) < 2 * measured_s
    assert peaks[-1] / 2 < plan.worker_bytes < 2 * peaks[-1]
    assert plan.bank_bytes == bank.table.images.nbytes + bank.features.nbytes
    assert list(plan.preparation_s) == ["Ray's start"], "the cache has the bank"


def test_what_the_cache_lacks_is_counted(experiment: Experiment, tmp_path: Path) -> None:
    kept = ("logistic-regression", "label-halluc:frozen-blocks=2,frozen-views=3")
    empty = replace(experiment, methods=method_settings(kept, "omniglot", 5, 1, {}))
    one, ten = (preparation_seconds(empty, tmp_path, places, gpu=False) for places in (1, 10))
    assert list(one) == ["Ray's start", "base bank", "3 views behind 2 blocks"]
    assert one["base bank"] > ten["base bank"] and one["3 views behind 2 blocks"] > ten["3 views behind 2 blocks"]


def test_hours_are_of_whole_rounds_and_of_what_comes_before() -> None:
    plan = RunEstimate(
        n_episodes=7, size=replace(ONE, workers=3), episode_s={"lr": 1.0, "label-halluc": 9.0},
        preparation_s={"Ray's start": 15.0, "base bank": 5.0}, bank_bytes=0, worker_bytes=0, workers_here=3,
        limit_bytes=0,
    )  # fmt: skip
    assert plan.seconds == 15 + 5 + 3 * (1 + 9)


def test_a_plan_tells_what_fits_the_memory() -> None:
    plan = RunEstimate(
        n_episodes=7, size=replace(ONE, workers=9), episode_s={}, preparation_s={}, bank_bytes=9_600_000_000,
        worker_bytes=2_000_000_000, workers_here=3, limit_bytes=RAY_BYTES + 15_600_000_000,
    )  # fmt: skip
    assert plan.memory_note() == "all of it fits the 18.1 GB of this machine"
    less = replace(plan, limit_bytes=plan.limit_bytes - 1)
    assert less.memory_note().startswith(
        "of the 18.1 GB of this machine 9.6 GB are left for the base bank: what does not"
    )
    short = replace(plan, limit_bytes=RAY_BYTES + 5_999_999_999)
    assert short.memory_note() == "3 workers do not fit the 8.5 GB of this machine: use --workers 2"
    shorter = replace(plan, limit_bytes=RAY_BYTES - 1)
    assert shorter.memory_note().endswith("use smaller batches (--base-batch, --support-batch)")
