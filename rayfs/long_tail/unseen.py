"""Classes that the network was not trained on, recognised from a few images without training (equation 9).

S seen and U unseen classes, N images, D features.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rayfs.backbones.heads import l2_normalize
from rayfs.errors import InputError
from rayfs.long_tail.centres import ClassCentres
from rayfs.long_tail.prototypes import class_prototypes
from rayfs.long_tail.transfer import transfer


def extended_prototypes(seen: ClassCentres, features_ND: Tensor, labels_N: Tensor, names: Sequence[str]) -> Tensor:
    """Return the prototypes of the seen classes, then those of the new ones, (S + U, D).

    Arguments:
        features_ND: of the images of the new classes, a few each.
        labels_N: int64, positions in `names`.
        names: of the new classes.

    Raises:
        InputError: a new class has no image or the name of a seen one, or features do not fit.
    """
    shared = sorted(set(names) & set(seen.class_names))
    if shared:
        raise InputError(f"{len(shared)} of {len(names)} new classes are known already (first: '{shared[0]}')")
    n_features = seen.prototypes_CD.shape[1]
    if features_ND.shape[-1] != n_features:
        raise InputError(f"new images have {features_ND.shape[-1]} features but the known classes {n_features}")
    return torch.cat([seen.prototypes_CD, class_prototypes(features_ND, labels_N, names)])


def extended_classifier(seen: ClassCentres, prototypes_AD: Tensor, k: int, tau: float) -> Tensor:
    """Return w^hc_i(k) of the seen and the new classes, (S + U, D): equation 9 with the weights of seen classes alone.

    New classes have no trained weights: they ask and are never asked, however many images they have.

    Arguments:
        prototypes_AD: what `extended_prototypes` returns.

    Raises:
        InputError: no seen class has more than k images.
    """
    transferred_AD = transfer(prototypes_AD, seen.weights_CD, seen.counts_C, [k], tau)[0]
    return l2_normalize(transferred_AD) + l2_normalize(prototypes_AD)
