"""Joint recognition: is an image of one of the episode's classes or of a base class, and which of all of them?

The appendix of Label Hallucination (AAAI 2022) names the topic without a protocol; ours: nearest class mean among the K
classes of the episode and the C base classes, by unit-length features of the network that a method leaves. The base
queries and the images behind the base means are kept out of the episode's finetuning. They are images that the
embedding was trained on, so that accuracy on base classes is of known images: compare methods by it, nothing else.
M base queries, P images a base class, D features.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from rayfs.backbones.heads import l2_normalize
from rayfs.datasets.image_table import ImageTable
from rayfs.engine.features import embed
from rayfs.methods.method import Joint, Task, World
from rayfs.randomness import EpisodeRandomness

MEAN_IMAGES = 20
"""P, base images of each class that its mean is of; fewer where there are fewer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class JointRows:
    """Base rows that an episode sets aside."""

    queries: np.ndarray
    """(M,) int64."""
    means: np.ndarray
    """Rows int64 behind the class means, class by class."""

    @property
    def all(self) -> np.ndarray:
        """Both."""
        return np.concatenate([self.queries, self.means])


def joint_rows(table: ImageTable, n_queries: int, randomness: EpisodeRandomness) -> JointRows:
    """Draw the base rows of an episode: P or fewer images of each class, then `n_queries` of all others.

    At least half of the images of each class are left for finetuning and queries.
    """
    generator = randomness.generator("joint rows")
    order = [
        int(start) + torch.randperm(int(n), generator=generator).numpy()
        for start, n in zip(table.offsets, table.class_counts(), strict=False)
    ]
    n_means = [min(MEAN_IMAGES, max(1, len(rows) // 4)) for rows in order]
    means = np.concatenate([rows[:n] for rows, n in zip(order, n_means, strict=True)])
    others = np.concatenate([rows[n:] for rows, n in zip(order, n_means, strict=True)])
    chosen = torch.randperm(len(others), generator=generator)[:n_queries].numpy()
    return JointRows(queries=others[chosen], means=means)


def recognise_jointly(backbone: nn.Module, task: Task, world: World, rows: JointRows) -> Joint:
    """Classify the episode's queries and the base queries among K + C classes, the episode's first.

    Arguments:
        backbone: what the method leaves, in eval mode.
    """
    table, labels = world.bank.table, torch.from_numpy(world.bank.table.labels)
    known = torch.cat([task.support_labels, task.n_way + labels[torch.from_numpy(rows.means)]])

    def features(images: Tensor) -> Tensor:
        return l2_normalize(embed(backbone, images, world.plain, world.device))

    support = torch.cat([features(task.support_images), features(table.take(rows.means))])
    means = class_means(support, known.to(world.device), task.n_way + len(table.class_names))
    novel, base = (
        nearest_mean(features(images), means).cpu() for images in (task.query_images, table.take(rows.queries))
    )
    return Joint(
        novel_predictions=novel, base_predictions=base, base_labels=task.n_way + labels[torch.from_numpy(rows.queries)]
    )


def class_means(features_ND: Tensor, labels_N: Tensor, n_classes: int) -> Tensor:
    """Return the mean feature (n_classes, D) of each class; every class has at least one row."""
    onehot_NC = torch.nn.functional.one_hot(labels_N, n_classes).to(features_ND)
    return (onehot_NC / onehot_NC.sum(0)).T @ features_ND


def nearest_mean(features_ND: Tensor, means_CD: Tensor) -> Tensor:
    """Return the class (N,) int64 whose mean is at the least Euclidean distance."""
    return (features_ND @ means_CD.T - means_CD.square().sum(1) / 2).argmax(1)
