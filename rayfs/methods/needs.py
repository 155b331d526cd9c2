"""What a method needs of those who run it: base images, kept activations, a GPU, networks beside the backbone.

Workers, plans and experiments read this and know no class of settings. No torch here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class BaseImages:
    """The base images that the steps of a method see. Its settings have a field `base_batch`."""

    per_step: int
    """B, images in every step."""
    fraction: float = 1.0
    """Share of each base class's images that is used, the same in all episodes."""
    imbalance: Literal["none", "step", "exponential"] = "none"
    """How the sizes of the base classes fall from the largest to the smallest."""
    imbalance_ratio: float = 1.0
    """Images of the largest base class over those of the smallest."""
    features_in_steps: bool = False
    """Whether steps read cached features of base images, beside the images."""


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """The gradient steps of a method that finetunes a copy of the backbone. Its settings have a field `steps`."""

    steps: int
    """Most steps an episode."""
    frozen_blocks: int = 0
    """Blocks of the backbone, from its input on, that are not finetuned."""
    kept_views: int = 0
    """Views of each image whose activations behind the frozen blocks are kept; 0: none are."""
    without_dropout: bool = False
    """Whether the backbone's dropout is switched off, which a backbone without any cannot be asked for."""
    replayed: bool = False
    """Whether steps are captured once and replayed, which only GPUs do."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a method with certain settings needs. A method of frozen features alone needs none of it."""

    base_images: BaseImages | None = None
    """None: no base images in its steps."""
    finetuning: Finetuning | None = None
    """None: no gradient step on the backbone."""
    set_aside: int = 0
    """Base images that an episode keeps out of its steps and recognises."""
    transductive: bool = False
    """Whether the answer to a query depends on the other queries."""
    networks: Mapping[str, str] = field(default_factory=dict)
    """Role (student, teacher) -> checkpoint of a learnt network that is used beside the backbone."""

    @property
    def activations(self) -> tuple[int, int] | None:
        """(frozen blocks, views) of the activations of base images that are kept for it; None: of none."""
        steps = self.finetuning
        return (steps.frozen_blocks, steps.kept_views) if steps and steps.kept_views and self.base_images else None


def with_steps(settings: Any, steps: int) -> Any:
    """Return the settings of a method that finetunes, for another number of steps."""
    return replace(settings, steps=steps)


def with_base_batch(settings: Any, base_batch: int) -> Any:
    """Return the settings of a method with base images, for another number of these a step."""
    return replace(settings, base_batch=base_batch)
