"""SKD, generation 1: a copy of the teacher learns its soft answers, and the same answer to a turned image.

Jathushan Rajasegaran, Salman Khan, Munawar Hayat, Fahad Shahbaz Khan, Mubarak Shah. "Self-supervised Knowledge
Distillation for Few-shot Learning", BMVC 2021, https://arxiv.org/abs/2006.09785:
`min KL_T(t(x) || s(x)) + γ/N Σ_i ||s(x_i turned by 90 degrees) - s(x_i)||₂` on class logits, without labels.
M = 2 N views of N images, C classes.

Deviation: the released script cannot run; this is what the embedding code behind Label Hallucination made of it. The
batch holds x and x turned by 90 degrees, nothing else, and γ is not divided by the three turns it once had.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from rayfs.datasets.augmentation import ViewParameters, draw_views
from rayfs.datasets.registry import Benchmark
from rayfs.engine.distillation import distillation_loss
from rayfs.training.forward_learner import image_parts
from rayfs.training.objective import Networks, Outcome, accuracy
from rayfs.training.objectives.cross_entropy.loss import augmented, turned
from rayfs.training.parts import Given, Parts
from rayfs.training.teacher import answers, frozen


def create(given: Given) -> Parts:
    """Return generation 1, whose networks are a copy of the teacher."""
    settings = given.settings
    objective = SkdGen1(given.demanded_teacher(), given.benchmark, settings.gamma, settings.temperature)
    return image_parts(objective, given)


class SkdGen1:
    """The divergence from what a teacher says of an upright view, and the distance to the same view turned.

    The student starts as a copy of the teacher's backbone and classifier; generators of dropout are not copied.

    Arguments:
        teacher: has a head "classifier"; put into evaluation, its gradients switched off.
        gamma: γ.
        temperature: T of the divergence, which carries T².
    """

    def __init__(self, teacher: Networks, benchmark: Benchmark, gamma: float, temperature: float) -> None:
        self._teacher, self._benchmark = frozen(teacher), benchmark
        self._gamma, self._temperature = gamma, temperature
        copied = {"classifier": copy.deepcopy(teacher.heads["classifier"])}
        self.networks = Networks(copy.deepcopy(teacher.backbone), copied).requires_grad_(True)

    def draw(self, rows_N: Tensor, generator: torch.Generator) -> ViewParameters:
        """Draw one view of each image; both turns share it."""
        return draw_views(len(rows_N), self._benchmark.augmentation, generator)

    def views(self, images_NHWC: Tensor, draws: ViewParameters) -> Tensor:
        """Return the augmented views (2N, ...): all upright, then all turned by 90 degrees."""
        return turned(augmented(images_NHWC, self._benchmark, draws), (0, 1))

    def targets(self, views: Tensor) -> dict[str, Tensor]:
        """Return the teacher's logits (N, C) for the upright views, the only ones it sees."""
        return {"classifier": answers(self._teacher, views[: len(views) // 2])["classifier"]}

    def loss(
        self,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        labels_N: Tensor,
        rows_N: Tensor,
        draws: ViewParameters,
    ) -> Outcome:
        """Return `kd + γ rotation`; labels are for the accuracy alone."""
        upright_NC, turned_NC = outputs["classifier"].chunk(2)
        kd = distillation_loss(upright_NC, targets["classifier"], self._temperature)
        rotation = rotation_distance(upright_NC, turned_NC)
        return Outcome(
            loss=kd + self._gamma * rotation,
            parts={"kd": kd.detach(), "rotation": rotation.detach()},
            accuracy=accuracy(upright_NC, labels_N),
        )

    def state(self) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take nothing back."""


def rotation_distance(upright_NC: Tensor, turned_NC: Tensor) -> Tensor:
    """Return `1/N Σ_i ||turned_i - upright_i||₂`.

    Deviation: an image with both outputs equal has gradient 0; in the released code its square root gives NaN there,
    which ends the epoch.
    """
    lengths_N: Tensor = torch.linalg.vector_norm(turned_NC - upright_NC, dim=1)
    return lengths_N.mean()
