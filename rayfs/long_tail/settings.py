"""Which classifiers are made of a trained cosine head, as plain values. No torch, so that a command line opens fast."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from rayfs.errors import InputError

Attention = Literal["p-w", "w-p", "w-w", "p-p"]
"""What asks, and what is asked and recombined (table 6): prototypes p, or the classifier's weights w."""

ATTENTIONS: tuple[Attention, ...] = get_args(Attention)

Term = Literal["transfer", "prototype", "weight"]
"""Estimates of a class's centre; a classifier is the sum of some, each of unit length."""

TERMS: tuple[Term, ...] = get_args(Term)

FEW, MANY = 20, 100
"""The paper's thresholds besides 0."""

TAU = 10.0
"""Temperature of the transfer (paper, section 4.1)."""


_NAMES: dict[tuple[Term, ...], str] = {
    ("weight",): "cosine",
    ("prototype",): "prototypes",
    ("prototype", "weight"): "classifier + prototype",
    ("transfer",): "w^kt",
    ("transfer", "weight"): "w^kt + w",
    ("transfer", "prototype"): "w^hc",
    ("transfer", "prototype", "weight"): "w^h",
}


@dataclass(frozen=True, kw_only=True)
class Member:
    """One classifier: for every class i the sum of unit vectors, of which the paper's are

    w_i; p_i; p_i + w_i; w^h_i(k) = w^kt_i(k) + p_i + w_i (equation 7); w^hc_i(k) = w^kt_i(k) + p_i (equation 9).
    """

    terms: tuple[Term, ...]
    """Each once, in the order of `TERMS`."""
    k: int | None = None
    """Knowledge comes from classes with more than k training images; None without the term of the transfer."""
    tau: float | None = None
    """Sharpness of the softmax that weighs these classes; None without that term."""

    def __post_init__(self) -> None:
        if not self.terms or self.terms != tuple(term for term in TERMS if term in self.terms):
            raise InputError(f"terms are {self.terms}; expected some of {TERMS}, each once and in this order")
        transfers = "transfer" in self.terms
        if transfers != (self.k is not None) or transfers != (self.tau is not None):
            raise InputError(f"k {self.k}, tau {self.tau} with terms {self.terms}; both go with 'transfer' alone")
        if self.k is not None and self.k < 0:
            raise InputError(f"k is {self.k}; expected a number of training images, 0 or more")
        if self.tau is not None and not 0 <= self.tau < math.inf:
            raise InputError(f"tau is {self.tau}; expected 0 or a positive number")

    @property
    def name(self) -> str:
        """The paper's name, with τ where it is not the paper's."""
        kind = _NAMES[self.terms]
        if self.tau is None:
            return kind
        return f"{kind}({self.k})" if self.tau == TAU else f"{kind}({self.k}, τ {self.tau:g})"


WEIGHTS = Member(terms=("weight",))
PROTOTYPES = Member(terms=("prototype",))
SUM = Member(terms=("prototype", "weight"))


def composed(k: int, tau: float = TAU) -> Member:
    """Return w^h(k), equation 7."""
    return Member(terms=TERMS, k=k, tau=tau)


def continual(k: int, tau: float = TAU) -> Member:
    """Return w^hc(k), equation 9, which needs no classifier of the class itself."""
    return Member(terms=TERMS[:2], k=k, tau=tau)


def continual_thresholds(thresholds: tuple[int, ...]) -> tuple[int, ...]:
    """Return those above 0, or all if 0 is the only one."""
    return tuple(k for k in thresholds if k > 0) or thresholds


Classifier = tuple[Member, ...]
"""A single member, or an ensemble: the mean of the members' softmax probabilities (equation 8)."""

COSINE, ENSEMBLE, TUNED = "cosine", "ensemble", "tuned ensemble"
"""The classifier that gains are against, the one that they are of, and one whose settings a search chose."""

CONTINUAL = "continual ensemble"
"""The one that gains are of, against prototypes, where the network has not seen some classes."""


def paper_classifiers(
    thresholds: tuple[int, ...], tau: float, continual_prototypes: bool, terms: tuple[Term, ...] = TERMS
) -> dict[str, Classifier]:
    """Return every classifier of tables 1, 2 and 9 by name, in the order of the tables.

    Arguments:
        thresholds: k of each w^h(k), all of which the ensemble has. The continual ensemble has those above 0 (all, if
            0 is the only one).
        terms: of the members of the ensemble; the paper's are w^h, all three.
        continual_prototypes: it has the prototypes, too, as in table 2. Decision: the default; table 9 leaves them out.
    """
    singles = [WEIGHTS, PROTOTYPES, SUM, *(composed(k, tau) for k in thresholds)]
    hc = [continual(k, tau) for k in continual_thresholds(thresholds)]
    table: dict[str, Classifier] = {member.name: (member,) for member in singles}
    table[ENSEMBLE] = tuple(Member(terms=terms, k=k, tau=tau) for k in thresholds)
    table |= {member.name: (member,) for member in hc}
    table[CONTINUAL] = (PROTOTYPES, *hc) if continual_prototypes else tuple(hc)
    return table


def unseen_classifiers(thresholds: tuple[int, ...], tau: float, continual_prototypes: bool) -> dict[str, Classifier]:
    """Return those of `paper_classifiers` that need no weights of classes that the network has not seen, by name.

    As the right half of table 2, whose cosine classifier knows the other classes alone.
    """
    table = paper_classifiers(thresholds, tau, continual_prototypes)
    return {
        name: classifier for name, classifier in table.items()
        if name == COSINE or all("weight" not in member.terms for member in classifier)
    }  # fmt: skip
