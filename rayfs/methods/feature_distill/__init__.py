"""Feature distillation: the finetuned network keeps its features of base images, instead of learning labels of them.

A variant that the appendix of Label Hallucination (Yiren Jian, Lorenzo Torresani, AAAI 2022) names.
"""

from dataclasses import dataclass
from functools import partial

from rayfs.methods.definition import Inert, MethodDefinition
from rayfs.methods.finetuning.recipe import base_finetuning_recipe
from rayfs.methods.finetuning.settings import (
    INERT_BASE_IMAGES,
    INERT_FINETUNING,
    BaseFinetuneSettings,
    base_finetuning_needs,
)
from rayfs.methods.finetuning.spaces import FINETUNING_ON_BASE, WEIGHT
from rayfs.value_checks import refuse_negative


@dataclass(frozen=True, kw_only=True)
class FeatureDistillSettings(BaseFinetuneSettings):
    """Settings of `feature-distill`."""

    lambda_base: float = 1.0
    """Weight of the distance between features of base images (ours: the appendix with its value is not at hand)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_negative(self, "lambda_base")


METHOD = MethodDefinition(
    name="feature-distill",
    summary="finetunes on the support set; features of base images stay as they are",
    settings=FeatureDistillSettings,
    solver="rayfs.methods.feature_distill.solve:FeatureDistillation",
    recipe=base_finetuning_recipe,
    search_space={"lambda_base": WEIGHT, **FINETUNING_ON_BASE},
    tuned=("lambda_base", "lr", "head_lr", "steps"),
    inert=(
        *INERT_BASE_IMAGES,
        *INERT_FINETUNING,
        Inert(
            settings=frozenset({"c"}),
            where=lambda settings: settings.base_subset == "all" and settings.head_init == "random",
            because="head-init is random and base-subset all",
        ),
    ),
    needs=partial(base_finetuning_needs, features_in_steps=True),
)
