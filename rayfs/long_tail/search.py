"""Scores thousands of settings on validation images. N images, C classes, D features, S settings, G groups."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from rayfs.errors import InputError
from rayfs.long_tail.centres import ClassCentres, compose
from rayfs.long_tail.ensemble import class_probabilities
from rayfs.long_tail.groups import GROUPS
from rayfs.long_tail.prototypes import refuse_not_finite
from rayfs.long_tail.search_space import TransferSetting

Objective = Literal["all", "few", "medium", "many", "groups"]
"""Mean accuracy over all classes or those of a group, or the mean of the three groups."""

CACHED = 1 << 17
"""Probabilities of one classifier that are worked on at a time: 512 KiB."""


DECIMALS = 9
"""Of an accuracy in percent. A matrix product rounds equal accuracies apart by some 1e-13, and which is the larger then
depends on the processor; rounded, equals are equal, and `best_setting` chooses among them by its rule."""


@dataclass(frozen=True, kw_only=True)
class ScoredSetting:
    """A setting and its accuracy on validation images, percent, the mean over classes, for each group that has any."""

    setting: TransferSetting
    accuracy: Mapping[str, float]

    def value(self, objective: Objective) -> float:
        """Return what is to be as high as possible."""
        if objective != "groups":
            return self.accuracy[objective]
        present = [self.accuracy[group] for group in GROUPS if group != "all" and group in self.accuracy]
        return sum(present) / len(present)


def score_settings(
    features_ND: Tensor, labels_N: Tensor, centres: ClassCentres, groups: Mapping[str, np.ndarray],
    settings: Sequence[TransferSetting],
) -> list[ScoredSetting]:  # fmt: skip
    """Return the accuracy of each setting, in their order.

    Classes count alike, whatever their number of validation images: so does a balanced test set weigh them. Classes
    without validation images count nowhere.

    Arguments:
        groups: name -> which classes, (C,) bool.

    Raises:
        InputError: there are no images, features are not finite, or as `compose`.
    """
    if len(features_ND) == 0:
        raise InputError("there are 0 validation images; expected at least 1")
    refuse_not_finite("features of the validation images", features_ND)
    right_SN = np.empty((len(settings), len(labels_N)), dtype=bool)
    for places in _alike(settings):
        first = settings[places[0]]
        members = dict.fromkeys(member for place in places for member in settings[place].classifier)
        composed = compose(centres, members, first.attention, first.own_neighbour)
        sets = [[list(members).index(member) for member in settings[place].classifier] for place in places]
        _score(features_ND, labels_N.numpy(), list(composed.values()), sets, centres.scale, right_SN, places)
    shares_NG, names = _class_shares(labels_N.numpy(), groups)
    accuracy_SG = np.round(100 * (right_SN.astype(np.float64) @ shares_NG), DECIMALS)
    return [
        ScoredSetting(setting=setting, accuracy=dict(zip(names, map(float, row), strict=True)))
        for setting, row in zip(settings, accuracy_SG, strict=True)
    ]


def best_setting(scored: Iterable[ScoredSetting], objective: Objective) -> ScoredSetting:
    """Return the best; of equals the one with the fewest thresholds, then the first.

    Raises:
        InputError: the objective is of a group without validation images.
    """
    candidates = list(scored)
    if not candidates or (objective != "groups" and objective not in candidates[0].accuracy):
        raise InputError(f"{len(candidates)} settings were scored, and no class of '{objective}' has validation images")
    return max(candidates, key=lambda s: (s.value(objective), -len(s.setting.thresholds)))


def _alike(settings: Sequence[TransferSetting]) -> list[list[int]]:
    """Return the positions of settings that differ in thresholds alone."""
    found: dict[tuple[object, ...], list[int]] = {}
    for place, s in enumerate(settings):
        found.setdefault((s.tau, s.terms, s.attention, s.own_neighbour), []).append(place)
    return list(found.values())


def _score(
    features_ND: Tensor, labels_N: np.ndarray, weights: Sequence[Tensor], sets: Sequence[Sequence[int]], scale: float,
    right_SN: np.ndarray, places: Sequence[int],
) -> None:  # fmt: skip
    """Write which images each set of classifiers gets right; a part of the images at a time stays in the cache."""
    step = max(1, CACHED // len(weights[0]))
    for start in range(0, len(labels_N), step):
        part, labels = features_ND[start : start + step], labels_N[start : start + step]
        probabilities = [class_probabilities(part, weights_CD, scale).numpy() for weights_CD in weights]
        total = np.empty_like(probabilities[0])
        for place, chosen in zip(places, sets, strict=True):
            summed = probabilities[chosen[0]]
            for member in chosen[1:]:
                summed = np.add(summed, probabilities[member], out=total)
            right_SN[place, start : start + step] = summed.argmax(1) == labels


def _class_shares(labels_N: np.ndarray, groups: Mapping[str, np.ndarray]) -> tuple[np.ndarray, list[str]]:
    """Return the weight of each image in the mean over classes of each group, (N, G), and the names of the groups."""
    n_C = np.bincount(labels_N, minlength=len(next(iter(groups.values()))))
    names = [name for name, members_C in groups.items() if (n_C[members_C] > 0).any()]
    columns = []
    for name in names:
        counted_C = groups[name] & (n_C > 0)
        share_C = np.where(counted_C, 1 / np.maximum(n_C, 1), 0) / counted_C.sum()
        columns.append(share_C[labels_N])
    return np.stack(columns, axis=1), names
