"""IER with distillation: what is set and published. Paper and equation: `loss.py`."""

from dataclasses import dataclass

from rayfs.training.objectives.definition import BASE_CLASSES, ObjectiveDefinition, TeacherDemand
from rayfs.training.objectives.ier_gen0 import EMBEDDING, N_TRANSFORMS, check_contrast
from rayfs.training.objectives.skd_gen0 import self_supervised_recipe
from rayfs.value_checks import refuse_negative, refuse_unless_positive


@dataclass(frozen=True, kw_only=True)
class IerDistillSettings:
    """The settings of generation 0, and the weights of generation 0 and of the teacher."""

    gamma: float = 1.0
    """Weight of the self-supervision (released code)."""
    negatives: int = 6400
    """Negatives from the memory bank for each contrast (released code)."""
    memory_momentum: float = 0.99
    """Share of the old value in the memory bank (released code)."""
    contrast_temperature: float = 1.0
    """τ of the contrast (released code)."""
    temperature: float = 4.0
    """T of the distillation (released code)."""
    ce_weight: float = 1.0
    """Weight of the loss of generation 0 beside distillation (released code)."""
    kd_weight: float = 1.0
    """Weight of the distillation (released code)."""

    def __post_init__(self) -> None:
        check_contrast(self)
        refuse_unless_positive(self, "temperature")
        refuse_negative(self, "ce_weight", "kd_weight")


IER_DISTILL = ObjectiveDefinition(
    name="ier-distill",
    summary="generation 0 of IER and the outputs of a teacher (IER, CVPR 2021)",
    settings=IerDistillSettings,
    recipe=self_supervised_recipe,
    teacher=TeacherDemand(
        made_by="ier-gen0",
        heads={"classifier": BASE_CLASSES, "eq_head": N_TRANSFORMS, "inv_head": EMBEDDING},
        same_features=True,
    ),
    create="rayfs.training.objectives.ier_distill.loss:create",
)
