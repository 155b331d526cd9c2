"""Figures of joint recognition (novel and base classes at once): both accuracies and their harmonic mean."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rayfs.runs.rows import Row
from rayfs.statistics.intervals import mean_interval, paired_difference


def summarise_joint(rows: Iterable[Row], baseline: str | None, methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the joint figures of each method that has some, in percent, over distinct episodes.

    The harmonic mean is taken in each episode, then averaged.

    Returns:
        {method: {"n", "novel", "novel_ci95", "base", "base_ci95", "harmonic", "harmonic_ci95", "gain", "gain_ci95"}},
        the gain being the paired one of the harmonic mean over the baseline, None where it is undefined.
    """
    found = {method: joint_observations(row for row in rows if row.method == method) for method in methods}
    reference = found.get(baseline or "", {})
    return {
        method: _figures(observed, reference if method != baseline else {})
        for method, observed in found.items()
        if observed
    }


def joint_observations(rows: Iterable[Row]) -> dict[str, tuple[float, float, float]]:
    """Return episode hash -> (novel, base, harmonic mean) in percent, one observation for each distinct episode."""
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        if row.joint_novel_accuracy is not None and row.joint_base_accuracy is not None:
            pairs[row.episode_hash].append((100 * row.joint_novel_accuracy, 100 * row.joint_base_accuracy))
    return {episode: _mean_of(values) for episode, values in pairs.items()}


def harmonic_mean(novel: float, base: float) -> float:
    """Return `2 n b / (n + b)`; 0 where both are 0."""
    return 2 * novel * base / (novel + base) if novel + base else 0.0


def _mean_of(values: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    novel, base = (math.fsum(part) / len(values) for part in zip(*values, strict=True))
    return novel, base, harmonic_mean(novel, base)


def _figures(
    observed: Mapping[str, tuple[float, float, float]], reference: Mapping[str, tuple[float, float, float]]
) -> dict[str, Any]:
    figures: dict[str, Any] = {"n": len(observed)}
    for i, name in enumerate(("novel", "base", "harmonic")):
        interval = mean_interval([values[i] for values in observed.values()])
        figures |= {name: interval.mean, f"{name}_ci95": interval.half_width}
    both = sorted(observed.keys() & reference.keys())
    paired = paired_difference({e: observed[e][2] for e in both}, {e: reference[e][2] for e in both}) if both else None
    figures["gain"] = paired.interval.mean if paired else None
    figures["gain_ci95"] = paired.interval.half_width if paired else None
    return figures
