"""IER, generation 0: what is set and published. Paper and equation: `loss.py`."""

from dataclasses import dataclass

from rayfs.training.objectives.definition import ObjectiveDefinition
from rayfs.training.objectives.skd_gen0 import self_supervised_recipe
from rayfs.value_checks import refuse_below, refuse_negative, refuse_unless_positive, refuse_unless_share

N_TRANSFORMS = 16
"""Four aspects in four turns each."""

EMBEDDING = 64
"""Dimensions of the invariant embedding (released code)."""


@dataclass(frozen=True, kw_only=True)
class IerGen0Settings:
    """The weight of the two self-supervised terms, and the contrast with the memory bank."""

    gamma: float = 1.0
    """Weight of the self-supervision (released code)."""
    negatives: int = 6400
    """Negatives from the memory bank for each contrast (released code)."""
    memory_momentum: float = 0.99
    """Share of the old value in the memory bank (released code)."""
    contrast_temperature: float = 1.0
    """τ of the contrast (released code)."""

    def __post_init__(self) -> None:
        check_contrast(self)


def check_contrast(settings: object) -> None:
    """Refuse impossible values of the four settings of generation 0."""
    refuse_below(settings, 1, "negatives")
    refuse_negative(settings, "gamma")
    refuse_unless_positive(settings, "contrast_temperature")
    refuse_unless_share(settings, "memory_momentum")


IER_GEN0 = ObjectiveDefinition(
    name="ier-gen0",
    summary="16 transforms are told apart, and looked past (IER, CVPR 2021)",
    settings=IerGen0Settings,
    recipe=self_supervised_recipe,
    create="rayfs.training.objectives.ier_gen0.loss:create",
)
