"""How the engine's speed follows the number of workers, and an episode's cost its shape."""

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from rayfs.datasets.episodes import Protocol, draw_episode
from rayfs.distributed.processes import Process, ask_all, call_elsewhere
from rayfs.engine.stages import STEP_STAGES
from rayfs.methods.definition import MethodSettings
from rayfs.methods.label_halluc import LabelHallucSettings
from rayfs.methods.variants import resolve
from rayfs.performance.bench import Bench, counts
from rayfs.performance.benchmark_workers import Measured, measure_alone
from rayfs.performance.timings import compose, spread, write_rows
from rayfs.reports.text_table import aligned

WAYS, SHOTS, BASE_SHARES = (5, 10, 20), (1, 5, 10), (0.25, 0.5, 1.0)

SWEEP_STEPS = 3
"""That are timed of each setting."""


def measure_scaling(bench: Bench, workers: Sequence[Process]) -> None:
    """Run 1, 2, ... workers at once, in turn in every round; print and write episodes per hour and efficiency."""
    precision = bench.config.precisions[0]
    part, whole = counts(bench, naive=False)
    rates: dict[int, list[float]] = {n: [] for n in range(1, bench.size.workers + 1)}
    for number in range(bench.config.rounds):
        episode = bench.experiment.episodes[number]
        for n in sorted(rates, reverse=bool(number % 2)):
            found = ask_all(workers[:n], "measure", episode, precision)
            seconds = [sum(compose(one.wall_s, part, whole, STEP_STAGES).values()) for one in found]
            rates[n].append(sum(1 / s for s in seconds))
    rows = [["workers", "episodes/h", "efficiency"]]
    for n, rate in rates.items():
        efficiency = [mine / (n * one) for mine, one in zip(rate, rates[1], strict=True)]
        rows.append([str(n), f"{3600 * statistics.median(rate):,.1f}", spread(efficiency)])
    print(f"\nscaling, {precision}: median [least, most] of {bench.config.rounds} rounds\n{aligned(rows)}", flush=True)
    if bench.config.out is not None:
        flat = [
            {"workers": n, "round": r, "episodes_per_s": v} for n, rate in rates.items() for r, v in enumerate(rate)
        ]
        write_rows(bench.config.out / "scaling.parquet", flat)


def measure_sweep(bench: Bench) -> None:
    """Time one worker on other episodes than the configured; print and write what each costs."""
    results = [{"setting": label, **cost} for label, cost in _sweep(bench)]
    rows = [["setting", "s per episode", "fixed s", "ms per step", "steps", "images a step"]]
    for result in results:
        numbers = (result["episode_s"], result["fixed_s"], 1000 * result["step_s"])
        rows.append([result["setting"], *(f"{x:.3g}" for x in numbers), str(result["steps"]), str(result["images"])])
    print(f"\ncost of an episode, one worker, {bench.config.precisions[0]}\n{aligned(rows)}", flush=True)
    if bench.config.out is not None:
        write_rows(bench.config.out / "sweep.parquet", results)


def _sweep(bench: Bench) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield label and cost of each setting, one varied at a time."""
    protocol, name = bench.experiment.protocol, bench.config.data.benchmark
    ways = {f"n_way {n}": replace(protocol, n_way=n) for n in WAYS if n <= len(bench.experiment.novel.class_names)}
    fewest = int(bench.experiment.novel.class_counts().min()) - protocol.n_query
    shots = {f"n_shot {n}": replace(protocol, n_shot=n) for n in SHOTS if n <= fewest}
    for label, varied in {**ways, **shots}.items():
        config: LabelHallucSettings = resolve("label-halluc", name, varied.n_way, varied.n_shot, {})
        yield label, _cost(bench, varied, config)
    for n_steps in (bench.whole.steps // 3, 2 * bench.whole.steps // 3, bench.whole.steps):
        yield f"steps {n_steps}", _cost(bench, protocol, replace(bench.whole, steps=n_steps))
    for share in BASE_SHARES:
        n_base = math.ceil(share * bench.experiment.n_base)
        yield f"base images {n_base:,}", _cost(bench, protocol, bench.whole, share)


def _cost(bench: Bench, protocol: Protocol, config: LabelHallucSettings, base_share: float = 1.0) -> dict[str, Any]:
    """Return the seconds of an episode: fixed, and of each step."""
    config = replace(config, precision=bench.config.precisions[0])
    n_steps = min(SWEEP_STEPS, config.steps)
    methods: dict[str, MethodSettings] = {"one": replace(config, steps=1), "more": replace(config, steps=n_steps)}
    episode = draw_episode(bench.experiment.novel.offsets, bench.spec.novel_fingerprint, protocol, 0)
    spec = replace(bench.spec, protocol=protocol, methods=methods)
    measured: Measured = call_elsewhere(
        measure_alone, spec, base_share, episode, cpus=1, gpus=bench.size.gpus_per_worker
    )
    step_s = sum(measured.wall_s.get(stage, 0.0) for stage in STEP_STAGES) / n_steps
    fixed_s = sum(measured.wall_s.values()) - n_steps * step_s
    return {
        "episode_s": fixed_s + config.steps * step_s, "fixed_s": fixed_s, "step_s": step_s, "steps": config.steps,
        "images": config.base_batch + protocol.n_way * protocol.n_shot * config.step_views,
        "peak_rss_bytes": measured.peak_rss_bytes,
    }  # fmt: skip
