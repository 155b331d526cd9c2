"""Settings of the classifiers of frozen features. No torch here, so that a command line opens fast."""

import math
from dataclasses import dataclass

from rayfs.errors import InputError

CLASSIFIERS = ("lr", "nearest-neighbour", "prototype", "cosine", "svm")
"""What --classifiers takes; lr is the baseline of every gain where it is run."""


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """One classifier, and the features it is given; all of it is in the hash of every row."""

    classifier: str
    """One of `CLASSIFIERS`."""
    c: float | None
    """Weight of the loss against the penalty, for lr and svm; None for the others, which have nothing to fit."""
    normalize: bool = True
    """Features of unit length (RFS)."""
    support_views: int = 5
    """Augmented views of each support image (RFS: 5); 0: the image itself."""
    view_seed: int = 0
    """Root seed of the views; 0 where there are none."""

    def __post_init__(self) -> None:
        if self.classifier not in CLASSIFIERS:
            raise InputError(f"classifier is '{self.classifier}'; expected one of {', '.join(CLASSIFIERS)}")
        if self.c is not None and not 0 < self.c < math.inf:
            raise InputError(f"c of {self.classifier} is {self.c}; expected a positive number")
        if self.support_views < 0 or self.view_seed < 0:
            raise InputError(
                f"support_views is {self.support_views} and view_seed {self.view_seed}; expected 0 or more"
            )


def classifier_configs(
    names: tuple[str, ...], *, c: float, svm_c: float, normalize: bool, support_views: int, view_seed: int
) -> dict[str, ClassifierConfig]:
    """Return the configuration of each of `names`, all on the same features."""
    penalties = {"lr": c, "svm": svm_c}
    return {
        name: ClassifierConfig(
            classifier=name, c=penalties.get(name), normalize=normalize, support_views=support_views,
            view_seed=view_seed if support_views else 0,
        )
        for name in names
    }  # fmt: skip
