"""Top-1 accuracy of groups of classes, with bootstrap intervals. C classes, R resamples. Percent throughout.

A group's accuracy is that of its test images together, as in the tables; with equally many images of each class, as
all these benchmarks have, it is the mean over classes, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from rayfs.errors import InputError
from rayfs.randomness import torch_generator

Over = Literal["images", "classes"]
"""What a resample draws anew. images: test images within each class (other images of these classes); classes: classes
within each group and then images within them (other classes, too), which is wider."""

LEVEL = 0.95
N_RESAMPLES = 2000


@dataclass(frozen=True, kw_only=True)
class GroupFigure:
    """Accuracy of a group, or a difference of two, with a percentile bootstrap interval."""

    value: float | None
    """Percent or percentage points; None for a group without classes or without images."""
    low: float | None = None
    high: float | None = None
    n_classes: int
    n_images: int


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassScores:
    """Test images of each class, and how many a classifier got right."""

    n_C: np.ndarray
    """(C,) int64."""
    correct_C: np.ndarray
    """(C,) int64."""


def class_scores(predictions_N: np.ndarray, labels_N: np.ndarray, n_classes: int) -> ClassScores:
    """Count test images and right answers of each class."""
    right_N = predictions_N == labels_N
    return ClassScores(
        n_C=np.bincount(labels_N, minlength=n_classes),
        correct_C=np.bincount(labels_N[right_N], minlength=n_classes),
    )


def group_accuracy(
    predictions_N: np.ndarray, labels_N: np.ndarray, groups: Mapping[str, np.ndarray], *, over: Over = "images",
    seed: int = 0, n_resamples: int = N_RESAMPLES,
) -> dict[str, GroupFigure]:  # fmt: skip
    """Return the accuracy of each group with its 95% bootstrap interval.

    Arguments:
        groups: name -> which classes, (C,) bool.
        seed: of the resamples, which are the same for every classifier on the same test images.
    """
    right_N = (predictions_N == labels_N).astype(np.int64)
    return _figures(right_N, np.zeros_like(right_N), labels_N, groups, over, seed, n_resamples)


def group_difference(
    predictions_N: np.ndarray, baseline_N: np.ndarray, labels_N: np.ndarray, groups: Mapping[str, np.ndarray], *,
    over: Over = "images", seed: int = 0, n_resamples: int = N_RESAMPLES,
) -> dict[str, GroupFigure]:  # fmt: skip
    """Return accuracy minus the baseline's of each group, paired: both answers to an image are drawn together."""
    right_N, baseline_right_N = predictions_N == labels_N, baseline_N == labels_N
    gained_N, lost_N = right_N & ~baseline_right_N, baseline_right_N & ~right_N
    return _figures(gained_N.astype(np.int64), lost_N.astype(np.int64), labels_N, groups, over, seed, n_resamples)


def _figures(
    plus_N: np.ndarray, minus_N: np.ndarray, labels_N: np.ndarray, groups: Mapping[str, np.ndarray], over: Over,
    seed: int, n_resamples: int,
) -> dict[str, GroupFigure]:  # fmt: skip
    """Return the mean of plus - minus over the images of each group, in percent."""
    if n_resamples < 2:
        raise InputError(f"{n_resamples} bootstrap resamples; expected at least 2")
    n_classes = len(next(iter(groups.values())))
    n_C, plus_C, minus_C = (
        np.bincount(labels_N, weights=weights, minlength=n_classes)
        for weights in (np.ones(len(labels_N)), plus_N, minus_N)
    )
    figures = {}
    for name, members_C in groups.items():
        ids = np.flatnonzero(members_C & (n_C > 0))
        n_images = int(n_C[ids].sum())
        if n_images == 0:
            figures[name] = GroupFigure(value=None, n_classes=int(members_C.sum()), n_images=0)
            continue
        drawn_R = _resamples(n_C[ids], plus_C[ids], minus_C[ids], over, n_resamples, seed, name)
        low, high = np.quantile(drawn_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        value = (plus_C[ids].sum() - minus_C[ids].sum()) / n_images
        figures[name] = GroupFigure(
            value=100 * float(value), low=100 * float(low), high=100 * float(high), n_classes=len(ids),
            n_images=n_images,
        )  # fmt: skip
    return figures


def _resamples(
    n_C: np.ndarray, plus_C: np.ndarray, minus_C: np.ndarray, over: Over, n_resamples: int, seed: int, group: str
) -> np.ndarray:
    """Return the statistic of each resample, (R,).

    n images drawn with replacement from a class hold Binomial(n, plus / n) of its plus images and, of the others,
    Binomial(n - drawn, minus / (n - plus)) of its minus images: the same as drawing them one by one.
    """
    generator = torch_generator(seed, f"bootstrap over {over} of {group}")
    n, plus, minus = (torch.from_numpy(values).double().expand(n_resamples, -1) for values in (n_C, plus_C, minus_C))
    if over == "classes":
        drawn_RC = torch.randint(len(n_C), (n_resamples, len(n_C)), generator=generator)
        n, plus, minus = (values.gather(1, drawn_RC) for values in (n, plus, minus))
    plus_RC = torch.binomial(n.contiguous(), plus / n, generator=generator)
    minus_RC = torch.binomial(n - plus_RC, minus / (n - plus).clamp(min=1), generator=generator)
    return ((plus_RC - minus_RC).sum(1) / n.sum(1)).numpy()
