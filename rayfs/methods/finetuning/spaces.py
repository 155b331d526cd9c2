"""What a search draws the shared settings from. Ours: each reaches well past the published value on both sides."""

from rayfs.methods.spaces import INVERSE_PENALTY, SUPPORT_VIEWS, Choice, Range, Space

RELATED_CLASSES = Range(low=2, high=30, integer=True)

WEIGHT = Range(low=0.05, high=20, log=True)
"""Of a loss on base images."""

FINETUNING: dict[str, Space] = {
    "lr": Range(low=0.002, high=0.3, log=True),
    "head_lr": Range(low=0.01, high=1.0, log=True),
    "steps": Range(low=25, high=400, log=True, integer=True),
    "lambda_ce": Range(low=0.1, high=10, log=True),
    "support_views": SUPPORT_VIEWS,
    "weight_decay": Range(low=1e-5, high=1e-2, log=True),
    "momentum": Range(low=0.5, high=0.95),
    "c": INVERSE_PENALTY,
    "schedule": Choice(values=("constant", "linear", "cosine")),
    "head_init": Choice(values=("random", "logistic-regression")),
}

FINETUNING_ON_BASE: dict[str, Space] = {
    **FINETUNING,
    "base_fraction": Range(low=0.05, high=1.0, log=True),
    "base_subset": Choice(values=("all", "related")),
    "related_classes": RELATED_CLASSES,
    "batch_norm": Choice(values=("joint", "split")),
}
