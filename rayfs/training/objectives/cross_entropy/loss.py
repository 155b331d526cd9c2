"""Embedding learning by cross-entropy over all base classes: `min CE(W f(x) + b, y)`.

Yonglong Tian, Yue Wang, Dilip Krishnan, Joshua B. Tenenbaum, Phillip Isola. "Rethinking Few-Shot Image Classification:
a Good Embedding Is All You Need?", ECCV 2020 (its "simple" model); eq. 1 of Label Hallucination.
N images, C classes.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayfs.backbones.heads import linear
from rayfs.backbones.registry import n_features
from rayfs.datasets.augmentation import ViewParameters, apply_views, constant, draw_views, normalize
from rayfs.datasets.registry import Benchmark
from rayfs.training.forward_learner import image_parts
from rayfs.training.objective import Networks, Outcome, accuracy
from rayfs.training.parts import Given, Parts

N_ROTATIONS = 4


def create(given: Given) -> Parts:
    """Return cross-entropy, with or without turned images as further classes."""
    return _parts(given, given.settings.rotations)


def create_simple(given: Given) -> Parts:
    """Return cross-entropy of one view of each image."""
    return _parts(given, rotations=False)


def _parts(given: Given, rotations: bool) -> Parts:
    objective = CrossEntropy(
        given.backbone, given.benchmark, given.n_classes, rotations, generator=given.head_generator()
    )
    return image_parts(objective, given)


class CrossEntropy:
    """Cross-entropy of one augmented view of each image.

    Arguments:
        n_classes: base classes.
        rotations: make every 90-degree turn of a class another class, as is usual on Omniglot.
        generator: initial weights of the classifier, on the CPU.
        head: (n_features, n_outputs, generator) -> the classifier.
        log_prior: log n_c of each class, which the loss adds to the logits (balanced softmax); none without.

    `log_prior` with `rotations` raises ValueError.
    """

    def __init__(
        self,
        backbone: nn.Module,
        benchmark: Benchmark,
        n_classes: int,
        rotations: bool,
        *,
        generator: torch.Generator,
        head: Callable[[int, int, torch.Generator], nn.Module] = linear,
        log_prior: tuple[float, ...] = (),
    ) -> None:
        if log_prior and (rotations or len(log_prior) != n_classes):
            raise ValueError(f"expected a log_prior of {n_classes} classes and no rotations, got {len(log_prior)}")
        self._log_prior = log_prior
        self._benchmark, self._n_classes, self._rotations = benchmark, n_classes, rotations
        n_outputs = n_classes * (N_ROTATIONS if rotations else 1)
        self.networks = Networks(backbone, {"classifier": head(n_features(backbone), n_outputs, generator)})

    def draw(self, rows_N: Tensor, generator: torch.Generator) -> ViewParameters:
        """Draw one view of each image."""
        return draw_views(len(rows_N), self._benchmark.augmentation, generator)

    def views(self, images_NHWC: Tensor, draws: ViewParameters) -> Tensor:
        """Return the augmented views (N, ...), or (4N, ...) with `rotations`, turn by turn."""
        x = augmented(images_NHWC, self._benchmark, draws)
        return turned(x, range(N_ROTATIONS)) if self._rotations else x

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
        """Return the mean cross-entropy; the accuracy is that of the logits as they are used later, without prior."""
        labels = rotated_labels(labels_N, self._n_classes) if self._rotations else labels_N
        logits = outputs["classifier"]
        if self._log_prior:
            logits = logits + constant(self._log_prior, logits.device, logits.dtype)
        ce = F.cross_entropy(logits, labels)
        return Outcome(loss=ce, parts={"ce": ce.detach()}, accuracy=accuracy(outputs["classifier"], labels))

    def state(self) -> dict[str, Tensor]:
        """Return nothing."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take nothing back."""


def augmented(images_NHWC: Tensor, benchmark: Benchmark, draws: ViewParameters) -> Tensor:
    """Return one augmented, normalised view (N, channels, S, S) of each uint8 image."""
    return normalize(apply_views(images_NHWC, benchmark.augmentation, draws), benchmark.mean, benchmark.std)


def turned(x_NCHW: Tensor, turns: Sequence[int]) -> Tensor:
    """Return the images after each number of quarter `turns`, counter-clockwise, (len(turns) N, ...), turn by turn."""
    return torch.cat([torch.rot90(x_NCHW, turn, (2, 3)) for turn in turns])


def rotated_labels(labels_N: Tensor, n_classes: int) -> Tensor:
    """Return the classes (4N,) of the four turns of each image: turn r of class c is class `r n_classes + c`."""
    return torch.cat([labels_N + turn * n_classes for turn in range(N_ROTATIONS)])
