"""Cross-entropy over all base classes; on Omniglot turned characters are further classes. Paper: `rfs_simple.py`."""

from dataclasses import dataclass

from rayfs.training.objectives.definition import ObjectiveDefinition
from rayfs.training.objectives.rfs_simple import rfs_recipe


@dataclass(frozen=True, kw_only=True)
class CrossEntropySettings:
    """What cross-entropy can vary."""

    rotations: bool = False
    """90-degree turns as extra classes (the usual enlargement of Omniglot; ours)."""


CROSS_ENTROPY = ObjectiveDefinition(
    name="cross-entropy",
    summary="cross-entropy over the base classes",
    settings=CrossEntropySettings,
    recipe=rfs_recipe,
    create="rayfs.training.objectives.cross_entropy.loss:create",
)
