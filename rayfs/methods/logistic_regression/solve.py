"""Logistic regression of frozen features: W and b from augmented support views. K classes, D features."""

from rayfs.engine.features import embed
from rayfs.methods.frozen import classify, support_classifier
from rayfs.methods.joint import joint_rows, recognise_jointly
from rayfs.methods.logistic_regression import LogisticRegressionSettings
from rayfs.methods.method import Solution, Task, World
from rayfs.randomness import EpisodeRandomness


class FrozenLogisticRegression:
    """Fits one linear classifier to unit-length features of augmented support views; queries are not augmented."""

    def __init__(self, settings: LogisticRegressionSettings) -> None:
        self.settings = settings

    def solve(self, task: Task, world: World, randomness: EpisodeRandomness) -> Solution:
        """Return `W z + b` of each query."""
        weights, intercepts = support_classifier(task, world, randomness, self.settings.support_views, self.settings.c)
        queries = embed(world.backbone, task.query_images, world.plain, world.device, batch=len(task.query_images))
        joint = None
        if self.settings.joint_queries:
            rows = joint_rows(world.bank.table, self.settings.joint_queries, randomness)
            joint = recognise_jointly(world.backbone, task, world, rows)
        return Solution(logits=classify(queries, weights, intercepts).cpu(), joint=joint)
