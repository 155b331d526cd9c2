"""Nearest mean image: compares pixels with the mean of each class's support images. A method in one file, for tests."""

from dataclasses import dataclass

from rayfs.methods.definition import MethodDefinition
from rayfs.methods.spaces import Range


@dataclass(frozen=True, kw_only=True)
class MeanImageSettings:
    """Settings of `mean-image`."""

    contrast: float = 1.0
    """Exponent of the distances (ours)."""


class MeanImage:
    """Takes the class whose mean support image is nearest."""

    def __init__(self, settings: MeanImageSettings) -> None:
        self.settings = settings

    def solve(self, task, world, randomness):
        """Return minus the distance of each query to each mean, to the power of `contrast`."""
        import torch

        from rayfs.methods.method import Solution

        support, queries = (world.plain(x).flatten(1) for x in (task.support_images, task.query_images))
        means = torch.stack([support[task.support_labels == k].mean(0) for k in range(task.n_way)])
        return Solution(logits=-(torch.cdist(queries, means) ** self.settings.contrast))


METHOD = MethodDefinition(
    name="mean-image",
    aliases=("mean-pixels",),
    summary="nearest mean of the images themselves",
    settings=MeanImageSettings,
    solver="rayfs.methods.mean_image:MeanImage",
    search_space={"contrast": Range(low=0.5, high=2)},
    tuned=("contrast",),
)
