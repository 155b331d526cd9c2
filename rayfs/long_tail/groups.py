"""Groups of classes by their number of training images. C classes. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

Borders = Literal["paper", "kang"]

GROUPS = ("many", "medium", "few", "all")
"""In the order of the tables."""


@dataclass(frozen=True, kw_only=True)
class GroupRule:
    """Where the groups meet."""

    least_many: int
    """Fewest training images of a many-shot class."""
    most_few: int
    """Most training images of a few-shot class."""
    text: str


RULES: dict[Borders, GroupRule] = {
    "paper": GroupRule(least_many=100, most_few=20, text="many ≥ 100, medium 21 to 99, few ≤ 20 training images"),
    "kang": GroupRule(least_many=101, most_few=19, text="many > 100, medium 20 to 100, few < 20 training images"),
}
"""Compositional knowledge transfer, section 4.1 (as OLTR's code); and Kang et al., "Decoupling", whose groups differ:
figures of the two do not compare."""


def class_groups(counts_C: np.ndarray, borders: Borders = "paper") -> dict[str, np.ndarray]:
    """Return which classes are many-, medium- and few-shot, and all of them, (C,) bool each; a group may be empty."""
    import numpy as np  # not above: command lines import this module and should answer at once

    rule = RULES[borders]
    many, few = counts_C >= rule.least_many, counts_C <= rule.most_few
    return {"many": many, "medium": ~many & ~few, "few": few, "all": np.ones(len(counts_C), dtype=bool)}
