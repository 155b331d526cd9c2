"""Counters that Ray exports to Prometheus: every node serves them at its metrics port, under `ray_` and these names."""

from collections.abc import Iterable

import torch

from rayfs.runs.rows import Row

SECONDS = [0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000]
"""Borders of the histogram of seconds."""


class EpisodeMetrics:
    """The driver's: rows by method and outcome, attempts after the first, seconds of what succeeded."""

    def __init__(self) -> None:
        from ray.util.metrics import Counter, Histogram

        tags = ("method", "outcome")
        self._rows = Counter("rayfs_episodes_total", "Episodes solved, one for each method.", tag_keys=tags)
        self._retries = Counter("rayfs_episode_retries_total", "Attempts after the first.", tag_keys=("method",))
        self._seconds = Histogram(
            "rayfs_episode_seconds", "Seconds an episode and method.", boundaries=SECONDS, tag_keys=("method",)
        )

    def add(self, rows: Iterable[Row]) -> None:
        """Count final rows."""
        for row in rows:
            method = {"method": row.method}
            self._rows.inc(1, {**method, "outcome": row.status})
            if row.attempt > 1:
                self._retries.inc(row.attempt - 1, method)
            if row.status == "ok":
                self._seconds.observe(row.seconds, method)


class GpuMemory:
    """A worker's: the most GPU memory that its tensors took, in bytes. Made in its process, inside Ray."""

    def __init__(self, gpu: bool) -> None:
        self._peak = None
        if gpu:
            from ray.util.metrics import Gauge

            self._peak = Gauge("rayfs_gpu_memory_bytes", "Most GPU memory that a worker's tensors took.")

    def report(self) -> None:
        """Set the gauge to the peak so far; does nothing without a GPU."""
        if self._peak is not None:
            self._peak.set(torch.cuda.max_memory_allocated())
