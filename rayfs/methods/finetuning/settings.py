"""Settings that methods which finetune the whole network share, and what they make such a method need. No torch here.

A class of settings inherits fields from another and nothing else; every default is the released code's of Label
Hallucination unless its field says otherwise.
"""

import math
from dataclasses import dataclass
from typing import Literal

from rayfs.errors import InputError
from rayfs.methods.definition import Inert
from rayfs.methods.needs import BaseImages, Finetuning, Needs
from rayfs.value_checks import (
    refuse_below,
    refuse_negative,
    refuse_other_choices,
    refuse_unless_positive,
    refuse_unless_share,
)


@dataclass(frozen=True, kw_only=True)
class FinetuneSettings:
    """What every method that finetunes the network shares."""

    steps: int
    """SGD steps per episode (code: by benchmark, ways and shots)."""
    support_views: int
    """A, augmented views of each support image that the logistic regression is fitted to (code: 25 for
    1-shot, 5 for 5-shot)."""
    step_views: int
    """Fresh augmented views of each support image in every step (code: A; fewer make a step cheaper)."""
    support_batch: int | None = None
    """Support views in a step, drawn pass after pass; not set: all of them (code). The paper's appendix names such
    finetuning."""
    lambda_ce: float = 1.0
    """Weight of the cross-entropy on support images (paper eq. 3)."""
    lr: float = 0.025
    """Learning rate of the backbone at the start (code)."""
    head_lr: float = 0.05
    """Learning rate of the head at the start (code)."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How both learning rates fall to 0 over the steps; constant in the code."""
    momentum: float = 0.9
    """Of SGD (code)."""
    weight_decay: float = 5e-4
    """L2 penalty (code)."""
    early_stop: int = 0
    """Stop when the mean training loss of this many steps is not below that of as many before; 0: never (code)."""
    c: float = 1.0
    """Inverse penalty of the logistic regression (code)."""
    first_conv: Literal["frozen", "trained"] = "frozen"
    """The released optimiser leaves the first convolution out; 'trained' is what the paper describes."""
    frozen_blocks: int = 0
    """Blocks of the backbone, from its input on, that are not finetuned and keep their running batch statistics."""
    frozen_views: int = 0
    """V, views whose activations behind the frozen blocks are computed once: of each base image for all episodes, of
    each of the `step_views` copies of a support image in an episode; a step draws one of the V. 0: fresh views in every
    step, through all blocks (ours)."""
    head_init: Literal["random", "logistic-regression"] = "random"
    """The released head starts at random; the other starts from the logistic regression on frozen features."""
    dropout: Literal["on", "off"] = "on"
    """The backbone's dropout and DropBlock while finetuning; the ramp starts anew in every episode."""
    normalize: Literal["on", "off"] = "on"
    """The finetuned head sees features of unit length (`--norm_feat`)."""
    joint_queries: int = 0
    """Base images that are recognised, too, among the classes of the episode and the base at once; 0: none (ours)."""
    precision: Literal["float32", "bf16"] = "float32"
    """Of the backbone's forward and backward pass while finetuning; weights, head and losses stay float32 (ours)."""
    execution: Literal["eager", "graph", "compiled", "compiled-graph"] = "eager"
    """How steps run: op by op; as a CUDA graph, captured once an episode and replayed (GPUs alone; the same numbers, or
    with a schedule other last bits); with the backbone compiled by TorchInductor (other last bits); or both (ours)."""

    def __post_init__(self) -> None:
        refuse_below(self, 1, "steps", "support_views", "step_views", "support_batch")
        refuse_below(self, 0, "early_stop", "frozen_blocks", "frozen_views", "joint_queries")
        if self.frozen_views and not self.frozen_blocks:
            raise InputError(
                f"--frozen-views is {self.frozen_views} but --frozen-blocks is 0: there are no activations to keep; "
                "give --frozen-blocks, or --frozen-views 0"
            )
        refuse_unless_positive(self, "lr", "head_lr", "c")
        refuse_other_choices(self)
        refuse_negative(self, "lambda_ce", "weight_decay")
        refuse_unless_share(self, "momentum")


