"""The simple model of RFS: cross-entropy over all base classes, with the published values.

Yonglong Tian, Yue Wang, Dilip Krishnan, Joshua B. Tenenbaum, Phillip Isola. "Rethinking Few-Shot Image Classification:
a Good Embedding Is All You Need?", ECCV 2020. Values: released code, and its author's answer in issue 5 for CIFAR and
tieredImageNet.
"""

from typing import Any

from rayfs.training.objectives.definition import ObjectiveDefinition

STEP_SCHEDULE = {
    "batch": 64, "lr": 0.05, "weight_decay": 5e-4, "schedule": "step", "lr_decay": 0.1, "sampler": "uniform",
}  # fmt: skip
"""RFS, SKD and IER."""

RFS_EPOCHS: dict[str, dict[str, Any]] = {
    "mini-imagenet": {"epochs": 100, "decay_at": (0.6, 0.8)},
    "tiered-imagenet": {"epochs": 60, "decay_at": (1 / 2, 2 / 3, 5 / 6)},
}
RFS_EPOCHS_ELSEWHERE: dict[str, Any] = {"epochs": 90, "decay_at": (1 / 2, 2 / 3, 5 / 6)}
"""CIFAR-FS and FC100 (45, 60 and 75 of 90). Benchmarks without published values have those of CIFAR-FS (ours)."""


def rfs_recipe(benchmark: str) -> dict[str, Any]:
    """Return the published values of RFS."""
    return {**STEP_SCHEDULE, **RFS_EPOCHS.get(benchmark, RFS_EPOCHS_ELSEWHERE)}


RFS_SIMPLE = ObjectiveDefinition(
    name="rfs-simple",
    summary="cross-entropy over the base classes (RFS, ECCV 2020)",
    recipe=rfs_recipe,
    create="rayfs.training.objectives.cross_entropy.loss:create_simple",
)
