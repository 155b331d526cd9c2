"""Feature distillation: the finetuned network keeps its features of base images, instead of learning labels of them.

A variant that the appendix of Label Hallucination (Yiren Jian, Lorenzo Torresani, AAAI 2022) names without giving its
equation in the published text. Ours: `L = 1/B Σ_i || z'_i - z_i ||²` of unit-length features, z of the frozen backbone
(cached, of the image itself) and z' of the network being finetuned (of the student's view). B base images, D features.
"""

from functools import partial

from torch import Tensor, nn

from rayfs.backbones.heads import l2_normalize
from rayfs.methods.feature_distill import FeatureDistillSettings
from rayfs.methods.finetuning.base_rows import base_logits, episode_rows
from rayfs.methods.finetuning.batches import Batch
from rayfs.methods.finetuning.loop import finetune, make_network, step
from rayfs.methods.frozen import support_classifier
from rayfs.methods.method import Solution, Task, World
from rayfs.randomness import EpisodeRandomness


class FeatureDistillation:
    """Finetunes on `lambda_base L + lambda_ce CE(support)`."""

    def __init__(self, settings: FeatureDistillSettings) -> None:
        self.settings = settings

    def solve(self, task: Task, world: World, randomness: EpisodeRandomness) -> Solution:
        """Return the finetuned network's logits of each query."""
        settings = self.settings
        related, from_classifier = settings.base_subset == "related", settings.head_init == "logistic-regression"
        classifier = (
            support_classifier(task, world, randomness, settings.support_views, settings.c)
            if related or from_classifier
            else None
        )
        logits = base_logits(world.bank, classifier) if related and classifier is not None else None
        rows = episode_rows(world.bank, settings, randomness, logits)
        network = make_network(task, world, randomness, settings, classifier)

        def loss(batch: Batch, features_BD: Tensor, head: nn.Module) -> Tensor:
            return feature_distance(features_BD, world.bank.features_on(world.device, batch.base_rows))

        take_step = partial(step, settings=settings, base_loss=loss, base_weight=settings.lambda_base)
        return finetune(task, world, randomness, settings, network, rows, settings.base_batch, take_step)


def feature_distance(student_BD: Tensor, teacher_BD: Tensor) -> Tensor:
    """Return the mean squared distance of the rows, each scaled to unit length: `2 - 2 cos`, 0 to 4."""
    return (l2_normalize(student_BD) - l2_normalize(teacher_BD)).square().sum(1).mean()