@dataclass(frozen=True, kw_only=True)
class BaseFinetuneSettings(FinetuneSettings):
    """What every method that finetunes on base images, too, shares."""

    base_batch: int
    """Base images in every step (code: as many as support views in a step)."""
    batch_norm: Literal["joint", "split"] = "joint"
    """Statistics over base and support together (one GPU: CIFAR-FS, FC100), or apart with the running ones from base
    only (two GPUs: miniImageNet, tieredImageNet)."""
    base_subset: Literal["all", "related"] = "all"
    """All base images, or those that the support's classifier gives to a class that their base class is related to
    (paper table 6)."""
    related_classes: int = 10
    """n_B, base classes related to each class of the episode (AssoAlign's released code)."""
    base_fraction: float = 1.0
    """Share of each base class's images that is used, the same in all episodes (ours)."""
    base_imbalance: Literal["none", "step", "exponential"] = "none"
    """How the sizes of the base classes fall from the largest to the smallest: not, half of them at once, or evenly on
    a logarithmic scale; which class has which size is drawn from the seed (ours)."""
    imbalance_ratio: float = 1.0
    """Images of the largest base class over those of the smallest."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_below(self, 1, "base_batch", "related_classes")
        if not 0 < self.base_fraction <= 1:
            raise InputError(f"--base-fraction is {self.base_fraction}; expected more than 0, and at most 1")
        if not 1 <= self.imbalance_ratio < math.inf:
            raise InputError(f"--imbalance-ratio is {self.imbalance_ratio}; expected 1 or more")
        if (self.base_imbalance == "none") != (self.imbalance_ratio == 1):
            raise InputError(
                f"--base-imbalance is '{self.base_imbalance}' with --imbalance-ratio {self.imbalance_ratio:g}: one "
                "without the other changes nothing; give a form (step, exponential) and a ratio above 1, or neither"
            )


def finetuning_of(settings: FinetuneSettings) -> Finetuning:
    """Return what the steps of a method with these settings are like."""
    return Finetuning(
        steps=settings.steps, frozen_blocks=settings.frozen_blocks, kept_views=settings.frozen_views,
        without_dropout=settings.dropout == "off", replayed="graph" in settings.execution,
    )  # fmt: skip


def finetuning_needs(settings: FinetuneSettings) -> Needs:
    """Return the needs of a method that finetunes on the support set alone."""
    return Needs(finetuning=finetuning_of(settings), set_aside=settings.joint_queries)


def base_finetuning_needs(settings: BaseFinetuneSettings, *, features_in_steps: bool = False) -> Needs:
    """Return the needs of a method that finetunes on base images, too."""
    images = BaseImages(
        per_step=settings.base_batch, fraction=settings.base_fraction, imbalance=settings.base_imbalance,
        imbalance_ratio=settings.imbalance_ratio, features_in_steps=features_in_steps,
    )  # fmt: skip
    return Needs(base_images=images, finetuning=finetuning_of(settings), set_aside=settings.joint_queries)


def refuse_labels_of_frozen_views(frozen_views: int, pseudo_label_view: str) -> None:
    """Refuse pseudo-labels of the very views of a step where only activations of these are kept."""
    if frozen_views and pseudo_label_view == "augmented":
        raise InputError(
            f"--frozen-views is {frozen_views} and --pseudo-label-view 'augmented': the teacher cannot see views of "
            "which only activations are kept; give --frozen-views 0, or --pseudo-label-view plain"
        )


INERT_FINETUNING = (
    Inert(
        settings=frozenset({"first_conv"}), where=lambda settings: settings.frozen_blocks > 0,
        because="frozen-blocks is above 0",
    ),
)  # fmt: skip
"""Of every method that finetunes."""

INERT_BASE_IMAGES = (
    Inert(
        settings=frozenset({"related_classes"}), where=lambda settings: settings.base_subset == "all",
        because="base-subset is all",
    ),
)  # fmt: skip
"""Of methods that finetune on base images."""
