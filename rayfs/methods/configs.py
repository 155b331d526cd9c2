"""Settings of the methods. No torch here, so that a command line opens fast.

A class of settings inherits fields from another and nothing else; every default is the released code's of Label
Hallucination unless its field says otherwise.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from rayfs.errors import InputError


@dataclass(frozen=True, kw_only=True)
class FrozenConfig:
    """Settings of the frozen-backbone baseline `lr`."""

    support_views: int
    """Augmented views of each support image that the classifier is fitted to."""
    c: float = 1.0
    """Inverse penalty of the logistic regression."""
    joint_queries: int = 0
    """Base images that are recognised, too, among the classes of the episode and the base at once; 0: none (ours)."""

    def __post_init__(self) -> None:
        _refuse_below(self, 1, "support_views")
        _refuse_below(self, 0, "joint_queries")
        _refuse_unless_positive(self, "c")


@dataclass(frozen=True, kw_only=True)
class PrototypeConfig:
    """Settings of `nearest-prototype`."""

    support_views: int
    """Augmented views of each support image that a prototype is the mean of."""

    def __post_init__(self) -> None:
        _refuse_below(self, 1, "support_views")


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """What every method that finetunes the network shares."""

    steps: int
    """SGD steps per episode (`RELEASED_STEPS`)."""
    support_views: int
    """A, augmented views of each support image that the logistic regression is fitted to (25 for 1-shot, 5 for 5-shot:
    README)."""
    step_views: int
    """Fresh augmented views of each support image in every step (A, as released; fewer make a step cheaper)."""
    support_batch: int | None = None
    """Support views in a step, drawn pass after pass; None: all of them (code). The appendix names such finetuning."""
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
        _refuse_below(self, 1, "steps", "support_views", "step_views")
        _refuse_below(self, 0, "early_stop", "frozen_blocks", "frozen_views", "joint_queries")
        if self.frozen_views and not self.frozen_blocks:
            raise InputError(
                f"frozen_views is {self.frozen_views} but frozen_blocks is 0: there are no activations to keep; give "
                "--frozen-blocks, or --frozen-views 0"
            )
        if self.support_batch is not None:
            _refuse_below(self, 1, "support_batch")
        _refuse_unless_positive(self, "lr", "head_lr", "c")
        _refuse_unknown_choices(self)
        _refuse_negative(self, "lambda_ce", "weight_decay")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum is {self.momentum}; expected 0 or more, and less than 1")


@dataclass(frozen=True, kw_only=True)
class SupportOnlyConfig(FinetuneConfig):
    """Settings of `support-only`."""


@dataclass(frozen=True, kw_only=True)
class BaseFinetuneConfig(FinetuneConfig):
    """What every method that finetunes on base images, too, shares."""

    base_batch: int
    """Base images in every step (as many as support views in a step: README)."""
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
        _refuse_below(self, 1, "base_batch", "related_classes")
        if not 0 < self.base_fraction <= 1:
            raise InputError(f"base_fraction is {self.base_fraction}; expected more than 0, and at most 1")
        if not 1 <= self.imbalance_ratio < math.inf:
            raise InputError(f"imbalance_ratio is {self.imbalance_ratio}; expected 1 or more")
        if (self.base_imbalance == "none") != (self.imbalance_ratio == 1):
            raise InputError(
                f"base_imbalance is '{self.base_imbalance}' with imbalance_ratio {self.imbalance_ratio:g}: one without "
                "the other changes nothing; give a form (step, exponential) and a ratio above 1, or neither"
            )


@dataclass(frozen=True, kw_only=True)
class LabelHallucConfig(BaseFinetuneConfig):
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
        _refuse_unless_positive(self, "temperature")
        _refuse_negative(self, "lambda_kl")
        _refuse_labels_of_frozen_views(self)


@dataclass(frozen=True, kw_only=True)
class HardLabelConfig(BaseFinetuneConfig):
    """Settings of `hard-label`."""

    lambda_base: float = 1.0
    """Weight of the cross-entropy on base images."""
    pseudo_label_view: Literal["plain", "augmented"] = "plain"
    """The teacher sees the base image itself (cached features), or the student's view of it (tieredImageNet)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_negative(self, "lambda_base")
        _refuse_labels_of_frozen_views(self)


