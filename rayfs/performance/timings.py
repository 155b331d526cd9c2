"""Timings of a benchmark: measured parts of an episode, the whole episode composed from them, ratios by round."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rayfs.durable_files import written_durably

NAIVE = "naive"
OTHER = "other"
"""What an episode takes outside its stages."""

BUSY_CORES = 0.15
"""Rounds in which other processes used more cores than this are flagged."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How often an episode does what is timed a few times only."""

    steps: int
    batches: int
    """Of base images whose labels the naive recipe computes; 1 for the engine, which does it in one go."""
    looks: int
    """At the queries."""

    def scale(self, whole: "Counts", stage: str, step_stages: Sequence[str]) -> float:
        """Return what seconds of `stage` in a part are multiplied by for the `whole` episode."""
        if stage in step_stages:
            return whole.steps / self.steps
        return {"pseudo-labels": whole.batches / self.batches, "query": whole.looks / self.looks}.get(stage, 1.0)


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One side of one round: seconds of a whole episode, composed where only a part was run."""

    round: int
    side: str
    """naive, or the engine with its precision."""
    workers: int
    """Processes that solved an episode each, at the same time."""
    wall_s: dict[str, float]
    """Of one episode in one process, by stage; the mean over the processes."""
    cpu_s: dict[str, float]
    """Of processors, loaders included."""
    images: int
    """Through the network in all steps of an episode."""
    step_flops: int
    measured: Counts
    whole: Counts
    peak_rss_bytes: int
    """Of the largest process."""
    matmul_flops_per_s: float
    """Of all cores in this round, in the precision of this side."""
    copy_bytes_per_s: float
    foreign_cores: float
    """Used by other processes meanwhile."""

    @property
    def episode_s(self) -> float:
        """Wall seconds of the machine per episode."""
        return sum(self.wall_s.values()) / self.workers

    @property
    def episode_cpu_s(self) -> float:
        """Processor seconds per episode."""
        return sum(self.cpu_s.values())

    def step_s(self, step_stages: Sequence[str]) -> float:
        """Return the wall seconds of the machine per step."""
        return sum(self.wall_s.get(stage, 0.0) for stage in step_stages) / self.whole.steps / self.workers

    def flops_per_s(self, step_stages: Sequence[str]) -> float:
        """Return the dense operations per second while stepping."""
        return self.step_flops / self.step_s(step_stages)


def compose(
    part_s: Mapping[str, float], measured: Counts, whole: Counts, step_stages: Sequence[str]
) -> dict[str, float]:
    """Return the seconds of a whole episode by stage, from those of a part."""
    return {stage: value * measured.scale(whole, stage, step_stages) for stage, value in part_s.items()}


def mean_by_stage(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over processes."""
    return {stage: statistics.fmean(part.get(stage, 0.0) for part in parts) for stage in parts[0]}


def ratios(timings: Sequence[Timing], side: str, value: str = "episode_s", reference: str = NAIVE) -> list[float]:
    """Return how many times as long the reference took as `side`, round by round."""
    of = {(timing.round, timing.side): getattr(timing, value) for timing in timings}
    rounds = sorted({timing.round for timing in timings})
    return [of[r, reference] / of[r, side] for r in rounds if (r, side) in of and (r, reference) in of]


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Return 'median [least, most]'."""
    return f"{statistics.median(values):{form}} [{min(values):{form}}, {max(values):{form}}]"


def timing_row(timing: Timing) -> dict[str, Any]:
    """Return a flat row."""
    row = {key: value for key, value in asdict(timing).items() if key not in ("wall_s", "cpu_s", "measured", "whole")}
    row |= {"episode_s": timing.episode_s, "episode_cpu_s": timing.episode_cpu_s}
    row |= {f"measured_{key}": value for key, value in asdict(timing.measured).items()}
    row |= {f"whole_{key}": value for key, value in asdict(timing.whole).items()}
    for kind in ("wall_s", "cpu_s"):
        row |= {f"{stage.replace('-', '_')}_{kind}": value for stage, value in getattr(timing, kind).items()}
    return row


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows to a Parquet file, whole or not at all; a column that a row lacks is null there."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.Table.from_pylist([{name: row.get(name) for name in columns} for row in rows])
    with written_durably(path) as temporary:
        pq.write_table(table, temporary)
