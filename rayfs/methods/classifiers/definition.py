"""All that the rest of rayfs knows of a classifier of frozen features, in one place. No torch here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from rayfs.deferred import imported
from rayfs.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    Predict = Callable[[Any, Tensor, Tensor, Tensor], Tensor]
    """(settings, support (E, S, D), labels (S,), queries (E, Q, D)) -> label (E, Q) int64 of each query."""


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """One classifier, and the features it is given; all of it is in the hash of every row.

    A classifier with settings of its own has a subclass, so that the hashes of the others' rows stay.
    """

    classifier: str
    """`ClassifierDefinition.key`."""
    c: float | None
    """Weight of the loss against the penalty, for classifiers that are fitted; None for the others."""
    normalize: bool = True
    """Features of unit length (RFS)."""
    support_views: int = 5
    """Augmented views of each support image (RFS: 5); 0: the image itself."""
    view_seed: int = 0
    """Root seed of the views; 0 where there are none."""

    def __post_init__(self) -> None:
        if self.c is not None and not 0 < self.c < math.inf:
            raise InputError(f"c is {self.c}; expected a positive number")
        if self.support_views < 0 or self.view_seed < 0:
            raise InputError(
                f"support_views is {self.support_views} and view_seed {self.view_seed}; expected 0 or more"
            )


@dataclass(frozen=True, kw_only=True)
class ClassifierDefinition:
    """A classifier of frozen features; `registry.CLASSIFIERS` lists all of them."""

    name: str
    """What --classifiers takes and every table shows."""
    aliases: tuple[str, ...] = ()
    """Other names that are read as `name`."""
    key: str
    """What its settings, and with them the hashes of its rows, call it; never changed, whatever its name becomes."""
    summary: str
    """A few words for --help."""
    predict: str
    """"module:function" of a `Predict`; imported where episodes are solved."""
    penalty: Literal["c", "svm_c"] | None = None
    """The flag that gives the `c` of its settings; None: it has none."""
    settings: type[ClassifierSettings] = ClassifierSettings
    transductive: bool = False
    """Whether the answer to a query depends on the other queries."""

    def load(self) -> Predict:
        """Import what predicts."""
        return cast("Predict", imported(self.predict))
