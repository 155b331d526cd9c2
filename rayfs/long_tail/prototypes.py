"""Class prototypes. N images, C classes, D features."""

from collections.abc import Sequence

import torch
from torch import Tensor

from rayfs.backbones.heads import l2_normalize
from rayfs.errors import InputError

CHUNK = 8192
"""Images at a time."""


def class_prototypes(features_ND: Tensor, labels_N: Tensor, class_names: Sequence[str]) -> Tensor:
    """Return p_i = (1 / n_i) Σ_{y_j = i} f(x_j) / ||f(x_j)|| of every class, (C, D): equation 3.

    Decision: the paper does not say whether the images are augmented; here they are as given, and the job offers views.
    Sums run in float64, so that a class of thousands of images has the digits of float32.

    Arguments:
        features_ND: of the training images, not normalised; with V views of each image (N, V, D), all of which count.
        labels_N: int64, positions in `class_names`.

    Raises:
        InputError: a class has no image, features are not finite, or a mean has no direction.
    """
    if features_ND.ndim == 3:
        labels_N = labels_N.repeat_interleave(features_ND.shape[1])
        features_ND = features_ND.flatten(0, 1)
    refuse_not_finite("features of the training images", features_ND)
    n_classes = len(class_names)
    counts_C = torch.bincount(labels_N, minlength=n_classes)
    if len(counts_C) > n_classes:
        raise InputError(f"a label is {len(counts_C) - 1} but there are {n_classes} classes")
    empty = [class_names[c] for c in torch.nonzero(counts_C == 0).flatten().tolist()]
    if empty:
        raise InputError(
            f"{len(empty)} of {n_classes} classes have 0 training images, hence no prototype (first: '{empty[0]}'); "
            "leave them out, or give at least one image of each"
        )
    sums_CD = torch.zeros(n_classes, features_ND.shape[1], dtype=torch.float64)
    for rows_n in torch.arange(len(labels_N)).split(CHUNK):
        sums_CD.index_add_(0, labels_N[rows_n], l2_normalize(features_ND[rows_n].double()))
    prototypes_CD = (sums_CD / counts_C[:, None]).to(features_ND.dtype)
    refuse_directionless("prototype", prototypes_CD, class_names)
    return prototypes_CD


def refuse_not_finite(what: str, values: Tensor) -> None:
    """Raise InputError where `values`, a row each, hold NaN or infinity, with the number of such rows."""
    bad = ~torch.isfinite(values).flatten(1).all(1)
    if bad.any():
        raise InputError(
            f"{what}: {int(bad.sum())} of {len(values)} rows are not finite (first: row {int(bad.int().argmax())}); "
            "the checkpoint is damaged, diverged, or of another backbone"
        )


def refuse_directionless(what: str, centres_CD: Tensor, class_names: Sequence[str]) -> None:
    """Raise InputError where a centre is 0: no cosine with it exists."""
    lost = [name for name, centre in zip(class_names, centres_CD, strict=True) if not centre.any()]
    if lost:
        raise InputError(
            f"the {what} of {len(lost)} of {len(class_names)} classes is 0 and has no direction (first: '{lost[0]}'); "
            "the backbone gives their images no features"
        )
