"""Associative alignment: finetune on related base images, pulled to the centroids of the support classes.

Arman Afrasiyabi, Jean-François Lalonde, Christian Gagné. "Associative Alignment for Few-shot Image Classification",
ECCV 2020; as Label Hallucination ran it for its table 6.
"""

from dataclasses import dataclass
from typing import Literal

from rayfs.errors import InputError
from rayfs.methods.definition import Inert, MethodDefinition
from rayfs.methods.finetuning.recipe import base_finetuning_recipe
from rayfs.methods.finetuning.settings import (
    INERT_FINETUNING,
    FinetuneSettings,
    finetuning_of,
)
from rayfs.methods.finetuning.spaces import FINETUNING, RELATED_CLASSES
from rayfs.methods.needs import BaseImages, Needs
from rayfs.methods.spaces import Range
from rayfs.value_checks import refuse_below, refuse_negative, refuse_unless_positive


@dataclass(frozen=True, kw_only=True)
class AssoAlignSettings(FinetuneSettings):
    """Settings of `assoalign`; those of `FinetuneSettings` are Label Hallucination's, whose authors ran it so."""

    base_batch: int
    """Related base images in every step."""
    related_classes: int = 10
    """n_B, base classes related to each class of the episode (AssoAlign's released code)."""
    classifier_loss: Literal["softmax", "arcmax"] = "softmax"
    """Cross-entropy of a linear head, or of cosines with an angular margin (Label Hallucination's table 6 has both)."""
    centroid_alignment: Literal["on", "off"] = "on"
    """Pull related base images to the centroids of the support classes."""
    arc_scale: float = 15.0
    """s of arcMax while finetuning (AssoAlign's released code)."""
    arc_margin: float = 0.001
    """m of arcMax, in radians (AssoAlign's released code)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "graph" in self.execution:
            raise InputError(
                f"execution of assoalign is {self.execution}, but its steps choose images by what they find, which no "
                "graph can replay; give it eager or compiled (assoalign:execution=eager)"
            )
        refuse_below(self, 1, "base_batch", "related_classes")
        refuse_unless_positive(self, "arc_scale")
        refuse_negative(self, "arc_margin")


STEPS = 100
"""Best of 50 to 400 for associative alignment (Label Hallucination, section on AssoAlign)."""


def needs(settings: AssoAlignSettings) -> Needs:
    """Return related base images in every step, chosen among all of them."""
    return Needs(
        base_images=BaseImages(per_step=settings.base_batch), finetuning=finetuning_of(settings),
        set_aside=settings.joint_queries,
    )  # fmt: skip


METHOD = MethodDefinition(
    name="assoalign",
    summary="associative alignment: finetunes on base images related to the support",
    settings=AssoAlignSettings,
    solver="rayfs.methods.assoalign.solve:AssociativeAlignment",
    recipe=lambda situation: base_finetuning_recipe(situation, steps=STEPS),
    search_space={
        **FINETUNING,
        "related_classes": RELATED_CLASSES,
        "arc_scale": Range(low=2, high=60, log=True),
        "arc_margin": Range(low=1e-4, high=0.5, log=True),
    },
    tuned=("lr", "head_lr", "steps", "related_classes"),
    inert=(
        Inert(
            settings=frozenset({"arc_scale", "arc_margin"}),
            where=lambda settings: settings.classifier_loss == "softmax", because="classifier-loss is softmax",
        ),
        Inert(
            settings=frozenset({"normalize"}), where=lambda settings: settings.classifier_loss == "arcmax",
            because="classifier-loss is arcmax",
        ),
        *INERT_FINETUNING,
    ),
    needs=needs,
)  # fmt: skip
