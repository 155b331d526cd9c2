"""The baseline of every gain: logistic regression on the features of the frozen backbone.

Yonglong Tian et al., "Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?", ECCV 2020.
"""

from dataclasses import dataclass

from rayfs.methods.definition import MethodDefinition
from rayfs.methods.needs import Needs
from rayfs.methods.recipe import frozen_recipe
from rayfs.methods.spaces import INVERSE_PENALTY, SUPPORT_VIEWS
from rayfs.value_checks import refuse_below, refuse_unless_positive


@dataclass(frozen=True, kw_only=True)
class LogisticRegressionSettings:
    """Settings of `logistic-regression`."""

    support_views: int
    """Augmented views of each support image that the classifier is fitted to."""
    c: float = 1.0
    """Inverse penalty of the logistic regression."""
    joint_queries: int = 0
    """Base images that are recognised, too, among the classes of the episode and the base at once; 0: none (ours)."""

    def __post_init__(self) -> None:
        refuse_below(self, 1, "support_views")
        refuse_below(self, 0, "joint_queries")
        refuse_unless_positive(self, "c")


METHOD = MethodDefinition(
    name="logistic-regression",
    aliases=("lr",),
    summary="classifier of frozen features; the baseline of every gain",
    settings=LogisticRegressionSettings,
    solver="rayfs.methods.logistic_regression.solve:FrozenLogisticRegression",
    recipe=frozen_recipe,
    search_space={"c": INVERSE_PENALTY, "support_views": SUPPORT_VIEWS},
    tuned=("c", "support_views"),
    needs=lambda settings: Needs(set_aside=settings.joint_queries),
)
