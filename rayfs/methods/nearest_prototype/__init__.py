"""The nearest class mean of frozen features.

Jake Snell, Kevin Swersky, Richard Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017.
"""

from dataclasses import dataclass

from rayfs.methods.definition import MethodDefinition
from rayfs.methods.recipe import frozen_recipe
from rayfs.methods.spaces import SUPPORT_VIEWS
from rayfs.value_checks import refuse_below


@dataclass(frozen=True, kw_only=True)
class NearestPrototypeSettings:
    """Settings of `nearest-prototype`."""

    support_views: int
    """Augmented views of each support image that a prototype is the mean of."""

    def __post_init__(self) -> None:
        refuse_below(self, 1, "support_views")


METHOD = MethodDefinition(
    name="nearest-prototype",
    summary="nearest class mean of frozen features",
    settings=NearestPrototypeSettings,
    solver="rayfs.methods.nearest_prototype.solve:NearestPrototype",
    recipe=frozen_recipe,
    search_space={"support_views": SUPPORT_VIEWS},
    tuned=("support_views",),
)
