"""Whether a teacher can be believed, before anything learns from it. N images, D features, C classes."""

import numpy as np
import torch
from torch import Tensor

from rayfs.datasets.augmentation import normalize, plain_view
from rayfs.datasets.image_table import ImageTable
from rayfs.datasets.registry import Benchmark
from rayfs.errors import InputError
from rayfs.training.objective import Networks, accuracy

MIN_OVER_CHANCE = 3.0
"""How often better than chance a teacher has to be on base images to be believed; half way to certainty is enough."""

CHECKED_IMAGES, CHECKED_BATCH = 1024, 128

Answers = list[tuple[dict[str, Tensor], Tensor]]
"""Outputs of some images with their labels."""


def check_teacher(
    networks: Networks, knows_base_classes: bool, name: str, benchmark: Benchmark, base: ImageTable
) -> str:
    """Return one line about what the teacher makes of up to 1,024 base images.

    Arguments:
        knows_base_classes: whether its head "classifier" is over the base classes.
        name: of the teacher, for messages.

    Raises:
        InputError: it hardly classifies base images, or its features say nothing.
    """
    answered = _answers(networks, benchmark, base)
    features_ND = torch.cat([outputs["features"] for outputs, _ in answered])
    _refuse_useless_features(features_ND, name)
    if not knows_base_classes:
        return f"the teacher's features of {len(features_ND)} base images are finite and differ"
    return f"the teacher classifies {100 * _accuracy(answered, name, benchmark, base):.1f}% of base images right"


def teacher_accuracy(networks: Networks, name: str, benchmark: Benchmark, base: ImageTable) -> float:
    """Return the fraction of up to 1,024 base images that the teacher classifies correctly.

    Raises:
        InputError: hardly more than chance: it knows other classes, or these in another order.
    """
    return _accuracy(_answers(networks, benchmark, base), name, benchmark, base)


@torch.no_grad()
def _answers(networks: Networks, benchmark: Benchmark, base: ImageTable) -> Answers:
    rows = np.unique(np.linspace(0, len(base) - 1, CHECKED_IMAGES).astype(np.int64))
    answered: Answers = []
    for start in range(0, len(rows), CHECKED_BATCH):
        part = rows[start : start + CHECKED_BATCH]
        images = normalize(plain_view(base.take(part)), benchmark.mean, benchmark.std)
        answered.append((networks(images), torch.from_numpy(base.labels[part])))
    return answered


def _accuracy(answered: Answers, name: str, benchmark: Benchmark, base: ImageTable) -> float:
    n = sum(len(labels) for _, labels in answered)
    right = sum(len(labels) * accuracy(outputs["classifier"], labels).item() for outputs, labels in answered)
    found, chance = right / n, 1 / len(base.class_names)
    if found < min(MIN_OVER_CHANCE * chance, (1 + chance) / 2):
        raise InputError(
            f"--teacher {name} classifies {100 * found:.1f}% of {n} base images of {benchmark.name} right, and chance "
            f"is {100 * chance:.1f}%; it was trained on other classes, or on these in another order than that of their "
            "sorted names"
        )
    return found


def _refuse_useless_features(features_ND: Tensor, name: str) -> None:
    n_bad = int((~features_ND.isfinite().all(1)).sum())
    if n_bad:
        raise InputError(
            f"--teacher {name}: the features of {n_bad} of {len(features_ND)} base images are not finite; give another"
        )
    if len(features_ND) > 1 and bool((features_ND == features_ND[0]).all()):
        raise InputError(
            f"--teacher {name} has the same features for all of {len(features_ND)} base images; give another"
        )
