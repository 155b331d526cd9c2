"""IER with distillation: generation 0 again, by a fresh student that also answers, embeds and sees as a teacher does.

Mamshad Nayeem Rizve, Salman Khan, Fahad Shahbaz Khan, Mubarak Shah. "Exploring Complementary Strengths of Invariant and
Equivariant Representations for Few-Shot Learning", CVPR 2021, https://arxiv.org/abs/2103.01315:
`min w_ce L_gen0 + w_kd (KL_T(classes) + KL_T(transforms) + MSE(invariant embedding) + MSE(features))`.
M = 16 N views of N images.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayfs.datasets.registry import Benchmark
from rayfs.engine.distillation import distillation_loss
from rayfs.training.forward_learner import image_parts
from rayfs.training.objective import Networks, Outcome
from rayfs.training.objectives.ier_gen0.loss import IerGen0, TransformDraws
from rayfs.training.parts import Given, Parts
from rayfs.training.teacher import answers, frozen


def create(given: Given) -> Parts:
    """Return the distillation, with a memory of all base images."""
    settings = given.settings
    objective = IerDistill(
        given.backbone, given.demanded_teacher(), given.benchmark, given.n_classes, len(given.base), settings.gamma,
        settings.negatives, settings.memory_momentum, settings.contrast_temperature, settings.ce_weight,
        settings.kd_weight, settings.temperature, generator=given.head_generator(),
    )  # fmt: skip
    return image_parts(objective, given)


class IerDistill:
    """The loss of generation 0, and how far every output is from the teacher's for the same 16 views.

    Arguments:
        teacher: a backbone with as many features and the heads of generation 0; put into evaluation, its gradients
            switched off.
        ce_weight: w_ce, of the whole loss of generation 0.
        kd_weight: w_kd, of all four distances from the teacher.
        temperature: T of both divergences, which carry T².
        others: as `IerGen0` has them.
    """

    def __init__(
        self,
        backbone: nn.Module,
        teacher: Networks,
        benchmark: Benchmark,
        n_classes: int,
        n_images: int,
        gamma: float,
        negatives: int,
        memory_momentum: float,
        contrast_temperature: float,
        ce_weight: float,
        kd_weight: float,
        temperature: float,
        *,
        generator: torch.Generator,
    ) -> None:
        self._teacher = frozen(teacher)
        self._ce_weight, self._kd_weight, self._temperature = ce_weight, kd_weight, temperature
        self._gen0 = IerGen0(
            backbone, benchmark, n_classes, n_images, gamma, negatives, memory_momentum, contrast_temperature,
            generator=generator,
        )  # fmt: skip
        self.networks = self._gen0.networks

    def draw(self, rows_N: Tensor, generator: torch.Generator) -> TransformDraws:
        """Draw what generation 0 draws."""
        return self._gen0.draw(rows_N, generator)

    def views(self, images_NHWC: Tensor, draws: TransformDraws) -> Tensor:
        """Return the 16 views of each image (16N, ...), transform by transform."""
        return self._gen0.views(images_NHWC, draws)

    def targets(self, views: Tensor) -> dict[str, Tensor]:
        """Return the teacher's features and the outputs of its heads for all views."""
        return answers(self._teacher, views)

    def loss(
        self,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        labels_N: Tensor,
        rows_N: Tensor,
        draws: TransformDraws,
    ) -> Outcome:
        """Return `w_ce gen0 + w_kd (kd + ...)`; the memory moves as in generation 0."""
        gen0 = self._gen0.loss(outputs, {}, labels_N, rows_N, draws)
        distances = {
            "kd": distillation_loss(outputs["classifier"], targets["classifier"], self._temperature),
            "kd_equivariant": distillation_loss(outputs["eq_head"], targets["eq_head"], self._temperature),
            "mse_invariant": F.mse_loss(outputs["inv_head"], targets["inv_head"]),
            "mse_features": F.mse_loss(outputs["features"], targets["features"]),
        }
        return Outcome(
            loss=self._ce_weight * gen0.loss + self._kd_weight * torch.stack(list(distances.values())).sum(),
            parts=gen0.parts | {name: distance.detach() for name, distance in distances.items()},
            accuracy=gen0.accuracy,
        )

    def state(self) -> dict[str, Tensor]:
        """Return the memory of generation 0."""
        return self._gen0.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take the memory back."""
        self._gen0.load_state(state)
