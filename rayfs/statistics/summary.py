"""From rows to the figures of a run: one dict that is valid JSON."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rayfs.errors import InputError
from rayfs.runs.rows import Row
from rayfs.statistics.intervals import episodes_needed, mean_interval, paired_difference

FOLLOWED = "label-halluc"
"""The method that progress and reports follow where it is run."""

HALF_POINT = 0.5
"""Half-width, in percentage points, that `episodes_for_half_point` aims at."""


def looked_at(methods: Sequence[str], baseline: str | None) -> str | None:
    """Return the method that progress and reports follow; None where there is no method.

    Label Hallucination where it is among them, else the first that is not the baseline, else the baseline.
    """
    others = [method for method in methods if method != baseline]
    return FOLLOWED if FOLLOWED in others else next(iter([*others, *methods]), None)


def summarise(rows: Iterable[Row], baseline: str | None, methods: Sequence[str]) -> dict[str, Any]:
    """Return the figures of every method, accuracies in percent and gains in percentage points, unrounded.

    Means and intervals are over distinct episodes: rows with one episode hash are averaged to one observation first.
    Gains are paired: over the distinct episodes that both the method and the baseline finished (`n_paired`).

    Arguments:
        rows: one for each (episode, method), as `RunDirectory.rows` returns them.
        baseline: the method that gains are against; None for no gains.
        methods: names in the order of the table; rows of other methods are left out.

    Returns:
        {"baseline", "methods": {name: {"n", "n_distinct", "n_failed", "accuracy", "ci95", "gain", "gain_ci95",
        "n_paired", "win", "tie", "loss", "p_sign", "p_wilcoxon", "seconds_per_episode", "mean_loss_base",
        "mean_loss_support", "episodes_for_half_point"}}}, None where a figure is undefined; `ci95` is the half-width.

    Raises:
        InputError: if the baseline is not one of the methods.
    """
    if baseline is not None and baseline not in methods:
        raise InputError(f"baseline {baseline!r} is not one of the methods {', '.join(methods)}; add it or choose one")
    by_method: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_method[row.method].append(row)
    reference = observations(by_method[baseline]) if baseline is not None else {}
    return {
        "baseline": baseline,
        "methods": {
            name: _figures(by_method[name])
            | _gain(observations(by_method[name]), reference if name != baseline else {})
            for name in methods
        },
    }


def observations(rows: Iterable[Row]) -> dict[str, float]:
    """Return episode hash -> accuracy in percent of one method's ok rows, one observation for each distinct episode."""
    accuracies: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.accuracy is not None:
            accuracies[row.episode_hash].append(100 * row.accuracy)
    return {episode: math.fsum(values) / len(values) for episode, values in accuracies.items()}


def _figures(rows: Sequence[Row]) -> dict[str, Any]:
    ok = [row for row in rows if row.status == "ok"]
    distinct = observations(ok)
    interval = mean_interval(distinct.values()) if distinct else None
    std = interval.std if interval else None
    return {
        "n": len(ok),
        "n_distinct": len(distinct),
        "n_failed": len(rows) - len(ok),
        "accuracy": interval.mean if interval else None,
        "ci95": interval.half_width if interval else None,
        "seconds_per_episode": _mean(row.seconds for row in ok),
        "mean_loss_base": _mean(row.loss_base for row in ok),
        "mean_loss_support": _mean(row.loss_support for row in ok),
        "episodes_for_half_point": None if std is None else episodes_needed(std, HALF_POINT),
    }


def _gain(method: Mapping[str, float], reference: Mapping[str, float]) -> dict[str, Any]:
    both = sorted(method.keys() & reference.keys())
    if not both:
        names = ("gain", "gain_ci95", "n_paired", "win", "tie", "loss", "p_sign", "p_wilcoxon")
        return dict.fromkeys(names)
    paired = paired_difference({e: method[e] for e in both}, {e: reference[e] for e in both})
    return {
        "gain": paired.interval.mean,
        "gain_ci95": paired.interval.half_width,
        "n_paired": len(both),
        "win": paired.win,
        "tie": paired.tie,
        "loss": paired.loss,
        "p_sign": paired.p_sign,
        "p_wilcoxon": paired.p_wilcoxon,
    }


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that there are; None if there are none or one is not finite (a diverged loss)."""
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present and all(map(math.isfinite, present)) else None
