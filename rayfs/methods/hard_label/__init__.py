"""Hard pseudo-labels: Label Hallucination with the most probable class instead of soft labels.

Yiren Jian, Lorenzo Torresani. "Label Hallucination for Few-Shot Classification", AAAI 2022, table 3.
"""

from dataclasses import dataclass
from typing import Literal

from rayfs.methods.definition import Inert, MethodDefinition
from rayfs.methods.finetuning.recipe import PAPER_STEPS, base_finetuning_recipe
from rayfs.methods.finetuning.settings import (
    INERT_BASE_IMAGES,
    INERT_FINETUNING,
    BaseFinetuneSettings,
    base_finetuning_needs,
    refuse_labels_of_frozen_views,
)
from rayfs.methods.finetuning.spaces import FINETUNING_ON_BASE, WEIGHT
from rayfs.value_checks import refuse_negative


@dataclass(frozen=True, kw_only=True)
class HardLabelSettings(BaseFinetuneSettings):
    """Settings of `hard-label`."""

    lambda_base: float = 1.0
    """Weight of the cross-entropy on base images."""
    pseudo_label_view: Literal["plain", "augmented"] = "plain"
    """The teacher sees the base image itself (cached features), or the student's view of it (tieredImageNet)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_negative(self, "lambda_base")
        refuse_labels_of_frozen_views(self.frozen_views, self.pseudo_label_view)


METHOD = MethodDefinition(
    name="hard-label",
    summary="finetunes on base images with hard labels of the episode's classes",
    settings=HardLabelSettings,
    solver="rayfs.methods.hard_label.solve:HardLabel",
    recipe=lambda situation: base_finetuning_recipe(situation, steps=PAPER_STEPS),
    search_space={"lambda_base": WEIGHT, **FINETUNING_ON_BASE},
    tuned=("lambda_base", "lr", "head_lr", "steps"),
    inert=(
        *INERT_BASE_IMAGES,
        Inert(
            settings=frozenset({"pseudo_label_view"}), where=lambda settings: settings.lambda_base == 0,
            because="lambda-base is 0",
        ),
        *INERT_FINETUNING,
    ),
    needs=base_finetuning_needs,
)  # fmt: skip
