"""Classifiers of frozen features, for many episodes at once.

The evaluation of Yonglong Tian et al., "Rethinking Few-Shot Image Classification: a Good Embedding Is All You Need?",
ECCV 2020 (RFS), and its simpler relatives. Shapes: E episodes of one protocol, S support rows (all views of all support
images), Q queries, D features, K classes. No randomness, no loop over episodes but that of scikit-learn's SVM.
"""

import numpy as np
import torch
from torch import Tensor

from rayfs.backbones.heads import l2_normalize
from rayfs.engine.batched_logistic_regression import fit_batched_logistic_regression
from rayfs.methods.classifiers.definition import ClassifierSettings
from rayfs.methods.classifiers.registry import classifier_of


def prepare_features(features: Tensor, normalize: bool) -> Tensor:
    """Return features (..., D) in float64, each of unit length if `normalize`.

    float64 so that the queries of an episode fall alike whatever the device and the episodes beside it.
    """
    features = features.double()
    return l2_normalize(features.flatten(0, -2)).view_as(features) if normalize else features


def predict(settings: ClassifierSettings, support_ESD: Tensor, labels_S: Tensor, query_EQD: Tensor) -> Tensor:
    """Return the predicted label (E, Q) int64 of every query.

    Arguments:
        support_ESD, query_EQD: as `prepare_features` gives them.
        labels_S: int64 labels 0 .. K - 1 of the support rows, the same for all episodes.

    Raises:
        ArithmeticError: a logistic regression did not reach its optimum.
    """
    return classifier_of(settings).load()(settings, support_ESD, labels_S, query_EQD)


def logistic_regression(
    settings: ClassifierSettings, support_ESD: Tensor, labels_S: Tensor, query_EQD: Tensor
) -> Tensor:
    """Return the class of the largest logit `W z + b`, fitted with the penalty `1/2 ||W||²` and loss weight `c`."""
    assert settings.c is not None, "a logistic regression has a penalty"
    weights_EKD, intercepts_EK = fit_batched_logistic_regression(support_ESD, labels_S, settings.c)
    return (query_EQD @ weights_EKD.mT + intercepts_EK[:, None]).argmax(2)


def nearest_neighbour(settings: ClassifierSettings, support_ESD: Tensor, labels_S: Tensor, query_EQD: Tensor) -> Tensor:
    """Return the label of the support row at the least Euclidean distance.

    On features of unit length this is also RFS's `Cosine`, the row at the least angle.
    """
    return labels_S.to(query_EQD.device)[_nearest(support_ESD, query_EQD)]


def prototype(settings: ClassifierSettings, support_ESD: Tensor, labels_S: Tensor, query_EQD: Tensor) -> Tensor:
    """Return the class whose mean support feature is at the least Euclidean distance.

    Jake Snell, Kevin Swersky, Richard Zemel, "Prototypical Networks for Few-shot Learning", NeurIPS 2017, eq. 1 and 2.
    """
    return _nearest(_class_means(support_ESD, labels_S), query_EQD)


def cosine(settings: ClassifierSettings, support_ESD: Tensor, labels_S: Tensor, query_EQD: Tensor) -> Tensor:
    """Return the class with the largest cosine between the query and the mean of its unit-length support features.

    Spyros Gidaris, Nikos Komodakis, "Dynamic Few-Shot Visual Learning without Forgetting", CVPR 2018, eq. 6 without
    its learned scale. Deviation: RFS's classifier of this name is a nearest neighbour (see `nearest_neighbour`).
    """
    means_EKD = _class_means(prepare_features(support_ESD, normalize=True), labels_S)
    return (query_EQD @ prepare_features(means_EKD, normalize=True).mT).argmax(2)  # the query's norm decides nothing


def svm(settings: ClassifierSettings, support_ESD: Tensor, labels_S: Tensor, query_EQD: Tensor) -> Tensor:
    """Return the class that scikit-learn's linear SVC (one against one) votes for; an episode at a time, on the CPU.

    Deviation: RFS standardises the features first.
    """
    labels = labels_S.numpy(force=True)
    from sklearn.svm import SVC  # almost a second to import

    solver = SVC(kernel="linear", C=settings.c)
    episodes = zip(support_ESD.numpy(force=True), query_EQD.numpy(force=True), strict=True)
    return torch.from_numpy(np.stack([solver.fit(support, labels).predict(query) for support, query in episodes]))


def _class_means(rows_ESD: Tensor, labels_S: Tensor) -> Tensor:
    """Return the mean row of every class, (E, K, D)."""
    onehot_SK = torch.nn.functional.one_hot(labels_S).to(rows_ESD)
    return (onehot_SK / onehot_SK.sum(0)).T @ rows_ESD


def _nearest(candidates_ECD: Tensor, query_EQD: Tensor) -> Tensor:
    """Return the number (E, Q) of the candidate at the least distance: `||q - x||² = ||q||² - 2 (q x - ||x||² / 2)`."""
    half_EC = candidates_ECD.square().sum(2) / 2
    return (query_EQD @ candidates_ECD.mT - half_EC[:, None]).argmax(2)
