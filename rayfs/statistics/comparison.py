"""The figures of a comparison of two methods, over all distinct episodes and over disjoint ones; percent and points."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rayfs.errors import InputError
from rayfs.statistics.disjoint import disjoint_episodes
from rayfs.statistics.intervals import (
    Interval,
    PairedDifference,
    UnpairedDifference,
    correlation,
    episodes_needed,
    mean_interval,
    paired_difference,
    unpaired_difference,
)
from rayfs.statistics.pairing import Pairing, Side
from rayfs.statistics.summary import observations


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A against B on one set of episodes that both finished."""

    a: Interval
    """Accuracy of A, in percent."""
    b: Interval
    """Accuracy of B, in percent."""
    difference: PairedDifference
    """A minus B, in percentage points; a win is an episode on which A is better."""
    correlation: float | None
    """Pearson's r between both accuracies; None where it is undefined."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A against B, paired by episode."""

    name: str
    """How tables and figures call it: "lr", or "label-halluc − lr"."""
    pairing: Pairing
    figures: Figures
    """Over all distinct episodes. They are drawn with replacement: they may share images."""
    disjoint: Figures | None
    """Over episodes that share no image (without replacement); None where no row ids are known."""
    without_row_ids: int
    """Episodes whose row ids are not known, which are therefore in no disjoint subset."""
    episodes_for_target: int | None
    """Episodes for an interval of ± the target on the paired difference; None for a single episode."""


@dataclass(frozen=True, kw_only=True)
class UnpairedComparison:
    """A against B on different episodes."""

    name: str
    a: Interval
    """Accuracy of A, in percent."""
    b: Interval
    """Accuracy of B, in percent."""
    difference: UnpairedDifference
    """A minus B, in percentage points."""
    n_common: int
    """Distinct episodes that happen to be in both."""


def compare(name: str, pairing: Pairing, images: Mapping[str, Collection[int]], target_pt: float) -> Comparison:
    """Return the figures of a pairing.

    Arguments:
        images: episode hash -> rows of the image table, for the episodes whose row ids are known.
        target_pt: half-width, in percentage points, that `episodes_for_target` aims at.
    """
    known = [episode for episode in pairing.episodes if episode in images]
    figures = figures_over(pairing.episodes, pairing)
    std = figures.difference.interval.std
    return Comparison(
        name=name,
        pairing=pairing,
        figures=figures,
        disjoint=figures_over(disjoint_episodes(known, images), pairing) if known else None,
        without_row_ids=len(pairing.episodes) - len(known),
        episodes_for_target=None if std is None else episodes_needed(std, target_pt),
    )


def figures_over(episodes: Sequence[str], pairing: Pairing) -> Figures:
    """Return the figures over some `episodes` of a pairing."""
    a, b = ({episode: side[episode] for episode in episodes} for side in (pairing.a, pairing.b))
    return Figures(
        a=mean_interval(a.values()),
        b=mean_interval(b.values()),
        difference=paired_difference(a, b),
        correlation=correlation([(a[episode], b[episode]) for episode in episodes]),
    )


def compare_unpaired(name: str, a: Side, b: Side) -> UnpairedComparison:
    """Return the figures of two sides, each over its own distinct episodes.

    Raises:
        InputError: if a side has no finished episode.
    """
    observed_a, observed_b = observations(a.rows), observations(b.rows)
    for side, observed in ((a, observed_a), (b, observed_b)):
        if not observed:
            raise InputError(f"none of the {len(side.rows)} rows of {side.name} is ok; the rows say why (column error)")
    return UnpairedComparison(
        name=name,
        a=mean_interval(observed_a.values()),
        b=mean_interval(observed_b.values()),
        difference=unpaired_difference(observed_a.values(), observed_b.values()),
        n_common=len(observed_a.keys() & observed_b.keys()),
    )


def plain_comparison(comparison: Comparison | UnpairedComparison) -> dict[str, Any]:
    """Return the figures as valid JSON, unrounded: percent, percentage points, half-widths of 95% intervals."""
    if isinstance(comparison, UnpairedComparison):
        difference = comparison.difference
        return {
            "name": comparison.name,
            "paired": False,
            "a": _plain_interval(comparison.a),
            "b": _plain_interval(comparison.b),
            "difference": difference.mean,
            "difference_ci95": difference.half_width,
            "degrees_of_freedom": difference.degrees_of_freedom,
            "p_welch": difference.p,
            "n_common": comparison.n_common,
        }
    pairing = comparison.pairing
    return {
        "name": comparison.name,
        "paired": True,
        **_plain_figures(comparison.figures),
        "episodes_for_target": comparison.episodes_for_target,
        "disjoint": None if comparison.disjoint is None else _plain_figures(comparison.disjoint),
        "without_row_ids": comparison.without_row_ids,
        "only_a": pairing.only_a,
        "only_b": pairing.only_b,
        "failed_a": pairing.failed_a,
        "failed_b": pairing.failed_b,
    }


def _plain_figures(figures: Figures) -> dict[str, Any]:
    difference = figures.difference
    return {
        "n": difference.interval.n,
        "a": _plain_interval(figures.a),
        "b": _plain_interval(figures.b),
        "difference": difference.interval.mean,
        "difference_ci95": difference.interval.half_width,
        "win": difference.win,
        "tie": difference.tie,
        "loss": difference.loss,
        "p_sign": difference.p_sign,
        "p_wilcoxon": difference.p_wilcoxon,
        "correlation": figures.correlation,
    }


def _plain_interval(interval: Interval) -> dict[str, Any]:
    return {"n": interval.n, "accuracy": interval.mean, "ci95": interval.half_width}
