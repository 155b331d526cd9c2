"""Finetuning on the support set alone: Label Hallucination without base images.

Yiren Jian, Lorenzo Torresani. "Label Hallucination for Few-Shot Classification", AAAI 2022, tables 3 and 4. Deviation:
the released code also loads a base mini-batch in every step, and throws it away.
"""

from functools import partial

import numpy as np

from rayfs.methods.finetuning.loop import finetune, make_network, step
from rayfs.methods.frozen import support_classifier
from rayfs.methods.method import Solution, Task, World
from rayfs.methods.support_only import SupportOnlySettings
from rayfs.randomness import EpisodeRandomness


class SupportOnly:
    """Finetunes on `lambda_ce CE(support)`."""

    def __init__(self, settings: SupportOnlySettings) -> None:
        self.settings = settings

    def solve(self, task: Task, world: World, randomness: EpisodeRandomness) -> Solution:
        """Return the finetuned network's logits of each query."""
        settings = self.settings
        needs_classifier = settings.head_init == "logistic-regression"
        classifier = (
            support_classifier(task, world, randomness, settings.support_views, settings.c)
            if needs_classifier
            else None
        )
        network = make_network(task, world, randomness, settings, classifier)
        no_rows = np.empty(0, dtype=np.int64)
        return finetune(task, world, randomness, settings, network, no_rows, 0, partial(step, settings=settings))
