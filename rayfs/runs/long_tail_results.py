"""What an evaluation of long-tailed recognition found, in memory; its rows are in `rayfs.runs.class_rows`.

N test images, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rayfs.long_tail.accuracy import N_RESAMPLES
from rayfs.long_tail.centres import ClassCentres
from rayfs.long_tail.groups import Borders, class_groups
from rayfs.long_tail.search import Objective, ScoredSetting
from rayfs.long_tail.search_space import TransferSetting
from rayfs.long_tail.settings import CONTINUAL, COSINE, ENSEMBLE, PROTOTYPES, Classifier


@dataclass(frozen=True, kw_only=True, eq=False)
class TunedEnsemble:
    """What a search on validation images chose, and what it chose from."""

    best: ScoredSetting
    scored: Sequence[ScoredSetting]
    reference: ScoredSetting
    """What --k and --tau say, on the same validation images; by default the paper's setting."""
    objective: Objective
    n_images: int
    seconds: float


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckpointResult:
    """Answers of every classifier that was made of one checkpoint."""

    name: str
    state_hash: str
    centres: ClassCentres
    answers: Mapping[str, np.ndarray]
    """Classifier -> class ids given to the test images, (N,) int64."""
    mismatched_C: np.ndarray
    """Classes whose prototype is closest to another class's weights, bool."""
    tuned: TunedEnsemble | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class LongTailResults:
    """All checkpoints on the same test images."""

    benchmark: str
    split: str
    backbone: str
    class_names: tuple[str, ...]
    counts_C: np.ndarray
    """Training images of each class, int64."""
    labels_N: np.ndarray
    """Class ids of the test images."""
    borders: Borders
    choice: TransferSetting
    """The ensemble, when it is not tuned."""
    classifiers: Mapping[str, Classifier]
    """Name -> members, in the order of the tables."""
    checkpoints: Sequence[CheckpointResult]
    n_resamples: int = N_RESAMPLES
    seed: int = 0
    """Of the bootstrap."""

    @property
    def seen_C(self) -> np.ndarray:
        """Which classes the networks were trained on, bool; the same for all checkpoints."""
        return self.checkpoints[0].centres.seen.numpy()

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """Which classes are in each group, (C,) bool; `unseen` is one where it is not that of few-shot classes."""
        groups, unseen_C = class_groups(self.counts_C, self.borders), ~self.seen_C
        if unseen_C.any() and not np.array_equal(unseen_C, groups["few"]):
            return {**{name: groups[name] for name in ("many", "medium", "few")}, "unseen": unseen_C,
                    "all": groups["all"]}  # fmt: skip
        return groups

    @property
    def seen_groups(self) -> dict[str, np.ndarray]:
        """Groups without the classes that were not seen in training; those of no other class are left out."""
        of_seen = {name: members_C & self.seen_C for name, members_C in self.groups.items()}
        return {name: members_C for name, members_C in of_seen.items() if members_C.any() or self.seen_C.all()}

    @property
    def contrast(self) -> tuple[str, str]:
        """The classifier that gains are of, and the one that they are against."""
        return (ENSEMBLE, COSINE) if self.seen_C.all() else (CONTINUAL, PROTOTYPES.name)

    def answered(self, classifier: str) -> np.ndarray:
        """Return which classes a classifier can give, (C,) bool: the trained head knows none that were not seen."""
        return self.seen_C if classifier == COSINE else np.ones_like(self.seen_C)
