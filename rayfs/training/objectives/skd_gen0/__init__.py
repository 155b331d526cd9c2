"""SKD, generation 0: what is set and published. Paper and equation: `loss.py`."""

from dataclasses import dataclass
from typing import Any

from rayfs.training.objectives.definition import ObjectiveDefinition
from rayfs.training.objectives.rfs_simple import STEP_SCHEDULE
from rayfs.value_checks import refuse_negative

EPOCHS: dict[str, dict[str, Any]] = {"tiered-imagenet": {"epochs": 60, "decay_at": (1 / 2, 2 / 3, 5 / 6)}}
EPOCHS_ELSEWHERE: dict[str, Any] = {"epochs": 65, "decay_at": (60 / 65,)}


def self_supervised_recipe(benchmark: str) -> dict[str, Any]:
    """Return the published values of SKD generation 0, which IER has, too (released codes)."""
    return {**STEP_SCHEDULE, **EPOCHS.get(benchmark, EPOCHS_ELSEWHERE)}


@dataclass(frozen=True, kw_only=True)
class SkdGen0Settings:
    """The weight of the self-supervision."""

    gamma: float = 2.0
    """Weight of the self-supervision (released code)."""

    def __post_init__(self) -> None:
        refuse_negative(self, "gamma")


SKD_GEN0 = ObjectiveDefinition(
    name="skd-gen0",
    summary="every turn of an image is classified and named (SKD, BMVC 2021)",
    settings=SkdGen0Settings,
    recipe=self_supervised_recipe,
    create="rayfs.training.objectives.skd_gen0.loss:create",
)
