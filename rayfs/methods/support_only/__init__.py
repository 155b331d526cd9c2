"""Finetuning on the support set alone: Label Hallucination without base images.

Yiren Jian, Lorenzo Torresani. "Label Hallucination for Few-Shot Classification", AAAI 2022, tables 3 and 4.
"""

from dataclasses import dataclass

from rayfs.methods.definition import Inert, MethodDefinition
from rayfs.methods.finetuning.recipe import PAPER_STEPS, finetuning_recipe
from rayfs.methods.finetuning.settings import (
    INERT_FINETUNING,
    FinetuneSettings,
    finetuning_needs,
)
from rayfs.methods.finetuning.spaces import FINETUNING


@dataclass(frozen=True, kw_only=True)
class SupportOnlySettings(FinetuneSettings):
    """Settings of `support-only`."""


METHOD = MethodDefinition(
    name="support-only",
    summary="finetunes on the support set alone",
    settings=SupportOnlySettings,
    solver="rayfs.methods.support_only.solve:SupportOnly",
    recipe=lambda situation: finetuning_recipe(situation, steps=PAPER_STEPS),
    search_space=FINETUNING,
    tuned=("lr", "head_lr", "steps"),
    inert=(
        *INERT_FINETUNING,
        Inert(
            settings=frozenset({"c"}), where=lambda settings: settings.head_init == "random",
            because="head-init is random",
        ),
    ),
    needs=finetuning_needs,
)  # fmt: skip
