"""Class probabilities of composed classifiers and of ensembles. N images, C classes, D features."""

import math
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from rayfs.backbones.heads import l2_normalize
from rayfs.errors import InputError
from rayfs.long_tail.prototypes import refuse_not_finite
from rayfs.long_tail.settings import Classifier, Member

CHUNK = 1024
"""Images at a time."""


def class_probabilities(features_ND: Tensor, weights_CD: Tensor, scale: float) -> Tensor:
    """Return softmax_i(s cos(f(x), w_i)), (N, C): equations 1 and 2.

    A class whose weights are 0, which is the head's way to say that it does not know the class, has probability 0.
    """
    logits_NC = scale * l2_normalize(features_ND) @ l2_normalize(weights_CD).T
    without_C = ~weights_CD.any(1)
    if without_C.any():
        logits_NC.masked_fill_(without_C, -math.inf)
    return logits_NC.softmax(1)


def ensemble_probabilities(
    features_ND: Tensor, classifier: Classifier, composed: Mapping[Member, Tensor], scale: float
) -> Tensor:
    """Return the mean of the members' probabilities, (N, C): equation 8."""
    total = class_probabilities(features_ND, composed[classifier[0]], scale)
    for member in classifier[1:]:
        total += class_probabilities(features_ND, composed[member], scale)
    return total / len(classifier)


def predict(
    features_ND: Tensor, classifiers: Mapping[str, Classifier], composed: Mapping[Member, Tensor], scale: float
) -> dict[str, np.ndarray]:
    """Return the class that each classifier gives each image, (N,) int64; of equally probable ones the first.

    Each member's probabilities are computed once, however many ensembles have it.

    Raises:
        InputError: features are not finite, or there are none.
    """
    if len(features_ND) == 0:
        raise InputError("there are 0 images to classify; expected at least 1")
    refuse_not_finite("features of the images", features_ND)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in classifiers}
    members = dict.fromkeys(member for classifier in classifiers.values() for member in classifier)
    for start in range(0, len(features_ND), CHUNK):
        part = features_ND[start : start + CHUNK]
        of_member = {member: class_probabilities(part, composed[member], scale).numpy() for member in members}
        for name, classifier in classifiers.items():
            total = sum((of_member[member] for member in classifier[1:]), start=of_member[classifier[0]])
            parts[name].append(np.argmax(total, axis=1))
    return {name: np.concatenate(part) for name, part in parts.items()}
