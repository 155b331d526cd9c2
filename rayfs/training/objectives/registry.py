"""Objectives by name, as `--objective` takes them. No torch here. A new objective is one file and one line."""

from rayfs.training.objectives.balanced_softmax import BALANCED_SOFTMAX
from rayfs.training.objectives.cosine import COSINE
from rayfs.training.objectives.cross_entropy import CROSS_ENTROPY
from rayfs.training.objectives.definition import ObjectiveDefinition
from rayfs.training.objectives.ier_distill import IER_DISTILL
from rayfs.training.objectives.ier_gen0 import IER_GEN0
from rayfs.training.objectives.rfs_distill import RFS_DISTILL
from rayfs.training.objectives.rfs_simple import RFS_SIMPLE
from rayfs.training.objectives.skd_gen0 import SKD_GEN0
from rayfs.training.objectives.skd_gen1 import SKD_GEN1

OBJECTIVES: dict[str, ObjectiveDefinition] = {
    objective.name: objective
    for objective in (
        CROSS_ENTROPY, RFS_SIMPLE, RFS_DISTILL, SKD_GEN0, SKD_GEN1, IER_GEN0, IER_DISTILL, COSINE, BALANCED_SOFTMAX,
    )
}  # fmt: skip


def with_setting(name: str) -> tuple[str, ...]:
    """Return the objectives that have a setting of their own called `name`, or a teacher where it is "teacher"."""
    return tuple(
        objective.name
        for objective in OBJECTIVES.values()
        if name in objective.setting_names or (name in TEACHER_SETTINGS and objective.teacher is not None)
    )


TEACHER_SETTINGS = ("teacher", "teacher_backbone")
"""What only objectives with a teacher have."""