@dataclass(frozen=True, kw_only=True)
class FeatureDistillConfig(BaseFinetuneConfig):
    """Settings of `feature-distill`."""

    lambda_base: float = 1.0
    """Weight of the distance between features of base images (ours: the appendix with its value is not at hand)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_negative(self, "lambda_base")


@dataclass(frozen=True, kw_only=True)
class AssoAlignConfig(FinetuneConfig):
    """Settings of `assoalign`; those of FinetuneConfig are Label Hallucination's, whose authors ran it so."""

    base_batch: int
    """Related base images in every step."""
    related_classes: int = 10
    """n_B, base classes related to each class of the episode (released code)."""
    classifier_loss: Literal["softmax", "arcmax"] = "softmax"
    """Cross-entropy of a linear head, or of cosines with an angular margin (Label Hallucination's table 6 has both)."""
    centroid_alignment: Literal["on", "off"] = "on"
    """Pull related base images to the centroids of the support classes."""
    arc_scale: float = 15.0
    """s of arcMax while finetuning (released code)."""
    arc_margin: float = 0.001
    """m of arcMax, in radians (released code)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if "graph" in self.execution:
            raise InputError(
                f"execution of assoalign is {self.execution}, but its steps choose images by what they find, which no "
                "graph can replay; give it eager or compiled (assoalign:execution=eager)"
            )
        _refuse_below(self, 1, "base_batch", "related_classes")
        _refuse_unless_positive(self, "arc_scale")
        _refuse_negative(self, "arc_margin")


MethodConfig = (
    FrozenConfig
    | PrototypeConfig
    | SupportOnlyConfig
    | LabelHallucConfig
    | HardLabelConfig
    | FeatureDistillConfig
    | AssoAlignConfig
)

CONFIGS: dict[str, type[MethodConfig]] = {
    "lr": FrozenConfig,
    "nearest-prototype": PrototypeConfig,
    "support-only": SupportOnlyConfig,
    "hard-label": HardLabelConfig,
    "label-halluc": LabelHallucConfig,
    "assoalign": AssoAlignConfig,
    "feature-distill": FeatureDistillConfig,
}
"""What --methods takes."""

BASELINE = "lr"
"""The baseline of every gain where it is run."""


def _refuse_labels_of_frozen_views(config: "LabelHallucConfig | HardLabelConfig") -> None:
    if config.frozen_views and config.pseudo_label_view == "augmented":
        raise InputError(
            f"frozen_views is {config.frozen_views} and pseudo_label_view 'augmented': the teacher cannot see views of "
            "which only activations are kept; give --frozen-views 0, or --pseudo-label-view plain"
        )


def _refuse_below(config: object, least: int, *names: str) -> None:
    for name in names:
        if getattr(config, name) < least:
            raise InputError(f"{name} is {getattr(config, name)}; expected at least {least}")


def _refuse_unless_positive(config: object, *names: str) -> None:
    for name in names:
        if not 0 < getattr(config, name) < math.inf:
            raise InputError(f"{name} is {getattr(config, name)}; expected a positive number")


def _refuse_negative(config: object, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(config, name) < math.inf:
            raise InputError(f"{name} is {getattr(config, name)}; expected zero or a positive number")


def _refuse_unknown_choices(config: object) -> None:
    """Refuse a word that a `Literal` field does not list: the methods would take it for the field's other word."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal and getattr(config, name) not in get_args(hint):
            raise InputError(f"{name} is '{getattr(config, name)}'; expected {' or '.join(get_args(hint))}")
