"""Embedding learning by cross-entropy over all base classes: `min CE(W f(x) + b, y)`.

Yonglong Tian, Yue Wang, Dilip Krishnan, Joshua B. Tenenbaum, Phillip Isola. "Rethinking Few-Shot Image Classification:
a Good Embedding Is All You Need?", ECCV 2020 (its "simple" model); eq. 1 of Label Hallucination.
"""

import torch
import torch.nn.functional as F

N_ROTATIONS = 4


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy of (N, C) logits against (N,) class ids."""
    return F.cross_entropy(logits, labels)


def rotations_as_classes(
    images: torch.Tensor, labels: torch.Tensor, n_classes: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn each image by 0, 90, 180 and 270 degrees, every turn a class of its own.

    The usual enlargement of Omniglot: a rotated character is another character.

    Arguments:
        images: (N, C, S, S).
        labels: (N,) in [0, n_classes).

    Returns:
        (4N, C, S, S) and (4N,) labels in [0, 4 n_classes); turn r of class c is class `r n_classes + c`.
    """
    turned = [torch.rot90(images, turn, (2, 3)) for turn in range(N_ROTATIONS)]
    classes = [labels + turn * n_classes for turn in range(N_ROTATIONS)]
    return torch.cat(turned), torch.cat(classes)
