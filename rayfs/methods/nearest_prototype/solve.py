"""The baseline `nearest-prototype`: the nearest class mean of frozen features.

Jake Snell, Kevin Swersky, Richard Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017, eq. 1 and 2,
on the unit-length features of a frozen backbone. Q queries, K classes, D features.
"""

import torch
from torch import Tensor

from rayfs.backbones.heads import l2_normalize
from rayfs.engine.features import embed
from rayfs.methods.frozen import support_features
from rayfs.methods.method import Solution, Task, World
from rayfs.methods.nearest_prototype import NearestPrototypeSettings
from rayfs.randomness import EpisodeRandomness


class NearestPrototype:
    """Compares queries with the mean feature of each class's support views, the same views as `lr` sees."""

    def __init__(self, settings: NearestPrototypeSettings) -> None:
        self.settings = settings

    def solve(self, task: Task, world: World, randomness: EpisodeRandomness) -> Solution:
        """Return minus the squared distance of each query to each prototype."""
        features, labels = support_features(task, world, randomness, self.settings.support_views)
        queries = embed(world.backbone, task.query_images, world.plain, world.device, batch=len(task.query_images))
        return Solution(logits=prototype_logits(features, labels, queries, task.n_way).cpu())


def prototype_logits(support_VD: Tensor, labels_V: Tensor, query_QD: Tensor, n_way: int) -> Tensor:
    """Return `-||z_q - p_k||²` (Q, K) of unit-length features, p_k the mean of class k's support features."""
    support_VD, query_QD = l2_normalize(support_VD), l2_normalize(query_QD)
    onehot_VK = torch.nn.functional.one_hot(labels_V.to(support_VD.device), n_way).to(support_VD)
    prototypes_KD = (onehot_VK / onehot_VK.sum(0)).T @ support_VD
    return -(query_QD[:, None] - prototypes_KD).square().sum(2)
