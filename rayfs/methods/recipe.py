"""Which values settings have that nobody gives: by benchmark, ways and shots. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SUPPORT_VIEWS_PER_CLASS = 25
"""Released code of Label Hallucination: 5 views of 5 images, 25 views of 1 image."""

DEFAULT_PROTOCOLS = {
    "omniglot": {"n_way": 10, "n_shot": 1, "n_query": 15, "episodes": 40},
    "omniglot-one-shot": {"n_way": 20, "n_shot": 1, "n_query": 1, "episodes": 20},
}
"""Ours for omniglot (jobs/RESULTS.md), official for omniglot-one-shot."""

LITERATURE_PROTOCOL = {"n_way": 5, "n_shot": 5, "n_query": 15, "episodes": 600}
"""What the papers report on photographs; --n-shot 1 for their other column."""

RecipeName = Literal["released", "fast"]
"""What --recipe takes."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What a recipe depends on."""

    benchmark: str
    n_way: int
    n_shot: int
    recipe: RecipeName = "released"
    given: Mapping[str, Any] = field(default_factory=dict)
    """Setting -> value of the flags and of the variant, which go before the recipe; some other defaults follow them."""


def released_support_views(n_shot: int) -> int:
    """Return A: 25 for 1-shot, 5 for 5-shot, 1 from 10-shot on (released README); between, about 25 a class."""
    return 1 if n_shot >= 10 else max(1, round(SUPPORT_VIEWS_PER_CLASS / n_shot))


def frozen_recipe(situation: Situation) -> dict[str, Any]:
    """Return what methods of frozen features take: `support_views` by the number of shots."""
    return {"support_views": released_support_views(situation.n_shot)}


def default_protocol(benchmark: str) -> dict[str, int]:
    """Return n_way, n_shot, n_query and episodes that `benchmark` is evaluated with unless flags say otherwise."""
    return DEFAULT_PROTOCOLS.get(benchmark, LITERATURE_PROTOCOL)
