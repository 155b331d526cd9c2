"""Born-again distillation of RFS: what is set and published. Paper and equation: `loss.py`."""

from dataclasses import dataclass

from rayfs.training.objectives.definition import BASE_CLASSES, ObjectiveDefinition, TeacherDemand
from rayfs.training.objectives.rfs_simple import rfs_recipe
from rayfs.value_checks import refuse_negative, refuse_unless_positive


@dataclass(frozen=True, kw_only=True)
class RfsDistillSettings:
    """The weights of the two terms and the temperature."""

    temperature: float = 4.0
    """T of the distillation (released code)."""
    ce_weight: float = 0.5
    """Weight of the supervised loss beside distillation (released command)."""
    kd_weight: float = 0.5
    """Weight of the distillation (released command)."""

    def __post_init__(self) -> None:
        refuse_unless_positive(self, "temperature")
        refuse_negative(self, "ce_weight", "kd_weight")


RFS_DISTILL = ObjectiveDefinition(
    name="rfs-distill",
    summary="labels and the answers of a teacher (RFS, ECCV 2020)",
    settings=RfsDistillSettings,
    recipe=rfs_recipe,
    teacher=TeacherDemand(made_by="rfs-simple", heads={"classifier": BASE_CLASSES}),
    create="rayfs.training.objectives.rfs_distill.loss:create",
)
