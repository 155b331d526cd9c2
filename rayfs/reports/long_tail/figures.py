"""Figures of the page of an evaluation of long-tailed recognition. C classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from rayfs.long_tail.accuracy import class_scores
from rayfs.long_tail.settings import COSINE
from rayfs.reports.figure_style import BASELINE, GRID, INK, MUTED, SERIES, draw_svg, logarithmic_x
from rayfs.reports.printable import short
from rayfs.runs.long_tail_results import CheckpointResult, LongTailResults, TunedEnsemble

GROUP_COLOURS = {"many": SERIES[0], "medium": SERIES[2], "few": SERIES[1]}
SMOOTHED = 0.12
"""Share of the classes that a running mean is over."""


def class_accuracy(results: LongTailResults, checkpoint: CheckpointResult, name: str) -> np.ndarray:
    """Return the accuracy of a classifier on each class in percent, (C,).

    NaN where a class has no test images, or where the classifier cannot give it.
    """
    scores = class_scores(checkpoint.answers[name], results.labels_N, len(results.class_names))
    with np.errstate(invalid="ignore"):
        return np.where(
            (scores.n_C > 0) & results.answered(name), 100 * scores.correct_C / np.maximum(scores.n_C, 1), np.nan
        )


def draw_accuracy_by_count(results: LongTailResults, checkpoint: CheckpointResult, shown: Sequence[str]) -> Markup:
    """Draw each class's accuracy against its training images, and a running mean over the classes by that number."""
    counts = results.counts_C
    order = np.argsort(counts, kind="stable")
    width = max(1, round(SMOOTHED * len(order)))
    colours = {name: BASELINE if name == COSINE else SERIES[i % len(SERIES)] for i, name in enumerate(shown)}

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name in shown:
            accuracy = class_accuracy(results, checkpoint, name)[order]
            axes.plot(counts[order], accuracy, "o", color=colours[name], markersize=2.6, alpha=0.35, markeredgewidth=0)
            kept = np.isfinite(accuracy)
            if kept.sum() >= width:
                mean = _running_mean(accuracy[kept], width)
                at = np.exp(_running_mean(np.log(np.maximum(counts[order][kept], 1)), width))
                axes.plot(at, mean, color=colours[name], label=short(name))
        for border in _borders(results):
            axes.axvline(border, color=GRID, linewidth=0.8, zorder=0)
        logarithmic_x(axes, counts.max() / max(1, counts.min()))
        axes.set(xlabel="training images of the class", ylabel="accuracy of the class, %", ylim=(-2, 102))
        figure.legend(loc="outside upper left", ncols=2, handlelength=1.4)

    return draw_svg(draw, "Accuracy of each class against its training images", height_in=3.3)


def _borders(results: LongTailResults) -> list[float]:
    """Return where the groups meet on the axis of training images."""
    borders = []
    for lower, upper in (("few", "medium"), ("medium", "many")):
        below, above = (results.counts_C[results.groups[group]] for group in (lower, upper))
        if len(below) and len(above):
            borders.append(float(np.sqrt(max(1, below.max()) * above.min())))
    return borders


def _running_mean(values: np.ndarray, width: int) -> np.ndarray:
    return np.convolve(values, np.full(width, 1 / width), mode="valid")


def draw_plane(
    plane: np.ndarray, kinds: Sequence[str], groups: Mapping[str, np.ndarray], highlighted: Mapping[int, str]
) -> Markup:
    """Draw the projections of the centres of every class.

    Arguments:
        plane: (kinds, C, 2): weights, prototypes and composed classifiers, in the order of `kinds`; NaN where a class
            has none.
        highlighted: class id -> its name, written beside its joined points.
    """
    markers = ("s", "o", "*")

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for kind, points, marker in zip(kinds, plane, markers, strict=False):
            for group, colour in GROUP_COLOURS.items():
                of_group = points[groups[group]]
                axes.plot(of_group[:, 0], of_group[:, 1], marker, color=colour, markersize=3.4 if marker != "*" else 5,
                          alpha=0.3, markeredgewidth=0)  # fmt: skip
            axes.plot([], [], marker, color=MUTED, label=kind, markersize=4.4)
        for group, colour in GROUP_COLOURS.items():
            axes.plot([], [], "-", color=colour, label=f"{group}-shot", linewidth=3)
        for class_id, name in highlighted.items():
            joined = plane[:, class_id]
            axes.plot(joined[:, 0], joined[:, 1], color=GROUP_COLOURS["few"], linewidth=0.9)
            for points, marker in zip(joined, markers, strict=False):
                axes.plot(points[0], points[1], marker, color=GROUP_COLOURS["few"], markersize=5, markeredgewidth=0)
            axes.annotate(short(name, 18), joined[-1], xytext=(4, 3), textcoords="offset points", fontsize=7)
        axes.set(xticks=[], yticks=[])
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)
        figure.legend(loc="outside upper left", ncols=3, handletextpad=0.4)

    return draw_svg(draw, "Classifier weights, prototypes and composed classifiers on a plane", height_in=4.4)


def draw_search(tuned: TunedEnsemble) -> Markup:
    """Draw the objective of every setting against its τ, with the chosen and the paper's setting marked."""
    scored = tuned.scored
    values = np.array([s.value(tuned.objective) for s in scored])
    taus = np.array([s.setting.tau for s in scored])
    kinds = list(dict.fromkeys(s.setting.terms for s in scored))

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for kind, colour in zip(kinds, SERIES, strict=False):
            of_kind = np.array([s.setting.terms == kind for s in scored])
            axes.plot(taus[of_kind], values[of_kind], ".", color=colour, markersize=2.6, alpha=0.5, markeredgewidth=0)
            axes.plot([], [], "o", color=colour, markersize=4, label=" + ".join(kind))
        best = tuned.best
        axes.plot(best.setting.tau, best.value(tuned.objective), "*", color=INK, markersize=10, label="chosen")
        given = tuned.reference
        axes.plot(given.setting.tau, given.value(tuned.objective), "D", color=INK, markersize=5, label="--k and --tau")
        logarithmic_x(axes, float(taus.max() / taus.min()))
        axes.set(xlabel="τ", ylabel="validation accuracy, %")
        figure.legend(loc="outside upper left", ncols=2, handletextpad=0.3)

    return draw_svg(draw, "Settings of the search", height_in=3.2)
