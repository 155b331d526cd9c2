"""Class centres: a trained head and prototypes, and the classifiers that are composed of them.

The network need not have seen every class: the others have prototypes alone, from a few images and without training,
and w^hc is made of these and the weights of seen classes (equation 9).

N images, C classes, D features.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rayfs.backbones.heads import l2_normalize
from rayfs.errors import InputError
from rayfs.long_tail.prototypes import refuse_directionless, refuse_not_finite
from rayfs.long_tail.settings import WEIGHTS, Attention, Member
from rayfs.long_tail.transfer import transfer_each


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassCentres:
    """Two estimates of the centre of every class, and what is known of their worth.

    Raises:
        InputError: shapes differ, values are not finite, or a centre has no direction.
    """

    class_names: tuple[str, ...]
    counts_C: Tensor
    """Training images of each class, int64."""
    prototypes_CD: Tensor
    weights_CD: Tensor
    """Of the trained cosine head; 0 for a class that the network has not seen."""
    scale: float
    """s of the trained head. Decision: every classifier's softmax has it; the paper names no other."""
    seen_C: Tensor | None = None
    """Which classes the network was trained on, bool; None: all of them."""

    def __post_init__(self) -> None:
        n, shape = len(self.class_names), tuple(self.prototypes_CD.shape)
        if n == 0 or shape[0] != n or tuple(self.weights_CD.shape) != shape or len(self.counts_C) != n:
            raise InputError(
                f"{n} classes, prototypes {shape}, classifier weights {tuple(self.weights_CD.shape)}, "
                f"{len(self.counts_C)} counts; expected a row of equal length and a count for each of 1 or more classes"
            )
        if self.seen_C is not None and (self.seen_C.shape != (n,) or not self.seen_C.any()):
            raise InputError(f"{n} classes, of which {int(self.seen_C.sum())} were trained on; expected at least 1")
        if not 0 < self.scale < float("inf"):
            raise InputError(f"the scale of the cosine head is {self.scale}; expected a positive number")
        for what, values in (("prototype", self.prototypes_CD), ("classifier weight", self.weights_CD)):
            refuse_not_finite(f"{what}s of the classes", values)
            wanted_C = self.seen if what == "classifier weight" else torch.ones(n, dtype=torch.bool)
            names = [name for name, wanted in zip(self.class_names, wanted_C.tolist(), strict=True) if wanted]
            refuse_directionless(what, values[wanted_C], names)
        if self.weights_CD[~self.seen].any():
            raise InputError("a class that the network has not seen has classifier weights; expected 0 for it")

    @property
    def seen(self) -> Tensor:
        """Which classes the network was trained on, (C,) bool."""
        return torch.ones(len(self.class_names), dtype=torch.bool) if self.seen_C is None else self.seen_C

    @property
    def asked_C(self) -> Tensor:
        """n_j where knowledge comes from, (C,) int64; 0, above no threshold, for classes the network has not seen."""
        return self.counts_C.where(self.seen, 0)

    def queries(self, attention: Attention) -> Tensor:
        """Return what asks, (C, D)."""
        return self.prototypes_CD if attention.startswith("p") else self.weights_CD

    def keys(self, attention: Attention) -> Tensor:
        """Return what is asked, (C, D)."""
        return self.prototypes_CD if attention.endswith("p") else self.weights_CD


def compose(
    centres: ClassCentres, members: Iterable[Member], attention: Attention = "p-w", own_neighbour: bool = True
) -> dict[Member, Tensor]:
    """Return the weights (C, D) of each member: the sum of its terms, each divided by its norm (equations 7 and 9).

    Not renormalised: a cosine does not see the length.

    Arguments:
        attention: what asks what (table 6); the other terms stay as they are.
        own_neighbour: a class with more than k images is among its own neighbours, as equation 6 has it.

    Raises:
        InputError: as `transfer`; or weights of classes that the network has not seen are asked for.
    """
    wanted = dict.fromkeys(members)
    refuse_unseen(centres, wanted, attention)
    unit = {"prototype": l2_normalize(centres.prototypes_CD), "weight": l2_normalize(centres.weights_CD)}
    own = None if own_neighbour else torch.arange(len(centres.class_names))
    composed = {m: _sum([unit[term] for term in m.terms]) for m in wanted if m.tau is None}
    for tau in sorted({m.tau for m in wanted if m.tau is not None}):
        of_tau = [m for m in wanted if m.tau == tau]
        thresholds = [m.k for m in of_tau if m.k is not None]
        queries, keys = centres.queries(attention), centres.keys(attention)
        for places, transferred_CD in transfer_each(queries, keys, centres.asked_C, thresholds, tau, own):
            unit["transfer"] = l2_normalize(transferred_CD)
            for member in (of_tau[place] for place in places):
                composed[member] = _sum([unit[term] for term in member.terms])
    return {member: composed[member] for member in wanted}


def refuse_unseen(centres: ClassCentres, members: Iterable[Member], attention: Attention) -> None:
    """Raise InputError where a classifier of all classes needs the weights of some that the network has not seen.

    The trained head itself (`WEIGHTS`) stays: it gives these classes probability 0.
    """
    n_unseen = int((~centres.seen).sum())
    if n_unseen == 0:
        return
    if attention.startswith("w"):
        raise InputError(
            f"attention {attention}: weights ask, and {n_unseen} of {len(centres.class_names)} classes have none, as "
            "the network has not seen them; take p-w or p-p"
        )
    needing = [member.name for member in members if "weight" in member.terms and member != WEIGHTS]
    if needing:
        raise InputError(
            f"{needing[0]} needs the weights of every class, and {n_unseen} of {len(centres.class_names)} have none, "
            "as the network has not seen them; take w^hc or prototypes"
        )


def _sum(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
