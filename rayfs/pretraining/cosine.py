"""Embedding learning by cross-entropy of a cosine classifier, `min CE(s cos(f(x), w), y)`, with a learnable scale s.

Sarah Parisot, Pedro M. Esperança, Steven McDonagh, Tamas J. Madarasz, Yongxin Yang, Zhenguo Li. "Long-tail Recognition
via Compositional Knowledge Transfer", CVPR 2022 (its stage 1, equations 1 and 2).
N images, C classes.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayfs.backbones.heads import CosineHead
from rayfs.backbones.registry import n_features
from rayfs.benchmarks.augmentation import ViewParameters, draw_views
from rayfs.benchmarks.registry import Benchmark
from rayfs.pretraining.cross_entropy import augmented
from rayfs.pretraining.objective import Networks, Outcome, accuracy


class Cosine:
    """Cross-entropy of one augmented view of each image; the logits are scaled cosines.

    Arguments:
        n_classes: base classes.
        initial_scale: s at the start.
        generator: initial weights of the classifier, on the CPU.
    """

    def __init__(
        self,
        backbone: nn.Module,
        benchmark: Benchmark,
        n_classes: int,
        initial_scale: float,
        *,
        generator: torch.Generator,
    ) -> None:
        self._benchmark = benchmark
        head = CosineHead(n_features(backbone), n_classes, initial_scale, generator=generator)
        self.networks = Networks(backbone, {"classifier": head})

    def draw(self, rows_N: Tensor, generator: torch.Generator) -> ViewParameters:
        """Draw one view of each image."""
        return draw_views(len(rows_N), self._benchmark.augmentation, generator)

    def views(self, images_NHWC: Tensor, draws: ViewParameters) -> Tensor:
        """Return the augmented views (N, ...)."""
        return augmented(images_NHWC, self._benchmark, draws)

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
        """Return the mean cross-entropy."""
        ce = F.cross_entropy(outputs["classifier"], labels_N)
        return Outcome(loss=ce, parts={"ce": ce.detach()}, accuracy=accuracy(outputs["classifier"], labels_N))

    def state(self) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take nothing back."""
