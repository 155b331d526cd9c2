"""How well prototypes and classifier agree (table 8). C classes, D features."""

import math
from collections.abc import Mapping

import numpy as np

from rayfs.backbones.heads import l2_normalize
from rayfs.long_tail.centres import ClassCentres


def mismatched(centres: ClassCentres) -> np.ndarray:
    """Return which classes have a prototype that is closer, by cosine, to another class's weights, (C,) bool.

    The paper's appendix counts them over all classes; callers count those of a group, too. Where another is exactly as
    close as the class's own, they agree. Classes that the network has not seen have no weights and take no part.
    """
    cosines_CC = l2_normalize(centres.prototypes_CD) @ l2_normalize(centres.weights_CD).T
    cosines_CC.masked_fill_(~centres.seen, -math.inf).masked_fill_(~centres.seen[:, None], 0)
    return (cosines_CC.amax(1) > cosines_CC.diagonal()).numpy()


def mismatch_counts(mismatched_C: np.ndarray, groups: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Return how many classes of each group are mismatched."""
    return {name: int(mismatched_C[members_C].sum()) for name, members_C in groups.items()}
