"""Cross-entropy of a cosine classifier: what is set and published. Paper and equation: `loss.py`."""

from dataclasses import dataclass
from typing import Any

from rayfs.training.objectives.definition import ObjectiveDefinition
from rayfs.value_checks import refuse_unless_positive

COSINE_ELSEWHERE: dict[str, Any] = {
    "epochs": 90, "batch": 512, "lr": 0.2, "weight_decay": 5e-4, "schedule": "cosine", "sampler": "square-root",
}  # fmt: skip
"""Stage 1 of compositional knowledge transfer on ImageNet-LT with a ResNeXt-50."""

CIFAR100_LT: dict[str, Any] = {"epochs": 200, "batch": 128, "lr": 0.1, "weight_decay": 2e-4}
"""LDAM's code (Cao et al., NeurIPS 2019) for ResNet-32, with the cosine schedule of compositional knowledge transfer
instead of its warm-up and two steps."""

LONG_TAIL: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("cifar100-lt", "cifar100-lt-50", "cifar100-lt-10"), CIFAR100_LT),
    "places-lt": {"epochs": 10, "batch": 128, "lr": 0.001, "head_lr": 0.1},
}
"""What differs; places-lt: ResNet-152 from ImageNet (--init)."""


def cosine_recipe(benchmark: str) -> dict[str, Any]:
    """Return the published values of compositional knowledge transfer."""
    return {**COSINE_ELSEWHERE, **LONG_TAIL.get(benchmark, {})}


@dataclass(frozen=True, kw_only=True)
class CosineSettings:
    """The cosine classifier."""

    initial_scale: float = 16.0
    """Start of the learnable scale s (compositional knowledge transfer, section 4)."""

    def __post_init__(self) -> None:
        refuse_unless_positive(self, "initial_scale")


COSINE = ObjectiveDefinition(
    name="cosine",
    summary="scaled cosines (compositional knowledge transfer, CVPR 2022)",
    settings=CosineSettings,
    recipe=cosine_recipe,
    create="rayfs.training.objectives.cosine.loss:create",
)
