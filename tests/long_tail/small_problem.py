"""A small long-tailed problem: images around class centres, with a head that knows frequent classes better."""

from dataclasses import dataclass

import torch

from rayfs.long_tail.centres import ClassCentres
from rayfs.long_tail.prototypes import class_prototypes

COUNTS = (40, 25, 20, 20, 9, 3, 1)


@dataclass(frozen=True)
class Problem:
    """Training and test images as features, and what was made of them."""

    features_ND: torch.Tensor
    labels_N: torch.Tensor
    test_ND: torch.Tensor
    test_labels_N: torch.Tensor
    centres: ClassCentres


def small_problem() -> Problem:
    """Draw the problem, always the same."""
    generator = torch.Generator().manual_seed(7)
    n_classes, n_features = len(COUNTS), 5
    truth_CD = torch.randn(n_classes, n_features, generator=generator, dtype=torch.float64)
    labels_N = torch.repeat_interleave(torch.arange(n_classes), torch.tensor(COUNTS))
    labels_N = labels_N[torch.randperm(len(labels_N), generator=generator)]
    test_labels_N = torch.arange(n_classes).repeat_interleave(12)

    def images(labels: torch.Tensor) -> torch.Tensor:
        noise = torch.randn(len(labels), n_features, generator=generator, dtype=torch.float64)
        return 3 * truth_CD[labels] + 2 * noise

    features_ND, names = images(labels_N), tuple(f"class {c}" for c in range(n_classes))
    doubt_C1 = 2 / torch.tensor(COUNTS, dtype=torch.float64).sqrt()[:, None]
    weights_CD = truth_CD + doubt_C1 * torch.randn(n_classes, n_features, generator=generator, dtype=torch.float64)
    centres = ClassCentres(
        class_names=names, counts_C=torch.tensor(COUNTS), weights_CD=weights_CD, scale=16.0,
        prototypes_CD=class_prototypes(features_ND, labels_N, names),
    )  # fmt: skip
    return Problem(features_ND, labels_N, images(test_labels_N), test_labels_N, centres)
