"""How well prototypes and classifier agree (table 8). C classes, D features."""

import math
from collections.abc import Mapping

import numpy as np

from rayfs.backbones.heads import l2_normalize
from rayfs.long_tail.centres import ClassCentres

TIE = 1e-9
"""Cosines that differ by less are equal. float64 rounds those of equal vectors apart by some 1e-16 for each feature;
which way depends on the processor."""


def mismatched(centres: ClassCentres) -> np.ndarray:
    """Return which classes have a prototype that is closer, by cosine, to another class's weights, (C,) bool.

    The paper's appendix counts them over all classes; callers count those of a group, too. Where another is as close as
    the class's own (`TIE`), they agree. Classes that the network has not seen have no weights and take no part.
    """
    cosines_CC = l2_normalize(centres.prototypes_CD.double()) @ l2_normalize(centres.weights_CD.double()).T
    cosines_CC.masked_fill_(~centres.seen, -math.inf).masked_fill_(~centres.seen[:, None], 0)
    return (cosines_CC.amax(1) > cosines_CC.diagonal() + TIE).numpy()


def mismatch_counts(mismatched_C: np.ndarray, groups: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Return how many classes of each group are mismatched."""
    return {name: int(mismatched_C[members_C].sum()) for name, members_C in groups.items()}
