"""Label Hallucination: finetune the whole network on base images that carry soft labels of the novel classes.

Yiren Jian, Lorenzo Torresani. "Label Hallucination for Few-Shot Classification", AAAI 2022, arXiv:2112.03340.
"""

from dataclasses import dataclass
from typing import Literal

from rayfs.methods.definition import Inert, MethodDefinition
from rayfs.methods.finetuning.recipe import base_finetuning_recipe
from rayfs.methods.finetuning.settings import (
    INERT_BASE_IMAGES,
    INERT_FINETUNING,
    BaseFinetuneSettings,
    base_finetuning_needs,
    refuse_labels_of_frozen_views,
)
from rayfs.methods.finetuning.spaces import FINETUNING_ON_BASE, WEIGHT
from rayfs.methods.spaces import Range
from rayfs.value_checks import refuse_negative, refuse_unless_positive


@dataclass(frozen=True, kw_only=True)
class LabelHallucSettings(BaseFinetuneSettings):
    """Settings of Label Hallucination."""

    temperature: float = 4.0
    """T of the distillation (code)."""
    lambda_kl: float = 1.0
    """Weight of the distillation on base images (paper eq. 3)."""
    base_gradient: Literal["none", "head", "backbone", "both"] = "both"
    """What the loss on base images trains (paper table 4). With 'none' the base images still join the forward pass, and
    with it the batch statistics; without them it is `support-only`."""
    pseudo_label_view: Literal["plain", "augmented"] = "plain"
    """The teacher sees the base image itself (cached features), or the student's view of it (tieredImageNet)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unless_positive(self, "temperature")
        refuse_negative(self, "lambda_kl")
        refuse_labels_of_frozen_views(self.frozen_views, self.pseudo_label_view)


METHOD = MethodDefinition(
    name="label-halluc",
    summary="Label Hallucination: finetunes on base images with soft labels",
    settings=LabelHallucSettings,
    solver="rayfs.methods.label_halluc.solve:LabelHallucination",
    recipe=base_finetuning_recipe,
    search_space={"lambda_kl": WEIGHT, "temperature": Range(low=0.5, high=16, log=True), **FINETUNING_ON_BASE},
    tuned=("lambda_kl", "temperature", "steps", "lr", "head_lr"),
    inert=(
        *INERT_BASE_IMAGES,
        Inert(
            settings=frozenset({"temperature", "lambda_kl", "pseudo_label_view"}),
            where=lambda settings: settings.base_gradient == "none", because="base-gradient is none",
        ),
        Inert(
            settings=frozenset({"temperature", "base_gradient", "pseudo_label_view"}),
            where=lambda settings: settings.lambda_kl == 0, because="lambda-kl is 0",
        ),
        *INERT_FINETUNING,
    ),
    needs=base_finetuning_needs,
)  # fmt: skip
