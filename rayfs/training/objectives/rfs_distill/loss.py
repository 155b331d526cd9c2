"""Born-again distillation of RFS: `min r CE(s(x), y) + a KL_T(t(x) || s(x))`, a fresh student of the same shape.

Yonglong Tian, Yue Wang, Dilip Krishnan, Joshua B. Tenenbaum, Phillip Isola. "Rethinking Few-Shot Image Classification:
a Good Embedding Is All You Need?", ECCV 2020 (its "distill" model). The teacher is the model that cross-entropy gave.
M views of N images, C classes.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayfs.backbones.heads import linear
from rayfs.backbones.registry import n_features
from rayfs.datasets.augmentation import ViewParameters, draw_views
from rayfs.datasets.registry import Benchmark
from rayfs.engine.distillation import distillation_loss
from rayfs.training.forward_learner import image_parts
from rayfs.training.objective import Networks, Outcome, accuracy
from rayfs.training.objectives.cross_entropy.loss import augmented
from rayfs.training.parts import Given, Parts
from rayfs.training.teacher import answers, frozen


def create(given: Given) -> Parts:
    """Return the distillation."""
    settings = given.settings
    objective = RfsDistill(
        given.backbone, given.demanded_teacher(), given.benchmark, given.n_classes, settings.ce_weight,
        settings.kd_weight, settings.temperature, generator=given.head_generator(),
    )  # fmt: skip
    return image_parts(objective, given)


class RfsDistill:
    """Cross-entropy of one augmented view of each image, and the divergence from what a teacher says of that view.

    Arguments:
        teacher: has a head "classifier" over the same classes; put into evaluation, its gradients switched off.
        n_classes: base classes.
        ce_weight: r.
        kd_weight: a, of a divergence that carries T² already.
        temperature: T.
        generator: initial weights of the student's classifier, on the CPU.
    """

    def __init__(
        self,
        backbone: nn.Module,
        teacher: Networks,
        benchmark: Benchmark,
        n_classes: int,
        ce_weight: float,
        kd_weight: float,
        temperature: float,
        *,
        generator: torch.Generator,
    ) -> None:
        self._teacher, self._benchmark = frozen(teacher), benchmark
        self._ce_weight, self._kd_weight, self._temperature = ce_weight, kd_weight, temperature
        self.networks = Networks(backbone, {"classifier": linear(n_features(backbone), n_classes, generator)})

    def draw(self, rows_N: Tensor, generator: torch.Generator) -> ViewParameters:
        """Draw one view of each image."""
        return draw_views(len(rows_N), self._benchmark.augmentation, generator)

    def views(self, images_NHWC: Tensor, draws: ViewParameters) -> Tensor:
        """Return the augmented views (N, ...)."""
        return augmented(images_NHWC, self._benchmark, draws)

    def targets(self, views: Tensor) -> dict[str, Tensor]:
        """Return the teacher's logits (N, C) for the views that the student sees."""
        return {"classifier": answers(self._teacher, views)["classifier"]}

    def loss(
        self,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        labels_N: Tensor,
        rows_N: Tensor,
        draws: ViewParameters,
    ) -> Outcome:
        """Return `r ce + a kd`."""
        logits_NC = outputs["classifier"]
        ce = F.cross_entropy(logits_NC, labels_N)
        kd = distillation_loss(logits_NC, targets["classifier"], self._temperature)
        return Outcome(
            loss=self._ce_weight * ce + self._kd_weight * kd,
            parts={"ce": ce.detach(), "kd": kd.detach()},
            accuracy=accuracy(logits_NC, labels_N),
        )

    def state(self) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take nothing back."""
