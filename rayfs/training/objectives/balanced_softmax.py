"""Balanced softmax: a cosine classifier whose loss knows the sizes of the classes. Papers: `cosine/loss.py`."""

from typing import Any

from rayfs.training.objectives.cosine import CosineSettings, cosine_recipe
from rayfs.training.objectives.definition import ObjectiveDefinition


def balanced_softmax_recipe(benchmark: str) -> dict[str, Any]:
    """Return the values of the cosine classifier, every image once: the class counts are in the loss."""
    return {**cosine_recipe(benchmark), "sampler": "uniform"}


BALANCED_SOFTMAX = ObjectiveDefinition(
    name="balanced-softmax",
    summary="scaled cosines with class sizes (Balanced Meta-Softmax, NeurIPS 2020)",
    settings=CosineSettings,
    recipe=balanced_softmax_recipe,
    create="rayfs.training.objectives.cosine.loss:create_balanced",
)
