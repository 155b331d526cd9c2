"""SKD, generation 0: classify every turn of an image and tell the turns apart, `min CE + γ BCE`.

Jathushan Rajasegaran, Salman Khan, Munawar Hayat, Fahad Shahbaz Khan, Mubarak Shah. "Self-supervised Knowledge
Distillation for Few-shot Learning", BMVC 2021, https://arxiv.org/abs/2006.09785.
M = 4 N views of N images, C classes.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayfs.backbones.heads import linear
from rayfs.backbones.registry import n_features
from rayfs.datasets.augmentation import ViewParameters, draw_views
from rayfs.datasets.registry import Benchmark
from rayfs.training.forward_learner import image_parts
from rayfs.training.objective import Networks, Outcome, accuracy
from rayfs.training.objectives.cross_entropy.loss import N_ROTATIONS, augmented, turned
from rayfs.training.parts import Given, Parts


def create(given: Given) -> Parts:
    """Return generation 0."""
    objective = SkdGen0(
        given.backbone, given.benchmark, given.n_classes, given.settings.gamma, generator=given.head_generator()
    )
    return image_parts(objective, given)


class SkdGen0:
    """Cross-entropy of the four turns of one augmented view, and a second head that names the turn.

    The head "rot_classifier" reads the class logits, not the features: the turn is to show in the output manifold.

    Arguments:
        n_classes: base classes; a turned image keeps its class.
        gamma: γ.
        generator: initial weights of both heads, on the CPU.
    """

    def __init__(
        self, backbone: nn.Module, benchmark: Benchmark, n_classes: int, gamma: float, *, generator: torch.Generator
    ) -> None:
        self._benchmark, self._gamma = benchmark, gamma
        heads = {
            "classifier": linear(n_features(backbone), n_classes, generator),
            "rot_classifier": linear(n_classes, N_ROTATIONS, generator),
        }
        self.networks = Networks(backbone, heads, inputs={"rot_classifier": "classifier"})

    def draw(self, rows_N: Tensor, generator: torch.Generator) -> ViewParameters:
        """Draw one view of each image; all its turns share it."""
        return draw_views(len(rows_N), self._benchmark.augmentation, generator)

    def views(self, images_NHWC: Tensor, draws: ViewParameters) -> Tensor:
        """Return the augmented views turned by 0, 90, 180 and 270 degrees (4N, ...), turn by turn."""
        return turned(augmented(images_NHWC, self._benchmark, draws), range(N_ROTATIONS))

    def targets(self, views: Tensor) -> dict[str, Tensor]:
        """Return nothing: there is no teacher."""
        return {}

    def loss(
        self,
        outputs: Mapping[str, Tensor],
        targets: Mapping[str, Tensor],
        labels_N: Tensor,
        rows_N: Tensor,
        draws: ViewParameters,
    ) -> Outcome:
        """Return `ce + γ rotation`, both means over all 4N views."""
        n = len(labels_N)
        ce = F.cross_entropy(outputs["classifier"], labels_N.repeat(N_ROTATIONS))
        rotation = rotation_loss(outputs["rot_classifier"], n)
        return Outcome(
            loss=ce + self._gamma * rotation,
            parts={"ce": ce.detach(), "rotation": rotation.detach()},
            accuracy=accuracy(outputs["classifier"][:n], labels_N),
        )

    def state(self) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take nothing back."""


def rotation_loss(logits_M4: Tensor, n: int) -> Tensor:
    """Return the mean of four binary cross-entropies a view: is it turned by 0, by 90, by 180, by 270 degrees?

    Arguments:
        logits_M4: of the M = 4 n views, turn by turn.
    """
    turns_M = torch.arange(N_ROTATIONS, device=logits_M4.device).repeat_interleave(n)
    return F.binary_cross_entropy_with_logits(logits_M4, F.one_hot(turns_M, N_ROTATIONS).to(logits_M4.dtype))
