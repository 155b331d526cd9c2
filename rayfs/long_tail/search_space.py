"""What is searched on validation images: sets of thresholds, τ, terms and attention. No torch.

Settings are drawn in blocks. Those of a block share everything but the thresholds, so that the probabilities of a
threshold are computed once for all sets that hold it; that is what makes thousands of settings a minute possible.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from rayfs.errors import InputError
from rayfs.long_tail.settings import (
    ATTENTIONS,
    FEW,
    MANY,
    TAU,
    TERMS,
    Attention,
    Classifier,
    Member,
    Term,
    continual_thresholds,
)
from rayfs.randomness import RawStream


@dataclass(frozen=True, kw_only=True)
class TransferSetting:
    """An ensemble of classifiers that differ in k (equation 8)."""

    thresholds: tuple[int, ...] = (0, FEW, MANY)
    """k of each member, ascending."""
    tau: float = TAU
    terms: tuple[Term, ...] = TERMS
    """Of every member: w^h has all three, w^hc no weights of the class itself."""
    attention: Attention = "p-w"
    own_neighbour: bool = True

    @property
    def classifier(self) -> Classifier:
        """The members."""
        return tuple(Member(terms=self.terms, k=k, tau=self.tau) for k in self.thresholds)

    def describe(self) -> str:
        """Return one line for people."""
        members = ", ".join(map(str, self.thresholds))
        own = "" if self.own_neighbour else ", no class its own neighbour"
        return f"k {members}, τ {self.tau:.4g}, terms {' + '.join(self.terms)}, attention {self.attention}{own}"


def continual_setting(setting: TransferSetting) -> TransferSetting:
    """Return the setting of the continual ensemble, as `paper_classifiers` makes it, its prototypes aside."""
    return replace(setting, thresholds=continual_thresholds(setting.thresholds), terms=TERMS[:2])


@dataclass(frozen=True, kw_only=True)
class TransferSpace:
    """Where settings are drawn from; every range is ours, the paper gives one setting."""

    thresholds: tuple[int, ...] = ()
    """k to choose from; empty: every one that makes a difference (`distinct_thresholds`)."""
    max_members: int = 3
    """Most thresholds of an ensemble."""
    tau: tuple[float, float] = (1.0, 100.0)
    """Least and greatest τ, log-uniform."""
    terms: tuple[tuple[Term, ...], ...] = (TERMS, TERMS[:2])
    """w^h and w^hc."""
    attention: tuple[Attention, ...] = ("p-w",)
    """Variants of table 6."""
    own_neighbour: tuple[bool, ...] = (True, False)
    block: int = 100
    """Settings that share a τ; fewer where there are fewer sets of thresholds."""
    thresholds_of_block: int = 40
    """Most thresholds of a block, drawn where there are more: neighbouring ones give much the same classifier, and each
    costs as much as several settings."""

    def __post_init__(self) -> None:
        low, high = self.tau
        if not 0 < low <= high < math.inf:
            raise InputError(f"τ is searched from {low} to {high}; expected two positive numbers, the smaller first")
        for name in ("max_members", "block", "thresholds_of_block"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected at least 1")
        if not (self.terms and self.attention and self.own_neighbour) or set(self.attention) - set(ATTENTIONS):
            raise InputError(
                f"nothing to choose from, or unknown: {self.terms}, {self.attention}, {self.own_neighbour}"
            )


def distinct_thresholds(counts: Sequence[int]) -> tuple[int, ...]:
    """Return the thresholds k that give different sets of classes with more than k images, ascending.

    0 and every count but the largest; at least two classes stay above each, so that none has only itself.
    """
    ordered = sorted(counts, reverse=True)
    if len(ordered) < 2 or ordered[1] < 1:
        raise InputError(f"{len(ordered)} classes, the second largest with {ordered[1:2]} images; nothing to choose")
    return tuple(sorted(k for k in {0, *ordered} if k < ordered[1]))


def draw_block(space: TransferSpace, thresholds: Sequence[int], seed: int, index: int) -> list[TransferSetting]:
    """Return the distinct settings of block `index`, a pure function of the arguments.

    Arguments:
        thresholds: to choose from, if `space` names none.
    """
    stream = RawStream(f"long-tail search|{seed}", index)
    share = stream.below(1 << 53) / (1 << 53)
    tau = space.tau[0] * (space.tau[1] / space.tau[0]) ** share
    terms = space.terms[stream.below(len(space.terms))]
    attention = space.attention[stream.below(len(space.attention))]
    own = space.own_neighbour[stream.below(len(space.own_neighbour))]
    candidates = sorted(set(space.thresholds or thresholds))
    if len(candidates) > space.thresholds_of_block:
        candidates = sorted(candidates[i] for i in stream.sample(len(candidates), space.thresholds_of_block))
    sizes = range(1, min(space.max_members, len(candidates)) + 1)
    if sum(math.comb(len(candidates), size) for size in sizes) <= space.block:
        sets = [chosen for size in sizes for chosen in combinations(candidates, size)]
    else:
        drawn: dict[tuple[int, ...], None] = {}
        while len(drawn) < space.block:
            size = 1 + stream.below(len(sizes))
            chosen = tuple(sorted(candidates[i] for i in stream.sample(len(candidates), size)))
            drawn[chosen] = None
        sets = list(drawn)
    return [
        TransferSetting(thresholds=chosen, tau=tau, terms=terms, attention=attention, own_neighbour=own)
        for chosen in sets
    ]


def draw_settings(space: TransferSpace, thresholds: Sequence[int], seed: int, n: int) -> list[TransferSetting]:
    """Return the first `n` settings, block after block; more settings go on where fewer ended."""
    settings: list[TransferSetting] = []
    index = 0
    while len(settings) < n:
        settings += draw_block(space, thresholds, seed, index)
        index += 1
    return settings[:n]
