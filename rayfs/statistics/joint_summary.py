"""Figures of joint recognition (novel and base classes at once): both accuracies and their harmonic mean."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rayfs.runs.rows import Row
from rayfs.statistics.intervals import mean_interval, paired_difference


@dataclass(frozen=True, kw_only=True)
class JointFigures:
    """The joint figures of one method, in percent over distinct episodes; half-widths of 95% intervals."""

    n: int
    """Distinct episodes."""
    novel: float
    novel_ci95: float | None
    base: float
    base_ci95: float | None
    harmonic: float
    """The harmonic mean is taken in each episode, then averaged."""
    harmonic_ci95: float | None
    gain: float | None
    """Of the harmonic mean over the baseline, paired; None where it is undefined."""
    gain_ci95: float | None


def summarise_joint(rows: Iterable[Row], baseline: str | None, methods: Sequence[str]) -> dict[str, JointFigures]:
    """Return the joint figures of each method that has some."""
    rows = list(rows)
    found = {method: joint_observations(row for row in rows if row.method == method) for method in methods}
    reference = found.get(baseline or "", {})
    return {
        method: _figures(observed, reference if method != baseline else {})
        for method, observed in found.items()
        if observed
    }


def joint_to_json(joint: Mapping[str, JointFigures]) -> dict[str, dict[str, Any]]:
    """Return what `summary.json` holds of joint figures."""
    return {method: asdict(figures) for method, figures in joint.items()}


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
) -> JointFigures:
    novel, base, harmonic = (mean_interval(list(values)) for values in zip(*observed.values(), strict=True))
    both = observed.keys() & reference.keys()
    paired = paired_difference({e: observed[e][2] for e in both}, {e: reference[e][2] for e in both}) if both else None
    return JointFigures(
        n=len(observed), novel=novel.mean, novel_ci95=novel.half_width, base=base.mean, base_ci95=base.half_width,
        harmonic=harmonic.mean, harmonic_ci95=harmonic.half_width,
        gain=paired.interval.mean if paired else None, gain_ci95=paired.interval.half_width if paired else None,
    )  # fmt: skip
